"""What is evaluated: agents; and planners as agents, which see and act as any other does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mjoa_gym.envs import decode_observation
from mjoa_gym.envs.actions import PlanView
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners import lower_bound, planner_of
from mjoa_gym.planners.registry import Planner
from mjoa_gym.planners.trivial import local_only
from mjoa_gym.world.scenario import Scenario

AgentState = tuple[np.ndarray, ...] | None
PlanAction = dict[str, np.ndarray]


class Agent(Protocol):
    """What can be evaluated: Stable-Baselines3's `predict`, and attributes that may be absent.

    `action_view` names the action view (default "plan"), `observation` the observation (default
    what the view's agents usually want). With `batches = True`, `predict` takes several episodes'
    observations at once, with a leading axis; else it is asked for one episode after the other.
    """

    def predict(self, observation: Any, *, deterministic: bool) -> Any:
        """The action and a state.

        `state`, `episode_start` and `action_masks` are given, too, if the method has parameters of
        these names.
        """
        ...


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
        state: AgentState = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[PlanAction, AgentState]:
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
    """A planner as an agent.

    Args:
        planner: One of `mjoa_gym.planners.planner_names()`, or a function `Instance -> Plan`.
        scenario: The environment's.

    Raises:
        ValueError: If no planner has that name (with the nearest one).
    """

    def __init__(
        self,
        planner: str | Planner,
        scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
    ) -> None:
        super().__init__(scenario)
        self.planner = planner_of(planner) if isinstance(planner, str) else planner

    def act(self, observation: Mapping[str, Any], instance: Instance, view: PlanView) -> PlanAction:
        """See `PlanningAgent.act`.

        Raises:
            TypeError: If the planner gives something else than a plan.
            ValueError: If its plan does not fit the instance.
        """
        plan = self.planner(instance)
        if not isinstance(plan, Plan):
            raise TypeError(f"the planner gave {type(plan).__name__}, not a Plan")
        plan.check_fits(instance)
        return view.encode(plan)


class LowerBoundAgent(PlanningAgent):
    """Stays local, and knows the certified bound that no plan can beat.

    Attributes:
        bound_s: Of the last instance: the least possible weighted mean latency.
    """

    bound_s = 0.0

    def act(self, observation: Mapping[str, Any], instance: Instance, view: PlanView) -> PlanAction:
        """See `PlanningAgent.act`."""
        self.bound_s = lower_bound(instance) / float(instance.weights.sum())
        return view.encode(local_only(instance))
