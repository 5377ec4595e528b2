"""A certified lower bound on the weighted sum of latencies of any plan.

For any prices of bandwidth and compute (the Lagrangian dual), no plan costs less than

    sum over UEs of min over shares and placements of
        (weighted latency + price x bandwidth share + price x compute share)  -  both prices,

because the shares sum to at most 1. There the UEs separate. Each UE's minimum is bounded from below
by dividing the square of its two shares into cells: within a cell no placement is faster than the
best at the cell's upper corner, and no shares are cheaper than those of its lower corner. The cell
with the least bound is split until the bound is as close as asked to what the UE can reach. The
prices are those at which MJOA-MU's search has cleared the market.

The latency of the best placement at given shares is PBT-DP's exact optimum on chains and its
certified bound (`pbt_dp.partition_bound`) elsewhere. A duality gap remains, because UEs cannot mix
placements: it shrinks with the number of UEs and vanishes for one.

Cost: at most `most_cells` relaxed searches of PBT-DP per UE, fewer for UEs that hardly gain.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mjoa_gym.model.compiling import inner
from mjoa_gym.model.instance import Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.mjoa_mu import JointSearch
from mjoa_gym.planners.pbt_dp import partition_bound
from mjoa_gym.planners.portfolio import add_all
from mjoa_gym.planners.pricing import clear, value_all

TREE_WIDTH, FRONT = 512, 1024
"""Width of the relaxed trees (`partition_bound`)."""
CLEARING = 24
"""Turns in which prices find their place: more than the search needs."""


def lower_bound(
    instance: Instance, plan: Plan | None = None, tolerance: float = 1e-3, most_cells: int = 1000
) -> float:
    """A lower bound on the weighted sum of latencies of any plan for an instance.

    Args:
        instance: The instance.
        plan: A good plan, whose placements are looked at beside MJOA-MU's.
        tolerance: Relative slack at which a UE's cells need not be split further.
        most_cells: Most splits per UE; more give a tighter bound.

    Returns:
        Seconds (weighted). Certified up to rounding on any network; how tight it is depends on the
        networks (chains: PBT-DP is exact) and on the duality gap.
    """
    search = JointSearch(instance)
    for _ in search.steps():
        pass
    packed, portfolio = search.packed, search.portfolio
    if plan is not None:
        plan.check_fits(instance)
        shares = np.stack([plan.bandwidth_share, plan.compute_share], axis=1)
        add_all(packed, portfolio, np.concatenate(plan.placements), shares)
    free = certified_dual(search, 0.0, 0.0, tolerance, most_cells)
    if instance.n_ues == 1 or max(search.prices) <= 0.0:
        return free
    choice = np.empty_like(search.best.choice)
    prices, _ = clear(packed, portfolio, search.prices, 0.0, CLEARING, choice)
    return max(free, certified_dual(search, *prices, tolerance, most_cells))


def certified_dual(
    search: JointSearch, price_b: float, price_p: float, tolerance: float, most_cells: int
) -> float:
    """The dual's certified value at given prices."""
    packed, portfolio = search.packed, search.portfolio
    value_all(packed, portfolio, price_b, price_p, 0.0)
    total = -price_b - price_p
    if total == 0.0:
        tolerance = 0.0  # one cell tells it all
    for i, size in enumerate(portfolio.size):
        target = float(portfolio.value[i, :size].min()) * (1.0 - tolerance)
        total += certified_cost(packed, i, price_b, price_p, target, most_cells)
    return total


@njit(cache=True, nogil=True)
def certified_cost(packed, i, price_b, price_p, target, most_cells):
    """A lower bound, at most `target`, on UE i's priced latency over all shares and placements."""
    cells, bounds = np.zeros((most_cells + 1, 4)), np.full(most_cells + 1, np.inf)
    cells[0, 1] = cells[0, 3] = 1.0
    bounds[0] = cell_bound(packed, i, cells[0], price_b, price_p, target)
    for count in range(1, most_cells + 1):
        worst = 0
        for other in range(count):
            if bounds[other] < bounds[worst]:
                worst = other
        if bounds[worst] >= target * (1.0 - 1e-12):
            return target
        cell, half = cells[worst], cells[count]
        for side in range(4):
            half[side] = cell[side]
        low = 0 if price_b * (cell[1] - cell[0]) >= price_p * (cell[3] - cell[2]) else 2
        cell[low + 1] = half[low] = 0.5 * (cell[low] + cell[low + 1])
        least = bounds[worst]
        bounds[count] = max(least, cell_bound(packed, i, half, price_b, price_p, target))
        bounds[worst] = max(least, cell_bound(packed, i, cell, price_b, price_p, target))
    return min(target, np.min(bounds))


@inner
def cell_bound(packed, i, cell, price_b, price_p, target):
    """No share in the cell (low_b, high_b, low_c, high_c) costs UE i less than this (or target)."""
    price = price_b * cell[0] + price_p * cell[2]
    if price >= target:
        return target
    link = packed_link(packed, i, cell[1], cell[3])
    limit = (target - price) / packed.weight[i] * (1.0 + 1e-12)
    seconds = partition_bound(packed_inference(packed, i), link, TREE_WIDTH, FRONT, limit)
    return min(target, cost(packed.weight[i], seconds) + price)
