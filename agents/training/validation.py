"""How good a policy is on a fixed set of episodes that it never trains on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from agents.planner_agent import PlannerAgent
from mjoa_gym import Scenario

FIRST_SEED = 900_000
"""Training uses smaller seeds, evaluation those from 1,000,000."""


class Score(NamedTuple):
    """Means over all rounds of the validation episodes.

    Attributes:
        latency_s: Weighted mean latency of a round's UEs.
        local_s: The same with all layers on the UEs.
        reward: Of a round.
    """

    latency_s: float
    local_s: float
    reward: float


def score(
    agent: Any, env_id: str, scenario: Scenario, episodes: int, action: str, seed: int = FIRST_SEED
) -> Score:
    """Play the validation episodes, all at once.

    Args:
        agent: With `predict`, for dictionary observations.
        env_id: The environment.
        scenario: Its scenario.
        episodes: How many.
        action: The agent's action view.
        seed: Of the first episode.
    """
    envs = gym.make_vec(
        env_id, episodes, vectorization_mode="vector_entry_point", action=action,
        observation="dict", scenario=scenario,
    )  # fmt: skip
    observation, _ = envs.reset(seed=seed)
    rounds: list[tuple[float, float, float]] = []
    while len(rounds) < scenario.rounds:
        actions, _ = agent.predict(observation, deterministic=True)
        weight = observation["weight"] / observation["weight"].sum(axis=1, keepdims=True)
        observation, reward, _, _, info = envs.step(actions)
        if "latency_s" in info:
            means = (float((weight * info[key]).sum(1).mean()) for key in ("latency_s", "local_s"))
            rounds.append((*means, float(reward.mean())))  # type: ignore[arg-type]
    return Score(*np.mean(rounds, axis=0).tolist())


def planner_score(
    planner: str, env_id: str, scenario: Scenario, episodes: int, cache: Path
) -> Score:
    """The score of a planner, kept in a file because it takes minutes."""
    settings = json.dumps([planner, env_id, episodes, FIRST_SEED, scenario.to_dict()])
    known = json.loads(cache.read_text("utf-8")) if cache.is_file() else {}
    if settings not in known:
        agent = PlannerAgent(planner, scenario)
        known[settings] = score(agent, env_id, scenario, episodes, "plan")
        draft = cache.with_suffix(f".{os.getpid()}.draft")
        draft.write_text(json.dumps(known, indent=1), "utf-8")
        os.replace(draft, cache)
    return Score(*known[settings])
