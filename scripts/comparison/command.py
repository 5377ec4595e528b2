"""What the two scripts of comparisons have in common: options, and how they run."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CHOOSING = ("--publish", "--no-publish", "--fresh", "--report-only")
"""Options that do not affect what is measured."""
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
"""The pages that show results of comparisons."""


def add_usual_options(parser: argparse.ArgumentParser, results: str) -> None:
    """Add the options for the results, whose default folder is `results/` with this name."""
    add = parser.add_argument
    add("--out", type=Path, help=f"folder of the results (default results/{results})")
    add("--fresh", action="store_true", help="delete earlier results and start again")
    add("--report-only", action="store_true", help="only write the report of earlier results")
    add("--publish", action=argparse.BooleanOptionalAction, default=False,
        help="put the results into the documentation")  # fmt: skip


def compare(
    argv: Sequence[str] | None,
    parse: Callable[[list[str]], argparse.Namespace],
    what: tuple[str, str],
    prepare: Callable[[argparse.Namespace], tuple[str, Any, Any, Callable[..., Path]]],
) -> int:
    """Measure what has not been measured yet, write the report, and return the exit status.

    Args:
        argv: The command line; None for that of the process.
        parse: Parses the command line.
        what: Names of the script and of the Makefile's target.
        prepare: Returns the name of the default folder of results, a function that reads results
            from a folder, one that measures them into a folder, and one that writes the report.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    args = parse(given)
    import torch

    start = time.monotonic()
    torch.set_num_threads(1)
    name, load, measure, publish = prepare(args)
    out = args.out or ROOT / "results" / name
    results = load(out) if args.report_only else measure(out)
    flags = [flag for flag in given if flag not in CHOOSING]
    script, target = what
    command = f"python scripts/{script} {shlex.join(flags)}" if flags else f"make {target}"
    report = publish(results, out, command, PAGES if args.publish else ())
    print(f"Done in {time.monotonic() - start:.0f} s. See {report}")
    return 0


def chosen(args: argparse.Namespace, grid: Any) -> Any:
    """Return a grid with the values of the options that have the names of its fields."""
    given = {key: x for key, x in vars(args).items() if hasattr(grid, key) and x is not None}
    return grid.but(given)
