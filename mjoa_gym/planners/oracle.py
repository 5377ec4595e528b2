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

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance, Packed, Plan, packed_inference, packed_link
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.mjoa_mu import FEW, joint_search, make_menus, settled, state_plan
from mjoa_gym.planners.moves import best_moves
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition

LEVELS = 20
"""Levels of each resource; a UE that stays local gets level 0."""


def share_table(
    packed: Packed,
    i: int,
    levels: int,
    seconds: NDArray[np.float64],
    placements: NDArray[np.int8],
) -> None:
    """Fill UE i's table: best latency and placement at every pair of share levels.

    Args:
        packed: The instance.
        i: The UE.
        levels: Number of levels.
        seconds: (levels + 1, levels + 1) overwritten; row and column 0 are all-local.
        placements: (levels + 1, levels + 1, L) overwritten.
    """
    inference = packed_inference(packed, i)
    seconds[:] = packed.local_s[i]
    placements[:] = 0
    for b in range(1, levels + 1):
        for c in range(1, levels + 1):
            link = packed_link(packed, i, b / levels, c / levels)
            latency = best_partition(inference, link, WIDTH, placements[b, c])
            seconds[b, c] = min(latency, packed.local_s[i])


@njit(cache=True, nogil=True)
def divide(costs):
    """Split the levels of both resources among the UEs at the least total cost.

    Args:
        costs: (N, levels + 1, levels + 1) weighted latency at each pair of levels.

    Returns:
        (N, 2) the levels of every UE, using at most all of both.
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


def grid_optimum(
    instance: Instance, n_levels: int = LEVELS
) -> tuple[NDArray[np.int8], NDArray[np.float64], list[NDArray[np.int8]]]:
    """The best plan with shares on the grid, and every placement in the tables.

    Returns:
        Concatenated placements, (N, 2) shares, and proposals: concatenated placements that between
        them hold all of the tables' entries.
    """
    packed, n = instance.packed, instance.n_ues
    size = n_levels + 1
    costs = np.empty((n, size, size))
    tables = []
    for i, ue in enumerate(instance.ues):
        tables.append(np.zeros((size, size, ue.dnn.n_layers), np.int8))
        if ue.reachable:
            share_table(packed, i, n_levels, costs[i], tables[i])
        else:
            costs[i] = ue.local_s
        costs[i] = cost(ue.weight, costs[i])
    levels = divide(costs)
    chosen = [tables[i][tuple(levels[i])] for i in range(n)]
    distinct = [np.unique(t.reshape(size * size, -1), axis=0) for t in tables]
    proposals = [
        np.concatenate([d[k % len(d)] for d in distinct])
        for k in range(max(len(d) for d in distinct))
    ]
    return np.concatenate(chosen), levels / n_levels, proposals


def oracle(instance: Instance) -> Plan:
    """The oracle's plan (see the module's docstring)."""
    packed = instance.packed
    placements, shares, proposals = grid_optimum(instance)
    state = settled(packed, placements, shares)
    while instance.n_ues <= FEW:
        menus = make_menus(instance, packed, [*proposals, state.placements], len(proposals) + 1)
        trial, trial_shares = state.placements.copy(), state.shares.copy()
        everything = int(menus.size.max())
        _, moved = best_moves(
            packed, menus, trial, trial_shares, state.objective, state.prices, everything
        )
        if not moved:
            break
        state = settled(packed, trial, trial_shares)
    found = (state, joint_search(instance))  # which has tried all-local
    return state_plan(packed, min(found, key=lambda s: s.objective))
