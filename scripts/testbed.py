"""Measure real inferences on two processes against what the simulator says; write a report.

Starts an edge server, is the UE itself, and runs a grid of networks, rates, planners and upload
modes. Killed or interrupted, it goes on where it stopped when the same command is given again. For
numbers that mean something the machine should have two idle cores.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mjoa_gym.cli.ending import run
from mjoa_gym.evaluation.progress import bar

if TYPE_CHECKING:
    from comparison.cells import Grid
    from comparison.results import MeasurementStore

ROOT = Path(__file__).resolve().parent.parent
CHOOSING = ("--readme", "--no-readme", "--fresh", "--report-only")
"""Options that do not say what is measured."""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a small grid, a few minutes")
    add("--models", nargs="+", metavar="NAME", help="torchvision classifiers")
    add("--rates", nargs="+", type=float, metavar="MBPS", help="Mbit/s of both directions")
    add("--queries", type=int, help="of each row of queries with residency")
    add("--cap-s", type=float, help="what would take longer by prediction is not run")
    add("--ue-slowdown", type=float, help="how much slower than this machine the UE is")
    add("--edge-slowdown", type=float, help="how much slower the UE's share of the server is")
    add("--tc", action="store_true",
        help="links shaped by the operating system, in a network namespace (root)")  # fmt: skip
    add("--out", type=Path, help="folder of the results (default results/testbed[-quick][-tc])")
    add("--fresh", action="store_true", help="forget earlier results")
    add("--report-only", action="store_true", help="write the report anew from earlier results")
    add("--readme", action=argparse.BooleanOptionalAction, default=False,
        help="replace the README's section")  # fmt: skip
    return parser.parse_args(argv)


def grid_of(args: argparse.Namespace) -> Grid:
    """The grid that was asked for."""
    from comparison.cells import QUICK, Grid

    given = {
        "models": args.models and tuple(args.models),
        "rates_mbps": args.rates and tuple(args.rates),
        "queries": args.queries,
        "cap_s": args.cap_s,
        "ue_slowdown": args.ue_slowdown,
        "edge_slowdown": args.edge_slowdown,
        "shaped_below": args.tc,
    }
    grid = QUICK if args.quick else Grid()
    return replace(grid, **{key: value for key, value in given.items() if value is not None})


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = arguments(argv)
    import torch
    from comparison.analysis import measured
    from comparison.report import publish
    from comparison.results import ROWS, Measurements, MeasurementStore

    from mjoa_gym.testbed.connection import EdgeError

    start = time.monotonic()
    torch.set_num_threads(1)
    name = "testbed" + "-quick" * args.quick + "-tc" * args.tc
    out = args.out or ROOT / "results" / name
    if args.report_only:
        results = Measurements.load(out)
    else:
        store = MeasurementStore(out, grid_of(args), args.fresh)
        try:
            _measure(store)
        except EdgeError as error:
            raise ValueError(str(error)) from error
        results = store.results
    if not measured(results.rows):
        raise ValueError(f"nothing was measured; {out / ROWS} would be empty")
    flags = [flag for flag in (sys.argv[1:] if argv is None else argv) if flag not in CHOOSING]
    command = f"python scripts/testbed.py {shlex.join(flags)}" if flags else "make testbed"
    readme = ROOT / "README.md" if args.readme else None
    report = publish(results, out, command, readme)
    print(f"Done in {time.monotonic() - start:.0f} s. See {report}")
    return 0


def _measure(store: MeasurementStore) -> None:
    from comparison.cells import cells_of
    from comparison.runner import run_grid

    from mjoa_gym.testbed import clock
    from mjoa_gym.testbed.namespace import shaped_namespace
    from mjoa_gym.testbed.processes import cores, server_process

    grid = store.results.grid
    ue_core, edge_core = cores()
    cells = sum(len(list(cells_of(grid, model))) for model in grid.models)
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(shaped_namespace()) if grid.shaped_below else None
        server = stack.enter_context(server_process(core=edge_core, namespace=namespace))
        shown = stack.enter_context(bar(total=cells, unit="cell"))

        def progress(text: str, finished: int) -> None:
            shown.set_postfix_str(text)
            shown.update(finished)

        clock.run(run_grid(store, server, ue_core, progress, namespace))


if __name__ == "__main__":
    sys.exit(run(main, goes_on=True))
