"""Estimate the gain on `MJOA/Streaming-v1` if uploads of earlier rounds were free.

    python scripts/streaming_floor.py --episodes 12

In every round MJOA-MU plans two more times: with those parameters on the server that are best for
this round and fit the server's memory, and with all parameters there, whatever the memory. Their
uploads cost nothing, so no agent can do as well. But the first choice is a knapsack at nominal
shares and MJOA-MU is not the optimum, so the result is an estimate and not a certified bound. The
script prints a Markdown table.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from played_rounds import played_rounds

from mjoa_gym import Instance, Plan, Scenario, evaluate
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.table import Table
from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.planners import plan_with, planner_of
from mjoa_gym.planners.menu import Menu, menu_of

GRAIN_BYTES = 1e6
"""Memory is counted in steps of this size, rounded up."""
REPEATS = 3
"""The knapsack is solved at equal shares first, then at those of the plan so far."""
LEAST_SHARE = 0.02
PLANNERS = ("mjoa-mu", "mjoa-mu-prefetch")
FLOORS = ("best parameters within memory, for free", "all parameters, for free")


def with_resident(instance: Instance, resident: list[NDArray[np.float64]]) -> tuple[Plan, float]:
    """Return MJOA-MU's plan with other parameters on the server, and its weighted mean latency."""
    ues = [replace(ue, resident=own) for ue, own in zip(instance.ues, resident, strict=True)]
    free = replace(instance, ues=tuple(ues))
    plan = plan_with("mjoa-mu", free)
    return plan, float(np.average(evaluate(free, plan), weights=free.weights))


def sets_of_layers(on_menu: NDArray[np.int8], sizes: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return sets (sets, L): what each menu entry needs, and all layers; without the largest."""
    everything = np.ones_like(on_menu[:1])
    limits = np.unique(sizes)
    sets = [row * (sizes <= limit) for row in (*everything, *on_menu) for limit in limits]
    return np.unique(np.array(sets, dtype=np.int8), axis=0)


def best_sets(
    instance: Instance, scenario: Scenario, menu: Menu, shares: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Return the best parameters on the server within its memory, at fixed shares (N, 2).

    This is a multiple-choice knapsack: one set of layers for each UE.
    """
    room = int(scenario.server_memory_bytes / GRAIN_BYTES)
    best = np.zeros(room + 1)
    steps = []
    for i, ue in enumerate(instance.ues):
        d, n = scenario.profiles.index(ue.dnn), ue.dnn.n_layers
        sizes = ue.dnn.parameter_bytes
        rows = np.ascontiguousarray(menu.placements[d, : menu.size[d], :n])
        sets = sets_of_layers(rows, sizes)
        inference = packed_inference(instance.packed, i)
        link = packed_link(instance.packed, i, *shares[i])
        values = [
            ue.weight * kernel.run_many(rows, inference._replace(missing_bytes=m), link).min()
            for m in sizes * (1.0 - sets)
        ]
        costs = np.ceil((sets * sizes).sum(axis=1) / GRAIN_BYTES).astype(int)
        after, chosen = np.full(room + 1, np.inf), np.zeros(room + 1, int)
        for k in np.flatnonzero(costs <= room):
            with_k = np.full(room + 1, np.inf)
            with_k[costs[k] :] = best[: room + 1 - costs[k]] + values[k]
            better = with_k < after
            after[better], chosen[better] = with_k[better], k
        best = after
        steps.append((sets, costs, chosen))
    found = []
    for sets, costs, chosen in reversed(steps):
        k = chosen[room]
        found.append(sets[k].astype(np.float64))
        room -= costs[k]
    return found[::-1]


def floors(instance: Instance, scenario: Scenario, menu: Menu) -> tuple[float, float]:
    """Return seconds of a round with the best parameters within memory, and with all of them."""
    shares = np.full((instance.n_ues, 2), 1.0 / instance.n_ues)
    least = np.inf
    for _ in range(REPEATS):
        plan, seconds = with_resident(instance, best_sets(instance, scenario, menu, shares))
        least = min(least, seconds)
        shares = np.stack([plan.bandwidth_share, plan.compute_share], axis=1)
        shares = np.maximum(shares, LEAST_SHARE)
    everything = [np.ones(ue.dnn.n_layers) for ue in instance.ues]
    return least, with_resident(instance, everything)[1]


def main() -> int:
    """Play, plan again, print."""
    parser = command_line(__doc__)
    parser.add_argument("--scenario", default="default", help="name, or a YAML file")
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=10_000, help="seed of the first episode")
    options = parser.parse_args()
    setting = Setting("streaming", Scenario.load(options.scenario))
    seeds = range(options.seed, options.seed + options.episodes)
    played = {name: played_rounds(planner_of(name), setting, seeds) for name in PLANNERS}
    found = {name: [each.row["latency_s"] for each in rounds] for name, rounds in played.items()}
    menu = menu_of(setting.scenario, streaming=True)
    told = bar(played[PLANNERS[0]], unit="round", leave=False)
    possible = [floors(each.instance, setting.scenario, menu) for each in told]
    found |= zip(FLOORS, zip(*possible, strict=True), strict=True)
    base = np.mean(found[PLANNERS[0]])
    changes = ["", *(f"{100 * (np.mean(s) / base - 1):+.1f} %" for s in list(found.values())[1:])]
    means = [f"{1e3 * np.mean(seconds):.1f}" for seconds in found.values()]
    rows = list(zip(found, means, changes, strict=True))
    print(Table("", ("", "latency, ms", "against mjoa-mu"), rows).markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
