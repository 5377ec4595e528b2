"""Make the files of the frozen benchmark, `mjoa_gym/evaluation/bench/v1`.

    python scripts/freeze_bench.py instances     # 200 cold starts, as drawn
    python scripts/freeze_bench.py best          # better plans and bounds than are known
    python scripts/freeze_bench.py scenarios     # 10 streaming scenarios
    python scripts/freeze_bench.py reference     # costs of MJOA-MU's episodes in them

Frozen files do not change: an existing file is overwritten with different content only with --anew,
and then the benchmark needs a new name. If it is killed or interrupted, run the same command again
to continue.
"""

from __future__ import annotations

import json
from pathlib import Path

from mjoa_gym import files, validation
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.bench import frozen
from mjoa_gym.evaluation.bench.instances import Writer

RUNS = Path("runs") / "freeze"


def main() -> int:
    """Make the requested files."""
    parser = command_line(__doc__)
    parser.add_argument("what", choices=("instances", "best", "scenarios", "reference"))
    parser.add_argument("--anew", action="store_true", help="overwrite frozen files")
    parser.add_argument("--quick", action="store_true",
        help="best: search only briefly in instances that have not been searched")  # fmt: skip
    parser.add_argument("--largest", type=int, metavar="N",
        help="best: search only the N instances with the most layers")  # fmt: skip
    args = parser.parse_args()
    if args.what == "best":
        from scripts.frozen.search import best_plans

        path = frozen.FOLDER / frozen.BEST
        known = frozen.best_known(path) if path.exists() else {}
        count = None if args.largest is None else validation.count("largest", args.largest)
        best = best_plans(RUNS / "best.jsonl", known, count, args.quick)
        frozen.write_best(best, path)
        return 0
    name, content = {"instances": instances, "scenarios": scenarios, "reference": reference}[
        args.what
    ]()
    path = frozen.FOLDER / name
    same = not path.exists() or frozen.unpack(path.read_bytes()) == frozen.unpack(content)
    if not same and not args.anew:
        raise ValueError(f"{path} is frozen, and differs from what would be made now; see --anew")
    files.write(path, content)
    frozen.write_hashes(frozen.FOLDER, [name])
    print(f"{path}: {len(content):,} bytes")
    return 0


def instances() -> tuple[str, bytes]:
    """Return the cold starts."""
    from scripts.frozen.choose import frozen_cases

    cases, tables = frozen_cases()
    writer = Writer(tables)
    for case in cases:
        writer.add(case)
    return frozen.INSTANCES, frozen.pack(writer.content())


def scenarios() -> tuple[str, bytes]:
    """Return the scenarios, with all of their fields."""
    from scripts.frozen.scenarios import frozen_scenarios

    return frozen.SCENARIOS, (json.dumps(frozen_scenarios(), indent=1) + "\n").encode()


def reference() -> tuple[str, bytes]:
    """Return the costs of MJOA-MU's episodes."""
    from scripts.frozen.scenarios import reference_costs

    return frozen.REFERENCE, frozen.pack({"costs": reference_costs(RUNS)})


if __name__ == "__main__":
    raise SystemExit(run(main, goes_on=True))
