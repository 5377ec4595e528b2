"""A warm start: a model clones a planner, and learns the values of its actions, before it improves.

Demonstrations are computed once and kept for all seeds. PPO's critic must be trained before the
actor changes: an advantage from an untrained critic would undo the cloning. DQN continues to use
the demonstrations while it learns.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from tqdm import tqdm

from agents.cloning import Demonstrations, clone, demonstrate, joined
from agents.demonstrated_dqn import DemonstratedDQN
from agents.training.config import TrainingConfig
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.files import write

FIRST_SEED = 500_000
"""First seed of the demonstrated episodes; training uses smaller seeds."""
PART = 320
"""Number of rounds that are demonstrated and saved together."""
CRITIC_LEARNING_RATE = 1e-3


def warm_start(model: BaseAlgorithm, config: TrainingConfig, cache: Path, progress: bool) -> None:
    """Let a model at its first step clone a planner according to its configuration's `cloning`.

    `cloning` has `planner` and `rounds`, for PPO also `epochs` and `critic_timesteps`, and for DQN
    `updates`. The folder `cache` keeps the demonstrations.
    """
    settings = dict(config.cloning or {})
    seen = demonstrations_for(config, cache, progress)
    if isinstance(model, DemonstratedDQN):
        model.show(seen)
        model.clone(int(settings["updates"]), progress=progress)
    elif isinstance(model, PPO):
        clone(model.policy, seen, int(settings["epochs"]), config.seed, progress=progress)
        fit_critic(model, int(settings["critic_timesteps"]))


def follow_up(model: BaseAlgorithm, config: TrainingConfig, cache: Path, progress: bool) -> None:
    """Give a model that continues from a checkpoint the demonstrations that it learns from."""
    if isinstance(model, DemonstratedDQN):
        model.show(demonstrations_for(config, cache, progress))


def demonstrations_for(
    config: TrainingConfig, cache: Path, progress: bool = True
) -> Demonstrations:
    """Return a run's demonstrations; only rounds that a folder lacks are played.

    They are played and saved part by part, so a stopped run loses at most one part.
    """
    settings = dict(config.cloning or {})
    planner, rounds = str(settings["planner"]), int(settings["rounds"])
    agent = source_of(planner).agent(config.setting)
    if not isinstance(agent, PlannerAgent):
        raise ValueError(f"cloning: planner={planner!r} is an agent: only planners can be cloned")
    agent.threads = os.cpu_count() or 1
    view, rounds_each = config.env_kwargs["action"], config.env_kwargs.get("rounds")
    played = config.setting.scenario.with_changes(rounds=rounds_each).to_dict()
    key = json.dumps([planner, config.env_id, view, played])
    name = f"demonstrations-{planner}-{zlib.crc32(key.encode()):08x}"
    parts = [cache / name / f"{k:03}.npz" for k in range(-(-rounds // PART))]
    missing = [k for k, file in enumerate(parts) if not file.is_file()]
    for k in tqdm(missing, desc=f"{planner}: {PART} rounds each", disable=not progress):
        seed = FIRST_SEED + k * PART
        seen = demonstrate(config.env_id, agent, PART, seed, view, scenario=played)
        content = io.BytesIO()
        np.savez_compressed(content, **seen._asdict())
        write(parts[k], content.getvalue())
    return joined([Demonstrations(**np.load(file)) for file in parts])


def fit_critic(model: PPO, timesteps: int) -> None:
    """Let the critic learn while the actor does not change; the steps do not count."""
    if timesteps <= 0:
        return
    network: Any = model.policy.mlp_extractor
    usual = model.lr_schedule
    network.actor.requires_grad_(False)
    model.lr_schedule = lambda _: CRITIC_LEARNING_RATE
    model.set_logger(Logger(None, []))
    model.learn(timesteps)
    network.actor.requires_grad_(True)
    model.lr_schedule = usual
    model.num_timesteps = 0
    model._last_obs = None
