"""Let planners and agents play the same episodes, and write tables, figures and CSV files.

    mjoa-gym evaluate mjoa-mu mypackage.mymodule:my_planner --env streaming --episodes 40
    mjoa-gym evaluate mine=planner.py:plan ppo:runs/best.zip --n-ues 3

An AGENT is a planner's name, `package.module:name` or `file.py:name` of a planner or an agent of
your own, a model saved by Stable-Baselines3 or sb3-contrib (ppo:FILE, maskable-ppo:FILE, dqn:FILE,
sac:FILE, ...), or the folder of a trained agent; LABEL=AGENT gives it a name. Agents whose names
end with -seed0, -seed1, ... form one family. If the run is killed or interrupted, run the same
command again to continue.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.comparison import OURS, SEED, play_comparison
from mjoa_gym.evaluation.episodes import FIRST_SEED, Setting
from mjoa_gym.evaluation.processes import TIMEOUT_S, Playing
from mjoa_gym.validation import count, positive
from mjoa_gym.world.scenario import Scenario


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("agents", nargs="+", metavar="AGENT", help="see above")
    add_options_of_episodes(parser, 40, FIRST_SEED)
    add("--reference", default=OURS, metavar="AGENT",
        help="agent to compare the others with; it plays too (%(default)s)")  # fmt: skip
    add("--together", type=int, default=20, metavar="N",
        help="episodes in which a learned agent decides at once (%(default)s)")  # fmt: skip
    add("--out", type=Path, help="folder (runs/evaluate/<setting>)")
    add_options_of_playing(parser)


def add_options_of_episodes(
    parser: argparse.ArgumentParser, episodes: int, first_seed: int
) -> None:
    """Add the options that select a setting and its episodes."""
    add = parser.add_argument
    add("--env", "--environment", default="streaming", metavar="ENV",
        help="streaming, cold-start, or an environment's id (%(default)s)")  # fmt: skip
    add("--scenario", default="default", help="name, or path of a YAML file (%(default)s)")
    add("--n-ues", type=int, metavar="N", help="number of UEs (the scenario's)")
    add("--rounds", type=int, metavar="N", help="rounds of an episode (the scenario's)")
    add("--episodes", type=int, default=episodes, metavar="N", help="(%(default)s)")
    add("--seed", type=int, default=first_seed, help="seed of the first episode (%(default)s)")


def episodes_of(args: argparse.Namespace) -> tuple[Setting, range]:
    """Return the setting and the episodes' seeds that these options select."""
    scenario = Scenario.load(args.scenario).with_changes(n_ues=args.n_ues, rounds=args.rounds)
    seeds = range(args.seed, args.seed + count("episodes", args.episodes))
    return Setting(args.env, scenario), seeds


def add_options_of_playing(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how episodes are played."""
    add = parser.add_argument
    add("--processes", type=int, default=2, metavar="N",
        help="processes that play (%(default)s); 0: play in this process")  # fmt: skip
    add("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS",
        help="maximum time of a decision before its agent is dropped (%(default)g)")  # fmt: skip
    add("--fresh", action="store_true", help="discard earlier results")


def playing_of(args: argparse.Namespace) -> Playing:
    """Return how to play, from these options."""
    return Playing(max(0, args.processes), positive("timeout", args.timeout))


def execute(args: argparse.Namespace) -> int:
    """Play, print the table, write everything."""
    start = time.monotonic()
    setting, seeds = episodes_of(args)
    scenario = setting.scenario
    sources = [source_of(text) for text in dict.fromkeys(args.agents)]
    families = {SEED.sub("", source.label) for source in sources}
    if args.reference not in families:
        reference = source_of(args.reference)
        if reference.label not in families:
            sources.insert(0, reference)
        args.reference = SEED.sub("", reference.label)
    name = f"{scenario.name}-{setting.environment}-{scenario.n_ues}-ues-{scenario.rounds}-rounds"
    out = args.out or Path("runs") / "evaluate" / name
    how = playing_of(args)._replace(together=count("together", args.together))
    results = play_comparison(sources, setting, seeds, how, args.reference, out, args.fresh)
    results.save(out)
    print(results.table())
    print(f"\nDone in {time.monotonic() - start:.0f} s. Figures and numbers are in {out}")
    if find_spec("matplotlib") is None:
        print("There are no figures without matplotlib: pip install 'mjoa-gym[evaluation]'")
    for failure in results.failures:
        print(f"mjoa-gym evaluate: {failure}", file=sys.stderr)
    return 1 if results.failures else 0
