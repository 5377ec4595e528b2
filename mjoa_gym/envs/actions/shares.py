"""Views whose actions are shares alone: whole numbers, real numbers, or one UE after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions.base import real_numbers
from mjoa_gym.envs.actions.choices import single_bids, whole_numbers
from mjoa_gym.envs.actions.one_by_one import OneByOneView
from mjoa_gym.envs.actions.response import GREATEST_BID, Bids, SharesView
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.world.rounds import Decision, State
from mjoa_gym.world.scenario import Scenario

PER_RANGE = 3
"""Number of levels above a bid of 1, and below it."""
LEVELS: NDArray[np.float64] = np.append(
    0.0, GREATEST_BID ** (np.arange(-PER_RANGE, PER_RANGE + 1) / PER_RANGE)
)
"""The bids that whole numbers stand for: 0, and seven that are half an octave apart."""
EVEN = 1 + PER_RANGE
"""The level that bids 1."""


def centred(bids: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exponents (N,) in (-1, 1] that give these bids up to a common factor; -1 for 0.

    Their range is centred.
    """
    used = bids > 0.0
    if not used.any():
        return np.full_like(bids, -1.0)
    exponent = np.log(np.where(used, bids, bids[used].min())) / np.log(GREATEST_BID)
    exponent -= (exponent.max() + exponent.min()) / 2.0
    return np.where(used, np.clip(exponent, -1.0 + 1e-6, 1.0), -1.0)


def nearest_levels(bids: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the levels (N,) whose bids are nearest to these up to a common factor; 0 stays 0."""
    exponent = centred(bids) * PER_RANGE
    highest = exponent.max()
    exponent += np.ceil(highest - 0.5 - 1e-9) - highest  # ratios of levels do not change
    above = np.clip(np.rint(exponent), -PER_RANGE, PER_RANGE).astype(np.int64)
    return np.where(bids > 0.0, EVEN + above, 0)


class SharesMultiDiscreteView(SharesView):
    """`MultiDiscrete` of one dimension: a few numbers for each UE in turn (see `RoundsEnv`)."""

    space: gym.spaces.MultiDiscrete

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        self.space = gym.spaces.MultiDiscrete(np.full(2 * scenario.n_ues, len(LEVELS)))

    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
    ) -> tuple[Decision, NDArray[np.bool_]]:
        """See `ActionView.decode`."""
        chosen = whole_numbers(actions, self.space.nvec, which)
        own = chosen.reshape(*state.population.dnn.shape, -1)
        bids = Bids(LEVELS[own[..., 0]], LEVELS[own[..., 1]])
        return self.respond(bids, state, which, threads), which

    def encode(self, plan: Plan, instance: Instance | None = None) -> NDArray[np.int64]:
        """Return the action nearest to a plan (see `SharesView.bids_of`, also for errors)."""
        return np.stack([*map(nearest_levels, self.bids_of(plan, instance))], axis=-1).ravel()


class SharesBoxView(SharesView):
    """`Box(-1, 1)`: a few numbers for each UE in turn (see `RoundsEnv`)."""

    space: gym.spaces.Box

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        self.space = gym.spaces.Box(-1.0, 1.0, (2 * scenario.n_ues,), dtype=np.float32)

    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
    ) -> tuple[Decision, NDArray[np.bool_]]:
        """See `ActionView.decode`."""
        numbers = real_numbers(actions, (self.n_envs, *self.space.shape), which)
        own = np.clip(numbers.reshape(*state.population.dnn.shape, -1), -1.0, 1.0)
        factors = np.where(own > -1.0, GREATEST_BID**own, 0.0)
        bids = Bids(factors[..., 0], factors[..., 1])
        return self.respond(bids, state, which, threads), which

    def encode(self, plan: Plan, instance: Instance | None = None) -> NDArray[np.float32]:
        """Return the action nearest to a plan (see `SharesView.bids_of`, also for errors)."""
        exponents = map(centred, self.bids_of(plan, instance))
        return np.stack([*exponents], axis=-1).ravel().astype(np.float32)


class SharesDiscreteView(OneByOneView, SharesView):
    """`Discrete`: one level for both bids, for one UE after the other (see `RoundsEnv`)."""

    def counts(self) -> tuple[int, ...]:
        """See `OneByOneView.counts`."""
        return (len(LEVELS),)

    def decided(
        self, parts: Sequence[NDArray[np.int64]], state: State, which: NDArray[np.bool_],
        threads: int,
    ) -> Decision:  # fmt: skip
        """See `OneByOneView.decided`."""
        (level,) = parts
        return self.respond(Bids(LEVELS[level], LEVELS[level]), state, which, threads)

    def encode(self, plan: Plan, instance: Instance | None = None) -> NDArray[np.int64]:
        """Return the round's actions (N,) nearest to a plan.

        See `SharesView.bids_of`, also for errors. A bid is the geometric mean of the two.
        """
        bandwidth, compute = self.bids_of(plan, instance)
        return nearest_levels(single_bids(bandwidth, compute, compute > 0.0))
