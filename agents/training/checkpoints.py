"""Checkpoints that survive a kill at any time, and a full disk.

A checkpoint is a folder that gets its name only when it is complete, with checksums. The previous
one is deleted only after that. A checkpoint holds the algorithm, its replay buffer if it has one,
the environments in the middle of their episodes and all random generators, so that a resumed run
continues bit for bit as if it had not been interrupted.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

PREFIX = "checkpoint-"
NOT_KEPT = ("venv", "class_attributes")
MODEL, REST, SUMS = "model.zip", "rest.pkl", "sums.json"


def save(folder: Path, model: BaseAlgorithm) -> Path:
    """Write a checkpoint of a model at the start of a roll-out, and delete the previous ones.

    Raises:
        OSError: If it cannot be written; the previous ones still exist then.
    """
    final = folder / f"{PREFIX}{model.num_timesteps:010d}"
    if final.exists():
        return final
    draft = folder / f".{final.name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        model.save(draft / MODEL)
        rest: dict[str, Any] = {
            "envs": _layers(model.get_env()),
            "random": (random.getstate(), np.random.get_state(), torch.get_rng_state()),  # noqa: NPY002
            "action_space": model.action_space,  # with its generator, which loading would reseed
        }
        if isinstance(model, OffPolicyAlgorithm):
            rest["replay_buffer"] = model.replay_buffer
        with open(draft / REST, "wb") as file:
            cloudpickle.dump(rest, file)
        sums = {name: _sum(draft / name) for name in (MODEL, REST)}
        (draft / SUMS).write_text(json.dumps(sums), "utf-8")
        for name in (MODEL, REST, SUMS):
            _flush(draft / name)
        os.replace(draft, final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    for older in _all(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)
    return final


def latest(folder: Path) -> Path | None:
    """Return the last complete checkpoint of a folder, or None if there is none."""
    return next((each for each in reversed(_all(folder)) if _intact(each)), None)


def load(checkpoint: Path, algorithm: type[BaseAlgorithm]) -> BaseAlgorithm:
    """Load the model of a checkpoint with its environments, and restore random generators."""
    with open(checkpoint / REST, "rb") as file:
        rest = cloudpickle.load(file)
    model = algorithm.load(
        checkpoint / MODEL, env=_stack(rest["envs"]), device="cpu", force_reset=False
    )
    if isinstance(model, OffPolicyAlgorithm):
        model.replay_buffer = rest["replay_buffer"]
    model.action_space = rest["action_space"]
    python, numpy_, torch_ = rest["random"]
    random.setstate(python)
    np.random.set_state(numpy_)  # noqa: NPY002 - what SB3 draws from
    torch.set_rng_state(torch_)
    return model


def _layers(envs: VecEnv | None) -> tuple[VecEnv | None, list[tuple[type, dict[str, Any]]]]:
    """Split environments and wrappers, outermost first, as they cannot be pickled together."""
    layers = []
    while isinstance(envs, VecEnvWrapper):
        state = {key: value for key, value in vars(envs).items() if key not in NOT_KEPT}
        layers.append((type(envs), state))
        envs = envs.venv
    return envs, layers


def _stack(kept: tuple[Any, list[tuple[type, dict[str, Any]]]]) -> Any:
    """Put together what `_layers` split."""
    envs, layers = kept
    for kind, state in reversed(layers):
        wrapper = kind.__new__(kind)
        vars(wrapper).update(state, venv=envs, class_attributes=dict(inspect.getmembers(kind)))
        envs = wrapper
    return envs


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}*"))


def _intact(checkpoint: Path) -> bool:
    try:
        sums = json.loads((checkpoint / SUMS).read_text("utf-8"))
        return all(_sum(checkpoint / name) == expected for name, expected in sums.items())
    except (OSError, ValueError):
        return False


def _sum(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _flush(file: Path) -> None:
    with open(file, "rb") as content:
        os.fsync(content.fileno())
