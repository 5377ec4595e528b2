"""One whole number for one UE after the other, for DQN and other tabular-minded learners."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.actions.choices import (
    BID_LEVELS,
    Choice,
    MenuView,
    bid_of,
    checked,
    in_range,
    level_of,
)
from mjoa_gym.instance import Instance, Plan
from mjoa_gym.rounds import Decision
from mjoa_gym.scenario import Scenario

UNDECIDED = -1


class DiscreteView(MenuView):
    """`Discrete`: N actions make a round, one for each UE in order."""

    space: gym.spaces.Discrete

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        self.options = (self.entries, 2 if persists else 1, BID_LEVELS)
        self.space = gym.spaces.Discrete(int(np.prod(self.options)))
        self._chosen = np.full((n_envs, scenario.n_ues), UNDECIDED, dtype=np.int64)
        self._turn = np.zeros(n_envs, dtype=np.int64)

    def restart(self, which: NDArray[np.bool_]) -> None:
        """See `ActionView.restart`."""
        self._chosen[which] = UNDECIDED
        self._turn[which] = 0
