"""Run every planner, and optionally yours, over a suite of sweeps, and write a report.

    mjoa-gym benchmark --suite quick
    mjoa-gym benchmark --suite my-suite.yaml --planners mypackage.mymodule:my_planner

If the run is killed or interrupted, run the same command again to continue.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from mjoa_gym.cli.evaluate import add_options_of_playing, playing_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("--suite", default="quick", help="quick, full or the path of a YAML file (%(default)s)")
    add("--planners", nargs="+", default=[], metavar="AGENT",
        help="agents to add to every sweep, as for `mjoa-gym evaluate`")  # fmt: skip
    add("--out", type=Path, help="folder of the results (runs/benchmark/<suite>)")
    add("--pages", type=Path, nargs="+", default=[], metavar="FILE",
        help="pages in which to replace the parts `benchmark` and `benchmark-results`")  # fmt: skip
    add("--more", metavar="MODULE:FUNCTION",
        help="function (suite, out, how, fresh) that returns more report sections")  # fmt: skip
    add_options_of_playing(parser)


def execute(args: argparse.Namespace) -> int:
    """Run what is not done yet, and write the report."""
    from mjoa_gym.evaluation.benchmark.report import publish
    from mjoa_gym.evaluation.benchmark.suite import load_suite, played_cells, run_suite
    from mjoa_gym.evaluation.journal import EpisodeStore
    from mjoa_gym.evaluation.user_code import imported

    start = time.monotonic()
    suite = load_suite(args.suite).with_planners(args.planners)
    sections = imported(args.more, "more")[1] if args.more else lambda *_: []
    out = args.out or Path("runs") / "benchmark" / suite.name
    store = EpisodeStore(out, suite.fingerprint, args.fresh)
    how = playing_of(args)
    failures = run_suite(suite, store, how)
    for failure in failures:
        print(f"mjoa-gym benchmark: {failure}", file=sys.stderr)
    if lost := {suite.ours, suite.reference} & {failure.agent for failure in failures}:
        raise ValueError(f"there is no report without {' and '.join(sorted(lost))}")
    more = sections(suite.name, out, how, args.fresh)
    brought = ["--planners", *args.planners] if args.planners else []
    command = shlex.join(["mjoa-gym", "benchmark", "--suite", args.suite, *brought])
    played = played_cells(suite, store)
    report = publish(suite, played, out, command, args.pages, more, failures)
    print(f"Done in {time.monotonic() - start:.0f} s. Open {report}")
    return 1 if failures else 0
