"""Run every planner over a benchmark suite, and the trained agents beside them; write a report.

Killed or interrupted, it goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from extras import extra

ROOT = Path(__file__).resolve().parent.parent
SUITES = ROOT / "configs" / "benchmarks"
LEARNED = ROOT / "configs" / "learned"
README = ROOT / "README.md"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = sorted(path.stem for path in SUITES.glob("*.yaml"))
    parser.add_argument(
        "--suite", default="quick", help=f"{' or '.join(names)}, or the path of a YAML file"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (default results/<suite>)")
    parser.add_argument("--processes", type=int, default=2, help="cells at a time (default 2)")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument(
        "--readme", action=argparse.BooleanOptionalAction, default=None,
        help="replace the README's table (default: with the quick suite only)",
    )  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = arguments(argv)
    with extra("benchmark"):
        from agents.benchmark.publish import publish
        from agents.benchmark.report import Section
        from agents.benchmark.runner import CellError, run
        from agents.benchmark.store import Store
        from agents.benchmark.suite import load_suite
        from agents.learned_suite import run_suite

    start = time.monotonic()
    known = SUITES / f"{args.suite}.yaml"
    try:
        suite = load_suite(known if known.exists() else args.suite)
        out = args.out or ROOT / "results" / suite.name
        store = Store(out, suite, args.fresh)
        run(suite, store, max(1, args.processes))
        wanted = suite.name == "quick" if args.readme is None else args.readme
        readme = README if wanted and README.exists() else None
        learned = LEARNED / f"{suite.name}.yaml"
        more: list[Section] = []
        if learned.exists() and find_spec("stable_baselines3") is not None:
            more = run_suite(learned, out / "learned", args.processes, fresh=args.fresh)
        command = f"make benchmark SUITE={suite.name}"
        report = publish(suite, store, out, command, readme, more)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (ValueError, OSError, CellError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print(f"Done in {time.monotonic() - start:.0f} s. Open {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
