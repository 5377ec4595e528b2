"""Measure how fast the environments step, side by side with others, in one run.

All rows of a table are played in turn, several times over; rates are medians, and so are the ratios
of rates that were measured in the same turn. Random actions, valid where an environment gives a
mask, are sampled before and not timed; resets are. A step is one transition of one environment.

mobile-env takes part if it is installed, Stable-Baselines3 likewise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from throughput.contenders import (
    Contender,
    Group,
    layer_group,
    sb3_group,
    scalar_group,
    ue_group,
    vector_group,
)
from throughput.players import Player

from mjoa_gym import DNN
from mjoa_gym.cli.ending import run
from mjoa_gym.evaluation.machine import machine

GROUPS = ("scalar", "vector", "ues", "layers", "sb3")
PEERS = ("mobile-env", "stable-baselines3", "torch")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "metavar": "N", "type": int}
    add("--only", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP",
        help=f"of {', '.join(GROUPS)} (default: all)")  # fmt: skip
    add("--n-envs", **several, default=[1, 64, 1024],
        help="environments at once; all views at the most (default: 1 64 1024)")  # fmt: skip
    add("--view", default="multidiscrete", help="action view of the UE, layer and SB3 tables")
    add("--sb3-envs", **several, default=[8, 64],
        help="environments under Stable-Baselines3 (default: 8 64)")  # fmt: skip
    add("--sb3-id", nargs="+", default=["MJOA/ColdStart-v0", "MJOA/Streaming-v0"], metavar="ID",
        help="environments of the SB3 tables (default: both of ours)")  # fmt: skip
    add("--sb3-steps", type=int, default=64, help="per environment and collection (%(default)s)")
    add("--seconds", type=float, default=0.5, help="of one pass over a row (%(default)s)")
    add("--repetitions", type=int, default=5, help="turns, median of (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write all measurements here, too")
    return parser.parse_args(argv)


def groups(args: argparse.Namespace) -> Iterator[Group]:
    """The tables that are asked for."""
    largest = max(args.n_envs)
    if "scalar" in args.only:
        yield scalar_group()
    if "vector" in args.only:
        for n_envs in args.n_envs:
            yield vector_group(n_envs, all_views=n_envs == largest)
    if "ues" in args.only:
        yield ue_group(largest, args.view)
    if "layers" in args.only:
        yield layer_group(largest, args.view)
    if "sb3" in args.only:
        for env_id in args.sb3_id:
            ours = {"action": args.view, "observation": "flat"} if "MJOA/" in env_id else {}
            for n_envs in args.sb3_envs:
                yield from sb3_group(env_id, n_envs, args.sb3_steps, **ours)


def measure(group: Group, args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of a group, and a line for each contender that cannot take part."""
    playing: list[tuple[Contender, Player]] = []
    skipped = []
    for contender in group.contenders:
        progress(f"{group.title}: preparing {contender.name} {contender.view}")
        try:
            player = contender.make()
        except Exception as error:  # whatever keeps it from starting, the others go on
            what = f"{contender.name} {contender.view} {contender.observation}".strip()
            skipped.append(f"skipped: {what}: {type(error).__name__}: {error}")
            continue
        player.prepare(args.seconds)
        playing.append((contender, player))
    rates: list[list[float]] = [[] for _ in playing]
    for turn in range(args.repetitions):
        progress(f"{group.title}: turn {turn + 1}")
        for (_, player), kept in zip(playing, rates, strict=True):
            seconds, steps = player.play()
            kept.append(steps / seconds)
    for _, player in playing:
        player.close()
    progress("")
    named = [(contender, kept) for (contender, _), kept in zip(playing, rates, strict=True)]
    bases = {each.name: kept for each, kept in named if each.name in group.references}
    return [row_of(contender, kept, bases) for contender, kept in named], skipped


def row_of(
    contender: Contender, rates: list[float], bases: dict[str, list[float]]
) -> dict[str, Any]:
    """One row, as it goes into the JSON file."""
    row = {
        "environment": contender.name,
        "action": contender.view,
        "observation": contender.observation,
        "n_envs": contender.n_envs,
        "ues": contender.ues,
        "network": contender.network,
        "layers": DNN.load(contender.network).n_layers if contender.network else None,
        "steps_per_second": median(rates),
        "all_steps_per_second": rates,
        "ratios": {
            name: median(rate / other for rate, other in zip(rates, base, strict=True))
            for name, base in bases.items()
        },
    }
    if contender.ues:
        a_round = contender.calls_per_round / median(rates)
        row["nanoseconds_per_ue"] = 1e9 * a_round / contender.ues
    return row


def table(group: Group, rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = {"environment": "---", "action": "---", "observation": "---"}
    head |= dict.fromkeys(("steps/s", "spread", "µs/step", "UEs", "ns/UE"), "--:")
    networks = any(row["network"] for row in rows)
    if networks:
        head |= {"network": "---", "layers": "--:", "ns/UE/layer": "--:"}
    head |= dict.fromkeys((f"× {name}" for name in rows[0]["ratios"]), "--:")
    lines = [f"### {group.title}", "", f"| {' | '.join(head)} |", f"|{'|'.join(head.values())}|"]
    for row in rows:
        rate, rates = row["steps_per_second"], row["all_steps_per_second"]
        per_ue = row.get("nanoseconds_per_ue")
        cells = [row["environment"], row["action"], row["observation"], f"{rate:,.0f}"]
        cells.append(f"±{50 * (max(rates) - min(rates)) / rate:.0f} %")
        cells.append(digits(1e6 / rate))
        cells += [str(row["ues"]), f"{per_ue:,.0f}"] if per_ue else ["", ""]
        if networks:
            cells += [row["network"], str(row["layers"]), digits(per_ue / row["layers"])]
        cells += [digits(ratio) for ratio in row["ratios"].values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def digits(number: float) -> str:
    """About three significant digits, never an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}".rstrip(".")


def progress(text: str) -> None:
    """One line on the terminal, over the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)
    elif text.endswith("turn 1"):
        print(text, file=sys.stderr, flush=True)


def one_thread() -> None:
    """Keep torch, where it is installed, from using a second thread: too erratic to measure."""
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


def main(argv: list[str] | None = None) -> int:
    """Print the tables; 1 if something of ours could not take part."""
    args = arguments(argv)
    one_thread()
    command = "python scripts/bench_env.py " + " ".join(sys.argv[1:] if argv is None else argv)
    made_with = machine(*PEERS)
    print("; ".join(f"{key} {value}" for key, value in made_with.items()))
    print(f"\nCommand: `{command.strip()}`\n")
    results: dict[str, Any] = {"command": command.strip(), "machine": made_with, "tables": []}
    missing = False
    for group in groups(args):
        rows, skipped = measure(group, args)
        missing |= any("ModuleNotFoundError" not in line for line in skipped)
        if rows:
            print(table(group, rows), end="\n\n")
        print(*skipped, sep="\n", end="\n\n" if skipped else "", flush=True)
        results["tables"].append({"title": group.title, "rows": rows, "skipped": skipped})
        if args.json:
            args.json.write_text(json.dumps(results, indent=1), "utf-8")
    return int(missing)


if __name__ == "__main__":
    sys.exit(run(main))
