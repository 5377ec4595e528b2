"""Learned agents that act through the Gymnasium interface."""
