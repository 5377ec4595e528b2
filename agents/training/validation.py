"""Quality of a policy on a fixed set of episodes that are not used for training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mjoa_gym.evaluation.agent import Agent, PlannerAgent
from mjoa_gym.evaluation.episodes import Setting, play
from mjoa_gym.files import write

FIRST_SEED = 900_000
"""First seed of the validation; training uses smaller seeds, evaluation those from 1,000,000."""


class Score(NamedTuple):
    """Means over all rounds of the validation episodes."""

    latency_s: float  # weighted mean latency of a round's UEs
    local_s: float  # the same with all layers on the UEs
    reward: float


def score(agent: Agent, setting: Setting, episodes: int, first_seed: int = FIRST_SEED) -> Score:
    """Play episodes, by default those of the validation, and return the score."""
    played = play(agent, setting, range(first_seed, first_seed + episodes))
    means = [np.mean([[row[key] for row in rows] for rows in played]) for key in Score._fields]
    return Score(*map(float, means))


def planner_score(planner: str, setting: Setting, episodes: int, cache: Path) -> Score:
    """Return the score of a planner, cached in a file because it takes minutes."""
    key = f"{planner}, {episodes} episodes from {FIRST_SEED}, {setting.fingerprint}"
    known = json.loads(cache.read_text("utf-8")) if cache.is_file() else {}
    if key not in known:
        known[key] = score(PlannerAgent(planner, setting.scenario), setting, episodes)
        write(cache, json.dumps(known, indent=1))
    return Score(*known[key])
