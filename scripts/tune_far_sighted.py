"""Choose the constants of the far-sighted planner, on episodes that no evaluation uses.

    python scripts/tune_far_sighted.py --episodes 20

Plays the same Streaming episodes with every setting and with MJOA-MU with prefetch, and prints a
Markdown table. Evaluations begin at seed 1,000,000; seeds here must stay below 900,000.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import product

import numpy as np
from tqdm import tqdm

from mjoa_gym import Scenario
from mjoa_gym.cli.ending import run
from mjoa_gym.evaluation.agent import Agent, PlannerAgent
from mjoa_gym.evaluation.episodes import Setting, play
from mjoa_gym.planners.far_sighted import Foresight, far_sighted

LAST_TRAINING_SEED = 899_999


def main() -> int:
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
    setting = Setting("streaming", scenario)
    print("| patience | share | latency, ms | against mjoa-mu-prefetch |\n|---:|---:|---:|---:|")
    reference = mean_latency_s(PlannerAgent("mjoa-mu-prefetch", scenario), setting, seeds)
    print(f"| | | {1e3 * reference:.1f} | |")
    settings = list(product(options.patience, options.share))
    for patience, share in tqdm(settings, unit="setting", leave=False):
        plan = partial(far_sighted, foresight=Foresight(patience, share))
        agent = PlannerAgent(plan, scenario)
        latency = mean_latency_s(agent, setting, seeds)
        change = latency / reference - 1
        row = f"| {patience:g} | {share:g} | {1e3 * latency:.1f} | {100 * change:+.1f} % |"
        tqdm.write(row)
    return 0


def mean_latency_s(agent: Agent, setting: Setting, seeds: range) -> float:
    """Over all episodes and rounds."""
    rows = (row for episode in play(agent, setting, seeds) for row in episode)
    return float(np.mean([row["latency_s"] for row in rows]))


if __name__ == "__main__":
    sys.exit(run(main))
