"""Deciders that act through the Gymnasium interface."""
