"""The view with several real numbers per UE, for PPO and SAC."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.envs.actions.base import real_numbers
from mjoa_gym.envs.actions.choices import Choice, MenuView
from mjoa_gym.model.compiling import lean
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.model.radio import within
from mjoa_gym.world.rounds import Decision, State
from mjoa_gym.world.scenario import Scenario

BID_RANGE = 8.0  # bids range from 1 / BID_RANGE to BID_RANGE; an action of 0 bids 1


class BoxView(MenuView):
    """`Box(-1, 1)`: a few numbers for each UE in turn (see `RoundsEnv`)."""

    space: gym.spaces.Box

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        numbers = scenario.n_ues * (3 + persists + self.retains)
        self.space = gym.spaces.Box(-1.0, 1.0, (numbers,), dtype=np.float32)

    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
    ) -> tuple[Decision, NDArray[np.bool_]]:
        """See `ActionView.decode`."""
        dnn = state.population.dnn
        numbers = real_numbers(actions, (self.n_envs, *self.space.shape), which)
        own = numbers.reshape(*dnn.shape, -1)
        entries = np.zeros((3, *dnn.shape), dnn.dtype)
        choice = Choice(*entries, *np.empty((2, *dnn.shape)))
        _choose(choice, own, self.sizes, dnn)
        return self.decision(choice, dnn), which

    def encode(self, plan: Plan, instance: Instance | None = None) -> NDArray[np.float32]:
        """Return the action nearest to a plan, in the middles of the menu's parts.

        See `MenuView.choices`, also for errors.
        """
        choice = self.choices(plan, instance)
        assert instance is not None
        size = self.sizes[[self.scenario.profiles.index(ue.dnn) for ue in instance.ues]]
        entries = choice[: 1 + self.persists + self.retains]
        middles = [(2 * entry + 1) / size - 1 for entry in entries]
        bids = _exponent(choice.bandwidth_bid), _exponent(choice.compute_bid)
        return np.stack([*middles, *bids], axis=-1).ravel().astype(np.float32)


@lean
def _choose(choice, own, sizes, dnn):
    """Fill in the choices that the UEs' numbers (E, N, 3 to 5) stand for."""
    last = own.shape[2] - 1
    for e in range(dnn.shape[0]):
        for i in range(dnn.shape[1]):
            size = sizes[dnn[e, i]]
            choice.entry[e, i] = _part(own[e, i, 0], size)
            if last >= 3:
                choice.prefetch[e, i] = _part(own[e, i, 1], size)
            if last >= 4:
                choice.retain[e, i] = _part(own[e, i, 2], size)
            choice.bandwidth_bid[e, i] = BID_RANGE ** within(own[e, i, last - 1], -1.0, 1.0)
            choice.compute_bid[e, i] = BID_RANGE ** within(own[e, i, last], -1.0, 1.0)


@njit(inline="always")
def _part(number, size):
    """Return which of `size` equal parts of [-1, 1] contains a number, or is nearest to it."""
    return min(int((within(number, -1.0, 1.0) + 1.0) / 2.0 * size), size - 1)


def _exponent(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the bids' exponents in [-1, 1] that give shares (N,), with their range centred."""
    used = shares > 0
    if not used.any():
        return np.zeros_like(shares)
    exponent = np.log(np.where(used, shares, shares[used].min())) / np.log(BID_RANGE)
    return np.clip(exponent - (exponent.max() + exponent.min()) / 2, -1.0, 1.0)
