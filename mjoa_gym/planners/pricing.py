"""Prices of bandwidth and compute, and the choices of all UEs that they suggest.

At prices lambda = (lambda_b, lambda_p) every entry k of UE i's portfolio has a least priced latency
q_k and the shares x_k that reach it. By Lagrangian duality no choice of entries costs less than
sum_i q_i - lambda_b - lambda_p, and if the shares x sum to 1, none costs more. In between, what a
choice costs is estimated by

    sum_i q_i - sum_r lambda_r + sum_r lambda_r (X_r - 1)^2,        X_r = sum_i x_ir:

the price of being out of balance, exact for latencies that are inverse in the shares. A choice thus
is three sums, and a change of one or two UEs changes them in a few additions. So changes are sorted
out by their estimates, and only the few best are balanced by ARA and simulated.

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
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.planes import highest
from mjoa_gym.planners.portfolio import LOCAL, Portfolio, learn_at, worth

CHANGES = 192
"""Most changes of one UE that are looked at, alone and in pairs."""
MARGIN = 0.1
"""By what part of all-local a UE's value may improve with proposals to come."""
SURPRISES, PRECISION = 3, 1e-4
"""Most planes that are added to an entry to know its value, and the excess, relative to it, of the
latency over the planes at which none are."""


def value_all(
    packed: Packed, portfolio: Portfolio, price_b: float, price_p: float, slack: float
) -> float:
    """Value the entries at new prices, and find the shares that they are worth.

    That takes a search for those entries only whose value may be within `slack` of the UE's least.
    Of the others a bound is known: a value is concave in the prices, hence at t times the old ones,
    t < 1, no less than t times the old value plus (1 - t) times what it is when shares are free.

    Returns:
        The dual value: no choice of entries costs less (on chains).
    """
    scratch = new_scratch(portfolio.outlines.shape[2] - 1)
    return _value_all(packed, portfolio, price_b, price_p, slack, scratch)


@lean
def _value_all(packed, portfolio, price_b, price_p, slack, scratch):
    """`value_all`, without allocating."""
    t = 1.0
    if price_b < portfolio.prices[0]:
        t = price_b / portfolio.prices[0]
    if price_p < portfolio.prices[1]:
        t = min(t, price_p / portfolio.prices[1])
    portfolio.prices[0], portfolio.prices[1] = price_b, price_p
    total = -price_b - price_p
    for i in range(len(packed.weight)):
        everything = packed_link(packed, i, 1.0, 1.0)
        first, best = LOCAL, portfolio.value[i, LOCAL]
        for k in range(1, portfolio.size[i]):  # the best so far will be among the best
            if portfolio.value[i, k] < portfolio.value[i, first]:
                first = k
        for other in range(portfolio.size[i]):
            k = first if other == 0 else other
            if k == LOCAL or (other > 0 and k == first):
                continue
            if portfolio.n_planes[i, k] == 0:  # it never ends
                portfolio.value[i, k] = np.inf
                continue
            latency = highest(portfolio.planes[i, k], portfolio.n_planes[i, k], everything)
            bound = free = cost(packed.weight[i], latency)
            if portfolio.value[i, k] > -np.inf:
                bound = max(free, t * portfolio.value[i, k] + (1.0 - t) * free)
            if bound <= best + slack:
                bound = value_of(packed, portfolio, i, k, price_b, price_p, best + slack, scratch)
                best = min(best, bound)
            portfolio.value[i, k] = bound
        total += best
    return total


@njit(inline="always")
def value_of(packed, portfolio, i, k, price_b, price_p, limit, scratch):
    """The value of UE i's entry k at some prices; if it exceeds `limit`, possibly less."""
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
    """(N,) every UE's entry of least value from entry `first` on; `LOCAL` without any."""
    entries = np.arange(portfolio.value.shape[1])
    counts = (entries >= first) & (entries < portfolio.size[:, None])
    return np.where(counts, portfolio.value, np.inf).argmin(axis=1)


def best_responses(portfolio: Portfolio, choice: NDArray[np.int64]) -> tuple[float, float]:
    """Write every UE's entry of least value into `choice` (N,); returns the demands."""
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

    They follow the demand, which is inverse to about the square root of a price. `choice` (N,)
    becomes the best responses to the prices returned, at which the portfolio is valued.

    Returns:
        The prices of bandwidth and compute with the largest dual value, and that value.
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
    """Single changes of a choice: UE `ue` takes entry `entry`. At most `CHANGES`."""

    ue: NDArray[np.int64]
    entry: NDArray[np.int64]
    value: NDArray[np.float64]  # what each adds to the sum of values
    demand_b: NDArray[np.float64]  # to the demand for bandwidth
    demand_p: NDArray[np.float64]  # and for compute
    estimate: NDArray[np.float64]  # of the choice with this change alone


@inner
def new_changes():
    """Room for changes."""
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
    """What a choice of these sums costs, by the module's estimate."""
    over_b, over_p = demand_b - 1.0, demand_p - 1.0
    price_b, price_p = portfolio.prices[0], portfolio.prices[1]
    return value + price_b * (over_b * over_b - 1.0) + price_p * (over_p * over_p - 1.0)


@lean_inner
def totals(portfolio, choice):
    """The sums of a choice: of values, and of both resources' demands."""
    value = demand_b = demand_p = 0.0
    for i in range(len(choice)):
        value += portfolio.value[i, choice[i]]
        demand_b += portfolio.shares[i, choice[i], 0]
        demand_p += portfolio.shares[i, choice[i], 1]
    return value, demand_b, demand_p


@lean_inner
def promising(portfolio, choice, slack, changes, found):
    """The best changes of one or two UEs, by their estimates.

    An entry whose value exceeds the UE's least by more than `slack` cannot be part of a better
    choice.

    Args:
        portfolio: Valued.
        choice: (N,) what is changed.
        slack: See above.
        changes: Overwritten.
        found: (most, 3) overwritten with rows: the estimate, the number of a change, and that of
            another or -1.

    Returns:
        The number of rows, the best first.
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
    """Keep UE i's change from entry `now` to k, if its estimate is good enough; the new count."""
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
    """Insert (value, a, b) into rows sorted by value, if there is room; the new number of rows."""
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
    """Make a single change or a pair (a row of `promising`) in a choice (N,)."""
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
    """Write the choices (most, N) that promise most; returns their number.

    The first one is `choice` (N,) itself, the others are its best changes.
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
    """Write what the UEs' best entries are worth into `shares` (N, 2).

    They stay as they are for UEs that are not served by `choice` (N,) and will hardly be in a
    better one: whose best entry's value exceeds that of all-local by more than `slack` and
    `MARGIN`, for there may be better entries.
    """
    value, ues = portfolio.value, np.arange(len(choice))
    best = least_entries(portfolio, LOCAL + 1)
    hopeful = value[ues, best] <= value[:, LOCAL] * (1.0 + MARGIN) + slack
    asked = np.flatnonzero((best != LOCAL) & (hopeful | (choice != LOCAL)))
    shares[asked] = portfolio.shares[asked, best[asked]]
