"""Play the trained agents and the reference planners in a suite's settings, for the results page.

    python scripts/evaluate_learned.py --suite full

If it is killed or interrupted, run the same command again to continue.
"""

from __future__ import annotations

from pathlib import Path

from mjoa_gym.cli.ending import command_line, run

ROOT = Path(__file__).resolve().parent.parent


def main(argv: list[str] | None = None) -> int:
    """Run; return the exit status."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--suite", default="full", help="suite in configs/learned (%(default)s)")
    add("--out", type=Path, default=ROOT / "results" / "learned")
    add("--agents", type=Path, default=ROOT / "results" / "agents", help="folder of trained agents")
    add("--processes", type=int, default=2, help="batches at a time (%(default)s)")
    add("--pages", type=Path, nargs="+", default=[], metavar="FILE",
        help="pages in which to replace the parts `learned` and `learned-results`")  # fmt: skip
    add("--fresh", action="store_true", help="discard earlier results")
    add("--keep-planners", action="store_true",
        help="reuse the results of planners in the folder's CSV files")  # fmt: skip
    args = parser.parse_args(argv)
    from agents.learned_suite import SUITES, markdown, run_suite, summary
    from mjoa_gym.evaluation.page import items, update_pages
    from mjoa_gym.evaluation.processes import Playing

    file, how = SUITES / f"{args.suite}.yaml", Playing(args.processes)
    sections = run_suite(file, args.out, how, args.agents, args.fresh, args.keep_planners)
    text = markdown(sections)
    found = summary(file, args.out, args.agents)
    update_pages(args.pages, {"learned": items(found), "learned-results": text})
    print(f"{text}\nFigures and numbers are in {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main, goes_on=True))
