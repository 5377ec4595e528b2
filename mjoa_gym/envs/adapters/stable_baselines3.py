"""Stable-Baselines3 and sb3-contrib at the speed of a vector environment.

SB3's algorithms need SB3's own `VecEnv`. `StableBaselinesVecEnv` turns any Gymnasium vector
environment that resets a finished episode in the same step into one, at little extra cost. Install
the library with the extra `sb3`.

    from stable_baselines3 import PPO
    from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env

    envs = make_vec_env("MJOA/ColdStart-v1", n_envs=64, seed=0, action="multidiscrete")
    PPO("MultiInputPolicy", envs).learn(100_000)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import VectorizeMode
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from mjoa_gym.validation import choice, count

try:
    from stable_baselines3.common.env_util import is_wrapped
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import (
        VecEnvIndices,
        VecEnvObs,
        VecEnvStepReturn,
    )
except ImportError as error:
    raise ImportError("stable-baselines3 is needed: pip install 'mjoa-gym[sb3]'") from error

Infos = Literal["lean", "full"]
READ_AT_THE_END = ("episode", "is_success")  # what SB3 reads from a finished episode's info


class StableBaselinesVecEnv(VecEnv):
    """A Gymnasium vector environment with the interface that SB3 expects.

    With `infos="lean"`, the dictionary of an environment is empty, except in the step that ends its
    episode. Then it has what SB3 reads: `terminal_observation`, `TimeLimit.truncated`, and
    `episode` and `is_success` where the environment provides them. With `infos="full"`, each
    dictionary has the environment's whole info in every step, and `TimeLimit.truncated`, like those
    of SB3's `DummyVecEnv`. This costs a Python dictionary with a slice of each array per
    environment and step. `VecMonitor(..., info_keywords=...)` and callbacks that read `infos` need
    it.

    Attributes and methods are looked up in the single environments, if there are any (as in
    `SyncVectorEnv`). A vector environment without single ones has one value for all: `get_attr`
    repeats it, `env_method` expects one result per environment (for `action_masks()` and
    `MaskablePPO`, the rows of an array), and neither `env_method` nor `set_attr` can be limited to
    some `indices`.

    Raises:
        ValueError: If the environment does not reset in the same step.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], infos: Infos = "lean") -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"{env} has autoreset_mode={mode}: AutoresetMode.SAME_STEP is needed "
                "(make_vec_env asks for it)"
            )
        choice("infos", infos, get_args(Infos))
        self.env = env
        self.infos = infos
        self._actions: Any = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.metadata = env.metadata

    def reset(self) -> VecEnvObs:
        """Start all episodes, with the seeds and options set since the last time."""
        seeds: Any = self._seeds
        if seeds[0] is None:
            seeds = None
        elif seeds == list(range(seeds[0], seeds[0] + len(seeds))):
            seeds = int(seeds[0])  # every vector environment counts up from this seed
        observations, infos = self.env.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = [_row(infos, i) for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def seed_alike(self, seed: int, copies: int) -> None:
        """Give each group of `copies` consecutive environments the same seed, so the same UEs.

        Raises:
            ValueError: If `copies` does not divide the number of environments.
        """
        if self.num_envs % count("copies", copies):
            raise ValueError(f"copies={copies}: must divide n_envs={self.num_envs}")
        self._seeds = [seed + i // copies for i in range(self.num_envs)]

    def set_options(self, options: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        """Set the options of the next `reset`; they are the same for all environments.

        Raises:
            ValueError: If a list has different options.
        """
        if isinstance(options, list) and any(each != options[0] for each in options):
            raise ValueError(f"options={options}: they must be the same for all environments")
        super().set_options(options)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments; finished episodes have already restarted."""
        observations, rewards, terminations, truncations, infos = self.env.step(self._actions)
        dones = terminations | truncations
        timeouts = truncations & ~terminations
        if self.infos == "full":
            rows = [_row(infos, i) for i in range(self.num_envs)]
            for row, timeout in zip(rows, timeouts.tolist(), strict=True):
                row["TimeLimit.truncated"] = timeout
        else:
            rows = [{} for _ in range(self.num_envs)]
        if dones.any():
            self._finish(rows, np.flatnonzero(dones).tolist(), timeouts, infos)
        return observations, rewards.astype(np.float32), dones, rows

    def _finish(
        self,
        rows: list[dict[str, Any]],
        ended: list[int],
        timeouts: NDArray[np.bool_],
        infos: dict[str, Any],
    ) -> None:
        """Add the entries that belong to the last step to the rows of finished episodes."""
        last = infos.get("final_info", {})
        keys = [mark + key for key in READ_AT_THE_END for mark in ("", "_")]
        read = {key: source[key] for source in (infos, last) for key in keys if key in source}
        for i in ended:
            self.reset_infos[i] = {}
            if self.infos == "full":  # so far the row describes the reset that followed
                self.reset_infos[i], rows[i] = rows[i], _row(last, i)
                self.reset_infos[i].pop("TimeLimit.truncated")
            rows[i] |= _row(read, i)
            rows[i]["TimeLimit.truncated"] = bool(timeouts[i])
            rows[i]["terminal_observation"] = infos["final_obs"][i]

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return a picture of each environment, if `render_mode` is "rgb_array"."""
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return the value of an attribute in each environment."""
        chosen = list(self._get_indices(indices))
        base = self.env.unwrapped
        if hasattr(base, "envs"):
            return [base.envs[i].get_wrapper_attr(attr_name) for i in chosen]
        if hasattr(base, "get_attr"):
            values = base.get_attr(attr_name)
            return [values[i] for i in chosen]
        return [getattr(self._layer_with(attr_name), attr_name)] * len(chosen)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Give an attribute a value."""
        base = self.env.unwrapped
        if hasattr(base, "envs"):
            for i in self._get_indices(indices):
                base.envs[i].set_wrapper_attr(attr_name, value)
            return
        self._refuse_some(indices)
        if hasattr(base, "set_attr"):
            base.set_attr(attr_name, [value] * self.num_envs)
        else:
            setattr(base, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of each environment."""
        base = self.env.unwrapped
        if hasattr(base, "envs"):
            methods = self.get_attr(method_name, indices)
            return [method(*method_args, **method_kwargs) for method in methods]
        self._refuse_some(indices)
        if hasattr(base, "call"):
            return list(base.call(method_name, *method_args, **method_kwargs))
        method = getattr(self._layer_with(method_name), method_name)
        results = list(method(*method_args, **method_kwargs))
        if len(results) != self.num_envs:
            raise ValueError(f"{method_name}() gave {len(results)} results, not {self.num_envs}")
        return results

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return whether each single environment, if there are any, has a wrapper."""
        envs = getattr(self.env.unwrapped, "envs", None)
        chosen = self._get_indices(indices)
        return [envs is not None and is_wrapped(envs[i], wrapper_class) for i in chosen]

    def _layer_with(self, name: str) -> VectorEnv[Any, Any, Any]:
        """Return the outermost vector wrapper, or the environment, that has an attribute."""
        layer: Any = self.env
        while layer is not layer.unwrapped and not hasattr(layer, name):
            layer = layer.env
        return layer

    def _refuse_some(self, indices: VecEnvIndices) -> None:
        if indices is not None and set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ValueError(f"indices={indices}: this vector environment acts on all or none")


def make_vec_env(
    env_id: str,
    n_envs: int = 1,
    seed: int | None = None,
    *,
    copies: int = 1,
    vectorization_mode: VectorizeMode | str = VectorizeMode.VECTOR_ENTRY_POINT,
    infos: Infos = "lean",
    **kwargs: Any,
) -> StableBaselinesVecEnv:
    """Make a registered environment `n_envs` times, for Stable-Baselines3.

    Args:
        env_id: A registered id. For this package's ids, import `mjoa_gym` first, or write
            `"mjoa_gym:MJOA/..."`.
        n_envs: Number of environments.
        seed: Environment i gets `seed + i // copies` at the first reset; None for random seeds.
        copies: Number of consecutive environments that meet the same UEs, whatever the actions;
            only with a seed.
        vectorization_mode: The environment's own vector form, or "sync" or "async" copies of the
            scalar one.
        infos: See `StableBaselinesVecEnv`.
        **kwargs: Passed to the environment.
    """
    reset_in_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    if VectorizeMode(vectorization_mode) == VectorizeMode.VECTOR_ENTRY_POINT:
        kwargs |= reset_in_step
    else:
        kwargs["vector_kwargs"] = kwargs.get("vector_kwargs", {}) | reset_in_step
    env = gym.make_vec(env_id, n_envs, vectorization_mode=vectorization_mode, **kwargs)
    envs = StableBaselinesVecEnv(env, infos)
    if seed is not None:
        envs.seed_alike(seed, copies)
    return envs


def _row(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """Return what a vector environment's info says about environment i in this step."""
    row: dict[str, Any] = {}
    for key, values in infos.items():
        if key in ("final_obs", "final_info") or (key[:1] == "_" and key[1:] in infos):
            continue
        present = infos.get(f"_{key}")
        if present is None or present[i]:
            row[key] = _row(values, i) if isinstance(values, dict) else values[i]
    return row
