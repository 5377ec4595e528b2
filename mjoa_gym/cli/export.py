"""Write episodes of a planner or an agent as a Minari dataset, for offline reinforcement learning.

    mjoa-gym export far-sighted --env streaming --action shares --observation outlook
    MINARI_DATASETS_PATH=runs/minari mjoa-gym export results/agents/ppo-streaming-seed0

An AGENT is what `mjoa-gym evaluate` takes. A planner can be recorded through any action view: its
plan becomes the nearest action, and that action is carried out. `minari.load_dataset` reads the
dataset, and `recover_environment()` of it makes the environment again.
"""

from __future__ import annotations

import argparse

from mjoa_gym.cli.evaluate import add_options_of_episodes, episodes_of
from mjoa_gym.evaluation.agent_source import source_of

FIRST_SEED = 500_000
"""The default seed of the first episode; evaluations begin at 1,000,000."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("agent", metavar="AGENT", help="as `mjoa-gym evaluate` takes it")
    add_options_of_episodes(parser, 100, FIRST_SEED)
    add("--action", metavar="VIEW", help="action view to record (the agent's)")
    add("--observation", default="dict", choices=("dict", "flat", "outlook"),
        help="observation to record (%(default)s)")  # fmt: skip
    add("--dataset", metavar="ID", help="name and version (mjoa/<environment>-<agent>-v0)")


def execute(args: argparse.Namespace) -> int:
    """Play the episodes, and write the dataset."""
    from mjoa_gym.evaluation.dataset import export

    (setting, seeds), source = episodes_of(args), source_of(args.agent)
    name = args.dataset or f"mjoa/{setting.environment}-{source.label}-v0"
    dataset = export(source, setting, seeds, name, args.action, args.observation)
    print(f"{dataset.total_episodes} episodes, {dataset.total_steps} steps in {name}")
    print(f"Read it with minari.load_dataset({name!r})")
    return 0
