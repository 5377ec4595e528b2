"""Write episodes of a planner or an agent as a Minari dataset, for offline reinforcement learning.

    mjoa-gym export far-sighted --env streaming --action shares --observation outlook
    MINARI_DATASETS_PATH=runs/minari mjoa-gym export results/agents/ppo-streaming-seed0

An AGENT is what `mjoa-gym evaluate` takes. A planner can be recorded through any action view: its
plan becomes the nearest action, and that action is carried out. `minari.load_dataset` reads the
dataset, and `recover_environment()` of it makes the environment again.
"""

from __future__ import annotations

import argparse

from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.validation import count
from mjoa_gym.world.scenario import Scenario

FIRST_SEED = 500_000
"""Of the first episode; evaluations begin at 1,000,000."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("agent", metavar="AGENT", help="as `mjoa-gym evaluate` takes it")
    add("--env", "--environment", default="streaming", metavar="ENV",
        help="streaming or cold-start, or an id (%(default)s)")  # fmt: skip
    add("--scenario", default="default", help="name, or path of a YAML file (%(default)s)")
    add("--n-ues", type=int, metavar="N", help="UEs (the scenario's)")
    add("--rounds", type=int, metavar="N", help="of an episode (the scenario's)")
    add("--episodes", type=int, default=100, metavar="N", help="(%(default)s)")
    add("--seed", type=int, default=FIRST_SEED, help="of the first episode (%(default)s)")
    add("--action", metavar="VIEW", help="the action view that is recorded (the agent's)")
    add("--observation", default="dict", choices=("dict", "flat", "outlook"),
        help="that is recorded (%(default)s)")  # fmt: skip
    add("--dataset", metavar="ID", help="name and version (mjoa/<environment>-<agent>-v0)")


def execute(args: argparse.Namespace) -> int:
    """Play and write."""
    from mjoa_gym.evaluation.dataset import export

    scenario = Scenario.load(args.scenario).with_changes(n_ues=args.n_ues, rounds=args.rounds)
    setting, source = Setting(args.env, scenario), source_of(args.agent)
    name = args.dataset or f"mjoa/{setting.environment}-{source.label}-v0"
    seeds = range(args.seed, args.seed + count("episodes", args.episodes))
    dataset = export(source, setting, seeds, name, args.action, args.observation)
    print(f"{dataset.total_episodes} episodes, {dataset.total_steps} steps in {name}")
    print(f"Read it with minari.load_dataset({name!r})")
    return 0
