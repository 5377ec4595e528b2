"""A warm start for PPO: it clones a planner, and learns what that is worth, before it improves.

Demonstrations are computed once and kept for all seeds. The critic has to follow before the actor
may move: an advantage from a critic that knows nothing would undo the cloning.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from agents.cloning import Demonstrations, clone, demonstrate
from agents.far_sighted import FarSightedAgent
from agents.planner_agent import PlannerAgent
from agents.training.config import TrainingConfig
from mjoa_gym import Scenario

FIRST_SEED = 500_000
"""Of the episodes that are demonstrated; training uses smaller ones."""
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
    """What a planner does in some rounds, computed if the folder does not keep it yet."""
    key = json.dumps([planner, env_id, rounds, FIRST_SEED, scenario.to_dict()])
    file = cache / f"demonstrations-{planner}-{zlib.crc32(key.encode()):08x}.npz"
    if not file.is_file():
        far_sighted = planner == "far-sighted"
        agent: Any = FarSightedAgent(scenario) if far_sighted else PlannerAgent(planner, scenario)
        seen = demonstrate(
            env_id, agent, rounds, FIRST_SEED, progress=progress, scenario=scenario.to_dict()
        )
        draft = file.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(draft, tokens=seen.tokens, actions=seen.actions)
        os.replace(draft, file)
    with np.load(file) as kept:
        return Demonstrations(kept["tokens"], kept["actions"])


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
