"""Keep trained agents: weights, card with what they reach, configuration and log of training.

    python scripts/keep_agents.py runs/ppo-streaming-seed*

Each run's agent goes to `results/agents/<run>`, where `make benchmark` and `make learned` find it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.evaluation import Setting, play
from agents.evaluation_runner import FIRST_SEED
from agents.learned_agent import LearnedAgent
from agents.learned_suite import AGENTS
from agents.learning_curves import LOG
from agents.training.run import RUN


def keep(run: Path, out: Path, episodes: int) -> Path:
    """Copy a finished run's agent, with its name and its results in the card."""
    agent = LearnedAgent.load(run / "agent")
    environment = "streaming" if agent.persists else "cold-start"
    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    played = play(agent, Setting(environment, agent.outlook.view.scenario), seeds)
    means = {
        key: float(np.mean([[row[key] for row in rows] for rows in played]))
        for key in ("latency_s", "local_s", "reward")
    }
    results = {"first_seed": FIRST_SEED, "episodes": episodes} | means
    agent.card = {"name": run.name} | agent.card | {"results": results}
    folder = agent.save(out / run.name)
    for name in (LOG, RUN):
        shutil.copyfile(run / name, folder / name)
    return folder


def main(argv: list[str] | None = None) -> int:
    """Keep them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--episodes", type=int, default=40, help="for the card (%(default)s)")
    parser.add_argument("--out", type=Path, default=AGENTS, help="(%(default)s)")
    args = parser.parse_args(argv)
    for run in tqdm(args.runs, unit="agent"):
        try:
            tqdm.write(str(keep(run, args.out, args.episodes)))
        except (ValueError, OSError) as error:
            print(f"keep_agents: {run}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
