"""What the commands of comparisons have in common: their last options, and how they run."""

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
"""Options that do not say what is measured."""
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
"""What shows what was measured."""


def add_usual_options(parser: argparse.ArgumentParser, results: str) -> None:
    """Where results go, which are usually in a folder so named, and what is done with them."""
    add = parser.add_argument
    add("--out", type=Path, help=f"folder of the results (default results/{results})")
    add("--fresh", action="store_true", help="forget earlier results")
    add("--report-only", action="store_true", help="write the report anew from earlier results")
    add("--publish", action=argparse.BooleanOptionalAction, default=False,
        help="replace what the documentation says of it")  # fmt: skip


def compare(
    argv: Sequence[str] | None,
    parse: Callable[[list[str]], argparse.Namespace],
    what: tuple[str, str],
    prepare: Callable[[argparse.Namespace], tuple[str, Any, Any, Callable[..., Path]]],
) -> int:
    """Run what is not done, or only read it again, and write the report; the exit status.

    `what` are the script and the Makefile's target; `prepare` gives the usual folder's name, what
    reads results again, what measures them, for a folder, and what writes the report.
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
    """A grid with what the command line says of it, by the names of its fields."""
    given = {key: x for key, x in vars(args).items() if hasattr(grid, key) and x is not None}
    return grid.but(given)
