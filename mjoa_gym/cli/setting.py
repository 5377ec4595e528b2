"""The options that say where agents play, and how many at a time."""

from __future__ import annotations

import argparse

from mjoa_gym.evaluation.processes import PATIENCE_S
from mjoa_gym.validation import positive


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """How episodes are played."""
    add = parser.add_argument
    add("--processes", type=int, default=2, metavar="N",
        help="episodes at a time (%(default)s); 0: in this process, one by one")  # fmt: skip
    add("--timeout", type=_seconds, default=PATIENCE_S, metavar="SECONDS",
        help="what a decision may take before its agent is given up (%(default)g)")  # fmt: skip
    add("--fresh", action="store_true", help="forget earlier results")


def _seconds(text: str) -> float:
    try:
        return positive("--timeout", float(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
