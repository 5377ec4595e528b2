"""Planners and agents on the same episodes, and what comes of it."""
