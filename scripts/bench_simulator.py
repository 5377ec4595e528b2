"""Measure the simulator: against the event-driven reference, per layer, in batches.

All ratios come from one run on one machine, best of several repetitions; the reference is the SimPy
simulator that the tests compare with (an installation with `.[dev]` has SimPy).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import DNN, simulate
from mjoa_gym.cli.ending import run
from mjoa_gym.evaluation.machine import processor
from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Inference, inference_of
from mjoa_gym.model.link import Link, link_at
from tests.reference_simulator import reference_simulate

UPLINK_BPS, DOWNLINK_BPS = 2e7, 4e7
UE_FLOPS, EDGE_FLOPS = 2e10, 1e12  # per second


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dnn", nargs="+", default=["alexnet", "resnet18", "googlenet"], metavar="NAME",
        help="networks of the catalogue (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=100_000, help="placements (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of the last column (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=5, help="best of (%(default)s)")
    return parser.parse_args(argv)


def best_seconds(call: Callable[[], object], repetitions: int) -> float:
    """The least time that a call takes."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def batch_seconds(
    placements: NDArray[np.int8], inference: Inference, link: Link, threads: int, repetitions: int
) -> float:
    """Time for the latencies of all placements, dealt out to threads."""
    parts = np.array_split(placements, threads)
    with ThreadPoolExecutor(threads) as pool:

        def run() -> None:
            list(pool.map(lambda part: kernel.run_many(part, inference, link), parts))

        return best_seconds(run, repetitions)


def measure(name: str, args: argparse.Namespace) -> str:
    """One row of the table."""
    dnn = DNN.load(name)
    ue_seconds, edge_seconds = dnn.flops / UE_FLOPS, dnn.flops / EDGE_FLOPS
    inference = inference_of(dnn, ue_seconds, edge_seconds)
    rates = {"uplink_bps": UPLINK_BPS, "downlink_bps": DOWNLINK_BPS}
    link = link_at(**rates)
    rng = np.random.default_rng(0)
    placements = rng.integers(0, 2, (args.batch, dnn.n_layers)).astype(np.int8)
    few = placements[:10]
    fields = ("predecessors", "parameter_bytes", "output_bytes", "input_bytes")
    network = {field: getattr(dnn, field) for field in fields}
    times = {"ue_seconds": ue_seconds, "edge_seconds": edge_seconds} | rates

    def by_reference() -> list[float]:
        return [reference_simulate(placement=p, **network, **times).latency for p in few]

    def by_simulate() -> list[float]:
        return [simulate(dnn, p, **times).latency for p in few]

    ours = kernel.run_many(few, inference, link)  # compiles
    np.testing.assert_allclose(by_reference(), ours, rtol=1e-9)
    np.testing.assert_array_equal(by_simulate(), ours)

    repetitions = args.repetitions
    reference = best_seconds(by_reference, min(3, repetitions)) / len(few)
    timeline = best_seconds(by_simulate, repetitions) / len(few)
    one = batch_seconds(placements, inference, link, 1, repetitions) / args.batch
    more = batch_seconds(placements, inference, link, args.threads, repetitions) / args.batch
    return (
        f"{name:<16}{dnn.n_layers:>7}{1e3 * reference:>14.2f}{1e6 * timeline:>13.1f}"
        f"{1e6 * one:>12.3f}{1e9 * one / dnn.n_layers:>10.1f}{1 / one:>14,.0f}"
        f"{reference / one:>14,.0f}{one / more:>11.2f}"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    args = arguments(argv)
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "simpy"))
    print(f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}")
    print(
        f"{'network':<16}{'layers':>7}{'reference ms':>14}{'timeline us':>13}{'kernel us':>12}"
        f"{'ns/layer':>10}{'1/s, 1 core':>14}{'x reference':>14}{f'x {args.threads} thr.':>11}"
    )
    for number, name in enumerate(args.dnn, start=1):
        print(f"[{number}/{len(args.dnn)}] {name} ...", end="\r", file=sys.stderr, flush=True)
        print(measure(name, args), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
