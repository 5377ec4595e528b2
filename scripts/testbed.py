"""Measure real inferences on two processes, compare them with the simulator, and write a report.

The script starts an edge server, acts as the UE itself, and runs a grid of networks, rates,
planners and upload modes. If it is killed or interrupted, run the same command again to continue.
For meaningful numbers, the machine should have two idle cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from comparison.command import add_usual_options, chosen, compare

from mjoa_gym.cli.ending import command_line, run


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line; options about the grid have the names of the grid's fields."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a small grid, a few minutes")
    add("--models", nargs="+", metavar="NAME", help="torchvision classifiers")
    add("--rates", nargs="+", type=float, dest="rates_mbps", metavar="MBPS",
        help="Mbit/s of both directions")  # fmt: skip
    add("--queries", type=int, help="number of queries of each row with residency")
    add("--cap-s", type=float, help="do not run inferences that are predicted to take more seconds")
    add("--ue-slowdown", type=float, help="how many times slower than this machine the UE is")
    add("--edge-slowdown", type=float, help="the same for the UE's share of the server")
    add("--paced", action="store_true",
        help="count layers with their first measured times, for noisy machines")  # fmt: skip
    add("--tc", action="store_true", dest="shaped_below",
        help="let the operating system shape the links, in a network namespace (root)")  # fmt: skip
    add_usual_options(parser, "testbed[-quick][-paced][-tc]")
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> tuple[str, Any, Any, Any]:
    """Return what `compare` needs."""
    from comparison import report
    from comparison.measurements import PACED, QUICK, Grid, Measurements, MeasurementStore
    from comparison.runner import run_grid

    from mjoa_gym.testbed.connection import EdgeError

    def measure(out: Path) -> Measurements:
        grid = chosen(args, (QUICK if args.quick else Grid()).but(PACED if args.paced else {}))
        results = MeasurementStore(out, grid, args.fresh)
        try:
            run_grid(results)
        except EdgeError as error:
            raise ValueError(str(error)) from error
        return results

    name = f"testbed{'-quick' * args.quick}{'-paced' * args.paced}{'-tc' * args.shaped_below}"
    return name, Measurements.load, measure, report.publish


def main(argv: list[str] | None = None) -> int:
    """Run the comparison and return the exit status."""
    return compare(argv, arguments, ("testbed.py", "testbed"), prepare)


if __name__ == "__main__":
    raise SystemExit(run(main, goes_on=True))
