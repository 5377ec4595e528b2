"""Planners and agents on the same episodes, and what comes of it."""

from mjoa_gym.evaluation.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
