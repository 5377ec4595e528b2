"""Planners as agents: they see what every agent sees, and act through the same view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mjoa_gym import Instance, Scenario, decode_observation
from mjoa_gym.envs.actions import PlanView
from mjoa_gym.planners import plan_with, planner_names
from mjoa_gym.validation import choice

State = tuple[np.ndarray, ...] | None
PlanAction = dict[str, np.ndarray]


class PlanningAgent(ABC):
    """What plans from the observation alone, behind Stable-Baselines3's `predict`.

    For environments with `action="plan"`.

    Attributes:
        scenario: The environment's; `n_ues` may differ, the observation counts.
    """

    def __init__(self, scenario: Scenario | Mapping[str, Any] | str | Path | None = None) -> None:
        self.scenario = Scenario.of(scenario)
        self._views: dict[tuple[int, bool], PlanView] = {}

    @abstractmethod
    def act(self, observation: Mapping[str, Any], instance: Instance, view: PlanView) -> PlanAction:
        """The action for one environment's observation, and the instance that it shows."""

    def predict(
        self,
        observation: Mapping[str, Any],
        state: State = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[PlanAction, State]:
        """The action for an observation, or for a batch of them.

        Args:
            observation: Of one environment, or with a leading axis for several.
            state: Handed back; planners remember nothing.
            episode_start: Not used.
            deterministic: Not used; planners always are.

        Returns:
            The action, with the same leading axis, and the state.
        """
        if np.ndim(observation["dnn"]) == 1:
            return self._act(observation), state
        several = range(len(observation["dnn"]))
        actions = [self._act({k: v[e] for k, v in observation.items()}) for e in several]
        return {key: np.stack([action[key] for action in actions]) for key in actions[0]}, state

    def _act(self, observation: Mapping[str, Any]) -> PlanAction:
        instance = decode_observation(observation, self.scenario)
        key = (instance.n_ues, "resident" in observation)
        if key not in self._views:
            scenario = self.scenario.with_changes(n_ues=instance.n_ues)
            self._views[key] = PlanView(scenario, persists=key[1])
        return self.act(observation, instance, self._views[key])


class PlannerAgent(PlanningAgent):
    """A planner of `mjoa_gym.planners`, under its name.

    Attributes:
        planner_name: One of `mjoa_gym.planners.planner_names()`.

    Raises:
        ValueError: If no planner has that name (with the nearest one).
    """

    def __init__(
        self,
        planner_name: str,
        scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
    ) -> None:
        super().__init__(scenario)
        self.planner_name = choice("planner_name", planner_name, planner_names())

    def act(self, observation: Mapping[str, Any], instance: Instance, view: PlanView) -> PlanAction:
        """See `PlanningAgent.act`."""
        return view.encode(plan_with(self.planner_name, instance))
