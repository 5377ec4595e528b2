"""The scenario `ideal` plays what the first environments played, number by number."""

import json
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import mjoa_gym  # noqa: F401 - registers the environments

FILE = Path(__file__).parent / "data" / "first_version.json"
"""Rewards and latencies, written down with the first version; `python -m tests.test_ideal` prints
today's."""
KINDS = [(env, view) for env in ("ColdStart", "Streaming") for view in ("multidiscrete", "box")]


def played(name, view):
    """Rewards and latencies of an episode of random actions."""
    env = gym.make(f"MJOA/{name}-v1", action=view, scenario="ideal", n_ues=3, rounds=10)
    rng = np.random.default_rng(3)
    space = env.action_space
    env.reset(seed=11)
    rewards, latencies_s, over = [], [], False
    while not over:
        draw = rng.random(space.shape)
        action = np.float32(2 * draw - 1) if view == "box" else np.int64(draw * space.nvec)
        _, reward, _, over, info = env.step(action)
        rewards.append(reward)
        latencies_s.append(info["latency_s"].tolist())
    return {"reward": rewards, "latency_s": latencies_s}


@pytest.mark.parametrize(("name", "view"), KINDS)
def test_ideal_is_the_first_version(name, view):
    known, found = json.loads(FILE.read_text())[f"{name} {view}"], played(name, view)
    for key, values in known.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-12)


if __name__ == "__main__":
    json.dump({f"{name} {view}": played(name, view) for name, view in KINDS}, sys.stdout)
