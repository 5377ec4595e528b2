"""Choose the constants of the far-sighted planner, on episodes that no evaluation uses.

    python scripts/tune_far_sighted.py --episodes 20

Plays the same Streaming episodes with every setting and with MJOA-MU with prefetch, and prints a
Markdown table. Evaluations begin at seed 1,000,000; seeds here must stay below 900,000.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import mjoa_gym  # noqa: F401 - registers the environments
from agents.far_sighted import Constants, FarSightedAgent
from agents.planner_agent import PlannerAgent
from mjoa_gym import Scenario

LAST_TRAINING_SEED = 899_999


def main() -> None:
    """Parse the command line, play, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", default="default", help="name, or a YAML file")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=500_000, help="of the first episode")
    parser.add_argument("--patience", type=float, nargs="+", default=[0.1, 0.3, 0.6, 1.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    options = parser.parse_args()
    if options.seed + options.episodes - 1 > LAST_TRAINING_SEED:
        parser.error(f"seeds must not exceed {LAST_TRAINING_SEED}: the others are for evaluation")
    scenario = Scenario.load(options.scenario)
    seeds = range(options.seed, options.seed + options.episodes)
    reference = latencies(PlannerAgent("mjoa-mu-prefetch", scenario), scenario, seeds)
    print("| patience | share | latency, ms | against mjoa-mu-prefetch |\n|---:|---:|---:|---:|")
    print(f"| | | {1e3 * reference.mean():.1f} | |")
    for patience, share in product(options.patience, options.share):
        agent = FarSightedAgent(scenario, Constants(patience, share))
        latency = latencies(agent, scenario, seeds)
        change = latency.mean() / reference.mean() - 1
        row = f"| {patience:g} | {share:g} | {1e3 * latency.mean():.1f} | {100 * change:+.1f} % |"
        print(row, flush=True)


def latencies(agent: Any, scenario: Scenario, seeds: range) -> NDArray[np.float64]:
    """(episodes, rounds) weighted mean latencies of an agent, in seconds."""
    env = gym.make("MJOA/Streaming-v0", scenario=scenario, disable_env_checker=True)
    seconds = np.empty((len(seeds), scenario.rounds))
    for episode, seed in enumerate(tqdm(seeds, unit="episode", leave=False)):
        observation, _ = env.reset(seed=seed)
        for k in range(scenario.rounds):
            weight = observation["weight"]
            observation, _, _, _, info = env.step(agent.predict(observation)[0])
            seconds[episode, k] = np.average(info["latency_s"], weights=weight)
    return seconds


if __name__ == "__main__":
    main()
