"""Planners as agents: they see what every agent sees, and act through the same view."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mjoa_gym import Scenario, decode_observation
from mjoa_gym.actions import PlanView
from mjoa_gym.planners import plan_with, planner_names
from mjoa_gym.validation import choice

State = tuple[np.ndarray, ...] | None


class PlannerAgent:
    """A planner behind Stable-Baselines3's `predict`, for environments with `action="plan"`.

    Attributes:
        planner_name: One of `mjoa_gym.planners.planner_names()`.
        scenario: The environment's; `n_ues` may differ, the observation counts.

    Raises:
        ValueError: If no planner has that name (with the nearest one).
    """

    def __init__(
        self,
        planner_name: str,
        scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
    ) -> None:
        self.planner_name = choice("planner_name", planner_name, planner_names())
        self.scenario = Scenario.of(scenario)
        self._views: dict[tuple[int, bool], PlanView] = {}

    def predict(
        self,
        observation: Mapping[str, Any],
        state: State = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[dict[str, np.ndarray], State]:
        """The planner's action for an observation, or for a batch of them.

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

    def _act(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        instance = decode_observation(observation, self.scenario)
        key = (instance.n_ues, "resident" in observation)
        if key not in self._views:
            scenario = self.scenario.with_changes(n_ues=instance.n_ues)
            self._views[key] = PlanView(scenario, persists=key[1])
        return self._views[key].encode(plan_with(self.planner_name, instance))
