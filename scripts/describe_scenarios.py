"""Measure whether a scenario's task is worth solving: the tables of `docs/scenarios.md`.

A myopic rule acts, at equal shares: each UE gets the best contiguous range of layers at the edge,
found by brute force. The tables show how much that gains, whether an extreme would be as good, and,
when streaming, what uploading for later adds.
"""

from __future__ import annotations

import argparse
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from played_rounds import PlayedRound, played_rounds

from mjoa_gym import UE, Instance, Plan, Scenario
from mjoa_gym.cli.ending import run
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.table import Table
from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link

WORTHWHILE_S_PER_BYTE = 5e-9
"""A layer is worth uploading ahead if it saves this many seconds per byte of its parameters."""
PREFETCHES = ("nothing", "everything", "the worthwhile")
KINDS = ("all on the UE", "begins at layer 0", "begins later, returns", "runs to the end")


@lru_cache(maxsize=64)
def ranges(n: int) -> NDArray[np.int8]:
    """Return all contiguous ranges of n layers at the edge: none first, all of them last."""
    layer = np.arange(n)
    rows = [(layer >= i) & (layer < j) for i in range(n) for j in range(i + 1, n + 1)]
    return np.array([np.zeros(n), *sorted(rows, key=np.sum)], dtype=np.int8)


def seconds_of_ranges(instance: Instance, i: int) -> NDArray[np.float64]:
    """Return UE i's latency with each range, at equal shares."""
    share = 1.0 / instance.n_ues
    link = packed_link(instance.packed, i, share, share)
    options = ranges(instance.ues[i].dnn.n_layers)
    return kernel.run_many(options, packed_inference(instance.packed, i), link)


def prefetched(ue: UE, n_ues: int, prefetch: str) -> NDArray[np.int8]:
    """Return (L,) the layers that a UE uploads ahead."""
    if prefetch != "the worthwhile":
        return np.full(ue.dnn.n_layers, prefetch == "everything", np.int8)
    saved_s = ue.ue_seconds - ue.edge_seconds * n_ues
    return (saved_s >= WORTHWHILE_S_PER_BYTE * ue.dnn.parameter_bytes).astype(np.int8)


def myopic(instance: Instance, prefetch: str = "nothing") -> Plan:
    """Return a plan with equal shares and each UE's best range."""
    n, ues = instance.n_ues, instance.ues
    equal = np.full(n, 1.0 / n)
    best = [
        ranges(ue.dnn.n_layers)[seconds_of_ranges(instance, i).argmin()]
        for i, ue in enumerate(ues)
    ]  # fmt: skip
    return Plan(best, equal, equal, [prefetched(ue, n, prefetch) for ue in ues])


def kind_of(placement: NDArray[np.int8]) -> str:
    """Return the kind of a range."""
    if not placement.any():
        return KINDS[0]
    return KINDS[3] if placement[-1] else KINDS[1] if placement[0] else KINDS[2]


def cold_row(scenario: str, rounds: list[PlayedRound]) -> tuple[str, ...]:
    """Return a scenario's row of the first table."""
    rewards = [row["reward"] for _, _, row in rounds]
    low, high = np.quantile(rewards, (0.1, 0.9))
    seconds = [[seconds_of_ranges(x, i) for i in range(x.n_ues)] for x, _, _ in rounds]
    edge = np.mean([sum(s[-1] for s in each) < sum(s[0] for s in each) for each in seconds])
    kinds = [kind_of(placement) for _, plan, _ in rounds for placement in plan.placements]
    parts = [f"{100 * kinds.count(kind) / len(kinds):.3g} %" for kind in KINDS]
    reward = f"{np.mean(rewards):.2f} ({low:.2f} - {high:.2f})"
    return f"`{scenario}`", reward, f"{100 * edge:.2g} %", *parts


def balance(scenario: str, rounds: list[PlayedRound]) -> str:
    """Describe uplinks, uploads compared with execution, and the number of best ranges."""
    uplinks, ratios = [], []
    best_of: dict[str, set[bytes]] = {}
    for instance, plan, _ in rounds:
        share = 1.0 / instance.n_ues
        for i, (ue, best) in enumerate(zip(instance.ues, plan.placements, strict=True)):
            uplinks.append(1.0 / packed_link(instance.packed, i, share, share).up * 8.0 / 1e6)
            best_of.setdefault(ue.dnn.name, set()).add(best.tobytes())
            if best.any():
                at_edge = best == 1
                upload_s = ue.dnn.parameter_bytes[at_edge].sum() * 8e-6 / uplinks[-1]
                run_s = ue.ue_seconds[~at_edge].sum() + ue.edge_seconds[at_edge].sum() / share
                ratios.append(upload_s / run_s)
    low, high = np.quantile(uplinks, (0.05, 0.95))
    least, middle, most = np.quantile(ratios, (0.1, 0.5, 0.9))
    kinds = sorted(((len(best), name) for name, best in best_of.items()), reverse=True)
    return (
        f"`{scenario}`: uplink at an equal share {low:.0f} to {high:.0f} Mbit/s (5 % - 95 %). "
        f"Where offloading pays, the best range's parameters take {middle:.2g} times as long to "
        f"upload as all layers take to execute (median; {least:.2g} to {most:.2g} between 10 % and "
        f"90 %). Different best ranges: {', '.join(f'{n} for {name}' for n, name in kinds)}."
    )


def streaming_row(scenario: str, seeds: range) -> tuple[str, ...]:
    """Return a scenario's row of the second table."""
    setting = Setting("streaming", Scenario.load(scenario))
    played = [played_rounds(partial(myopic, prefetch=name), setting, seeds) for name in PREFETCHES]
    means = (np.mean([row["reward"] for _, _, row in rounds]) for rounds in played)
    return f"`{scenario}`", *(f"{mean:.2f}" for mean in means)


def main(argv: list[str] | None = None) -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=list(Scenario.names()))
    parser.add_argument("--episodes", type=int, default=10, help="ColdStart episodes (%(default)s)")
    parser.add_argument("--streaming-episodes", type=int, default=5, help="(%(default)s)")
    args = parser.parse_args(argv)
    cold = {
        name: played_rounds(
            myopic, Setting("cold-start", Scenario.load(name)), range(args.episodes)
        )
        for name in args.scenarios
    }
    header = ("Scenario", "mean reward (10 % - 90 %)", "all-edge beats all-local in", *KINDS)
    print(Table("", header, [cold_row(*each) for each in cold.items()]).markdown(), flush=True)
    rows = [streaming_row(name, range(args.streaming_episodes)) for name in args.scenarios]
    print(f"\n{Table('', ('Scenario', *PREFETCHES), rows).markdown()}")
    for name, rounds in cold.items():
        print(f"\n{balance(name, rounds)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
