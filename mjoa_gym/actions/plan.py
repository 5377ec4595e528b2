"""The native view: an action is a plan, as a dictionary of padded arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.actions.base import ActionView
from mjoa_gym.actions.shares import Shares
from mjoa_gym.instance import SHARE_TOLERANCE, Plan
from mjoa_gym.rounds import Decision
from mjoa_gym.scenario import Scenario


class PlanView(ActionView):
    """`Dict(placements, bandwidth_share, compute_share)`, with `prefetch` when streaming.

    Entries of `placements` and `prefetch` beyond a UE's last layer are ignored. Nothing else is
    repaired: what is not a plan raises.
    """

    space: gym.spaces.Dict

    def __init__(self, scenario: Scenario, streaming: bool) -> None:
        super().__init__(scenario, streaming)
        n_ues = scenario.n_ues
        spaces: dict[str, gym.Space[Any]] = {
            "placements": gym.spaces.MultiBinary(self.shape),
            "bandwidth_share": Shares(n_ues),
            "compute_share": Shares(n_ues),
        }
        if streaming:
            spaces["prefetch"] = gym.spaces.MultiBinary(self.shape)
        self.space = gym.spaces.Dict(spaces)

    def decode(self, action: Any, dnn: NDArray[np.int64]) -> Decision:
        """See `ActionView.decode`."""
        if not isinstance(action, Mapping) or set(action) != set(self.space):
            keys = sorted(action) if isinstance(action, Mapping) else type(action).__name__
            raise ValueError(f"action: got {keys}; needed is a dict of {sorted(self.space)}")
        exists = np.arange(self.shape[1]) < self.scenario.tables.n_layers[dnn, None]
        placements = self._marks("placements", action["placements"], exists)
        if self.streaming:
            prefetch = self._marks("prefetch", action["prefetch"], exists)
        else:
            prefetch = np.zeros_like(placements)
        return Decision(
            placements,
            prefetch,
            self._shares("bandwidth_share", action["bandwidth_share"]),
            self._shares("compute_share", action["compute_share"]),
        )

    def encode(self, plan: Plan) -> dict[str, NDArray[Any]]:
        """The action that is exactly this plan (prefetches are left out where nothing persists).

        Raises:
            ValueError: If the plan is for another number of UEs, or for networks that are too deep.
        """
        action: dict[str, NDArray[Any]] = {
            "placements": self._padded("placements", plan.placements),
            "bandwidth_share": plan.bandwidth_share.copy(),
            "compute_share": plan.compute_share.copy(),
        }
        if self.streaming:
            action["prefetch"] = self._padded("prefetch", plan.prefetch or ((),) * self.shape[0])
        return action

    def _marks(self, name: str, given: Any, exists: NDArray[np.bool_]) -> NDArray[np.int8]:
        marks = np.asarray(given)
        if marks.shape != self.shape:
            raise ValueError(f"{name} has shape {marks.shape}; {self.shape} is needed")
        if marks.dtype.kind not in "bui":
            raise ValueError(f"{name} has dtype {marks.dtype}; whole numbers or bool are needed")
        if np.any((marks != 0) & (marks != 1)):
            raise ValueError(f"{name} has entries other than 0 and 1")
        return np.where(exists, marks, 0).astype(np.int8)

    def _shares(self, name: str, given: Any) -> NDArray[np.float64]:
        shares = np.asarray(given)
        if shares.shape != self.shape[:1]:
            raise ValueError(f"{name} has shape {shares.shape}; {self.shape[:1]} is needed")
        if shares.dtype.kind not in "fui":
            raise ValueError(f"{name} has dtype {shares.dtype}; numbers are needed")
        shares = shares.astype(np.float64)  # a copy
        if not np.all(shares >= 0):  # NaN as well
            raise ValueError(f"{name}={shares}: every share must be >= 0")
        if not shares.sum() <= 1 + SHARE_TOLERANCE:
            raise ValueError(f"{name} sums to {shares.sum()}: at most 1 is allowed")
        return shares

    def _padded(self, name: str, rows: Any) -> NDArray[np.int8]:
        if len(rows) != self.shape[0]:
            raise ValueError(f"{name} has {len(rows)} entries for {self.shape[0]} UEs")
        padded = np.zeros(self.shape, dtype=np.int8)
        for i, row in enumerate(rows):
            if len(row) > self.shape[1]:
                raise ValueError(f"{name}[{i}] has {len(row)} layers: at most {self.shape[1]}")
            padded[i, : len(row)] = row
        return padded
