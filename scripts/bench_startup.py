"""Measure how long a new process takes until its first step, with empty and with full caches.

Numba compiles a kernel when it is first called, and caches the compiled code. The reference for all
rows is a process that imports NumPy, Gymnasium and Numba and compiles one trivial function. Seconds
are processor seconds, user and system, over the whole life of a process. The caches are in a
temporary folder. Everything is measured in turn, several times. Numbers are medians, and so are the
ratios to the reference of the same turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from operator import truediv
from pathlib import Path
from statistics import median

from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.table import Table

REFERENCE = """
import gymnasium, numba, numpy
numba.njit(lambda x: x + 1)(1)
"""
ONE = """
import gymnasium as gym, mjoa_gym
env = gym.make("MJOA/{}-v1", action="{}")
env.reset(seed=0)
env.step(env.action_space.sample())
"""
SEVERAL = """
import gymnasium as gym, mjoa_gym
envs = gym.make_vec(
    "MJOA/{}-v1", 8, vectorization_mode="vector_entry_point", action="multidiscrete")
envs.reset(seed=0)
envs.step(envs.action_space.sample())
"""
SIMULATE = """
import numpy as np
from mjoa_gym import DNN, UE, Instance, Plan, evaluate, simulate
dnn = DNN.load("vgg16")
here, there = np.full(dnn.n_layers, 0.05), np.full(dnn.n_layers, 0.002)
side = np.arange(dnn.n_layers) < 4
simulate(dnn, side, here, there, uplink_bps=5e7, downlink_bps=5e7)
ue = UE(dnn=dnn, ue_seconds=here, edge_seconds=there, snr_up=100.0, snr_down=200.0)
evaluate(Instance(ues=[ue], bandwidth_hz=2e7), Plan([side], [1.0], [1.0]))
"""
NAMES = ("ColdStart", "Streaming")
README = Path(__file__).resolve().parents[1] / "README.md"
PROGRAMS = {
    "import mjoa_gym": "import mjoa_gym",
    **{f"{name}-v1, {view}": ONE.format(name, view) for name in NAMES
       for view in ("multidiscrete", "box", "discrete", "plan")},
    **{f"{name}-v1, 8 at once": SEVERAL.format(name) for name in NAMES},
    "simulate and evaluate": SIMULATE,
    "the README's first example": README.read_text().split("```python\n")[1].split("```")[0],
}  # fmt: skip


def seconds_of(program: str, caches: str) -> float:
    """Return the processor seconds of a new Python process."""
    before = os.times()
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, env=os.environ | {"NUMBA_CACHE_DIR": caches})
    after = os.times()
    used = (after.children_user, after.children_system)
    return sum(used) - before.children_user - before.children_system


def measure(programs: Sequence[str], repetitions: int) -> Table:
    """Return the table of some of `PROGRAMS`."""
    reference: list[float] = []
    empty: dict[str, list[float]] = {name: [] for name in programs}
    full: dict[str, list[float]] = {name: [] for name in programs}
    turns = [name for _ in range(repetitions) for name in programs]
    for name in bar(turns, desc="starting", leave=False):
        with tempfile.TemporaryDirectory() as caches:
            reference.append(seconds_of(REFERENCE, caches))
            empty[name].append(seconds_of(PROGRAMS[name], caches))
            full[name].append(seconds_of(PROGRAMS[name], caches))
    rows = [("the reference", f"{median(reference):.2f}", "1.0", "", "")]
    for k, name in enumerate(programs):
        base = reference[k :: len(programs)]
        cells = [
            text
            for values in (empty[name], full[name])
            for text in (f"{median(values):.2f}", f"{median(map(truediv, values, base)):.1f}")
        ]
        rows.append((name, *cells))
    header = ("program", "empty caches, s", "× reference", "full caches, s", "× reference")
    return Table("To the first step, in a fresh process", header, rows)


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS),
                        metavar="PROGRAM", help="programs to measure")  # fmt: skip
    parser.add_argument("--repetitions", type=int, default=3, help="turns (%(default)s)")
    args = parser.parse_args(argv)
    print("; ".join(f"{key} {value}" for key, value in machine().items()))
    table = measure(args.only, args.repetitions)
    print(f"\n### {table.caption}\n\n{table.markdown()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
