"""Measure the stepping rates of our and other environments, side by side in one run.

All rows of a table are played in turn, several times. Rates are medians, and so are the ratios of
rates that were measured in the same turn. Random actions, valid if an environment provides a mask,
are sampled before and not timed; resets are timed. A step is one transition of one environment.

mobile-env and Stable-Baselines3 take part if they are installed. `--only parts` shows where the
time of a step goes. `--only simulator` measures the simulator alone; a step then is one inference.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from operator import truediv
from statistics import median
from typing import Any

from throughput.contenders import (
    IDS,
    Contender,
    Group,
    layer_group,
    sb3_groups,
    scalar_group,
    simulator_group,
    ue_group,
    vector_group,
)
from throughput.parts import parts_table

from mjoa_gym import DNN
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.table import Table

GROUPS = ("scalar", "vector", "ues", "layers", "sb3", "parts", "simulator")


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line(__doc__)
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "metavar": "N", "type": int}
    add("--only", nargs="+", choices=GROUPS, default=GROUPS[:5], metavar="GROUP",
        help=f"groups to run, of {', '.join(GROUPS)} (default: all but the last two)")  # fmt: skip
    add("--n-envs", **several, default=[1, 64, 1024],
        help="environments at once; all views with the most (default: 1 64 1024)")  # fmt: skip
    add("--view", default="multidiscrete", help="action view of the UE, layer and SB3 tables")
    add("--sb3-envs", **several, default=[8, 64],
        help="environments under Stable-Baselines3 (default: 8 64)")  # fmt: skip
    add("--sb3-steps", type=int, default=64, help="steps of a collection (%(default)s)")
    add("--seconds", type=float, default=0.5, help="duration of a pass over a row (%(default)s)")
    add("--repetitions", type=int, default=5, help="turns to take the median of (%(default)s)")
    return parser.parse_args(argv)


def groups(args: argparse.Namespace) -> Iterator[Group]:
    """Yield the requested tables."""
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
        for env_id in IDS:
            for n_envs in args.sb3_envs:
                yield from sb3_groups(env_id, args.view, n_envs, args.sb3_steps)
    if "simulator" in args.only:
        yield from map(simulator_group, ("alexnet", "resnet18", "googlenet"))


def measure(group: Group, args: argparse.Namespace) -> tuple[Table, list[str]]:
    """Return the table of a group, and a line for each contender that cannot take part."""
    playing, skipped = [], []
    for contender in bar(group.contenders, desc=f"{group.title}: preparing", leave=False):
        try:
            player = contender.make()
        except Exception as error:  # if it cannot start, the others continue
            what = f"{contender.name} {contender.view} {contender.observation}".strip()
            skipped.append(f"skipped: {what}: {type(error).__name__}: {error}")
            continue
        player.prepare(args.seconds)
        playing.append((contender, player, []))
    for _ in bar(range(args.repetitions), desc=f"{group.title}: playing", leave=False):
        for _, player, rates in playing:
            seconds, steps = player.play()
            rates.append(steps / seconds)
    for _, player, _ in playing:
        player.close()
    header = ["environment", "action", "observation", "steps/s", "spread", "µs/step", "UEs",
              "ns/UE"]  # fmt: skip
    if any(contender.network for contender in group.contenders):
        header += ["network", "layers", "ns/UE/layer"]
    bases = {each.name: rates for each, _, rates in playing if each.name in group.references}
    rows = [
        (*cells_of(contender, rates), *(ratio(rates, base) for base in bases.values()))
        for contender, _, rates in playing
    ]
    return Table(group.title, (*header, *(f"× {name}" for name in bases)), rows), skipped


def cells_of(contender: Contender, rates: list[float]) -> list[str]:
    """Return a contender's row without the ratios."""
    rate, spread = median(rates), max(rates) - min(rates)
    cells = [contender.name, contender.view, contender.observation, f"{rate:,.0f}"]
    cells += [f"±{50 * spread / rate:.0f} %", digits(1e6 / rate)]
    if not contender.ues:
        return [*cells, "", ""]
    per_ue_ns = 1e9 * contender.calls_per_round / rate / contender.ues
    cells += [str(contender.ues), f"{per_ue_ns:,.0f}"]
    if contender.network:
        n_layers = DNN.load(contender.network).n_layers
        cells += [contender.network, str(n_layers), digits(per_ue_ns / n_layers)]
    return cells


def ratio(rates: list[float], base: list[float]) -> str:
    """Return how many times faster the rates are, turn by turn."""
    return digits(median(map(truediv, rates, base)))


def digits(number: float) -> str:
    """Format a number with about three significant digits and without an exponent."""
    return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}".rstrip(".")


def one_thread() -> None:
    """Limit torch, if it is installed, to one thread: two are too erratic to measure."""
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


def main(argv: list[str] | None = None) -> int:
    """Print the tables; return 1 if one of our contenders could not take part."""
    argv = sys.argv[1:] if argv is None else argv
    args = arguments(argv)
    one_thread()
    made_with = machine("mobile-env", "stable-baselines3", "torch")
    print("; ".join(f"{key} {value}" for key, value in made_with.items()))
    print(f"\nCommand: `{' '.join(['python scripts/bench_env.py', *argv])}`\n")
    missing = False
    for group in groups(args):
        table, skipped = measure(group, args)
        missing |= any("ModuleNotFoundError" not in line for line in skipped)
        if table.rows:
            print(f"### {table.caption}\n\n{table.markdown()}", end="\n\n")
        print(*skipped, sep="\n", end="\n\n" if skipped else "", flush=True)
    if "parts" in args.only:
        parts = parts_table(max(args.n_envs))
        print(f"### {parts.caption}\n\n{parts.markdown()}")
    return int(missing)


if __name__ == "__main__":
    raise SystemExit(run(main))
