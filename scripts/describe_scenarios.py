"""Is a scenario's task worth solving? The tables of `docs/scenarios.md`, measured.

A myopic rule acts, at equal shares: of all contiguous ranges of layers at the edge, found by brute
force, each UE gets the best. The tables say how much that gains, whether an extreme would have done
as well, and, when streaming, what uploading for later adds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import mjoa_gym  # noqa: F401 - registers the environments
from mjoa_gym import UE, Instance, Scenario, decode_observation
from mjoa_gym.cli.ending import run
from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link

WORTHWHILE_S_PER_BYTE = 5e-9
"""A layer is worth uploading ahead if it saves so many seconds per byte of its parameters."""
PREFETCHES = ("nothing", "everything", "the worthwhile")
KINDS = ("all on the UE", "begins at layer 0", "begins later, returns", "runs to the end")


@lru_cache(maxsize=64)
def ranges(n: int) -> NDArray[np.int8]:
    """All contiguous ranges of n layers at the edge: none first, all of them last."""
    layer = np.arange(n)
    rows = [(layer >= i) & (layer < j) for i in range(n) for j in range(i + 1, n + 1)]
    return np.array([np.zeros(n), *sorted(rows, key=np.sum)], dtype=np.int8)


def seconds_of_ranges(instance: Instance, i: int) -> NDArray[np.float64]:
    """UE i's latency with each range, at equal shares."""
    share = 1.0 / instance.n_ues
    link = packed_link(instance.packed, i, share, share)
    options = ranges(instance.ues[i].dnn.n_layers)
    return kernel.run_many(options, packed_inference(instance.packed, i), link)


def prefetched(ue: UE, n_ues: int, prefetch: str) -> NDArray[np.int8]:
    """(L,) what a UE uploads ahead."""
    if prefetch == "nothing":
        return np.zeros(ue.dnn.n_layers, np.int8)
    if prefetch == "everything":
        return np.ones(ue.dnn.n_layers, np.int8)
    saved_s = np.asarray(ue.ue_seconds) - np.asarray(ue.edge_seconds) * n_ues
    return (saved_s >= WORTHWHILE_S_PER_BYTE * np.asarray(ue.dnn.parameter_bytes)).astype(np.int8)


def play(
    env_id: str, scenario: str, seeds: range, prefetch: str = "nothing"
) -> Iterator[tuple[Instance, list[NDArray[np.float64]], float]]:
    """Every round's seconds of all ranges for each UE, and its reward."""
    env: Any = gym.make(env_id, scenario=scenario).unwrapped
    n = env.scenario.n_ues
    shares = {key: np.full(n, 1.0 / n) for key in ("bandwidth_share", "compute_share")}
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            instance = decode_observation(observation, env.scenario)
            seconds = [seconds_of_ranges(instance, i) for i in range(n)]
            action = {"placements": np.zeros(env.action_space["placements"].shape, np.int8)}
            if "prefetch" in env.action_space.spaces:
                action["prefetch"] = np.zeros_like(action["placements"])
            for i, ue in enumerate(instance.ues):
                best = ranges(ue.dnn.n_layers)[int(seconds[i].argmin())]
                action["placements"][i, : len(best)] = best
                if "prefetch" in action:
                    action["prefetch"][i, : len(best)] = prefetched(ue, n, prefetch)
            observation, reward, _, over, _ = env.step(action | shares)
            yield instance, seconds, reward


def kind_of(seconds: NDArray[np.float64]) -> str:
    """What the best range of one UE is like."""
    n = int(np.sqrt(2 * len(seconds)))  # n (n + 1) / 2 + 1 ranges
    best = ranges(n)[int(seconds.argmin())]
    if not best.any():
        return KINDS[0]
    return KINDS[3] if best[-1] else KINDS[1] if best[0] else KINDS[2]


def cold_row(scenario: str, seeds: range) -> str:
    """A scenario's row of the first table."""
    rounds = list(play("MJOA/ColdStart-v0", scenario, seeds))
    rewards = [reward for *_, reward in rounds]
    low, high = np.quantile(rewards, (0.1, 0.9))
    edge = np.mean([sum(s[-1] for s in seconds) < sum(s[0] for s in seconds)
                    for _, seconds, _ in rounds])  # fmt: skip
    kinds = [kind_of(s) for _, seconds, _ in rounds for s in seconds]
    parts = [f"{100 * kinds.count(kind) / len(kinds):.3g} %" for kind in KINDS]
    cells = [f"`{scenario}`", f"{np.mean(rewards):.2f} ({low:.2f} - {high:.2f})"]
    return " | ".join(["", *cells, f"{100 * edge:.2g} %", *parts, ""]).strip()


def balance(scenario: str, seeds: range) -> str:
    """Uplinks, how uploads compare with execution, and how many ranges are best, in sentences."""
    uplinks, ratios = [], []
    best_of: dict[str, set[int]] = {}
    for instance, seconds, _ in play("MJOA/ColdStart-v0", scenario, seeds):
        for i, ue in enumerate(instance.ues):
            best, share = int(seconds[i].argmin()), 1.0 / instance.n_ues
            uplinks.append(1.0 / packed_link(instance.packed, i, share, share).up * 8.0 / 1e6)
            best_of.setdefault(ue.dnn.name, set()).add(best)
            if best > 0:
                at_edge = ranges(ue.dnn.n_layers)[best] == 1
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


def streaming_row(scenario: str, seeds: range) -> str:
    """A scenario's row of the second table."""
    means = [
        np.mean([reward for *_, reward in play("MJOA/Streaming-v0", scenario, seeds, prefetch)])
        for prefetch in PREFETCHES
    ]
    return " | ".join(["", f"`{scenario}`", *(f"{mean:.2f}" for mean in means), ""]).strip()


def main(argv: list[str] | None = None) -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", default=list(Scenario.names()))
    parser.add_argument("--episodes", type=int, default=10, help="of ColdStart (%(default)s)")
    parser.add_argument("--streaming-episodes", type=int, default=5, help="(%(default)s)")
    args = parser.parse_args(argv)
    head = ["Scenario", "mean reward (10 % - 90 %)", "all-edge beats all-local in", *KINDS]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for scenario in args.scenarios:
        print(cold_row(scenario, range(args.episodes)), flush=True)
    print(f"\n| Scenario | {' | '.join(PREFETCHES)} |\n|{'---|' * 4}")
    for scenario in args.scenarios:
        print(streaming_row(scenario, range(args.streaming_episodes)), flush=True)
    for scenario in args.scenarios:
        print(f"\n{balance(scenario, range(args.episodes))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
