"""Execution of networks layer by layer, and the measurement of layer times."""
