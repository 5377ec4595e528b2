"""Run a planner or agent on the frozen benchmark, and score submissions (docs/bench.md).

    mjoa-gym bench run mypackage.mymodule:my_planner -o mine.json.gz
    mjoa-gym bench check mine.json.gz
    mjoa-gym bench table results/bench/*.json.gz --out results/bench
    mjoa-gym bench improve mine.json.gz

`run` accepts a planner or an agent like `mjoa-gym evaluate`. If it is killed or interrupted, run
the same command again to continue.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from mjoa_gym import files
from mjoa_gym.evaluation.bench.frozen import BEST, CORE, FOLDER, scenes
from mjoa_gym.evaluation.bench.playing import NO_LIMIT
from mjoa_gym.evaluation.bench.result import BUDGETS, TRACKS, read_result
from mjoa_gym.evaluation.processes import Playing
from mjoa_gym.validation import choice, count, positive

TIMEOUT_S = 60.0
SHOWN = 20
"""Maximum number of faults of a submission that are shown."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    run = steps.add_parser("run", help="let a planner or agent answer, and write the result")
    add = run.add_argument
    add("agent", metavar="AGENT", help="as for `mjoa-gym evaluate`; LABEL=AGENT names it")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help=".json or .json.gz")
    add("--track", choices=(*TRACKS, "both"), default="both", help="(%(default)s)")
    add("--budgets-ms", default=",".join(BUDGETS), metavar="MS,...",
        help=f"budgets per decision, or {NO_LIMIT} for no limit (%(default)s)")  # fmt: skip
    add("--instances", type=int, metavar="N", help="answer only N instances, from all groups")
    add("--seeds", type=int, metavar="N",
        help=f"play N episodes of each scenario ({CORE}, which decide the rank)")  # fmt: skip
    add("--limit", type=int, metavar="N", help="set --instances and --seeds at once")
    add("--scenarios", nargs="+", metavar="NAME",
        help="scenarios of the dynamic track; all by default")  # fmt: skip
    add("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS",
        help="maximum time of a decision before its process is killed (%(default)g)")  # fmt: skip
    add("--journal", type=Path, metavar="FOLDER", help="(runs/bench/<label>)")
    add("--fresh", action="store_true", help="discard the answers of an earlier run")
    check = steps.add_parser("check", help="score every answer again")
    check.add_argument("results", nargs="+", type=Path, metavar="FILE", help="file of `bench run`")
    check.add_argument("--sample", type=int, metavar="N",
        help="check only N answers of each track and budget")  # fmt: skip
    table = steps.add_parser("table", help="rank submissions")
    table.add_argument("results", nargs="+", type=Path, metavar="FILE", help="file of `bench run`")
    table.add_argument("--out", type=Path, metavar="FOLDER",
        help="write table.md and table.html there, instead of printing Markdown")  # fmt: skip
    better = steps.add_parser("improve", help="adopt plans that are better than the best known")
    better.add_argument("results", nargs="+", type=Path, metavar="FILE", help="file of `bench run`")
    better.add_argument("--best", type=Path, default=FOLDER / BEST, metavar="FILE",
        help="file of the best known plans (default: the package's)")  # fmt: skip


def execute(args: argparse.Namespace) -> int:
    """Run the requested step."""
    return {"run": _run, "check": _check, "table": _table, "improve": _improve}[args.step](args)


def _run(args: argparse.Namespace) -> int:
    from mjoa_gym.evaluation.agent_source import source_of
    from mjoa_gym.evaluation.bench.ranking import misses
    from mjoa_gym.evaluation.bench.running import Asked, first_invalid, run

    if not args.out.name.endswith((".json", ".json.gz")):
        raise ValueError(f"out={str(args.out)!r}: must end in .json or .json.gz")
    given = [text.strip() for text in args.budgets_ms.split(",")]
    budgets = [choice("budgets-ms", text, (*BUDGETS, NO_LIMIT)) for text in given]
    for name in ("limit", "instances", "seeds"):
        if (number := getattr(args, name)) is not None:
            count(name, number)
    instances, seeds = args.instances or args.limit, args.seeds or args.limit or CORE
    tracks = TRACKS if args.track == "both" else (args.track,)
    for name in args.scenarios or ():
        choice("scenarios", name, tuple(scenes()))
    asked = Asked(tracks, list(dict.fromkeys(budgets)), instances, seeds, args.scenarios)
    source = source_of(args.agent)
    journal = args.journal or Path("runs") / "bench" / re.sub(r"[^\w.+-]+", "-", source.label)
    how = Playing(1, positive("timeout", args.timeout))
    if args.out.is_dir():
        raise ValueError(f"out={str(args.out)!r}: is a folder")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=f".{args.out.name}.", dir=args.out.parent):
        pass  # it can be written; after the run it would be too late to find out
    result, remarks = run(source, args.agent, asked, how, journal, args.fresh)
    result.write(args.out)
    for remark in [*remarks, *first_invalid(result)]:
        print(f"mjoa-gym bench: {remark}", file=sys.stderr)
    print("\n".join(misses(result)))
    print(f"{args.out}: {result.partial or 'complete'}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from mjoa_gym.evaluation.bench.checking import faults_of

    sample = None if args.sample is None else count("sample", args.sample)
    remark = "" if sample is None else f" (only {sample} answers of each track and budget checked)"
    failed = 0
    for path in args.results:
        try:
            result = read_result(path)
            faults = list(faults_of(result, sample, None))
        except (OSError, ValueError) as error:
            print(f"REJECTED {error}")
            failed += 1
            continue
        for fault in faults[:SHOWN]:
            print(f"REJECTED {path}: {fault}")
        if len(faults) > SHOWN:
            print(f"REJECTED {path}: and {len(faults) - SHOWN} more")
        if not faults:
            print(f"ok {path}: {result.partial or 'complete'}{remark}")
        failed += bool(faults)
    return 1 if failed else 0


def _table(args: argparse.Namespace) -> int:
    from mjoa_gym.evaluation.bench.ranking import html_page, markdown

    results = [read_result(path) for path in args.results]
    if args.out is None:
        print(markdown(results), end="")
        return 0
    files.write(args.out / "table.md", markdown(results))
    files.write(args.out / "table.html", html_page(results))
    print(f"Open {args.out / 'table.html'}")
    return 0


def _improve(args: argparse.Namespace) -> int:
    from mjoa_gym.evaluation.bench.improving import improve

    for path in args.results:
        better = improve(read_result(path), args.best)
        for name, before, now in better:
            print(f"{name}: {before:.6g} -> {now:.6g} ({100 * (now / before - 1):+.4f} %)")
        print(f"{path}: {len(better)} plans are better than those in {args.best}")
    return 0
