"""A warm start for PPO: it clones a planner, and learns what that is worth, before it improves.

Demonstrations are computed once and kept for all seeds. The critic has to follow before the actor
may move: an advantage from a critic that knows nothing would undo the cloning.
"""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from tqdm import tqdm

from agents.benchmark.store import write_atomically
from agents.benchmark.suite import ENVIRONMENTS
from agents.cloning import Demonstrations, clone, demonstrate
from agents.evaluation import agent_of
from agents.training.config import TrainingConfig
from mjoa_gym import Scenario

FIRST_SEED = 500_000
"""Of the episodes that are demonstrated; training uses smaller ones."""
PART = 320
"""Rounds that are demonstrated, and kept, together."""
CRITIC_LEARNING_RATE = 1e-3


def warm_start(
    model: PPO, config: TrainingConfig, scenario: Scenario, cache: Path, progress: bool = True
) -> float:
    """Clone a planner, then let the critic follow.

    Args:
        model: At its first step.
        config: Its `cloning` has `planner`, `rounds`, `epochs` and `critic_timesteps`.
        scenario: What the demonstrations are of.
        cache: Folder that keeps them.
        progress: Whether to show bars.

    Returns:
        The last mean cross-entropy of cloning.
    """
    settings = dict(config.cloning or {})
    rounds = int(settings["rounds"])
    seen = demonstrations(settings["planner"], config.env_id, scenario, rounds, cache, progress)
    loss = clone(model.policy, seen, int(settings["epochs"]), config.seed, progress=progress)
    fit_critic(model, int(settings["critic_timesteps"]))
    return loss


def demonstrations(
    planner: str, env_id: str, scenario: Scenario, rounds: int, cache: Path, progress: bool = True
) -> Demonstrations:
    """What a planner does in some rounds, of which only those that a folder lacks are played.

    They are played and kept part by part, so a stopped run loses one part at most.
    """
    agent: Any = agent_of(planner, scenario, env_id == ENVIRONMENTS["streaming"])
    key = json.dumps([planner, env_id, scenario.to_dict()])
    name = f"demonstrations-{planner}-{zlib.crc32(key.encode()):08x}"
    parts = [cache / name / f"{k:03}.npz" for k in range(-(-rounds // PART))]
    missing = [k for k, file in enumerate(parts) if not file.is_file()]
    for k in tqdm(missing, desc=f"{planner}: {PART} rounds each", disable=not progress):
        seed = FIRST_SEED + k * PART
        seen = demonstrate(env_id, agent, PART, seed, progress=False, scenario=scenario.to_dict())
        content = io.BytesIO()
        np.savez_compressed(content, tokens=seen.tokens, actions=seen.actions)
        write_atomically(parts[k], content.getvalue())
    kept = [np.load(file) for file in parts]
    columns = (
        np.concatenate([part[key] for part in kept])[:rounds] for key in Demonstrations._fields
    )
    return Demonstrations(*columns)


def fit_critic(model: PPO, timesteps: int) -> None:
    """Let the critic learn while the actor stays as it is; the steps do not count."""
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
