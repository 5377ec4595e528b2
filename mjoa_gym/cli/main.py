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
    "explore": "show what one device gains from the edge, and where to cut its network",
    "evaluate": "compare planners and agents, including yours, on the same episodes",
    "benchmark": "run every planner over sweeps of settings, and write a report",
    "bench": "use the frozen benchmark: run, check, table, improve",
    "export": "write episodes of a planner or an agent as a Minari dataset",
    "profile": "show the layers of a network: a table, a file, a picture",
    "testbed": "execute plans on two real processes",
    "trace": "convert your measurements of a link to a trace for a scenario",
    "planners": "list the planners",
}


def parser() -> argparse.ArgumentParser:
    """Make the command line of all commands."""
    top = argparse.ArgumentParser(prog="mjoa-gym", description=mjoa_gym.__doc__)
    top.add_argument("--version", action="version", version=mjoa_gym.__version__)
    several = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        if name == "testbed":  # has its own command line
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
    """Run a command; return 0, 1 for an error, 2 for wrong usage, or 130 for Ctrl-C."""
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
