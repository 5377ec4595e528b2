"""The common part of the views for DQN: one whole number for one UE after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions.base import checked
from mjoa_gym.envs.actions.choices import MenuView, in_range
from mjoa_gym.world.rounds import Decision, State
from mjoa_gym.world.scenario import Scenario

UNDECIDED = -1


class OneByOneView(MenuView):
    """`Discrete`: N actions make a round, one for each UE in order.

    An action combines a UE's numbers into one; the last number varies fastest. Observations show
    which UE's turn it is, and for each UE its action in this round, or UNDECIDED.

    `parts` is the number of choices for each of the numbers.
    """

    space: gym.spaces.Discrete
    one_by_one = True

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        self.parts = self.counts()
        self.space = gym.spaces.Discrete(int(np.prod(self.parts)))
        self._chosen = np.full((n_envs, scenario.n_ues), UNDECIDED, dtype=np.int64)
        self._turn = np.zeros(n_envs, dtype=np.int64)

    @abstractmethod
    def counts(self) -> tuple[int, ...]:
        """Return the number of choices for each number of a UE."""

    @abstractmethod
    def decided(
        self, parts: Sequence[NDArray[np.int64]], state: State, which: NDArray[np.bool_],
        threads: int,
    ) -> Decision:  # fmt: skip
        """Return the decisions for the numbers (E, N) of UEs whose rounds are complete."""

    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
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
        parts = np.unravel_index(np.maximum(self._chosen, 0), self.parts)
        decision = self.decided(parts, state, complete, threads)
        self.restart(complete)
        return decision, complete

    def restart(self, which: NDArray[np.bool_]) -> None:
        """See `ActionView.restart`."""
        self._chosen[which] = UNDECIDED
        self._turn[which] = 0

    def extra_spaces(self) -> dict[str, gym.Space[Any]]:
        """See `ActionView.extra_spaces`."""
        n = self.scenario.n_ues
        last = max(n - 1, 1)  # Gymnasium warns about a box that holds one point
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
        """Return the features (E, N, X) of what the UEs have chosen, (E, N)."""
        parts = np.stack(np.unravel_index(np.maximum(chosen, 0), self.parts), axis=-1)
        most = np.maximum(np.array(self.parts) - 1, 1)
        decided = chosen != UNDECIDED
        return np.concatenate([decided[..., None], parts / most], axis=-1, dtype=np.float32)

    def turn(self) -> NDArray[np.int64]:
        """See `ActionView.turn`."""
        return self._turn
