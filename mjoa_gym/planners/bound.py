"""A certified lower bound on the weighted sum of latencies of any plan.

For any prices of bandwidth and compute (the Lagrangian dual), no plan costs less than

    sum over UEs of min over shares and placements of
        (weighted latency + price x bandwidth share + price x compute share)  -  both prices,

because the shares sum to at most 1. There the UEs separate. Each UE's minimum is bounded from below
by dividing the square of its two shares into cells: within a cell no placement is faster than the
best at the cell's upper corner, and no shares are cheaper than those of its lower corner. The cell
with the least bound is split until the bound is as close as asked to what the UE can reach.

The latency of the best placement at given shares is PBT-DP's exact optimum on chains and its
certified bound (`pbt_dp.partition_bound`) elsewhere. A duality gap remains, because UEs cannot mix
placements: it shrinks with the number of UEs and vanishes for one.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.instance import (
    Instance,
    Packed,
    Plan,
    latency_of,
    packed_inference,
    packed_link,
)
from mjoa_gym.model.kernel import new_scratch
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.mjoa_mu import WIDE, joint_search, make_menus, proposals_at
from mjoa_gym.planners.moves import Menus, cheapest_shares, entry
from mjoa_gym.planners.pbt_dp import partition_bound

TREE_WIDTH, FRONT = 128, 1024
"""Width of the relaxed trees (`partition_bound`)."""


def lower_bound(
    instance: Instance, plan: Plan | None = None, tolerance: float = 1e-3, most_cells: int = 1000
) -> float:
    """A lower bound on the weighted sum of latencies of any plan for an instance.

    Args:
        instance: The instance.
        plan: A good plan, whose marginal latencies start the search for prices and whose placements
            are looked at; MJOA-MU's by default.
        tolerance: Relative slack at which a UE's cells need not be split further.
        most_cells: Most splits per UE; more give a tighter bound.

    Returns:
        Seconds (weighted). Certified up to rounding on any network; how tight it is depends on the
        networks (chains: PBT-DP is exact) and on the duality gap.
    """
    packed = instance.packed
    state = joint_search(instance)
    proposals = [*proposals_at(instance, WIDE), state.placements]
    if plan is not None:
        proposals.append(np.concatenate(plan.placements))
    menus = make_menus(instance, proposals, 64)
    free = certified_dual(packed, menus, np.zeros(2), tolerance, most_cells)
    if instance.n_ues == 1 or max(state.prices) <= 0:
        return free
    prices = best_prices(packed, menus, np.maximum(np.array(state.prices), 1e-9))
    return max(free, certified_dual(packed, menus, prices, tolerance, most_cells))


@njit(cache=True, nogil=True)
def reachable_costs(packed, menus, prices):
    """(N,) about the least priced latency over a UE's menu and all shares: upper bounds."""
    scratch = new_scratch(np.max(np.diff(packed.first)))
    best = cost(packed.weight, packed.local_s)
    for i in range(len(best)):
        for k in range(menus.size[menus.group[i]]):
            choice = entry(packed, menus, i, k)
            seconds = latency_of(packed, i, choice, 1.0, 1.0, scratch)
            if cost(packed.weight[i], seconds) < best[i]:
                for share in (0.1, 0.6):
                    start = np.full(2, share)
                    priced = cheapest_shares(packed, i, choice, start, prices, scratch)[0]
                    best[i] = min(best[i], priced)
    return best


def best_prices(packed: Packed, menus: Menus, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices with about the largest dual value, were the UEs' minima as good as reachable."""
    from scipy.optimize import minimize

    def negative_dual(logs: NDArray[np.float64]) -> float:
        prices = np.exp(logs)
        total = -np.sum(prices)
        for least in reachable_costs(packed, menus, prices):
            total += least
        return -total

    found = minimize(
        negative_dual,
        np.log(start),
        method="Nelder-Mead",
        options={"maxfev": 120, "initial_simplex": np.log(start) + 0.4 * np.eye(3, 2)},
    )
    return np.exp(found.x)


def certified_dual(
    packed: Packed, menus: Menus, prices: NDArray[np.float64], tolerance: float, most_cells: int
) -> float:
    """The dual's certified value at given prices."""
    total = -float(np.sum(prices))
    if total == 0.0:
        tolerance = 0.0  # one cell tells it all
    targets = reachable_costs(packed, menus, prices) * (1.0 - tolerance)
    for i, target in enumerate(targets.tolist()):
        total += certified_cost(packed, i, prices, target, most_cells)
    return total


def certified_cost(
    packed: Packed, i: int, prices: NDArray[np.float64], target: float, most_cells: int
) -> float:
    """A lower bound, at most `target`, on UE i's priced latency over all shares and placements."""
    cells = np.zeros((most_cells + 1, 4))
    bounds = np.full(most_cells + 1, np.inf)
    cells[0, 1] = cells[0, 3] = 1.0
    bounds[0] = cell_bound(packed, i, cells[0], prices, target)
    for count in range(1, most_cells + 1):
        worst = int(np.argmin(bounds))
        if bounds[worst] >= target * (1.0 - 1e-12):
            return target
        cell = cells[count] = cells[worst]
        low = 0 if prices[0] * (cell[1] - cell[0]) >= prices[1] * (cell[3] - cell[2]) else 2
        cells[worst, low + 1] = cells[count, low] = 0.5 * (cell[low] + cell[low + 1])
        least = bounds[worst]
        for part in (count, worst):
            bounds[part] = max(least, cell_bound(packed, i, cells[part], prices, target))
    return float(np.min(bounds))


def cell_bound(
    packed: Packed, i: int, cell: NDArray[np.float64], prices: NDArray[np.float64], target: float
) -> float:
    """No share in the cell (low_b, high_b, low_c, high_c) costs UE i less than this (or target)."""
    price = prices[0] * cell[0] + prices[1] * cell[2]
    if price >= target:
        return target
    link = packed_link(packed, i, cell[1], cell[3])
    limit = (target - price) / packed.weight[i] * (1.0 + 1e-12)
    seconds = partition_bound(packed_inference(packed, i), link, TREE_WIDTH, FRONT, limit)
    return min(target, cost(packed.weight[i], seconds) + price)
