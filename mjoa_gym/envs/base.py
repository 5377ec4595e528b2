"""One environment at a time: the Gymnasium interface to rounds of offloading decisions."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView
from mjoa_gym.envs.core import Core, ScenarioLike, refuse_unknown, row
from mjoa_gym.envs.pictures import Pictures
from mjoa_gym.validation import choice
from mjoa_gym.world.rounds import Outcome
from mjoa_gym.world.scenario import Scenario

Step = tuple[Any, float, bool, bool, dict[str, Any]]
ARGUMENTS = ("action", "n_ues", "scenario", "rounds", "render_mode", "observation")
EVERYBODY = np.ones(1, dtype=np.bool_)


class RoundsEnv(gym.Env[Any, Any]):
    """Rounds of offloading decisions, one environment.

    Attributes:
        core: Dynamics, action view and observation.
        persists: Whether UEs and their parameters stay from round to round.
        title: What pictures call it.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 2,
    }
    persists: ClassVar[bool]
    title: ClassVar[str]

    def __init__(
        self,
        action: str = "plan",
        n_ues: int | None = None,
        scenario: ScenarioLike = None,
        rounds: int | None = None,
        render_mode: str | None = None,
        observation: str | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(self, unknown, ARGUMENTS)
        if render_mode is not None:
            choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.core = Core(self.persists, 1, action, observation, n_ues, scenario, rounds)
        self._names = {"action": action, "observation": observation}
        self.action_space = self.core.view.space
        self.observation_space = self.core.observation.space
        self.render_mode = render_mode
        self._begun = False
        self._seeded = False
        self._pictures = None if render_mode is None else Pictures(self.core, self.title)

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
        if self._pictures is not None:
            self._pictures.restart(EVERYBODY)
        return self._observation(), self._info(*self.core.idle())

    def step(self, action: Any) -> Step:
        """Play one round, or a part of one if the view asks for several actions.

        Raises:
            ValueError: If the action is not allowed; the environment is unchanged then.
            ResetNeeded: Before the first `reset` and after the last round.
        """
        core = self.core
        if not self._begun or core.batch.over()[0]:
            raise ResetNeeded("the episode is over or has not begun: call reset() first")
        if self._pictures is not None:
            self._pictures.before()
        outcome, complete = core.step(core.view.single(action), EVERYBODY)
        if self._pictures is not None:
            self._pictures.after(outcome, complete)
        reward, truncated = float(outcome.reward[0]), bool(core.batch.over()[0])
        return self._observation(), reward, False, truncated, self._info(outcome, complete)

    def action_masks(self) -> NDArray[np.bool_]:
        """(choices,) which choices of the next action mean something of their own.

        For sb3-contrib's MaskablePPO; the choices of a `MultiDiscrete` action are concatenated.
        """
        return self.core.action_masks()[0]

    def render(self) -> Any:
        """The last round and the server's memory: uint8 (height, width, 3), or text for "ansi".

        Before the first round, every UE is shown as if it ran all layers itself.
        """
        if self._pictures is None:
            gym.logger.warn('render() needs a render_mode: gym.make(..., render_mode="rgb_array")')
            return None
        if not self._begun:
            raise ResetNeeded("there is nothing to render: call reset() first")
        from mjoa_gym import rendering  # drawing libraries are loaded by those who draw

        (scene,) = self._pictures.scenes()
        draw = rendering.scene_rgb if self.render_mode == "rgb_array" else rendering.scene_text
        return draw(scene)

    def _observation(self) -> Any:
        return row(self.core.observe(), 0)

    def _info(self, outcome: Outcome, complete: NDArray[np.bool_]) -> dict[str, Any]:
        infos = self.core.infos(outcome, complete)
        if "action_mask" in infos:
            infos["action_mask"] = self.view.sampling_masks(infos["action_mask"])
        return {key: _plain(values[0]) for key, values in infos.items()}


def _plain(value: Any) -> Any:
    """A NumPy number as Python's own; arrays and masks as they are."""
    return value.item() if isinstance(value, np.generic) else value
