"""Makes the files of the frozen benchmark, `mjoa_gym/evaluation/bench/v1`.

    python scripts/freeze_bench.py instances     # 200 cold starts, as they were drawn
    python scripts/freeze_bench.py best          # the best plans that are known, and the bounds
    python scripts/freeze_bench.py scenarios     # 10 streaming scenarios
    python scripts/freeze_bench.py reference     # what MJOA-MU's episodes in them cost

What is frozen is frozen: an existing file is only written again, with other content, if --anew says
so, and then the benchmark needs a new name. Killed or interrupted, the same command goes on.
"""

from __future__ import annotations

import json
from pathlib import Path

from mjoa_gym import files
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.bench import frozen
from mjoa_gym.evaluation.bench.instances import Writer

RUNS = Path("runs") / "freeze"


def main() -> int:
    """Make what the command line asks for."""
    parser = command_line(__doc__)
    parser.add_argument("what", choices=("instances", "best", "scenarios", "reference"))
    parser.add_argument("--anew", action="store_true", help="overwrite what is frozen")
    parser.add_argument("--quick", action="store_true",
        help="best: look only briefly at instances that have not been searched")  # fmt: skip
    args = parser.parse_args()
    if args.what == "best":
        from scripts.frozen.search import best_plans

        known = best_plans(RUNS / "best.jsonl", args.quick)
        frozen.write_best(known, frozen.FOLDER / frozen.BEST)
        return 0
    name, content = {"instances": instances, "scenarios": scenarios, "reference": reference}[
        args.what
    ]()
    path = frozen.FOLDER / name
    same = not path.exists() or frozen.unpack(path.read_bytes()) == frozen.unpack(content)
    if not same and not args.anew:
        raise ValueError(f"{path} is frozen, and is not what would be made now; see --anew")
    files.write(path, content)
    frozen.write_hashes(frozen.FOLDER, [name])
    print(f"{path}: {len(content):,} bytes")
    return 0


def instances() -> tuple[str, bytes]:
    """The cold starts."""
    from scripts.frozen.choose import frozen_cases

    cases, tables = frozen_cases()
    writer = Writer(tables)
    for case in cases:
        writer.add(case)
    return frozen.INSTANCES, frozen.pack(writer.content())


def scenarios() -> tuple[str, bytes]:
    """The scenarios, with all of their fields."""
    from scripts.frozen.scenarios import frozen_scenarios

    return frozen.SCENARIOS, (json.dumps(frozen_scenarios(), indent=1) + "\n").encode()


def reference() -> tuple[str, bytes]:
    """What MJOA-MU's episodes cost."""
    from scripts.frozen.scenarios import reference_costs

    return frozen.REFERENCE, frozen.pack({"costs": reference_costs(RUNS)})


if __name__ == "__main__":
    raise SystemExit(run(main, goes_on=True))
