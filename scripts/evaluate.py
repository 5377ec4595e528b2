"""Evaluate agents on the same episodes: a table with intervals, figures, and CSV.

    python scripts/evaluate.py mjoa-mu-prefetch far-sighted path/of/a/learned/agent

Agents are planners' names, "far-sighted", or folders of learned agents; those that differ in their
training seed only are taken together. Killed or interrupted, it
goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from extras import extra

ROOT = Path(__file__).resolve().parent.parent


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("agents", nargs="+", help="names or folders")
    parser.add_argument("--environment", default="streaming", help="streaming or cold-start")
    parser.add_argument("--scenario", default="default", help="name, or path of a YAML file")
    parser.add_argument("--n-ues", type=int, help="UEs (default: the scenario's)")
    parser.add_argument("--rounds", type=int, help="of an episode (default: the scenario's)")
    parser.add_argument("--episodes", type=int, default=500, help="(default 500)")
    parser.add_argument("--seed", type=int, help="of the first episode (default 1000000)")
    parser.add_argument("--reference", default="mjoa-mu", help="who the others are compared with")
    parser.add_argument("--processes", type=int, default=2, help="batches at a time (default 2)")
    parser.add_argument("--together", type=int, default=20, help="episodes of a batch (default 20)")
    parser.add_argument("--out", type=Path, help="folder (default results/evaluation/<setting>)")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = arguments(argv)
    with extra("benchmark"):
        from agents.evaluation import Setting, agent_of, label_of
        from agents.evaluation_report import publish
        from agents.evaluation_results import Results
        from agents.evaluation_runner import FIRST_SEED, Episodes, run
    from mjoa_gym import Scenario
    from mjoa_gym.validation import count

    start = time.monotonic()
    try:
        scenario = Scenario.load(args.scenario).with_changes(n_ues=args.n_ues, rounds=args.rounds)
        setting = Setting(args.environment, scenario)
        name = f"{scenario.name}-{args.environment}-{scenario.n_ues}-ues"
        out = args.out or ROOT / "results" / "evaluation" / name
        first = FIRST_SEED if args.seed is None else args.seed
        seeds = range(first, first + count("episodes", args.episodes))
        agents = list(dict.fromkeys([args.reference, *args.agents]))
        labels = [label_of(agent) for agent in agents]
        with extra("train"):
            for agent in agents:  # whether it is for this environment
                agent_of(agent, scenario, setting.persists)
        episodes = Episodes(out, setting, args.fresh)
        run(episodes, agents, seeds, count("together", args.together), max(1, args.processes))
        rows = {
            label: episodes.of(agent, seeds) for label, agent in zip(labels, agents, strict=True)
        }
        results = Results.of(seeds, rows, labels[0])
        table = publish(results, out, setting.persists)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    print(table.read_text("utf-8"))
    print(f"Done in {time.monotonic() - start:.0f} s. Figures and numbers are in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
