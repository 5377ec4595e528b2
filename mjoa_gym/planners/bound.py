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
from mjoa_gym.planners.moves import Menus, cheapest_shares
from mjoa_gym.planners.pbt_dp import partition_bound

TREE_WIDTH, FRONT = 128, 1024
"""Width of the relaxed trees (`partition_bound`)."""


@njit(cache=True, nogil=True)
def reachable_cost(packed, menus, i, prices, scratch):
    """About the least priced latency of UE i over its menu and all shares: an upper bound."""
    a, b = packed.first[i], packed.first[i + 1]
    best = cost(packed.weight[i], packed.local_s[i])
    g = menus.group[i]
    for k in range(menus.size[g]):
        at = menus.first[g] + k * (b - a)
        choice = menus.sides[at : at + b - a]
        if cost(packed.weight[i], latency_of(packed, i, choice, 1.0, 1.0, scratch)) < best:
            for share in (0.1, 0.6):
                start = np.full(2, share)
                best = min(best, cheapest_shares(packed, i, choice, start, prices, scratch)[0])
    return best


@njit(cache=True, nogil=True)
def approximate_dual(packed, menus, prices):
    """The dual's value with upper bounds for the UEs' minima: where to look for good prices."""
    scratch = new_scratch(np.max(np.diff(packed.first)))
    total = -np.sum(prices)
    for i in range(len(packed.weight)):
        total += reachable_cost(packed, menus, i, prices, scratch)
    return total


def cell_bound(
    packed: Packed,
    i: int,
    cell: NDArray[np.float64],
    prices: NDArray[np.float64],
    target: float,
) -> float:
    """No share in the cell (low_b, high_b, low_c, high_c) costs UE i less than this (or target)."""
    price = prices[0] * cell[0] + prices[1] * cell[2]
    if price >= target:
        return target
    link = packed_link(packed, i, cell[1], cell[3])
    limit = (target - price) / packed.weight[i]
    seconds = partition_bound(
        packed_inference(packed, i), link, TREE_WIDTH, FRONT, limit * (1.0 + 1e-12)
    )
    return min(target, cost(packed.weight[i], seconds) + price)


def certified_cost(
    packed: Packed, i: int, prices: NDArray[np.float64], target: float, most_cells: int
) -> float:
    """A lower bound, at most `target`, on UE i's priced latency over all shares and placements."""
    cells = np.zeros((most_cells + 1, 4))
    bounds = np.full(most_cells + 1, np.inf)
    cells[0, 1] = cells[0, 3] = 1.0
    bounds[0] = cell_bound(packed, i, cells[0], prices, target)
    count = 1
    for _ in range(most_cells):
        worst = int(np.argmin(bounds[:count]))
        if bounds[worst] >= target * (1.0 - 1e-12):
            return target
        cell = cells[worst].copy()
        width_b = prices[0] * (cell[1] - cell[0])
        width_c = prices[1] * (cell[3] - cell[2])
        low = 0 if width_b >= width_c else 2
        middle = 0.5 * (cell[low] + cell[low + 1])
        cells[worst, low + 1] = middle
        cells[count] = cell
        cells[count, low] = middle
        bounds[count] = max(bounds[worst], cell_bound(packed, i, cells[count], prices, target))
        bounds[worst] = max(bounds[worst], cell_bound(packed, i, cells[worst], prices, target))
        count += 1
    return float(np.min(bounds[:count]))


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
    packed, n = instance.packed, instance.n_ues
    state = joint_search(instance)
    proposals = [*proposals_at(instance, WIDE), state.placements]
    if plan is not None:
        proposals.append(np.concatenate(plan.placements))
    menus = make_menus(instance, packed, proposals, 64)
    free = certified_dual(packed, menus, np.zeros(2), tolerance, most_cells)
    if n == 1 or max(state.prices) <= 0:
        return free
    prices = best_prices(packed, menus, np.maximum(np.array(state.prices), 1e-9))
    return max(free, certified_dual(packed, menus, prices, tolerance, most_cells))


def best_prices(packed: Packed, menus: Menus, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices with about the largest dual value."""
    from scipy.optimize import minimize

    found = minimize(
        lambda logs: -approximate_dual(packed, menus, np.exp(logs)),
        np.log(start),
        method="Nelder-Mead",
        options={"maxfev": 120, "initial_simplex": np.log(start) + 0.4 * np.eye(3, 2)},
    )
    return np.exp(found.x)


def certified_dual(
    packed: Packed, menus: Menus, prices: NDArray[np.float64], tolerance: float, most_cells: int
) -> float:
    """The dual's certified value at given prices."""
    scratch = new_scratch(int(np.max(np.diff(packed.first))))
    total = -float(np.sum(prices))
    if total == 0.0:
        tolerance = 0.0  # one cell tells it all
    for i in range(len(packed.weight)):
        target = reachable_cost(packed, menus, i, prices, scratch) * (1.0 - tolerance)
        total += certified_cost(packed, i, prices, target, most_cells)
    return total
