"""The oracle: exact over shares on a grid, then polished. A yardstick, not a system.

Both resources are cut into `LEVELS` equal parts. For every UE and every pair of levels PBT-DP gives
the best placement and its latency (exactly so on chains); a dynamic programme over the UEs, with
the levels left of both resources as its state, then picks the pair of every UE. The result is
polished: ARA allocates continuously, and, for few UEs, MJOA-MU's moves over all placements of the
tables are tried. MJOA-MU's own plan counts if it is better: the grid's parts become coarse when
there are many UEs, and more than `LEVELS` cannot have one each.

Cost: O(N x LEVELS^2) calls of PBT-DP and O(N x LEVELS^4) additions; a few seconds for 5 UEs.
"""

from __future__ import annotations

import itertools

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.mjoa_mu import (
    FEW,
    best_of,
    joint_search,
    make_menus,
    settled,
    state_plan,
    with_moves,
)
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition

LEVELS = 20
"""Levels of each resource; a UE that stays local gets level 0."""


def oracle(instance: Instance) -> Plan:
    """The oracle's plan (see the module's docstring)."""
    placements, shares, proposals = grid_optimum(instance)
    packed, everything = instance.packed, len(proposals) + 1
    state = settled(packed, placements, shares)
    while instance.n_ues <= FEW:
        menus = make_menus(instance, [*proposals, state.placements], everything)
        before, state = state, with_moves(packed, menus, state, everything)
        if state is before:
            break
    # The joint search has tried all-local.
    return state_plan(packed, best_of((state, joint_search(instance))))


def grid_optimum(
    instance: Instance, n_levels: int = LEVELS
) -> tuple[NDArray[np.int8], NDArray[np.float64], list[NDArray[np.int8]]]:
    """The best plan with shares on the grid, and every placement in the tables.

    Returns:
        Concatenated placements, (N, 2) shares, and proposals: concatenated placements that between
        them hold all of the tables' entries.
    """
    packed, size = instance.packed, n_levels + 1
    costs, tables = np.empty((instance.n_ues, size, size)), []
    for i, ue in enumerate(instance.ues):
        inference = packed_inference(packed, i)
        table = np.zeros((size, size, ue.dnn.n_layers), np.int8)
        costs[i] = ue.local_s
        for b, c in itertools.product(range(1, size), repeat=2) if ue.reachable else ():
            link = packed_link(packed, i, b / n_levels, c / n_levels)
            seconds = best_partition(inference, link, WIDTH, table[b, c])
            costs[i, b, c] = min(costs[i, b, c], seconds)
        costs[i] = cost(ue.weight, costs[i])
        tables.append(table)
    levels = divide(costs)
    chosen = [table[tuple(level)] for table, level in zip(tables, levels, strict=True)]
    distinct = [np.unique(t.reshape(size * size, -1), axis=0) for t in tables]
    proposals = [
        np.concatenate([d[k % len(d)] for d in distinct])
        for k in range(max(len(d) for d in distinct))
    ]
    return np.concatenate(chosen), levels / n_levels, proposals


@njit(cache=True, nogil=True)
def divide(costs):
    """The levels (N, 2) of both resources for every UE, at most all, with the least total cost.

    `costs` (N, levels + 1, levels + 1) are weighted latencies at each pair of levels.
    """
    n, size = costs.shape[0], costs.shape[1]
    best = np.zeros((n + 1, size, size))  # of the first UEs with so many levels of both
    choice = np.zeros((n, size, size, 2), np.int64)
    for i in range(n):
        for b in range(size):
            for c in range(size):
                least = np.inf
                for x in range(b + 1):
                    for y in range(c + 1):
                        value = best[i, b - x, c - y] + costs[i, x, y]
                        if value < least:
                            least = value
                            choice[i, b, c, 0], choice[i, b, c, 1] = x, y
                best[i + 1, b, c] = least
    levels = np.zeros((n, 2), np.int64)
    b = c = size - 1
    for i in range(n - 1, -1, -1):
        levels[i] = choice[i, b, c]
        b -= levels[i, 0]
        c -= levels[i, 1]
    return levels
