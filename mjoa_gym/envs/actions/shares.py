"""A space of shares of one resource: non-negative, summing to at most 1."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mjoa_gym.model.instance import SHARE_TOLERANCE


class Shares(gym.spaces.Box):
    """The unit simplex and everything below it: float64 of shape (..., N), last axis sums <= 1.

    Sampling is uniform over the simplex itself (Dirichlet with all ones), so a sampled action uses
    the whole resource.
    """

    def __init__(self, *shape: int, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(0.0, 1.0, shape, np.float64, seed)

    def sample(self, mask: None = None, probability: None = None) -> NDArray[np.float64]:
        """A point of the simplex; masks are not supported.

        Raises:
            ValueError: If a mask or probability is given.
        """
        if mask is not None or probability is not None:
            raise ValueError("Shares.sample takes neither a mask nor a probability")
        parts = self.np_random.standard_exponential(self.shape)
        return parts / parts.sum(axis=-1, keepdims=True)

    def contains(self, x: Any) -> bool:
        """Whether `x` is an array of shares."""
        return super().contains(x) and bool(np.all(np.sum(x, axis=-1) <= 1.0 + SHARE_TOLERANCE))

    def __repr__(self) -> str:
        return f"Shares({', '.join(map(str, self.shape))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shares) and self.shape == other.shape

    __hash__ = None  # type: ignore[assignment] # as Box


@batch_space.register(Shares)
def _batch_shares(space: Shares, n: int = 1) -> Shares:
    return Shares(n, *space.shape, seed=deepcopy(space.np_random))
