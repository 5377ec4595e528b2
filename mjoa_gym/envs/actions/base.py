"""What an action view is: one way for an agent to say what it wants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.world.rounds import Decision, State
from mjoa_gym.world.scenario import Scenario


class ActionView(ABC):
    """Turns the actions of E environments into decisions.

    A view may ask for several actions per round (for instance one per UE): `decode` then says which
    environments' decisions are complete, and observations tell agents where they stand.
    """

    space: gym.Space[Any]  # of one environment
    endless = False  # whether it has actions that withhold a needed share, for `Batch` to refuse
    observation = "flat"  # what the view's agents usually want
    one_by_one = False  # whether there is an action for one UE after the other; one decides else

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        self.scenario = scenario
        self.persists = persists  # whether parameters stay, so that prefetching makes sense
        self.retains = persists and scenario.retain  # whether it is said what is to be kept
        self.n_envs = n_envs
        self.shape = (scenario.n_ues, scenario.tables.width)

    @abstractmethod
    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
    ) -> tuple[Decision | None, NDArray[np.bool_]]:
        """The decisions that actions stand for.

        Args:
            actions: Those of E environments, as a sample of `batch_space(space, E)`.
            state: What the environments are in.
            which: (E,) who acts; the others' actions are ignored.
            threads: That may share the work.

        Returns:
            The decisions (None if none is complete), and (E,) bool: whose is complete now.

        Raises:
            ValueError: Naming what is not allowed; the view is unchanged then.
        """

    @abstractmethod
    def encode(self, plan: Plan, instance: Instance | None = None) -> Any:
        """The action for a plan, or the nearest there is; (N,) actions if they are one by one.

        Args:
            plan: The plan.
            instance: The problem it answers; views that do not say every plan need it.
        """

    def single(self, action: Any) -> Any:
        """The action of one environment as that of a batch of one."""
        return np.asarray(action)[None]

    def restart(self, which: NDArray[np.bool_]) -> None:
        """Forget the actions of unfinished rounds where an episode starts."""
        return

    def masks(self, dnn: NDArray[np.int64]) -> NDArray[np.int8] | None:
        """(E, choices) 1 where a choice means something of its own, 0 where it is void.

        The choices of a `MultiDiscrete` action are concatenated. None if no choice can be void.
        """
        return None

    def sampling_masks(self, masks: NDArray[np.int8]) -> NDArray[Any]:
        """(E, ...) `masks` (E, choices) in the form that `space.sample` takes."""
        return masks

    def extra_spaces(self) -> dict[str, gym.Space[Any]]:
        """Entries that the view adds to the dictionary of observations of one environment."""
        return {}

    def extra_observation(self) -> dict[str, NDArray[Any]]:
        """Their values now, with a leading axis E, newly allocated."""
        return {}

    def features(self) -> NDArray[np.float32]:
        """(E, N, X) in [0, 1], what the view adds to each UE in a flat observation."""
        return np.zeros((self.n_envs, self.shape[0], 0), dtype=np.float32)

    def turn(self) -> NDArray[np.int64]:
        """(E,) the UE that a flat observation begins with."""
        return np.zeros(self.n_envs, dtype=np.int64)


KINDS = {"ui": "whole numbers", "bui": "whole numbers or bool", "fui": "numbers"}


def checked(name: str, given: Any, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """`given` as an array of the shape and one of the dtype kinds, or a ValueError."""
    array = np.asarray(given)
    if array.shape != shape:
        one = shape[0] == 1  # a scalar environment's users know no leading axis
        got, needed = (array.shape[1:], shape[1:]) if one else (array.shape, shape)
        raise ValueError(f"{name} has shape {got}; {needed} is needed")
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name} has dtype {array.dtype}; {KINDS[kinds]} are needed")
    return array


def real_numbers(
    given: Any, shape: tuple[int, ...], which: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Actions (E, numbers) as a copy with zeros for those who do not act, or a ValueError."""
    numbers = checked("action", given, shape, "fui").astype(np.float64)
    numbers[~which] = 0.0
    for e, k in np.argwhere(np.isnan(numbers)):
        raise ValueError(f"action[{k}]={numbers[e, k]}: must be a number")
    return numbers
