"""Models of Stable-Baselines3 and sb3-contrib as agents: their files, their views, their masks.

Loading a model runs code from its file, so load only files that you trust.
"""

from __future__ import annotations

import importlib
import inspect
import io
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from gymnasium.spaces import Box, Dict, Space

from mjoa_gym.envs.actions import ACTION_VIEWS, action_view
from mjoa_gym.envs.core import observation_of, observers_for
from mjoa_gym.envs.observation import networks_shown
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, Setting

SB3, CONTRIB = "stable_baselines3", "sb3_contrib"
ALGORITHMS = {
    **{name.lower(): (SB3, name) for name in ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")},
    **{name.lower(): (CONTRIB, name) for name in ("ARS", "QRDQN", "TQC", "TRPO", "CrossQ")},
    "maskable-ppo": (CONTRIB, "MaskablePPO"),
    "recurrent-ppo": (CONTRIB, "RecurrentPPO"),
    "ppo-lstm": (CONTRIB, "RecurrentPPO"),  # its name in RL-Zoo
}
"""The package and the class of each algorithm, by name."""
STATISTICS = ("{stem}_vecnormalize.pkl", "vecnormalize.pkl", "vec_normalize.pkl")
"""Names of a file with `VecNormalize`'s statistics next to a model's file."""
CHECKPOINT = re.compile(r"(.+)_(\d+)_steps")
"""File name of a model from SB3's `CheckpointCallback`; its statistics have a similar name."""
FOR_TRAINING = {"learning_rate": 0.0, "lr_schedule": None, "clip_range": 0.0}
"""Parts of a saved model that are not needed to play."""


@dataclass(frozen=True)
class ModelAgent:
    """An object with Stable-Baselines3's `predict` and spaces, as an agent."""

    action_view: str
    observation: str
    batches: bool
    predict: Callable[..., Any]


def model_agent(
    model: Any, setting: Setting, statistics: Any = None, label: str = "the model"
) -> ModelAgent:
    """Return a model's agent in a setting; ValueError if no view and observation has its spaces."""

    @wraps(model.predict)
    def predict(observation: Any, **aside: Any) -> Any:
        if statistics is not None:
            observation = statistics.normalize_obs(observation)
        return model.predict(observation, **aside)

    views = {n: action_view(n, setting.scenario, setting.persists) for n in ACTION_VIEWS}
    for name, view in views.items():
        for observation, kind in observers_for(view).items():
            if (view.space, kind(view).space) == (model.action_space, model.observation_space):
                return ModelAgent(name, observation, is_sb3(model), predict)
    raise ValueError(_misfit(label, model, setting, views))


def is_sb3(model: Any, kind: str = "") -> bool:
    """Return whether an object is from Stable-Baselines3, of the class `kind` or any."""
    return any(c.__module__.startswith(SB3) and kind in c.__name__ for c in type(model).__mro__)


def frozen_model(model: Any) -> tuple[bytes, bytes]:
    """Return the bytes of a model in memory, and of its statistics, as they would be saved."""
    content = io.BytesIO()
    model.save(content)
    return content.getvalue(), pickle.dumps(model.get_vec_normalize_env())


def saved_agent(
    algorithm: str | type, saved: str | tuple[bytes, bytes], label: str, setting: Setting
) -> ModelAgent:
    """Return the agent of a saved model: a path (see `model_files`) or a frozen model.

    Raises an ImportError without the library, and a ValueError if the file is not such a model, or
    the model does not fit the setting.
    """
    kind: Any = algorithm
    if isinstance(algorithm, str):
        package, name = ALGORITHMS[algorithm]
        kind = getattr(importlib.import_module(package), name)
    parts = saved if isinstance(saved, tuple) else [f.read_bytes() for f in model_files(saved)]
    buffers = {"buffer_size": 1} if "buffer_size" in inspect.signature(kind).parameters else {}
    try:
        model = kind.load(
            io.BytesIO(parts[0]), device="cpu", custom_objects=dict(FOR_TRAINING), **buffers
        )
        statistics = pickle.loads(parts[1]) if len(parts) > 1 else None
    except Exception as error:  # SB3 checks almost nothing
        where = saved if isinstance(saved, str) else "the model"
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{where} is not a model of {kind.__name__}: {reason}") from error
    return model_agent(model, setting, statistics, label)


def model_files(path: str) -> Sequence[Path]:
    """Return a model's file, and the file with `VecNormalize`'s statistics next to it, if any.

    A path may lack ".zip", or be a folder of RL-Zoo, which stands for its best or only model.
    Raises a ValueError if there is no such file, or the path is ambiguous.
    """
    model = _model_file(Path(path))
    names = [name.format(stem=model.stem) for name in STATISTICS]
    if checkpoint := CHECKPOINT.fullmatch(model.stem):
        names.insert(0, "{}_vecnormalize_{}_steps.pkl".format(*checkpoint.groups()))
    for name in names:
        if (model.parent / name).is_file():
            return model, model.parent / name
    below = sorted(model.parent.glob("*/vecnormalize.pkl"))  # where RL-Zoo puts them
    if len(below) > 1:
        raise ValueError(f"{path}: which statistics belong to it, {' or '.join(map(str, below))}?")
    return model, *below


def _model_file(path: Path) -> Path:
    for file in (path, path.with_name(f"{path.name}.zip"), path / "best_model.zip"):
        if file.is_file():
            return file
    if not path.is_dir():
        raise ValueError(f"there is no file {path}")
    files = sorted(path.glob("*.zip"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "no model"
        raise ValueError(f"{path} holds {names}: name one file")
    return files[0]


def _misfit(label: str, model: Any, setting: Setting, views: Any) -> str:
    """Explain on one line why a model does not fit a setting."""
    own, seen = model.action_space, model.observation_space
    name = next((n for n, view in views.items() if type(view.space) is type(own)), "box")
    kind = "dict" if isinstance(seen, Dict) else "flat"
    if len(seen.shape or ()) == 2 and "outlook" in observers_for(views[name]):
        kind = "outlook"
    ours = observation_of(kind, views[name]).space
    of_all = 1 + networks_shown(setting.scenario, setting.persists)
    n_ues = _ues(seen, ours, of_all, setting.scenario.n_ues)
    hint = f"; with n_ues={n_ues} it might" if n_ues not in (0, setting.scenario.n_ues) else ""
    text = (
        f"{label} does not fit {ENVIRONMENTS[setting.environment]} with {setting.scenario.n_ues} "
        f"UEs{hint}: it acts in {own} and observes {seen}; the environment has "
        f"action={name!r}: {views[name].space} and observation={kind!r}: {ours}"
    )
    return " ".join(text.split())


def _ues(seen: Space[Any], ours: Space[Any], of_all: int, n_ues: int) -> int:
    """Return the number of UEs for which observations have the model's length; 0 if none does.

    `of_all` numbers of a flat observation belong to all UEs together.
    """
    if isinstance(seen, Dict):
        speed = seen.spaces.get("speed")
        return speed.shape[0] if isinstance(speed, Box) else 0
    if not isinstance(seen, Box) or not isinstance(ours, Box) or len(seen.shape) != len(ours.shape):
        return 0
    if len(seen.shape) == 2:
        return seen.shape[0]
    found, left_over = divmod(seen.shape[0] - of_all, (ours.shape[0] - of_all) // n_ues)
    return 0 if left_over else found
