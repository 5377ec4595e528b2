"""Measure rounds of several UEs on one real server, and compare them with the simulator.

The server and its controller run in this process, and each UE runs in a separate one. If the script
is killed or interrupted, run the same command again to continue. Unless you pass `--free`, layers
are paced, so that a noisy machine does not matter.
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
    add("--mixes", nargs="+", metavar="NAME", help="mixes of UEs: two, twins, four, five")
    add("--rates", nargs="+", type=float, dest="rates_mbps", metavar="MBPS",
        help="the cell's Mbit/s, in both directions")  # fmt: skip
    add("--planners", nargs="+", metavar="NAME", help="planners of cold rounds")
    add("--residents", nargs="*", metavar="NAME", help="planners of rows with residency")
    add("--repeats", type=int, help="number of repeats of each cold round")
    add("--rounds", type=int, help="number of rounds of each row with residency")
    add("--ue-slowdown", type=float, help="how many times slower than this machine each UE is")
    add("--edge-slowdown", type=float, help="how many times slower than this machine the server is")
    add("--free", action="store_const", const=False, dest="paced",
        help="count the real times of layers; needs a quiet machine")  # fmt: skip
    add("--compute", choices=("stretched", "fair"),
        help="how layers of several UEs share the server (default stretched)")  # fmt: skip
    add("--tc", action="store_true", dest="shaped_below", default=None,
        help="let the operating system shape one bottleneck for all UEs (root)")  # fmt: skip
    add_usual_options(parser, "testbed-multi[-quick][-free][-fair][-tc]")
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace) -> tuple[str, Any, Any, Any]:
    """Return what `compare` needs."""
    from comparison import rounds_report
    from comparison.mixes import QUICK, RoundGrid, Rounds, RoundStore
    from comparison.rounds_runner import run_rounds

    def measure(out: Path) -> Rounds:
        results = RoundStore(out, chosen(args, QUICK if args.quick else RoundGrid()), args.fresh)
        run_rounds(results)
        return results

    free, fair = args.paced is False, args.compute == "fair"
    name = f"testbed-multi{'-quick' * args.quick}{'-free' * free}{'-fair' * fair}"
    name += "-tc" * bool(args.shaped_below)
    return name, Rounds.load, measure, rounds_report.publish


def main(argv: list[str] | None = None) -> int:
    """Run the comparison and return the exit status."""
    return compare(argv, arguments, ("testbed_multi.py", "testbed-multi"), prepare)


if __name__ == "__main__":
    raise SystemExit(run(main, goes_on=True))
