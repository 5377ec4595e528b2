"""What both environments share: one round per decision, reward, observation, rendering."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from mjoa_gym.actions import action_view
from mjoa_gym.envs.observation import Observation, State, observation_spaces, observe
from mjoa_gym.instance import Instance, Plan, timelines
from mjoa_gym.population import Draws, Population, draw, newcomers, to_instance
from mjoa_gym.rounds import Decision, Outcome, play, reward_of
from mjoa_gym.scenario import Scenario
from mjoa_gym.validation import choice

Step = tuple[Observation, float, bool, bool, dict[str, Any]]


class RoundsEnv(gym.Env[Observation, Any]):
    """Rounds of offloading decisions; subclasses say how one round leads to the next.

    Attributes:
        scenario: The setting.
        view: The action view.
        streaming: Whether UEs and their parameters persist from round to round.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 2,
    }
    streaming: ClassVar[bool]

    def __init__(
        self,
        action: str = "plan",
        n_ues: int | None = None,
        scenario: Scenario | dict[str, Any] | str | Path | None = None,
        rounds: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode is not None:
            choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.scenario = Scenario.of(scenario).with_changes(n_ues=n_ues, rounds=rounds)
        self.view = action_view(action, self.scenario, self.streaming)
        self.action_space = self.view.space
        spaces = observation_spaces(self.scenario, self.streaming) | self.view.extra_spaces()
        self.observation_space = gym.spaces.Dict(spaces)
        self.render_mode = render_mode
        self._state: State | None = None
        self._shown: tuple[Instance, Plan, float | None] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode with fresh UEs and an empty server.

        Raises:
            ValueError: If there are options; there are none to choose.
        """
        if options:
            raise ValueError(f"options={options!r}: there are none")
        super().reset(seed=seed)
        self.view.restart()
        self._state = self._empty(newcomers(self.scenario, self._draw()), 0)
        self._shown = None
        return self._observation(self._state), {}

    def step(self, action: Any) -> Step:
        """Play one round.

        Raises:
            ValueError: If the action is not allowed; the environment is unchanged then.
            ResetNeeded: Before the first `reset` and after the last round.
        """
        state = self._state
        if state is None or state.round >= self.scenario.rounds:
            raise ResetNeeded("the episode is over or has not begun: call reset() first")
        decision = self.view.decode(action, state.population.dnn)
        if decision is None:
            return self._observation(state), 0.0, False, False, {}
        outcome = play(self.scenario, state.population, state.resident, decision, self._period_s())
        _refuse_endless(outcome, decision)
        self._state, info = self._next(state, decision, outcome)
        if self.render_mode is not None:
            self._shown = self._to_show(state, decision, outcome.round_s)
        info |= {
            "latency_s": outcome.latency_s,
            "local_s": outcome.local_s,
            "round_s": float(outcome.round_s),
        }
        reward = reward_of(outcome, state.population.weight)
        truncated = self._state.round >= self.scenario.rounds
        return self._observation(self._state), reward, False, truncated, info

    def render(self) -> Any:
        """The last round's timelines: uint8 (height, width, 3), or text for "ansi".

        Before the first round, every UE is shown as if it ran all layers itself.
        """
        if self.render_mode is None:
            gym.logger.warn('render() needs a render_mode: gym.make(..., render_mode="rgb_array")')
            return None
        if self._state is None:
            raise ResetNeeded("there is nothing to render: call reset() first")
        from mjoa_gym import rendering  # drawing libraries are loaded by those who draw

        instance, plan, until_s = self._shown or self._to_show(self._state, None, None)
        titles = [
            f"UE {i}: {ue.dnn.name}, local {ue.local_s:.3g} s" for i, ue in enumerate(instance.ues)
        ]
        gantt = rendering.gantt_rgb if self.render_mode == "rgb_array" else rendering.gantt_text
        return gantt(timelines(instance, plan, until_s), titles)

    @abstractmethod
    def _period_s(self) -> float:
        """The least time that a round lasts."""

    @abstractmethod
    def _next(
        self, state: State, decision: Decision, outcome: Outcome
    ) -> tuple[State, dict[str, Any]]:
        """The state after a round, and what `info` says about the transition."""

    def _draw(self) -> Draws:
        return draw(self.np_random, self.scenario.n_ues)

    def _empty(self, population: Population, round_index: int) -> State:
        """A state with nothing on the server."""
        shape = (self.scenario.n_ues, self.scenario.tables.width)
        return State(population, np.zeros(shape), np.zeros(shape, dtype=np.int64), round_index)

    def _observation(self, state: State) -> Observation:
        return observe(state, self.streaming) | self.view.extra_observation()

    def _to_show(
        self, state: State, decision: Decision | None, until_s: float | None
    ) -> tuple[Instance, Plan, float | None]:
        instance = to_instance(self.scenario, state.population, state.resident)
        depth = [ue.dnn.n_layers for ue in instance.ues]
        if decision is None:
            nobody = np.zeros(instance.n_ues)
            return instance, Plan([np.zeros(n) for n in depth], nobody, nobody), None

        def rows(marks: NDArray[np.int8]) -> list[NDArray[np.int8]]:
            return [row[:n] for row, n in zip(marks, depth, strict=True)]

        plan = Plan(
            rows(decision.placements),
            decision.bandwidth_share,
            decision.compute_share,
            rows(decision.prefetch),
        )
        return instance, plan, until_s


def _refuse_endless(outcome: Outcome, decision: Decision) -> None:
    """Raise a ValueError if an inference never ends, for want of a share that it needs."""
    for i in np.flatnonzero(~np.isfinite(outcome.latency_s)):
        shares = {
            "bandwidth_share": decision.bandwidth_share,
            "compute_share": decision.compute_share,
        }
        name = min(shares, key=lambda name: shares[name][i])
        raise ValueError(
            f"{name}[{i}]={shares[name][i]}: UE {i} has layers at the edge, so it needs a share "
            "with which its inference ends"
        )
