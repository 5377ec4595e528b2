"""Many environments at once: the Gymnasium vector interface to one compiled batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from mjoa_gym.envs.base import ARGUMENTS
from mjoa_gym.envs.core import Core, ScenarioLike, refuse_unknown
from mjoa_gym.envs.pictures import Pictures
from mjoa_gym.validation import choice, count
from mjoa_gym.world.rounds import Outcome

VectorStep = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class RoundsVectorEnv(gym.vector.VectorEnv[Any, Any, NDArray[Any]]):
    """E environments in one compiled loop; equal, number by number, to `SyncVectorEnv` of them.

    Args:
        num_envs: E.
        autoreset_mode: As in `gymnasium.vector.SyncVectorEnv`: NEXT_STEP (the default), SAME_STEP
            or DISABLED, or their names.
        threads: Threads that share the work; by default as many as this process may use. Results
            do not depend on it.
        **arguments: Those of the environment.

    Raises:
        ValueError: Naming argument, value and what is allowed.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 2,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }
    persists: ClassVar[bool]
    title: ClassVar[str]

    def __init__(
        self,
        num_envs: int = 1,
        action: str = "plan",
        n_ues: int | None = None,
        scenario: ScenarioLike = None,
        rounds: int | None = None,
        render_mode: str | None = None,
        observation: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        refuse_unknown(unknown, (*ARGUMENTS, "num_envs", "autoreset_mode", "threads"))
        if render_mode is not None:
            choice("render_mode", render_mode, tuple(self.metadata["render_modes"]))
        self.num_envs = count("num_envs", num_envs)
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata = self.metadata | {  # type: ignore[misc]
            "autoreset_mode": self.autoreset_mode
        }
        n_threads = available_threads() if threads is None else count("threads", threads)
        self.core = Core(
            self.persists, num_envs, action, observation, n_ues, scenario, rounds, n_threads
        )
        self.single_action_space = self.core.view.space
        self.single_observation_space = self.core.observation.space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.render_mode = render_mode
        self._pictures = None if render_mode is None else Pictures(self.core, self.title)
        self._begun = np.zeros(num_envs, dtype=np.bool_)
        self._seeded = np.zeros(num_envs, dtype=np.bool_)
        self._over = np.zeros(num_envs, dtype=np.bool_)
        self._seeds: list[int | None] = [None] * num_envs

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """The seeds of the sub-environments."""
        return tuple(self._seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes, in all environments or in those of `options["reset_mask"]` (E,).

        Args:
            seed: s, for seeds s, s + 1, ...; or one for each environment; None goes on.
            options: Only `reset_mask` is known.

        Raises:
            ValueError: If there are other options, or the seeds or the mask do not fit.
        """
        which = self._reset_mask(dict(options or {}))
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + e for e in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} entries for {self.num_envs} environments")
        for e in np.flatnonzero(which).tolist():
            if seeds[e] is not None or not self._seeded[e]:
                rng, self._seeds[e] = seeding.np_random(seeds[e])
                self.core.batch.seed(e, rng)
        self._seeded |= which
        self._begun |= which
        self._over &= ~which
        self._begin(which)
        infos: dict[str, Any] = {}
        _add(infos, self.core.masks(), which)
        return self.core.observe(), infos

    def step(self, actions: Any) -> VectorStep:
        """Act in every environment; those that are over begin anew, as `autoreset_mode` says.

        Raises:
            ValueError: If an action is not allowed; nothing has changed then.
            ResetNeeded: Before the first reset, and after an end with `AutoresetMode.DISABLED`.
        """
        ended = self._over
        disabled = self.autoreset_mode == AutoresetMode.DISABLED
        if not self._begun.all() or (disabled and ended.any()):
            raise ResetNeeded("an environment is over or has not begun: call reset() first")
        if self._pictures is not None:
            self._pictures.before()
        outcome, complete = self.core.step(actions, ~ended)
        if self._pictures is not None:
            self._pictures.after(outcome, complete)
        if ended.any():
            self._begin(ended)
        over = complete & self.core.batch.over()
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            self._finish(infos, outcome, over)
            complete = complete & ~over
            self._over = np.zeros_like(over)
        else:
            self._over = over
        if complete.any():
            _add(infos, self.core.infos(outcome), complete)
        _add(infos, self.core.masks(), np.ones_like(over))
        rewards = np.zeros(self.num_envs) if outcome is None else outcome.reward
        return self.core.observe(), rewards, np.zeros_like(over), over.copy(), infos

    def action_masks(self) -> NDArray[np.bool_]:
        """(E, choices) which choices of the next actions mean something of their own."""
        masks = self.core.view.masks(self.core.dnn)
        if masks is None:
            choices = gym.spaces.utils.flatdim(self.single_action_space)
            return np.ones((self.num_envs, choices), dtype=np.bool_)
        return masks == 1

    def render(self) -> tuple[Any, ...] | None:
        """A frame or a text for every environment; beyond the first nine, none is drawn.

        Gymnasium's `wrappers.vector.RecordVideo` tiles them; so does `rendering.tile`.
        """
        if self._pictures is None:
            gym.logger.warn("render() needs a render_mode: make_vec(..., render_mode='rgb_array')")
            return None
        if not self._begun.all():
            raise ResetNeeded("there is nothing to render: call reset() first")
        from mjoa_gym import rendering  # drawing libraries are loaded by those who draw

        scenes = self._pictures.scenes()
        if self.render_mode == "rgb_array":
            return rendering.scene_frames(scenes, self.num_envs)
        texts = tuple(rendering.scene_text(scene) for scene in scenes)
        return texts + ("not drawn",) * (self.num_envs - len(texts))

    def _finish(
        self, infos: dict[str, Any], outcome: Outcome | None, over: NDArray[np.bool_]
    ) -> None:
        """Say how episodes ended, and begin anew."""
        observation = self.core.observe()
        last = np.full(self.num_envs, None, dtype=object)
        for e in np.flatnonzero(over):
            if isinstance(observation, dict):
                last[e] = {key: values[e] for key, values in observation.items()}
            else:
                last[e] = observation[e]
        infos["final_obs"], infos["_final_obs"] = last, over.copy()
        infos["final_info"], infos["_final_info"] = {}, over.copy()
        _add(infos["final_info"], self.core.infos(outcome), over)
        _add(infos["final_info"], self.core.masks(), over)
        self._begin(over)

    def _begin(self, which: NDArray[np.bool_]) -> None:
        self.core.begin(which)
        if self._pictures is not None:
            self._pictures.restart(which)

    def _reset_mask(self, options: dict[str, Any]) -> NDArray[np.bool_]:
        everybody = np.ones(self.num_envs, dtype=np.bool_)
        mask = np.asarray(options.pop("reset_mask", everybody))
        if options:
            raise ValueError(f"options={options!r}: only reset_mask is known")
        if mask.shape != everybody.shape or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"options['reset_mask'] has shape {mask.shape} and dtype {mask.dtype}; needed is"
                f" bool of shape {everybody.shape}, with one entry true at least"
            )
        return mask.copy()


class ColdStartVectorEnv(RoundsVectorEnv):
    """`MJOA/ColdStart-v0`, many at once; see `ColdStartEnv` and `RoundsVectorEnv`."""

    persists: ClassVar[bool] = False
    title: ClassVar[str] = "ColdStart"


class StreamingVectorEnv(RoundsVectorEnv):
    """`MJOA/Streaming-v0`, many at once; see `StreamingEnv` and `RoundsVectorEnv`."""

    persists: ClassVar[bool] = True
    title: ClassVar[str] = "Streaming"


def available_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _mode(given: AutoresetMode | str) -> AutoresetMode:
    if isinstance(given, AutoresetMode):
        return given
    name = str(given).upper()
    return AutoresetMode[choice("autoreset_mode", name, tuple(AutoresetMode.__members__))]


def _add(infos: dict[str, Any], entries: dict[str, NDArray[Any]], who: NDArray[np.bool_]) -> None:
    """Add entries (E, ...) that `who` (E,) has, as Gymnasium's vector environments do."""
    for key, values in entries.items():
        if not who.all():
            values = np.where(
                who.reshape(-1, *[1] * (values.ndim - 1)), values, values.dtype.type(0)
            )
        if f"_{key}" in infos:
            values, who = values + infos[key], who | infos[f"_{key}"]
        infos[key], infos[f"_{key}"] = values, who.copy()
