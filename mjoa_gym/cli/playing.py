"""The options that say how episodes are played."""

from __future__ import annotations

import argparse

from mjoa_gym.evaluation.processes import TIMEOUT_S, Playing
from mjoa_gym.validation import positive


def add_options_of_playing(parser: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    add = parser.add_argument
    add("--processes", type=int, default=2, metavar="N",
        help="episodes at a time (%(default)s); 0: in this process, one by one")  # fmt: skip
    add("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS",
        help="what a decision may take before its agent is given up (%(default)g)")  # fmt: skip
    add("--fresh", action="store_true", help="forget earlier results")


def playing_of(args: argparse.Namespace) -> Playing:
    """What they say."""
    return Playing(max(0, args.processes), positive("timeout", args.timeout))
