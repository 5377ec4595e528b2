"""Measure real inferences on two processes, compare them with the simulator, and write a report.

The script starts an edge server, acts as the UE itself, and runs a grid of networks, rates,
planners and upload modes. If it is killed or interrupted, run the same command again to continue.
For meaningful numbers, the machine should have two idle cores.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from mjoa_gym.cli.ending import command_line, run

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
CHOOSING = ("--publish", "--no-publish", "--fresh", "--report-only")
"""Options that do not change what is measured."""


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; options about the grid have the names of the grid's fields."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a small grid, a few minutes")
    add("--models", nargs="+", metavar="NAME", help="torchvision classifiers")
    add("--rates", nargs="+", type=float, dest="rates_mbps", metavar="MBPS",
        help="Mbit/s of both directions")  # fmt: skip
    add("--queries", type=int, help="queries of each row with residency")
    add("--cap-s", type=float, help="do not run inferences with a longer prediction")
    add("--ue-slowdown", type=float, help="how much slower than this machine the UE is")
    add("--edge-slowdown", type=float, help="how much slower the UE's share of the server is")
    add("--paced", action="store_true",
        help="count layers with their first measured times, for noisy machines")  # fmt: skip
    add("--tc", action="store_true", dest="shaped_below",
        help="links shaped by the operating system, in a network namespace (root)")  # fmt: skip
    add(
        "--out",
        type=Path,
        help="folder of the results (default results/testbed[-quick][-paced][-tc])",
    )
    add("--fresh", action="store_true", help="discard earlier results")
    add("--report-only", action="store_true", help="only write the report, from earlier results")
    add("--publish", action=argparse.BooleanOptionalAction, default=False,
        help="replace the results in README.md and docs/results.md")  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = arguments(argv)
    import torch
    from comparison.measurements import PACED, QUICK, ROWS, Grid, Measurements, MeasurementStore
    from comparison.report import measured, publish
    from comparison.runner import run_grid

    from mjoa_gym.testbed.connection import EdgeError

    start = time.monotonic()
    torch.set_num_threads(1)
    out = args.out or (
        ROOT / "results" / f"testbed{'-quick' * args.quick}{'-paced' * args.paced}"
        f"{'-tc' * args.shaped_below}"
    )
    if args.report_only:
        results = Measurements.load(out)
    else:
        grid = (QUICK if args.quick else Grid()).but(PACED if args.paced else {})
        given = {key: x for key, x in vars(args).items() if hasattr(grid, key) and x is not None}
        results = MeasurementStore(out, grid.but(given), args.fresh)
        try:
            run_grid(results)
        except EdgeError as error:
            raise ValueError(str(error)) from error
    if not measured(results.rows):
        raise ValueError(f"nothing was measured; {out / ROWS} would be empty")
    flags = [flag for flag in argv if flag not in CHOOSING]
    command = f"python scripts/testbed.py {shlex.join(flags)}" if flags else "make testbed"
    report = publish(results, out, command, PAGES if args.publish else ())
    print(f"Done in {time.monotonic() - start:.0f} s. See {report}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main, goes_on=True))
