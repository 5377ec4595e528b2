"""Evaluation of planners and agents on the same episodes."""

from mjoa_gym.evaluation.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
