"""A certified lower bound on the weighted sum of latencies of any plan.

For any prices of bandwidth and compute (the Lagrangian dual), no plan costs less than

    sum over UEs of min over shares and placements of
        (weighted latency + price x bandwidth share + price x compute share)  -  both prices,

because the shares sum to at most 1. With prices, the UEs are independent. Each UE's minimum is
bounded from below by dividing the square of its two shares into cells. (Here a *cell* is a
rectangle of shares, not a base station.) Within a cell no shares are cheaper than those of its
lower corner, and no placement is faster than PBT-DP's certified bound (`partition_bound`, exact on
chains) at its upper corner. `cell_link` says how the bound includes a part of the prices in
between.

The known placements decide where to search. First PBT-DP proposes some along the whole range of
bandwidth. The prices are those at which these placements give the highest dual value, and the cells
are as large as these placements allow. Only then are cells certified, and those whose bound is too
low are split further.

A duality gap remains, because UEs cannot mix placements. It shrinks with the number of UEs, and
vanishes for one UE.

Cost: at most twice `most_cells` relaxed searches of PBT-DP per UE, fewer for UEs that hardly gain;
up to four seconds for 5 to 8 UEs of which two run GoogLeNet, a tenth of that without GoogLeNet.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mjoa_gym.model.compiling import compiled, inner
from mjoa_gym.model.instance import Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.kernel import ZERO
from mjoa_gym.model.link import Link
from mjoa_gym.model.objective import cost
from mjoa_gym.model.reference import reference
from mjoa_gym.planners.anytime import ALL
from mjoa_gym.planners.mjoa_mu import JointSearch
from mjoa_gym.planners.pbt_dp import WIDTH, priced_bound
from mjoa_gym.planners.planes import highest
from mjoa_gym.planners.portfolio import LOCAL, add_all, fastest
from mjoa_gym.planners.pricing import clear, value_all

TREE_WIDTH, FRONT = 512, 1024
"""The width and the front of the relaxed trees (`partition_bound`)."""
ENTRIES = 96
"""The most placements that are known of each UE."""
BANDWIDTHS = 0.87 ** np.arange(24)
"""The shares of the band at which PBT-DP proposes placements."""
CLEARING = 24
"""Turns in which prices are adjusted, which is more than MJOA-MU's search needs."""
PRICE_STEPS = (1.3, 1.1, 1.03, 1.01)
"""Factors by which prices vary in the search for the highest dual value."""
EASING = 1.3
"""The factor by which the tolerance grows until there are few enough cells."""
VAIN = 0.15
"""A cell is not split if its width is less than this fraction of what its bound lacks. The bound
lacks something in any case because trees are relaxed, and smaller cells do not change that."""
BEYOND = 0.01
"""How far, relatively, beyond a cell's upper corner the links' slopes are read."""
LOW_B, HIGH_B, LOW_C, HIGH_C, BOUND, COLUMNS = range(6)
"""Columns of a cell: its limits in bandwidth and compute, and a lower bound on the cost within
it."""


def lower_bound(
    instance: Instance, plan: Plan | None = None, tolerance: float = 5e-4, most_cells: int = 400
) -> float:
    """A lower bound on the weighted sum of latencies of any plan for an instance.

    Args:
        instance: The instance.
        plan: A good plan. Its placements are considered besides MJOA-MU's.
        tolerance: The relative slack at which a UE's cells need not be split further.
        most_cells: The most cells per UE. If that is too few, the tolerance grows.

    Returns:
        Weighted seconds, without what the instance's prices add. The bound is certified up to
        rounding on any network, for shares that sum to at most 1. How tight it is depends on the
        networks (on chains, PBT-DP is exact) and on the duality gap.
    """
    search = JointSearch(replace(instance, energy_price_s_per_j=0.0, miss_price_s=0.0), ENTRIES)
    for _ in search.steps():
        pass
    if plan is not None:
        plan.check_fits(instance)
        shares = np.stack([plan.bandwidth_share, plan.compute_share], axis=1)
        add_all(search.packed, search.portfolio, np.concatenate(plan.placements), shares)
    free = certified_dual(search, 0.0, 0.0, 0.0, most_cells)
    if instance.n_ues == 1 or max(search.prices) <= 0.0:
        return free
    ask_widely(search)
    return max(free, certified_dual(search, *highest_dual(search), tolerance, most_cells))


def ask_widely(search: JointSearch) -> None:
    """Let PBT-DP propose placements for every UE along the whole range of bandwidth."""
    n = len(search.best.choice)
    everybody, choice = np.arange(n), np.empty(n, np.int64)
    shares = search.best.shares.copy()
    shares[shares[:, 1] <= 0.0, 1] = 1.0 / n
    for shares[:, 0] in BANDWIDTHS:
        fastest(search.packed, search.portfolio, shares, choice)
        for _ in search.propose(everybody, shares, WIDTH, everybody, choice, ALL):
            pass


def highest_dual(search: JointSearch) -> tuple[float, float]:
    """The prices of bandwidth and compute with (nearly) the highest dual value.

    The dual value is that of the placements that are known. The dual is concave in the prices. The
    search begins where the market clears, and varies one price at a time.
    """
    packed, portfolio = search.packed, search.portfolio
    prices, best = clear(
        packed, portfolio, search.prices, 0.0, CLEARING, np.empty_like(search.best.choice)
    )
    for step in PRICE_STEPS:
        better = True
        while better:
            better = False
            for factors in ((step, 1.0), (1.0 / step, 1.0), (1.0, step), (1.0, 1.0 / step)):
                trial = prices[0] * factors[0], prices[1] * factors[1]
                dual = value_all(packed, portfolio, *trial, 0.0)
                if dual > best:
                    best, prices, better = dual, trial, True
    return prices


def certified_dual(
    search: JointSearch, price_b: float, price_p: float, tolerance: float, most_cells: int
) -> float:
    """A certified lower bound on the dual at given prices."""
    packed, portfolio = search.packed, search.portfolio
    value_all(packed, portfolio, price_b, price_p, 0.0)
    total = -price_b - price_p
    for i in range(len(packed.weight)):
        total += certified_cost(packed, portfolio, i, price_b, price_p, tolerance, most_cells)
    return total


@compiled
def certified_cost(packed, portfolio, i, price_b, price_p, tolerance, most_cells):
    """A lower bound on UE i's priced latency over all shares and placements.

    It does not exceed the least value of the UE's known entries, less the tolerance.
    """
    best = np.argmin(portfolio.value[i, : portfolio.size[i]])
    least = portfolio.value[i, best]
    cells = np.zeros((2 * most_cells + 2, COLUMNS))
    if best != LOCAL and tolerance > 0.0 and least > 0.0:
        one = cells[0]
        one[LOW_B] = one[HIGH_B] = portfolio.shares[i, best, 0]
        one[LOW_C] = one[HIGH_C] = portfolio.shares[i, best, 1]
        certify(packed, i, one, price_b, price_p, least)
        tolerance = max(tolerance, VAIN * (1.0 - one[BOUND] / least))
    count = most_cells + 1
    while count > most_cells:
        target, small = least * (1.0 - tolerance), tolerance * least
        count = divide(packed, portfolio, i, price_b, price_p, target, small, cells, most_cells)
        tolerance *= EASING
    for k in range(count):
        certify(packed, i, cells[k], price_b, price_p, target)
    while True:
        worst = np.argmin(cells[:count, BOUND])
        cell = cells[worst]
        bound = cell[BOUND]
        in_vain = max(small, VAIN * (target - bound))
        if bound >= target or count == len(cells) or width(cell, price_b, price_p) <= in_vain:
            return min(target, bound)
        split(cell, cells[count], price_b, price_p)
        certify(packed, i, cell, price_b, price_p, target)
        certify(packed, i, cells[count], price_b, price_p, target)
        count += 1


@inner
def divide(packed, portfolio, i, price_b, price_p, target, small, cells, most_cells):
    """Divide the square of shares into cells in which the known entries cannot beat the target.

    Cells no wider than `small` are not divided.

    Returns:
        The number of cells; `most_cells` + 1 if `most_cells` are not enough.
    """
    cells[0, LOW_B] = cells[0, LOW_C] = cells[0, BOUND] = 0.0
    cells[0, HIGH_B] = cells[0, HIGH_C] = 1.0
    done, count = ZERO, ZERO + 1
    while done < count <= most_cells:
        cell = cells[done]
        if width(cell, price_b, price_p) <= small:
            done += 1
            continue
        price, seconds = left_for_latency(packed, i, cell, price_b, price_p, target)
        known = packed.local_s[i]
        if seconds > 0.0:
            link = cell_link(packed, i, cell, price_b, price_p, seconds)
            for k in range(1, portfolio.size[i]):
                if portfolio.n_planes[i, k] > 0:
                    latency = highest(portfolio.planes[i, k], portfolio.n_planes[i, k], link)
                    known = min(known, latency)
        if cost(packed.weight[i], known) + price >= target:
            done += 1
        else:
            split(cell, cells[count], price_b, price_p)
            count += 1
    return count


@inner
def certify(packed, i, cell, price_b, price_p, target):
    """Raise a cell's bound to what its trees certify, at most to the target."""
    trees = TREE_WIDTH, FRONT
    bound = least_in(packed, i, cell, price_b, price_p, np.inf, target, trees)
    cell[BOUND] = max(cell[BOUND], bound)


@inner
def least_in(packed, i, cell, price_b, price_p, byte_price, target, trees):
    """A lower bound, at most the target, on the cost of any shares in a cell and any placement.

    A parameter byte may be on the server for `byte_price`, in the unit of costs. The price is inf
    if no byte may be there. `trees` are the width and the front of `priced_bound`.
    """
    paid, seconds = left_for_latency(packed, i, cell, price_b, price_p, target)
    if not seconds > 0.0:
        return target
    link = cell_link(packed, i, cell, price_b, price_p, seconds)
    inference, limit = reference(packed_inference(packed, i)), seconds * (1.0 + 1e-12)
    price = head_start_price(packed.weight[i], link, byte_price)
    least = priced_bound(inference, link, trees[0], trees[1], limit, price)
    return min(target, cost(packed.weight[i], least) + paid)


@inner
def head_start_price(weight, link, byte_price):
    """The price of a second's head start of the parameter stream, in seconds of latency, at most 1.

    It is the price of the bytes that the stream carries in a second. `byte_price` is the price of
    one byte, in the unit of costs.
    """
    second = cost(weight, link.up)  # the cost of the time that a byte takes
    return byte_price / second if byte_price < second else 1.0


@inner
def left_for_latency(packed, i, cell, price_b, price_p, target):
    """The price of a cell's lower corner, and the seconds of latency that then reach the target."""
    price = price_b * cell[LOW_B] + price_p * cell[LOW_C]
    return price, (target - price) / packed.weight[i]


@inner
def width(cell, price_b, price_p):
    """How much more the shares of a cell's upper corner cost than those of its lower corner."""
    return price_b * (cell[HIGH_B] - cell[LOW_B]) + price_p * (cell[HIGH_C] - cell[LOW_C])


@inner
def split(cell, half, price_b, price_p):
    """Split a cell in the middle of its more expensive side; the upper half goes to `half`."""
    for column in range(COLUMNS):
        half[column] = cell[column]
    dearer = price_b * (cell[HIGH_B] - cell[LOW_B]) >= price_p * (cell[HIGH_C] - cell[LOW_C])
    low = LOW_B if dearer else LOW_C
    cell[low + 1] = half[low] = 0.5 * (cell[low] + cell[low + 1])


@inner
def cell_link(packed, i, cell, price_b, price_p, seconds):
    """A link on which no placement takes longer than it costs with any shares in a cell.

    It is the link of the cell's upper corner, slowed down: smaller shares are cheaper, but also
    slower. A path with d seconds on the UE, a bytes and e seconds at the edge costs, without the
    price of the lower corner,

        f(d, a, e) = min over the shares of  d + a up(b) + e / c + price x (b, c above the corner).

    That is a minimum of linear functions, hence concave. If the path takes more than `seconds` at
    the upper corner, the placement is of no interest. The other paths make up a simplex. In it f is
    at least the linear function that agrees with it at the vertices. A vertex is no work at all, or
    one kind of work for all of the seconds. At such a vertex, a share that is smaller by x saves
    its price, but costs at least x times the slope of the convex `up` at the corner (here even the
    slope beyond it).
    """
    high_b, high_c, grown = cell[HIGH_B], cell[HIGH_C], 1.0 + BEYOND
    at = packed_link(packed, i, high_b, high_c)
    beyond = packed_link(packed, i, grown * high_b, grown * high_c)
    part_b, part_c = 1.0 - cell[LOW_B] / high_b, 1.0 - cell[LOW_C] / high_c
    whole = cost(packed.weight[i], seconds)
    most_b, most_c = price_b * part_b * high_b / whole, price_p * part_c * high_c / whole
    return Link(
        slowed(at.up, beyond.up, part_b, most_b),
        slowed(at.down, beyond.down, part_b, most_b),
        at.message,
        slowed(at.slowdown, beyond.slowdown, part_c, most_c),
    )


@inner
def slowed(seconds, beyond, part, most):
    """Seconds per unit at a share, raised for shares that are smaller by up to a part of it.

    They rise by the slope between the share and `beyond`, but at most by the factor 1 + `most`.
    """
    if not 0.0 < seconds < np.inf:
        return seconds
    return seconds * (1.0 + min(most, (1.0 - beyond / seconds) / BEYOND * part))
