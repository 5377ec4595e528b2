"""Measure rounds of several UEs on one real server, and compare them with the simulator.

The server and its controller run in this process, and each UE runs in its own. If it is killed or
interrupted, run the same command again to continue. Layers are paced, so that a noisy machine does
not matter, unless you pass `--free`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from mjoa_gym.cli.ending import command_line, run

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "docs" / "results.md",)
CHOOSING = ("--publish", "--no-publish", "--fresh", "--report-only")
"""Options that do not change what is measured."""


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
    add("--repeats", type=int, help="repeats of each cold round")
    add("--rounds", type=int, help="rounds of each row with residency")
    add("--ue-slowdown", type=float, help="how much slower than this machine each UE is")
    add("--edge-slowdown", type=float, help="how much slower the server is")
    add("--free", action="store_const", const=False, dest="paced",
        help="do not pace layers, on a quiet machine")  # fmt: skip
    add("--out", type=Path, help="folder of the results (default results/testbed-multi[...])")
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
    from comparison.mixes import QUICK, RoundGrid, Rounds, RoundStore
    from comparison.rounds_report import publish
    from comparison.rounds_runner import run_rounds

    start = time.monotonic()
    torch.set_num_threads(1)
    name = f"testbed-multi{'-quick' * args.quick}{'-free' * (args.paced is False)}"
    out = args.out or ROOT / "results" / name
    if args.report_only:
        results = Rounds.load(out)
    else:
        grid = QUICK if args.quick else RoundGrid()
        given = {key: x for key, x in vars(args).items() if hasattr(grid, key) and x is not None}
        results = RoundStore(out, grid.but(given), args.fresh)
        run_rounds(results)
    flags = [flag for flag in argv if flag not in CHOOSING]
    command = (
        f"python scripts/testbed_multi.py {shlex.join(flags)}" if flags else "make testbed-multi"
    )
    report = publish(results, out, command, PAGES if args.publish else ())
    print(f"Done in {time.monotonic() - start:.0f} s. See {report}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main, goes_on=True))
