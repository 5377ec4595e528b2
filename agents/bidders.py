"""Agents that bid through `shares` and learn nothing: yardsticks for those that do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions.shares import EVEN, LEVELS


class Bidder:
    """Draws each bid uniformly from a range of levels.

    Args:
        lowest: The lowest level.
        highest: The highest level.
    """

    action_view, observation, batches = "shares", "dict", True

    def __init__(self, lowest: int = 0, highest: int = len(LEVELS) - 1) -> None:
        self._levels = lowest, highest + 1
        self._generator = np.random.default_rng(0)

    def predict(self, observation: Any, *, deterministic: bool = True) -> NDArray[np.int64]:
        """Return two bids for each UE of a batch of environments."""
        n_envs, n_ues = observation["dnn"].shape
        return self._generator.integers(*self._levels, (n_envs, 2 * n_ues))


class EqualBids(Bidder):
    """Makes the same bid for every UE, so that each gets what fits its all-local cost."""

    def __init__(self) -> None:
        super().__init__(EVEN, EVEN)
