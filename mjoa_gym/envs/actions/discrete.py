"""The view with one whole number for one UE after the other, for DQN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions.choices import BIDS, Choice, level_of, single_bids
from mjoa_gym.envs.actions.one_by_one import OneByOneView
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.world.rounds import Decision, State
from mjoa_gym.world.scenario import Scenario

OWN_BIDS = BIDS[::2]  # an octave apart: fewer actions for learners that give each its own output


class DiscreteView(OneByOneView):
    """`Discrete`: `((placement * P + prefetch) * R + retain) * 4 + bid`, see `RoundsEnv`."""

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        self._masks = self._void()

    def counts(self) -> tuple[int, ...]:
        """See `OneByOneView.counts`."""
        retain = (2,) * self.retains
        return self.entries, 1 + self.persists, *retain, len(OWN_BIDS)

    def decided(
        self, parts: Sequence[NDArray[np.int64]], state: State, which: NDArray[np.bool_],
        threads: int,
    ) -> Decision:  # fmt: skip
        """See `OneByOneView.decided`."""
        entry, prefetch, *retain, level = parts
        dnn = state.population.dnn
        everything, bids = self.sizes[dnn] - 1, OWN_BIDS[level]
        kept = everything * retain[0] if retain else np.zeros_like(dnn)
        choice = Choice(entry, everything * prefetch, kept, bids, bids)
        return self.decision(choice, dnn)

    def encode(self, plan: Plan, instance: Instance | None = None) -> NDArray[np.int64]:
        """Return the round's actions (N,) nearest to a plan.

        See `MenuView.choices`, also for errors. A bid is the geometric mean of the two shares, to
        the nearest level. If the plan prefetches or retains any layer, the action does so with all.
        """
        choice = self.choices(plan, instance)
        prefetch, retain = ((own > 0).astype(np.int64) for own in choice[1:3])
        bids = single_bids(choice.bandwidth_bid, choice.compute_bid, choice.entry > 0)
        level = level_of(bids, OWN_BIDS)
        level[(choice.entry == 0) & (prefetch == 0)] = 0
        parts = choice.entry, prefetch, *[retain] * self.retains, level
        return np.ravel_multi_index(parts, self.parts)

    def masks(self, dnn: NDArray[np.int64]) -> NDArray[np.int8]:
        """See `ActionView.masks`."""
        return self._masks[dnn[np.arange(self.n_envs), self.turn()]]

    def _void(self) -> NDArray[np.int8]:
        """Return (D, actions): 0 for actions that duplicate another one or have no meaning."""
        entry, prefetch, *_, level = np.unravel_index(np.arange(self.space.n), self.parts)
        means = self.exists[:, entry] == 1
        means &= ~((prefetch == 1) & (entry == self.sizes[:, None] - 1))
        means &= ~((prefetch == 0) & (entry == 0) & (level > 0))
        return means.astype(np.int8)
