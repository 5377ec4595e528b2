"""Many environments at once: the Gymnasium vector interface to one compiled batch."""

from __future__ import annotations

import operator
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

from mjoa_gym.envs.core import ARGUMENTS, Core, marked, refuse_unknown, row
from mjoa_gym.validation import choice, count
from mjoa_gym.world.rounds import Outcome

VECTOR_ARGUMENTS = ("num_envs", "autoreset_mode", "threads", "max_episode_steps")
OF_EACH = ("action_masks", "np_random_seed", "render")
OF_ALL = ("core", "metadata", "persists", "render_mode", "scenario", "spec", "title", "view")
VectorStep = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class RoundsVectorEnv(gym.vector.VectorEnv[Any, Any, NDArray[Any]]):
    """E environments in one compiled loop, with exactly the numbers of a `SyncVectorEnv` of them.

    Only the masks of `multidiscrete` have a different form in `infos`: rows of a matrix (see
    `sampling_masks`).

    Args:
        num_envs: E.
        autoreset_mode: As in `gymnasium.vector.SyncVectorEnv`: NEXT_STEP (the default), SAME_STEP
            or DISABLED, or their names or values.
        threads: Threads that share the work; by default as many as this process may use. Results
            do not depend on it.
        max_episode_steps: Steps after which an episode is truncated, as by `TimeLimit`, if it has
            not ended before. By default (and with -1) only the rounds count.
        **arguments: The arguments of the environment.

    Raises:
        ValueError: If an argument is invalid; names it, its value and what is allowed.
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
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int | None = None,
        max_episode_steps: int | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        refuse_unknown(self, arguments, (*ARGUMENTS, *VECTOR_ARGUMENTS))
        self.num_envs = count("num_envs", num_envs)
        self.autoreset_mode = _mode(autoreset_mode)
        metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.metadata = metadata  # type: ignore[misc]
        n_threads = available_threads() if threads is None else count("threads", threads)
        self.core = Core(self, num_envs, n_threads, **arguments)
        self.scenario, self.view = self.core.scenario, self.core.view
        self.single_action_space = self.view.space
        self.single_observation_space = self.core.observation.space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.render_mode = arguments.get("render_mode")
        self._begun = np.zeros(num_envs, dtype=np.bool_)
        self._over = np.zeros(num_envs, dtype=np.bool_)
        self._seeds: list[int | None] = [None] * num_envs
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._most_steps = np.inf
        if max_episode_steps not in (None, -1):
            self._most_steps = count("max_episode_steps", max_episode_steps)
        self._attributes: dict[str, tuple[Any, ...]] = {}

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

        Environments that have never begun are shown as zeros.

        Args:
            seed: A seed s, for seeds s, s + 1, ...; or one for each environment. None keeps the
                current random streams.
            options: Only `reset_mask` is known.

        Raises:
            ValueError: If there are other options, or the seeds or the mask have a wrong shape.
        """
        which = self._reset_mask(dict(options or {}))
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + e for e in range(self.num_envs)]
        else:
            seeds = [None if each is None else operator.index(each) for each in seed]
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed has {len(seeds)} entries for {self.num_envs} environments")
        for e in np.flatnonzero(which).tolist():
            if seeds[e] is not None or self._seeds[e] is None:
                rng, self._seeds[e] = seeding.np_random(seeds[e])
                self.core.batch.seed(e, rng)
        self._begun |= which
        self._over &= ~which
        self._begin(which)
        infos = _batched(self.core.infos(*self.core.idle()), which)
        if not self._begun.all():
            self.core.batch.begin(~self._begun)  # observers need UEs to look at
        return marked(self.core.observe(), self._begun), infos

    def step(self, actions: Any) -> VectorStep:
        """Act in every environment; those that are over restart according to `autoreset_mode`.

        Raises:
            ValueError: If an action is not allowed; nothing has changed then.
            ResetNeeded: Before the first reset, and after an end with `AutoresetMode.DISABLED`.
        """
        ended = self._over
        disabled = self.autoreset_mode == AutoresetMode.DISABLED
        self._need_reset(~self._begun | ended if disabled else ~self._begun)
        outcome, complete = self.core.step(actions, ~ended)
        self._steps += 1
        if ended.any():
            self._begin(ended)
        rewards = outcome.reward
        over = self.core.batch.over() | (self._steps >= self._most_steps)
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            infos = self._finish(outcome, complete, over)
            complete = complete & ~over
            outcome = Outcome(*(marked(values, complete) for values in outcome))
            self._over = np.zeros_like(over)
        else:
            self._over = over
        infos |= _batched(self.core.infos(outcome, complete), np.ones_like(over))
        return self.core.observe(), rewards, np.zeros_like(over), over.copy(), infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return (E, choices) bool: False for the choices of the next actions that are void."""
        return self.core.action_masks()

    def sampling_masks(self) -> NDArray[Any] | None:
        """Return (E,) masks for `single_action_space.sample`; None if no choice can be void.

        `infos["action_mask"]` has them as rows of a matrix, because splitting them takes longer
        than a step.
        """
        masks = self.core.view.masks(self.core.dnn)
        return None if masks is None else self.core.view.sampling_masks(masks)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method, or get an attribute, of each environment, like `SyncVectorEnv`.

        Raises:
            AttributeError: If the name is not in OF_EACH or OF_ALL, no space, and not set by
                `set_attr`.
        """
        if name in self._attributes:
            return self._attributes[name]
        if name in OF_EACH:
            each = getattr(self, name)
            each = each(*args, **kwargs) if callable(each) else each
            return (None,) * self.num_envs if each is None else tuple(each)
        if name in ("action_space", "observation_space"):
            name = f"single_{name}"
        elif name not in OF_ALL:
            raise AttributeError(f"environments of a vector have no {name!r} of their own")
        return (getattr(self, name),) * self.num_envs

    get_attr = call

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute for each environment: a list or tuple of E values, or one for all.

        Raises:
            AttributeError: If environments already have it; their properties are fixed when they
                are made.
            ValueError: If there are not E values.
        """
        if hasattr(self, name):
            raise AttributeError(f"{name!r} cannot be set: make new environments instead")
        given = values if isinstance(values, (list, tuple)) else [values] * self.num_envs
        if len(given) != self.num_envs:
            raise ValueError(f"values has {len(given)} entries for {self.num_envs} environments")
        self._attributes[name] = tuple(given)

    def render(self) -> tuple[Any, ...] | None:
        """Return a frame or a text for every environment; only the first nine are drawn.

        Gymnasium's `wrappers.vector.RecordVideo` tiles them.
        """
        if self.core.pictures is None:
            gym.logger.warn("render() needs a render_mode: make_vec(..., render_mode='rgb_array')")
            return None
        self._need_reset(~self._begun)
        from mjoa_gym import rendering  # drawing libraries are loaded only when needed

        scenes = self.core.pictures.scenes()
        if self.render_mode == "rgb_array":
            return rendering.scene_frames(scenes, self.num_envs)
        texts = tuple(rendering.scene_text(scene) for scene in scenes)
        return texts + ("not drawn",) * (self.num_envs - len(texts))

    def _finish(
        self, outcome: Outcome, complete: NDArray[np.bool_], over: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """Return the final infos of the episodes of `over` (E,), and start new ones."""
        observation, last = self.core.observe(), np.full(self.num_envs, None, dtype=object)
        for e in np.flatnonzero(over).tolist():
            last[e] = row(observation, e)
        last_info = _batched(self.core.infos(outcome, complete), over)
        self._begin(over)
        infos = {"final_obs": last, "final_info": last_info}
        return infos | {f"_{key}": over.copy() for key in infos}

    def _begin(self, which: NDArray[np.bool_]) -> None:
        self._steps[which] = 0
        self.core.begin(which)

    def _need_reset(self, which: NDArray[np.bool_]) -> None:
        if which.any():
            who = np.flatnonzero(which).tolist()
            raise ResetNeeded(f"environments {who} are over or have not begun: call reset() first")

    def _reset_mask(self, options: dict[str, Any]) -> NDArray[np.bool_]:
        everybody = np.ones(self.num_envs, dtype=np.bool_)
        mask = np.asarray(options.pop("reset_mask", everybody))
        if options:
            raise ValueError(f"options={options!r}: only reset_mask is known")
        if mask.shape != everybody.shape or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(
                f"options['reset_mask'] has shape {mask.shape} and dtype {mask.dtype}; it must be"
                f" bool of shape {everybody.shape}, with at least one true entry"
            )
        return mask.copy()


class ColdStartVectorEnv(RoundsVectorEnv):
    """Many `MJOA/ColdStart-v1` at once; see `ColdStartEnv` and `RoundsVectorEnv`."""

    persists: ClassVar[bool] = False
    title: ClassVar[str] = "ColdStart"


class StreamingVectorEnv(RoundsVectorEnv):
    """Many `MJOA/Streaming-v1` at once; see `StreamingEnv` and `RoundsVectorEnv`."""

    persists: ClassVar[bool] = True
    title: ClassVar[str] = "Streaming"


def available_threads() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _mode(given: AutoresetMode | str) -> AutoresetMode:
    if isinstance(given, AutoresetMode):
        return given
    known = {text.lower(): mode for mode in AutoresetMode for text in (mode.name, mode.value)}
    return known[choice("autoreset_mode", str(given).lower(), known)]


def _batched(entries: dict[str, NDArray[Any]], which: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the infos of the environments `which` (E,), in the form of Gymnasium's vectors."""
    infos: dict[str, Any] = {}
    for key, values in entries.items():
        infos[key] = marked(values, which)
        infos[f"_{key}"] = which.copy()
    return infos
