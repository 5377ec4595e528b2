"""One environment at a time: the Gymnasium interface to rounds of offloading decisions."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from mjoa_gym.actions import ActionView
from mjoa_gym.envs.core import Core, ScenarioLike
from mjoa_gym.instance import Instance, Plan, timelines
from mjoa_gym.rounds import plan_of
from mjoa_gym.scenario import Scenario
from mjoa_gym.validation import choice

Step = tuple[Any, float, bool, bool, dict[str, Any]]
EVERYBODY = np.ones(1, dtype=np.bool_)


class RoundsEnv(gym.Env[Any, Any]):
    """Rounds of offloading decisions, one environment.

    Attributes:
        core: Dynamics, action view and observation.
        persists: Whether UEs and their parameters stay from round to round.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 2,
    }
    persists: ClassVar[bool]

    def __init__(
        self,
        action: str = "plan",
        n_ues: int | None = None,
        scenario: ScenarioLike = None,
        rounds: int | None = None,
        render_mode: str | None = None,
        observation: str | None = None,
    ) -> None:
        if render_mode is not None:
            choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.core = Core(self.persists, 1, action, observation, n_ues, scenario, rounds)
        self._names = {"action": action, "observation": observation}
        self.action_space = self.core.view.space
        self.observation_space = self.core.observation.space
        self.render_mode = render_mode
        self._begun = False
        self._seeded = False
        self._shown: tuple[Instance, Plan, float | None] | None = None

    @property
    def scenario(self) -> Scenario:
        """The setting."""
        return self.core.scenario

    @property
    def view(self) -> ActionView:
        """The action view."""
        return self.core.view

    def arguments(self) -> dict[str, Any]:
        """What makes an environment like this one, alone or as a vector."""
        return self._names | {"scenario": self.scenario}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode with fresh UEs and an empty server.

        Raises:
            ValueError: If there are options; there are none to choose.
        """
        if options:
            raise ValueError(f"options={options!r}: there are none")
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.core.batch.seed(0, self.np_random)
            self._seeded = True
        self.core.begin(EVERYBODY)
        self._begun = True
        self._shown = None
        return self._observation(), self._masks()

    def step(self, action: Any) -> Step:
        """Play one round, or a part of one if the view asks for several actions.

        Raises:
            ValueError: If the action is not allowed; the environment is unchanged then.
            ResetNeeded: Before the first `reset` and after the last round.
        """
        core = self.core
        if not self._begun or core.batch.over()[0]:
            raise ResetNeeded("the episode is over or has not begun: call reset() first")
        before = None if self.render_mode is None else core.batch.instance(0)
        outcome, _ = core.step(core.view.single(action), EVERYBODY)
        info = {key: _plain(values[0]) for key, values in core.infos(outcome).items()}
        info |= self._masks()
        if outcome is None:
            return self._observation(), 0.0, False, False, info
        if before is not None and core.decision is not None:
            self._shown = before, plan_of(core.decision, 0, before), float(outcome.round_s[0])
        truncated = bool(core.batch.over()[0])
        return self._observation(), float(outcome.reward[0]), False, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """(choices,) which choices of the next action mean something of their own.

        For sb3-contrib's MaskablePPO; the choices of a `MultiDiscrete` action are concatenated.
        """
        masks = self.core.view.masks(self.core.dnn)
        if masks is None:
            return np.ones(gym.spaces.utils.flatdim(self.action_space), dtype=np.bool_)
        return masks[0] == 1

    def render(self) -> Any:
        """The last round's timelines: uint8 (height, width, 3), or text for "ansi".

        Before the first round, every UE is shown as if it ran all layers itself.
        """
        if self.render_mode is None:
            gym.logger.warn('render() needs a render_mode: gym.make(..., render_mode="rgb_array")')
            return None
        if not self._begun:
            raise ResetNeeded("there is nothing to render: call reset() first")
        from mjoa_gym import rendering  # drawing libraries are loaded by those who draw

        instance, plan, until_s = self._shown or _all_local(self.core.batch.instance(0))
        titles = [
            f"UE {i}: {ue.dnn.name}, local {ue.local_s:.3g} s" for i, ue in enumerate(instance.ues)
        ]
        gantt = rendering.gantt_rgb if self.render_mode == "rgb_array" else rendering.gantt_text
        return gantt(timelines(instance, plan, until_s), titles)

    def _observation(self) -> Any:
        observation = self.core.observe()
        if isinstance(observation, dict):
            return {key: values[0] for key, values in observation.items()}
        return observation[0]

    def _masks(self) -> dict[str, Any]:
        return {key: masks[0] for key, masks in self.core.masks().items()}


def _plain(value: Any) -> Any:
    """A NumPy number as Python's own; arrays as they are."""
    return value if isinstance(value, np.ndarray) else value.item()


def _all_local(instance: Instance) -> tuple[Instance, Plan, float | None]:
    nobody = np.zeros(instance.n_ues)
    return instance, Plan([np.zeros(ue.dnn.n_layers) for ue in instance.ues], nobody, nobody), None
