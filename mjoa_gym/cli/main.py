"""The command line of `mjoa-gym`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import mjoa_gym
from mjoa_gym.cli.ending import run

COMMANDS = {
    "explore": "what the edge would gain one device, and where to cut its network",
    "evaluate": "planners and agents, yours too, on the same episodes",
    "benchmark": "every planner over sweeps of settings, with a report",
    "bench": "the frozen benchmark: run, check, table, improve",
    "export": "episodes of a planner or an agent, as a Minari dataset",
    "profile": "the layers of a network: a table, a file, a picture",
    "testbed": "plans executed on two real processes",
    "trace": "your measurements of a link, as a trace for a scenario",
    "planners": "the planners' names",
}


def parser() -> argparse.ArgumentParser:
    """The command line of all commands."""
    top = argparse.ArgumentParser(prog="mjoa-gym", description=mjoa_gym.__doc__)
    top.add_argument("--version", action="version", version=mjoa_gym.__version__)
    several = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        if name == "testbed":  # has a command line of its own
            several.add_parser(name, help=about, add_help=False)
            continue
        module = _module(name)
        one = several.add_parser(
            name, help=about, description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        module.add_options(one)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0, 1 if something went wrong, 2 for wrong usage, 130 for Ctrl-C."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["testbed"]:
        testbed = "mjoa_gym.testbed.commands"
        return run(lambda: int(import_module(testbed).main(given[1:])), "mjoa-gym testbed")
    args = parser().parse_args(given)
    module = _module(args.command)
    resumes = args.command in ("evaluate", "benchmark", "bench")
    return run(lambda: int(module.execute(args)), f"mjoa-gym {args.command}", resumes)


def _module(name: str) -> Any:
    return import_module(f"mjoa_gym.cli.{name}")
