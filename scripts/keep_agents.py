"""Keep trained agents: weights, card with results, configuration and training log.

    python scripts/keep_agents.py runs/ppo-streaming-seed*

Each run's agent goes to `results/agents/<run>`, where `make benchmark` and `make learned` find it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tqdm import tqdm

from agents.learned_agent import LearnedAgent
from agents.learned_suite import AGENTS
from agents.learning_curves import LOG
from agents.training.run import RUN
from agents.training.validation import score
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import FIRST_SEED, Setting


def keep(trained: Path, out: Path, episodes: int) -> Path:
    """Copy a finished run's agent, and add its name and its results to the card."""
    agent = LearnedAgent.load(trained / "agent")
    setting = Setting(str(agent.card["environment"]), agent.scenario)
    means = score(agent, setting, episodes, FIRST_SEED)._asdict()
    results = {"first_seed": FIRST_SEED, "episodes": episodes} | means
    agent.card = {"name": trained.name} | agent.card | {"results": results}
    folder = agent.save(out / trained.name)
    for name in (LOG, RUN):
        shutil.copyfile(trained / name, folder / name)
    return folder


def main(argv: list[str] | None = None) -> int:
    """Keep all given agents."""
    parser = command_line(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--episodes", type=int, default=40, help="episodes (%(default)s)")
    parser.add_argument("--out", type=Path, default=AGENTS, help="(%(default)s)")
    args = parser.parse_args(argv)
    for folder in tqdm(args.runs, unit="agent"):
        tqdm.write(str(keep(folder, args.out, args.episodes)))
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
