"""One whole number for one UE after the other, for DQN and its kin."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions.base import checked
from mjoa_gym.envs.actions.choices import BIDS, LEAST, Choice, MenuView, in_range, level_of
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.world.rounds import Decision
from mjoa_gym.world.scenario import Scenario

UNDECIDED = -1
OWN_BIDS = BIDS[::2]  # an octave apart: fewer actions for learners that give each its own output


class DiscreteView(MenuView):
    """`Discrete`: N actions make a round, one for each UE in order (see `RoundsEnv`).

    An action is `((placement * P + prefetch) * R + retain) * 4 + bid`. Observations say whose turn
    it is, and what the UEs before have chosen: UNDECIDED or the action.
    """

    space: gym.spaces.Discrete
    one_by_one = True

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        self._parts = (self.entries, 1 + persists, 1 + self.retains, len(OWN_BIDS))
        self.space = gym.spaces.Discrete(int(np.prod(self._parts)))
        self._masks = self._void()
        self._chosen = np.full((n_envs, scenario.n_ues), UNDECIDED, dtype=np.int64)
        self._turn = np.zeros(n_envs, dtype=np.int64)

    def decode(
        self, actions: Any, dnn: NDArray[np.int64], which: NDArray[np.bool_]
    ) -> tuple[Decision | None, NDArray[np.bool_]]:
        """See `ActionView.decode`."""
        chosen = checked("action", actions, (self.n_envs,), "ui")
        in_range("action", chosen[:, None], np.array([self.space.n]), which)
        who = np.flatnonzero(which)
        self._chosen[who, self._turn[who]] = chosen[who]
        self._turn[who] += 1
        complete = self._turn == self.scenario.n_ues
        if not complete.any():
            return None, complete
        parts = np.unravel_index(np.maximum(self._chosen, 0), self._parts)
        entry, prefetch, retain, level = parts
        everything, bids = self.sizes[dnn] - 1, OWN_BIDS[level]
        choice = Choice(entry, everything * prefetch, everything * retain, bids, bids)
        decision = self.decision(choice, dnn)
        self.restart(complete)
        return decision, complete

    def encode(self, plan: Plan, instance: Instance | None = None) -> NDArray[np.int64]:
        """The round's actions (N,) nearest to a plan (see `MenuView.choices`, errors too).

        A bid is the geometric mean of the two shares, to the nearest level. Whatever a plan
        prefetches or retains, it is everything here.
        """
        choice = self.choices(plan, instance)
        prefetch, retain = ((own > 0).astype(np.int64) for own in choice[1:3])
        offloads, band, compute = choice.entry > 0, choice.bandwidth_bid, choice.compute_bid
        scale = band[offloads].sum() / max(compute[offloads].sum(), LEAST)
        level = level_of(np.where(offloads, np.sqrt(band * compute * scale), band), OWN_BIDS)
        level[(choice.entry == 0) & (prefetch == 0)] = 0
        retain *= self.retains
        return np.ravel_multi_index((choice.entry, prefetch, retain, level), self._parts)

    def restart(self, which: NDArray[np.bool_]) -> None:
        """See `ActionView.restart`."""
        self._chosen[which] = UNDECIDED
        self._turn[which] = 0

    def masks(self, dnn: NDArray[np.int64]) -> NDArray[np.int8]:
        """See `ActionView.masks`."""
        return self._masks[dnn[np.arange(self.n_envs), self._turn]]

    def extra_spaces(self) -> dict[str, gym.Space[Any]]:
        """See `ActionView.extra_spaces`."""
        n = self.scenario.n_ues
        last = max(n - 1, 1)  # Gymnasium warns of a box that holds one point
        return {
            "turn": gym.spaces.Box(0, last, (1,), dtype=np.int64),
            "chosen": gym.spaces.Box(UNDECIDED, int(self.space.n) - 1, (n,), dtype=np.int64),
        }

    def extra_observation(self) -> dict[str, NDArray[Any]]:
        """See `ActionView.extra_observation`."""
        return {"turn": self._turn[:, None].copy(), "chosen": self._chosen.copy()}

    def features(self) -> NDArray[np.float32]:
        """See `ActionView.features`."""
        return self.features_of(self._chosen)

    def features_of(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """(E, N, 4 or 5) features of what the UEs have chosen, (E, N)."""
        sizes = [size for k, size in enumerate(self._parts) if k != 2 or self.retains]
        parts = np.stack(np.unravel_index(np.maximum(chosen, 0), sizes), axis=-1)
        most = np.maximum(np.array(sizes) - 1, 1)
        decided = chosen != UNDECIDED
        return np.concatenate([decided[..., None], parts / most], axis=-1, dtype=np.float32)

    def turn(self) -> NDArray[np.int64]:
        """See `ActionView.turn`."""
        return self._turn

    def _void(self) -> NDArray[np.int8]:
        """(D, actions) 0 for what some other action says, or nothing."""
        entry, prefetch, _, level = np.unravel_index(np.arange(self.space.n), self._parts)
        means = self.exists[:, entry] == 1
        means &= ~((prefetch == 1) & (entry == self.sizes[:, None] - 1))
        means &= ~((prefetch == 0) & (entry == 0) & (level > 0))
        return means.astype(np.int8)
