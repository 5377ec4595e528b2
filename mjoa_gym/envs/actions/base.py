"""The interface of an action view: one way for an agent to express its decisions."""

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

    A view may ask for several actions per round (for instance one per UE). `decode` then returns
    which environments' decisions are complete, and observations show the progress of the round.
    """

    space: gym.Space[Any]  # of one environment
    endless = False  # whether actions can withhold a needed share; `Batch` then refuses them
    observation = "flat"  # the default observation with this view
    one_by_one = False  # whether each action decides for one UE, instead of one action for all

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        self.scenario = scenario
        self.persists = persists  # whether parameters stay, so that prefetching makes sense
        self.retains = persists and scenario.retain  # whether decisions choose what to keep
        self.n_envs = n_envs
        self.shape = (scenario.n_ues, scenario.tables.width)

    @abstractmethod
    def decode(
        self, actions: Any, state: State, which: NDArray[np.bool_], threads: int = 1
    ) -> tuple[Decision | None, NDArray[np.bool_]]:
        """Return the decisions that actions stand for.

        Args:
            actions: The actions of E environments, as a sample of `batch_space(space, E)`.
            state: The state of the environments.
            which: (E,) the environments that act; the other environments' actions are ignored.
            threads: Threads that may share the work.

        Returns:
            The decisions (None if none is complete), and (E,) bool: which are complete now.

        Raises:
            ValueError: If an action is not allowed; the view is unchanged then.
        """

    @abstractmethod
    def encode(self, plan: Plan, instance: Instance | None = None) -> Any:
        """Return the action for a plan, or the nearest one; (N,) actions if they are one by one.

        Args:
            plan: The plan.
            instance: The problem it answers. Views that cannot express every plan need it.
        """

    def single(self, action: Any) -> Any:
        """Return the action of one environment as the action of a batch of one."""
        return np.asarray(action)[None]

    def restart(self, which: NDArray[np.bool_]) -> None:
        """Forget the actions of unfinished rounds where an episode starts."""
        return

    def masks(self, dnn: NDArray[np.int64]) -> NDArray[np.int8] | None:
        """Return (E, choices): 0 where a choice is void, else 1.

        The choices of a `MultiDiscrete` action are concatenated. None if no choice can be void.
        """
        return None

    def sampling_masks(self, masks: NDArray[np.int8]) -> NDArray[Any]:
        """Return `masks` (E, choices) as (E, ...) in the form that `space.sample` takes."""
        return masks

    def extra_spaces(self) -> dict[str, gym.Space[Any]]:
        """Return the entries that the view adds to one environment's dictionary observation."""
        return {}

    def extra_observation(self) -> dict[str, NDArray[Any]]:
        """Return the current values of `extra_spaces`, with a leading axis E, newly allocated."""
        return {}

    def features(self) -> NDArray[np.float32]:
        """Return (E, N, X) in [0, 1]: what the view adds to each UE in a flat observation."""
        return np.zeros((self.n_envs, self.shape[0], 0), dtype=np.float32)

    def turn(self) -> NDArray[np.int64]:
        """Return (E,) the UE that a flat observation begins with."""
        return np.zeros(self.n_envs, dtype=np.int64)


KINDS = {"ui": "whole numbers", "bui": "whole numbers or bool", "fui": "numbers"}


def checked(name: str, given: Any, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """Return `given` as an array, or raise a ValueError if its shape or dtype kind is wrong."""
    array = np.asarray(given)
    if array.shape != shape:
        one = shape[0] == 1  # users of a scalar environment see no leading axis
        got, needed = (array.shape[1:], shape[1:]) if one else (array.shape, shape)
        raise ValueError(f"{name} has shape {got}; {needed} is needed")
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name} has dtype {array.dtype}; {KINDS[kinds]} are needed")
    return array


def real_numbers(
    given: Any, shape: tuple[int, ...], which: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return a copy of actions (E, numbers) with zeros outside `which` (E,); refuse NaN."""
    numbers = checked("action", given, shape, "fui").astype(np.float64)
    numbers[~which] = 0.0
    for e, k in np.argwhere(np.isnan(numbers)):
        raise ValueError(f"action[{k}]={numbers[e, k]}: must be a number")
    return numbers
