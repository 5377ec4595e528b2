"""Models of Stable-Baselines3 and sb3-contrib as agents: their files, their views, their masks.

Loading a model runs code that is in its file, as it does everywhere: load only what you trust.
"""

from __future__ import annotations

import importlib
import inspect
import io
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gymnasium.spaces import Box, Dict, Space

from mjoa_gym.envs.actions import ACTION_VIEWS, action_view
from mjoa_gym.envs.observation import OBSERVERS, observation_of
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, Setting

SB3, CONTRIB = "stable_baselines3", "sb3_contrib"
ALGORITHMS = {
    **{name.lower(): (SB3, name) for name in ("A2C", "DDPG", "DQN", "PPO", "SAC", "TD3")},
    **{name.lower(): (CONTRIB, name) for name in ("ARS", "QRDQN", "TQC", "TRPO", "CrossQ")},
    "maskable-ppo": (CONTRIB, "MaskablePPO"),
    "recurrent-ppo": (CONTRIB, "RecurrentPPO"),
    "ppo-lstm": (CONTRIB, "RecurrentPPO"),  # what RL-Zoo calls it
}
"""By name: the package and the class."""
STATISTICS = ("{stem}_vecnormalize.pkl", "vecnormalize.pkl", "vec_normalize.pkl")
"""The names of a file with `VecNormalize`'s statistics beside a model's."""
CHECKPOINT = re.compile(r"(.+)_(\d+)_steps")
"""How SB3's `CheckpointCallback` calls a model; its statistics are called likewise."""
FOR_TRAINING = {"learning_rate": 0.0, "lr_schedule": None, "clip_range": 0.0}
"""Parts of a saved model that need not be read to play."""


class ModelAgent:
    """What has Stable-Baselines3's `predict` and spaces, as an agent.

    Attributes:
        action_view: The view that the model's action space belongs to.
        observation: The observation that its observation space belongs to.
        batches: Whether it takes several episodes at once.
    """

    def __init__(self, model: Any, action_view: str, observation: str, statistics: Any) -> None:
        self.action_view, self.observation = action_view, observation
        self.batches = is_sb3(model)
        self._model, self._statistics = model, statistics
        self._asks = inspect.signature(model.predict).parameters

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_masks: Any = None,
    ) -> Any:
        """What the model says, of the observation as it was normalised in training."""
        if self._statistics is not None:
            observation = self._statistics.normalize_obs(observation)
        aside = {"state": state, "episode_start": episode_start, "deterministic": deterministic}
        aside |= {"action_masks": action_masks}
        return self._model.predict(
            observation, **{key: value for key, value in aside.items() if key in self._asks}
        )


def model_agent(
    model: Any, setting: Setting, statistics: Any = None, label: str = "the model"
) -> ModelAgent:
    """The agent of a model in a setting, its view and observation known from its spaces.

    Raises:
        ValueError: If no view and observation has these spaces; with both.
    """
    views = {n: action_view(n, setting.scenario, setting.persists) for n in ACTION_VIEWS}
    for name, view in views.items():
        for observation in OBSERVERS:
            spaces = view.space, observation_of(observation, view).space
            if spaces == (model.action_space, model.observation_space):
                return ModelAgent(model, name, observation, statistics)
    raise ValueError(_misfit(label, model, setting, views))


def saved_agent(
    algorithm: str | type, saved: str | tuple[bytes, bytes], label: str, setting: Setting
) -> ModelAgent:
    """The agent of a saved model (see `load_model`)."""
    model, statistics = load_model(algorithm, saved)
    return model_agent(model, setting, statistics, label)


def is_sb3(model: Any, kind: str = "") -> bool:
    """Whether an object is one of Stable-Baselines3's, of a class of that name or any."""
    return any(c.__module__.startswith(SB3) and kind in c.__name__ for c in type(model).__mro__)


def frozen_model(model: Any) -> tuple[bytes, bytes]:
    """A model that was trained just now, and its statistics, as they would be saved."""
    content = io.BytesIO()
    model.save(content)
    return content.getvalue(), pickle.dumps(model.get_vec_normalize_env())


def load_model(algorithm: str | type, saved: str | tuple[bytes, bytes]) -> tuple[Any, Any]:
    """A model that is only to play, and `VecNormalize`'s statistics (None if there are none).

    Args:
        algorithm: Of `ALGORITHMS`, or the model's class.
        saved: A model's path (see `model_files`), or what `frozen_model` gives.

    Raises:
        ValueError: If the file is not such a model.
        ImportError: If the library is not installed.
    """
    if isinstance(algorithm, str):
        package, name = ALGORITHMS[algorithm]
        algorithm = getattr(importlib.import_module(package), name)
    kind: Any = algorithm
    if isinstance(saved, str):
        content, *others = (file.read_bytes() for file in model_files(saved))
        statistics = others[0] if others else None
    else:
        content, statistics = saved
    buffers = {"buffer_size": 1} if "buffer_size" in inspect.signature(kind).parameters else {}
    try:
        model = kind.load(
            io.BytesIO(content), device="cpu", custom_objects=dict(FOR_TRAINING), **buffers
        )
        return model, None if statistics is None else pickle.loads(statistics)
    except Exception as error:  # SB3 checks next to nothing
        where = saved if isinstance(saved, str) else "the model"
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{where} is no model of {kind.__name__}: {reason}") from error


def model_files(path: str) -> Sequence[Path]:
    """A model's file, and the file with `VecNormalize`'s statistics if there is one beside it.

    Args:
        path: Of the file, with or without ".zip", or a folder of RL-Zoo: its best model, or the
            only one.

    Raises:
        ValueError: If there is no such file, or several could be meant.
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
    """Why a model is not for a setting, on one line."""
    own, seen = model.action_space, model.observation_space
    view = next((v for v in views.values() if type(v.space) is type(own)), views["box"])
    name = next(name for name, each in views.items() if each is view)
    kind = "dict" if isinstance(seen, Dict) else "flat"
    ours = observation_of(kind, view).space
    n_ues = _ues(seen, ours, setting.scenario.n_ues)
    hint = f"; with n_ues={n_ues} it might" if n_ues else ""
    text = (
        f"{label} does not fit {ENVIRONMENTS[setting.environment]} with {setting.scenario.n_ues} "
        f"UEs{hint}: it acts in {own} and observes {seen}; the environment has "
        f"action={name!r}: {view.space} and observation={kind!r}: {ours}"
    )
    return " ".join(text.split())


def _ues(seen: Space[Any], ours: Space[Any], n_ues: int) -> int | None:
    """The number of UEs whose observations are as long as those that a model has seen."""
    if isinstance(seen, Dict):
        speed = seen.spaces.get("speed")
        found = speed.shape[0] if isinstance(speed, Box) else 0
    elif isinstance(seen, Box) and isinstance(ours, Box) and len(seen.shape) == 1:
        columns = (ours.shape[0] - 1) // n_ues
        found, left_over = divmod(seen.shape[0] - 1, columns)
        found = 0 if left_over else found
    else:
        return None
    return found if found != n_ues else None
