"""Hyper-parameters from YAML files in RL-Zoo's syntax: one per algorithm, keyed by environment."""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import dataclass, replace
from functools import partial
from operator import mul
from pathlib import Path
from typing import Any

from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.demonstrated_dqn import DemonstratedDQN
from agents.paired_ppo import PairedPPO
from mjoa_gym import Scenario
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.files import yaml_mapping
from mjoa_gym.validation import choice, count

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PairedPPO, "dqn": DemonstratedDQN}
"""The algorithms that train our agents."""
STOCK: dict[str, type[BaseAlgorithm]] = {
    "ppo": PPO, "maskable-ppo": MaskablePPO, "dqn": DQN, "sac": SAC,
}  # fmt: skip
"""Stable-Baselines3's and sb3-contrib's own algorithms, with their policies."""
FOLDER = Path(__file__).resolve().parents[2] / "configs" / "agents"
OWN_KEYS = ("n_envs", "n_timesteps", "policy", "env_kwargs", "vec_env_wrapper")
"""Keys that are not arguments of the algorithm."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that a run depends on."""

    algorithm: str  # from `ALGORITHMS` or `STOCK`
    env_id: str
    seed: int  # for weights, exploration and environments
    scenario: Any  # fields that differ from the default's, or a scenario's name or file
    n_envs: int  # number of environments at once
    n_timesteps: int  # total over all environments
    policy: str  # name or dotted path of its class
    env_kwargs: dict[str, Any]
    vec_env_wrapper: str | dict[str, Any] | None  # dotted path, or `{path: arguments}`
    hyperparameters: dict[str, Any]  # the algorithm's arguments
    cloning: dict[str, Any] | None = None  # for `agents.training.warm_start`, or None

    @property
    def is_stock(self) -> bool:
        """Whether the policy is from the library, so its name has no dots."""
        return "." not in self.policy

    @property
    def kind(self) -> type[BaseAlgorithm]:
        """The algorithm's class."""
        kinds = STOCK if self.is_stock else ALGORITHMS
        return kinds[choice("algorithm", self.algorithm, tuple(kinds))]

    @property
    def setting(self) -> Setting:
        """The setting for validation and use; a different `rounds` applies only to training."""
        scenario = Scenario.of(self.scenario).with_changes(n_ues=self.env_kwargs.get("n_ues"))
        return Setting(self.env_id, scenario)


def short_name(env_id: str) -> str:
    """Return an environment's name in folders: "coldstart" or "streaming"."""
    return env_id.split("/")[-1].split("-")[0].lower()


def load_config(
    algorithm: str,
    env_id: str,
    seed: int = 0,
    scenario: Any = None,
    **changes: Any,
) -> TrainingConfig:
    """Load the configuration of an algorithm for an environment from `configs/agents`.

    Args:
        algorithm: "ppo" or "dqn".
        env_id: The environment.
        seed: See `TrainingConfig`.
        scenario: See `TrainingConfig`.
        **changes: New values for keys of the file.

    Raises:
        ValueError: If there is no such algorithm, environment or argument.
        OSError: If a file cannot be read.
    """
    choice("algorithm", algorithm, tuple(ALGORITHMS))
    files = FOLDER / f"{algorithm}.yml", FOLDER / "cloning.yml"
    by_env, cloning = (yaml_mapping(file.read_text("utf-8"), file) for file in files)
    settings = dict(by_env[choice("env", env_id, tuple(by_env))]) | changes
    config = new_config(algorithm, env_id, seed, scenario, **settings)
    if config.is_stock:  # our cloning supports only our policies
        return config
    return replace(config, cloning=cloning.get(algorithm, {}).get(env_id))


def new_config(
    algorithm: str, env_id: str, seed: int = 0, scenario: Any = None, **settings: Any
) -> TrainingConfig:
    """Make a configuration without cloning from a mapping like those in the files.

    Raises:
        ValueError: If there is no such algorithm or argument.
    """
    own = {key: settings.pop(key, None) for key in OWN_KEYS}
    if own["n_timesteps"] is None:
        raise ValueError("n_timesteps is missing: set the number of training steps")
    config = TrainingConfig(
        algorithm=algorithm,
        env_id=env_id,
        seed=int(seed),
        scenario=scenario,
        n_envs=count("n_envs", 1 if own["n_envs"] is None else int(own["n_envs"])),
        n_timesteps=count("n_timesteps", int(float(own["n_timesteps"]))),
        policy=own["policy"] or "MlpPolicy",
        env_kwargs=dict(own["env_kwargs"] or {}),
        vec_env_wrapper=own["vec_env_wrapper"],
        hyperparameters=settings,
    )
    known = arguments_of(config.kind)
    for key in settings:
        choice(f"hyper-parameter of {algorithm}", key, known)
    return config


def arguments_of(algorithm: type[BaseAlgorithm]) -> tuple[str, ...]:
    """Return the names of an algorithm's arguments, including those of its base classes."""
    kinds = [kind for kind in algorithm.__mro__ if issubclass(kind, BaseAlgorithm)]
    return tuple({name for kind in kinds for name in inspect.signature(kind).parameters})


def algorithm_arguments(config: TrainingConfig) -> dict[str, Any]:
    """Return the algorithm's arguments, with schedules and classes in place of their names."""
    arguments = {key: _scheduled(value) for key, value in config.hyperparameters.items()}
    if isinstance(arguments.get("policy_kwargs"), str):
        raise ValueError("policy_kwargs: must be a mapping, not a string")
    return {"policy": by_path(config.policy)} | arguments


def wrapped(envs: Any, config: TrainingConfig) -> Any:
    """Return the environments in the configuration's wrapper."""
    wrapper = config.vec_env_wrapper
    if wrapper is None:
        return envs
    path, arguments = (wrapper, {}) if isinstance(wrapper, str) else next(iter(wrapper.items()))
    return by_path(path)(envs, **(arguments or {}))


def by_path(name: str) -> Any:
    """Import the object at a dotted path, or raise a ValueError; return other names unchanged."""
    if "." not in name:
        return name
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name!r} cannot be imported: {error}") from error


def _scheduled(value: Any) -> Any:
    """Turn `"lin_3e-4"` into a function of the remaining progress, as in RL-Zoo."""
    is_schedule = isinstance(value, str) and value.startswith("lin_")
    return partial(mul, float(value[4:])) if is_schedule else value
