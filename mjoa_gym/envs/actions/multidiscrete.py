"""The view with several whole numbers per UE, for PPO and MaskablePPO."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions.choices import BIDS, Choice, MenuView, level_of, whole_numbers
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.world.rounds import Decision, State
from mjoa_gym.world.scenario import Scenario


class MultiDiscreteView(MenuView):
    """`MultiDiscrete` of one dimension: a few numbers for each UE in turn (see `RoundsEnv`)."""

    space: gym.spaces.MultiDiscrete

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        self.chosen = 1 + persists + self.retains  # how many of a UE's numbers are menu entries
        entries = [self.entries] * self.chosen
        self.space = gym.spaces.MultiDiscrete(
            np.array([*entries, len(BIDS), len(BIDS)] * scenario.n_ues, dtype=np.int64)
        )
        ends = [0, *np.cumsum(self.space.nvec).tolist()]
        self._parts = [np.s_[:, first:last] for first, last in pairwise(ends)]
        bids = np.ones((len(self.sizes), 2 * len(BIDS)), dtype=np.int8)
        self._masks = np.concatenate([self.exists] * len(entries) + [bids], axis=1)

    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
    ) -> tuple[Decision, NDArray[np.bool_]]:
        """See `ActionView.decode`."""
        dnn = state.population.dnn
        chosen = whole_numbers(actions, self.space.nvec, which)
        own = chosen.reshape(*dnn.shape, -1)
        entries = own[..., 0], own[..., 1], own[..., self.chosen - 1]
        choice = Choice(*entries, BIDS[own[..., -2]], BIDS[own[..., -1]])
        return self.decision(choice, dnn), which

    def encode(self, plan: Plan, instance: Instance | None = None) -> NDArray[np.int64]:
        """Return the action nearest to a plan, with bids rounded to levels.

        See `MenuView.choices`, also for errors.
        """
        choice = self.choices(plan, instance)
        entries = [choice.entry, choice.prefetch, choice.retain][: self.chosen]
        levels = (level_of(bid, BIDS) for bid in (choice.bandwidth_bid, choice.compute_bid))
        return np.stack([*entries, *levels], axis=-1).ravel()

    def masks(self, dnn: NDArray[np.int64]) -> NDArray[np.int8]:
        """See `ActionView.masks`."""
        return self._masks[dnn].reshape(len(dnn), -1)

    def sampling_masks(self, masks: NDArray[np.int8]) -> NDArray[np.object_]:
        """Return (E,) tuples with an array of int8 for each number of the action."""
        parts = map(masks.__getitem__, self._parts)
        return np.fromiter(zip(*parts, strict=True), dtype=np.object_, count=len(masks))
