"""Prices of bandwidth and compute, and the choices for all UEs that they suggest.

At prices lambda = (lambda_b, lambda_p), every entry k of UE i's portfolio has a least priced
latency q_k, at the shares x_k. By Lagrangian duality no choice of entries costs less than
`sum_i q_i - lambda_b - lambda_p`. A choice whose shares x sum to 1 does not cost more than that
either. In between, the cost of a choice is estimated by

    sum_i q_i - sum_r lambda_r + sum_r lambda_r (X_r - 1)^2,        X_r = sum_i x_ir.

The last sum is the price of being out of balance. The estimate is exact for latencies that are
inverse in the shares. A choice is thus described by three sums, and a change of one or two UEs
changes the sums with a few additions. So changes are ranked by their estimates, and only the best
few are balanced by ARA and simulated.

Cost: `value_all` O(N x entries); `descend` O(changes^2) per step, of at most `CHANGES` changes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.compiling import compiled, inner, lean, lean_inner
from mjoa_gym.model.instance import Packed, packed_channel, packed_link
from mjoa_gym.model.kernel import ZERO, new_scratch
from mjoa_gym.model.objective import MISSING, cost
from mjoa_gym.planners.planes import highest
from mjoa_gym.planners.portfolio import LOCAL, Portfolio, learn_at, worth

CHANGES = 192
"""The most changes of one UE that are considered, alone and in pairs."""
MARGIN = 0.1
"""The fraction of the all-local cost by which later proposals may improve a UE's value."""
SURPRISES, PRECISION = 3, 1e-4
"""The most planes that are added to an entry to find its value. No more are added once the latency
and the planes differ by at most this fraction of the value."""


def value_all(
    packed: Packed, portfolio: Portfolio, price_b: float, price_p: float, slack: float
) -> float:
    """Value the entries at new prices, and find the shares that they are worth.

    Only the entries whose value may be within `slack` of the UE's least value need a search. For
    the others there is a bound. A value is concave in the prices. At t times the old prices
    (`t < 1`), it is therefore at least t times the old value plus 1 - t times the value at prices
    of 0.

    Returns:
        The dual value: no choice of entries costs less (on chains).
    """
    scratch = new_scratch(portfolio.outlines.shape[2] - 1)
    return _value_all(packed, portfolio, price_b, price_p, slack, scratch)


@lean
def _value_all(packed, portfolio, price_b, price_p, slack, scratch):
    """Do the same as `value_all`, without allocating."""
    t = 1.0
    if price_b < portfolio.prices[0]:
        t = price_b / portfolio.prices[0]
    if price_p < portfolio.prices[1]:
        t = min(t, price_p / portfolio.prices[1])
    portfolio.prices[0], portfolio.prices[1] = price_b, price_p
    total = -price_b - price_p
    for i in range(len(packed.weight)):
        late = cost(packed.weight[i], packed.prices[i, MISSING])  # a miss may be avoided
        everything = packed_link(packed, i, 1.0, 1.0)
        first, best = LOCAL, portfolio.value[i, LOCAL]
        for k in range(1, portfolio.size[i]):  # begin with the best at the prices before
            if portfolio.value[i, k] < portfolio.value[i, first]:
                first = k
        for other in range(portfolio.size[i]):
            k = first if other == 0 else other
            if k == LOCAL or (other > 0 and k == first):
                continue
            if portfolio.n_planes[i, k] == 0:  # its inference never ends
                portfolio.value[i, k] = np.inf
                continue
            latency = highest(portfolio.planes[i, k], portfolio.n_planes[i, k], everything)
            bound = free = cost(packed.weight[i], latency)
            if portfolio.value[i, k] > -np.inf:
                bound = max(free, t * (portfolio.value[i, k] - late) + (1.0 - t) * free)
            if bound <= best + slack:
                bound = value_of(packed, portfolio, i, k, price_b, price_p, best + slack, scratch)
                best = min(best, bound)
            portfolio.value[i, k] = bound
        total += max(0.0, best - late)
    return total


@njit(inline="always")
def value_of(packed, portfolio, i, k, price_b, price_p, limit, scratch):
    """The value of UE i's entry k at given prices; above `limit`, possibly a lower bound on it."""
    value = 0.0
    for _ in range(SURPRISES):
        shares = portfolio.shares[i, k]
        value = worth(
            portfolio.planes[i, k], portfolio.n_planes[i, k], packed.weight[i],
            packed_channel(packed, i), shares, price_b, price_p,
        )  # fmt: skip
        if value > limit:
            break
        _, excess, lateness = learn_at(packed, portfolio, i, k, shares[0], shares[1], scratch)
        value += cost(packed.weight[i], excess + lateness)
        if cost(packed.weight[i], abs(excess)) <= PRECISION * value:
            break
    return value


def least_entries(portfolio: Portfolio, first: int = LOCAL) -> NDArray[np.int64]:
    """Every UE's entry (N,) with the least value from entry `first` on; `LOCAL` without any."""
    entries = np.arange(portfolio.value.shape[1])
    counts = (entries >= first) & (entries < portfolio.size[:, None])
    return np.where(counts, portfolio.value, np.inf).argmin(axis=1)


def best_responses(portfolio: Portfolio, choice: NDArray[np.int64]) -> tuple[float, float]:
    """Write every UE's entry with the least value into `choice` (N,); return both total demands."""
    choice[:] = least_entries(portfolio)
    demands = portfolio.shares[np.arange(len(choice)), choice].T.tolist()
    return sum(demands[0]), sum(demands[1])


def clear(
    packed: Packed,
    portfolio: Portfolio,
    prices: tuple[float, float],
    slack: float,
    turns: int,
    choice: NDArray[np.int64],
) -> tuple[tuple[float, float], float]:
    """Move the prices to where the UEs' best responses demand about as much as there is.

    The prices follow the demand, which is about inverse to the square root of a price. `choice`
    (N,) is overwritten with the best responses to the prices that are returned. The portfolio is
    valued at these prices.

    Returns:
        The prices of bandwidth and compute with the greatest dual value, and that value.
    """
    best, best_prices = -np.inf, prices
    for turn in range(turns):
        dual = value_all(packed, portfolio, *prices, slack)
        if dual > best:
            best, best_prices = dual, prices
        demands = best_responses(portfolio, choice)
        power = 2.0 if turn == 0 else 1.0
        price_b, price_p = (
            price * min(4.0, max(0.25, demand)) ** power
            for price, demand in zip(prices, demands, strict=True)
        )
        prices = price_b, price_p
    value_all(packed, portfolio, *best_prices, slack)
    best_responses(portfolio, choice)
    return best_prices, best


class Changes(NamedTuple):
    """Single changes of a choice: UE `ue` takes entry `entry`. There are at most `CHANGES`."""

    ue: NDArray[np.int64]
    entry: NDArray[np.int64]
    value: NDArray[np.float64]  # what each adds to the sum of values
    demand_b: NDArray[np.float64]  # what each adds to the demand for bandwidth
    demand_p: NDArray[np.float64]  # what each adds to the demand for compute
    estimate: NDArray[np.float64]  # the estimate of the choice with this change alone


@inner
def new_changes():
    """Allocate room for changes."""
    return Changes(
        np.empty(CHANGES, np.int64),
        np.empty(CHANGES, np.int64),
        np.empty(CHANGES),
        np.empty(CHANGES),
        np.empty(CHANGES),
        np.empty(CHANGES),
    )


@lean_inner
def estimate(portfolio, value, demand_b, demand_p):
    """The estimated cost of a choice with these sums (the formula is in the module's docstring)."""
    over_b, over_p = demand_b - 1.0, demand_p - 1.0
    price_b, price_p = portfolio.prices[0], portfolio.prices[1]
    return value + price_b * (over_b * over_b - 1.0) + price_p * (over_p * over_p - 1.0)


@lean_inner
def totals(portfolio, choice):
    """The three sums of a choice: the values, and the demand for each resource."""
    value = demand_b = demand_p = 0.0
    for i in range(len(choice)):
        value += portfolio.value[i, choice[i]]
        demand_b += portfolio.shares[i, choice[i], 0]
        demand_p += portfolio.shares[i, choice[i], 1]
    return value, demand_b, demand_p


@lean_inner
def promising(portfolio, choice, slack, changes, found):
    """Find the best changes of one or two UEs, by their estimates.

    An entry whose value exceeds the UE's least value by more than `slack` cannot be part of a
    better choice, and is left out.

    Args:
        portfolio: The portfolio, valued at the present prices.
        choice: (N,) the choice to change.
        slack: See above.
        changes: Overwritten with the single changes.
        found: (most, 3) overwritten with rows: the estimate, the index of a change, and the index
            of another change or -1. The best row comes first.

    Returns:
        The number of rows.
    """
    sums = totals(portfolio, choice)
    count, rows = ZERO, ZERO
    for i in range(len(choice)):
        now, least = choice[i], np.inf
        for k in range(portfolio.size[i]):
            least = min(least, portfolio.value[i, k])
        for k in range(portfolio.size[i]):
            if k != now and portfolio.value[i, k] <= least + slack:
                count = insert_change(portfolio, i, now, k, sums, changes, count)
    for a in range(count):
        rows = insert_row(found, rows, changes.estimate[a], a, ZERO - 1)
        for b in range(a):
            if changes.ue[a] != changes.ue[b]:
                value = estimate(
                    portfolio,
                    sums[0] + changes.value[a] + changes.value[b],
                    sums[1] + changes.demand_b[a] + changes.demand_b[b],
                    sums[2] + changes.demand_p[a] + changes.demand_p[b],
                )
                rows = insert_row(found, rows, value, a, b)
    return rows


@lean_inner
def insert_change(portfolio, i, now, k, sums, changes, count):
    """Keep UE i's change from entry `now` to k if its estimate is good; return the new count."""
    value = portfolio.value[i, k] - portfolio.value[i, now]
    demand_b = portfolio.shares[i, k, 0] - portfolio.shares[i, now, 0]
    demand_p = portfolio.shares[i, k, 1] - portfolio.shares[i, now, 1]
    alone = estimate(portfolio, sums[0] + value, sums[1] + demand_b, sums[2] + demand_p)
    at = count
    if count == CHANGES:
        at = 0
        for c in range(1, CHANGES):
            if changes.estimate[c] > changes.estimate[at]:
                at = c
        if changes.estimate[at] <= alone:
            return count
    changes.ue[at], changes.entry[at], changes.value[at] = i, k, value
    changes.demand_b[at], changes.demand_p[at], changes.estimate[at] = demand_b, demand_p, alone
    return max(count, at + 1)


@lean_inner
def insert_row(found, rows, value, a, b):
    """Insert (value, a, b) into rows sorted by value, if it fits; return the number of rows."""
    most = len(found)
    if rows == most and value >= found[rows - 1, 0]:
        return rows
    at = min(rows, most - 1)
    while at > 0 and found[at - 1, 0] > value:
        found[at, 0], found[at, 1], found[at, 2] = (
            found[at - 1, 0],
            found[at - 1, 1],
            found[at - 1, 2],
        )
        at -= 1
    found[at, 0], found[at, 1], found[at, 2] = value, a, b
    return min(rows + 1, most)


@lean_inner
def apply(changes, found, row, choice):
    """Make a single change or a pair of changes (a row of `promising`) in a choice (N,)."""
    for which in range(1, 3):
        c = int(found[row, which])
        if c >= 0:
            choice[changes.ue[c]] = changes.entry[c]


@compiled
def descend(portfolio, choice, slack):
    """Make the change of one or two UEs with the best estimate until none improves `choice`."""
    changes, found = new_changes(), np.empty((1, 3))
    for _ in range(2 * len(choice) + 4):
        value, demand_b, demand_p = totals(portfolio, choice)
        now = estimate(portfolio, value, demand_b, demand_p)
        rows = promising(portfolio, choice, slack, changes, found)
        if rows == 0 or not found[0, 0] < now - 1e-9 * abs(now):
            break
        apply(changes, found, ZERO, choice)


@compiled
def neighbours(portfolio, choice, slack, choices):
    """Write the most promising choices (most, N), and return their number.

    The first one is `choice` (N,) itself. The others are its best changes.
    """
    changes, found = new_changes(), np.empty((len(choices) - 1, 3))
    rows = promising(portfolio, choice, slack, changes, found)
    for row in range(rows + 1):
        for i in range(len(choice)):
            choices[row, i] = choice[i]
        if row > 0:
            apply(changes, found, row - 1, choices[row])
    return rows + 1


def worth_serving(
    portfolio: Portfolio, choice: NDArray[np.int64], slack: float, shares: NDArray[np.float64]
) -> None:
    """Write the shares that the UEs' best entries are worth into `shares` (N, 2).

    A UE's shares stay as they are if `choice` (N,) does not serve it and a better choice is
    unlikely to serve it. That is the case if the value of the UE's best entry exceeds that of
    all-local by more than `slack` and `MARGIN`. The margin allows for better entries that are not
    known yet.
    """
    value, ues = portfolio.value, np.arange(len(choice))
    best = least_entries(portfolio, LOCAL + 1)
    hopeful = value[ues, best] <= value[:, LOCAL] * (1.0 + MARGIN) + slack
    asked = np.flatnonzero((best != LOCAL) & (hopeful | (choice != LOCAL)))
    shares[asked] = portfolio.shares[asked, best[asked]]
