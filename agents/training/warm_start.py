"""A warm start for PPO: demonstrations, computed once and kept, and the cloning of them."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import PPO

from agents.cloning import Demonstrations, clone, demonstrate
from agents.far_sighted import FarSightedAgent
from agents.planner_agent import PlannerAgent
from agents.training.config import TrainingConfig
from mjoa_gym import Scenario

FIRST_SEED = 500_000
"""Of the episodes that are demonstrated; training uses smaller ones."""


def warm_start(model: PPO, config: TrainingConfig, scenario: Scenario, cache: Path) -> float:
    """Clone what the configuration names: `planner`, `rounds`, `epochs`; returns the last loss."""
    settings = dict(config.cloning or {})
    seen = demonstrations(settings["planner"], config, scenario, int(settings["rounds"]), cache)
    return clone(model.policy, seen, int(settings["epochs"]), seed=config.seed)


def demonstrations(
    planner: str, config: TrainingConfig, scenario: Scenario, rounds: int, cache: Path
) -> Demonstrations:
    """What a planner does in some rounds; kept in a folder, for all seeds."""
    arguments: dict[str, Any] = {"scenario": scenario.to_dict()}
    key = json.dumps([planner, config.env_id, rounds, FIRST_SEED, arguments])
    file = cache / f"demonstrations-{planner}-{zlib.crc32(key.encode()):08x}.npz"
    if not file.is_file():
        agent: Any = (
            FarSightedAgent(scenario)
            if planner == "far-sighted"
            else PlannerAgent(planner, scenario)
        )
        seen = demonstrate(config.env_id, agent, rounds, FIRST_SEED, **arguments)
        draft = file.with_suffix(f".{os.getpid()}.npz")
        np.savez_compressed(draft, tokens=seen.tokens, actions=seen.actions)
        os.replace(draft, file)
    with np.load(file) as kept:
        return Demonstrations(kept["tokens"], kept["actions"])
