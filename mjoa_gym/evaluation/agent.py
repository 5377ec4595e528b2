"""Agents to evaluate, and planners as agents, which observe and act like any other agent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mjoa_gym.envs import decode_observation
from mjoa_gym.envs.actions import ActionView, PlanView
from mjoa_gym.envs.core import row
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners import lower_bound, planner_of
from mjoa_gym.planners.registry import Planner, each_planned
from mjoa_gym.planners.trivial import local_only
from mjoa_gym.world.scenario import Scenario

AgentState = tuple[np.ndarray, ...] | None
PlanAction = dict[str, np.ndarray]


class Agent(Protocol):
    """An agent to evaluate: Stable-Baselines3's `predict`, and optional attributes.

    `action_view` names the action view (default "plan"), and `observation` the observation (the
    default depends on the view). With `batches = True`, `predict` takes the observations of several
    episodes at once, with a leading axis. Otherwise it is called for one episode after the other.
    """

    def predict(self, observation: Any, *, deterministic: bool) -> Any:
        """Return the action and a state.

        `state`, `episode_start` and `action_masks` are passed if the method has such parameters.
        """
        ...


class PlannerAgent:
    """A planner as an agent for `action="plan"` that plans from the observation alone.

    Args:
        planner: One of `mjoa_gym.planners.planner_names()`, or a function `Instance -> Plan`.
        scenario: The environment's scenario. `n_ues` may differ from the observation's.
        threads: Number of threads that plan for a batch of observations.

    Raises:
        ValueError: If no planner has that name; suggests the nearest one.
    """

    def __init__(
        self,
        planner: str | Planner,
        scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
        threads: int = 1,
    ) -> None:
        self.threads = threads
        self.planner = planner_of(planner) if isinstance(planner, str) else planner
        self.scenario = Scenario.of(scenario)
        self._views: dict[tuple[int, bool], PlanView] = {}

    def predict(
        self,
        observation: Mapping[str, Any],
        state: AgentState = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[PlanAction, AgentState]:
        """Return the action for an observation, or for a batch with a leading axis; and the state.

        Planners have no memory and are always deterministic.

        Raises:
            TypeError: If the planner does not return a plan.
            ValueError: If its plan does not fit the instance.
        """
        if np.ndim(observation["dnn"]) == 1:
            return self._act([observation])[0], state
        actions = self._act(_each(observation))
        return {key: np.stack([action[key] for action in actions]) for key in actions[0]}, state

    def nearest(self, view: ActionView, observation: Mapping[str, Any]) -> np.ndarray:
        """Return the actions of another view that are nearest to the plans for a batch.

        Args:
            view: Any view with arrays as actions.
            observation: A batch of dictionary observations, with a leading axis.

        Returns:
            A row per observation; in views that decide for one UE after the other, a row holds the
            actions of all UEs.

        Raises:
            TypeError: If the planner does not return a plan.
            ValueError: If its plan does not fit the instance.
        """
        pairs = self._planned(_each(observation))
        return np.stack([view.encode(plan, instance) for instance, plan in pairs])

    def _act(self, observations: Sequence[Mapping[str, Any]]) -> list[PlanAction]:
        persists = "resident" in observations[0]
        return [
            self._view(instance.n_ues, persists).encode(plan)
            for instance, plan in self._planned(observations)
        ]

    def _planned(self, observations: Sequence[Mapping[str, Any]]) -> list[tuple[Instance, Plan]]:
        instances = [decode_observation(each, self.scenario) for each in observations]
        plans = each_planned(self.planner, instances, self.threads)
        for instance, plan in zip(instances, plans, strict=True):
            if not isinstance(plan, Plan):
                raise TypeError(f"the planner gave {type(plan).__name__}, not a Plan")
            plan.check_fits(instance)
        return list(zip(instances, plans, strict=True))

    def _view(self, n_ues: int, persists: bool) -> PlanView:
        if (n_ues, persists) not in self._views:
            scenario = self.scenario.with_changes(n_ues=n_ues)
            self._views[n_ues, persists] = PlanView(scenario, persists=persists)
        return self._views[n_ues, persists]


def _each(observation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the observations of a batch, one by one."""
    return [row(observation, e) for e in range(len(observation["dnn"]))]


class LowerBoundAgent(PlannerAgent):
    """Stays local; `bound_s` is a lower bound on the weighted mean latency of any plan."""

    bound_s = 0.0

    def __init__(self, scenario: Scenario | None = None) -> None:
        super().__init__(self._stay, scenario)

    def _stay(self, instance: Instance) -> Plan:
        self.bound_s = lower_bound(instance) / float(instance.weights.sum())
        return local_only(instance)


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function; None for compiled code that does not have one."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None
