"""The portfolio of MJOA-MU's search: a few placements per UE, and what is known of each.

A placement's latency is the maximum of a few planes (`planes`). The search needs two things of an
entry: its latency at given shares, and the shares that it is worth at given prices. These are the
shares with the least *value*, which is the weighted latency plus the price of the shares. With
planes, both take a few multiplications instead of simulations. The entry is simulated once, at the
result. If the simulator finds a higher plane there, that plane is added.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import compiled, lean, lean_inner
from mjoa_gym.model.instance import Packed, packed_inference, packed_link
from mjoa_gym.model.kernel import AT_EDGE
from mjoa_gym.model.link import Link, link_over
from mjoa_gym.model.objective import cost
from mjoa_gym.model.reference import by_reference, reference
from mjoa_gym.planners.planes import highest, learn

LOCAL = 0
"""The entry that leaves every layer on the UE."""
MOST_PLANES = 12
"""The most planes that are kept for an entry."""
TOUCHES = ((1.0, 1.0), (0.3, 1.0), (1.0, 0.3))
"""Shares at which an entry's first planes are read, in units of the shares for which it was
found."""
STEPS, MOST_STEPS = (2.0, 1.25, 1.06), 12
"""Factors by which shares vary in the search for those that an entry is worth, and the most steps
with each factor."""


@by_reference
class Portfolio(NamedTuple):
    """Up to K placements for each of N UEs of at most L layers; entry `LOCAL` is all-local."""

    outlines: NDArray[np.uint8]  # (N, K, L + 1) see `kernel.outline_of`
    size: NDArray[np.int64]  # (N,) entries of each UE
    planes: NDArray[np.float64]  # (N, K, P, 4)
    n_planes: NDArray[np.int64]  # (N, K) the number of planes that are known
    shares: NDArray[np.float64]  # (N, K, 2) those that each entry is worth at the prices
    value: NDArray[np.float64]
    """(N, K) the value of each entry: its weighted latency with these shares, plus their price. If
    the value is too high to be of interest, this is a lower bound on it (see `value_all`). For a
    new entry it is -inf."""
    prices: NDArray[np.float64]  # (2,) the prices of bandwidth and of compute


def new_portfolio(packed: Packed, entries: int) -> Portfolio:
    """Allocate a portfolio for up to `entries` entries per UE; each UE has the entry `LOCAL`."""
    n, width = len(packed.weight), int(np.max(np.diff(packed.first)))
    portfolio = Portfolio(
        np.zeros((n, entries, width + 1), np.uint8),
        np.ones(n, np.int64),
        np.zeros((n, entries, MOST_PLANES, 4)),
        np.zeros((n, entries), np.int64),
        np.zeros((n, entries, 2)),
        np.full((n, entries), -np.inf),
        np.zeros(2),
    )
    portfolio.value[:, LOCAL] = cost(packed.weight, packed.local_s)
    return portfolio


def placements_of(
    packed: Packed, portfolio: Portfolio, entries: Iterable[ArrayLike]
) -> list[NDArray[np.int8]]:
    """The placements of one entry per UE, or of several: per UE (L,) or (entries, L), 1 = edge."""
    layers = np.diff(packed.first)
    return [
        (outlines[k, 1 : n + 1] & AT_EDGE).astype(np.int8)
        for outlines, k, n in zip(portfolio.outlines, entries, layers, strict=True)
    ]


@lean_inner
def same(one, other, n):
    """Whether two outlines of n layers have the same layers at the edge."""
    for layer in range(1, n + 1):  # noqa: SIM110 - Numba's way
        if (one[layer] ^ other[layer]) & AT_EDGE:
            return False
    return True


@lean_inner
def learn_at(packed, portfolio, i, k, beta, phi, scratch):
    """Simulate UE i's entry k at given shares, and keep the plane found there if it is new.

    Returns:
        The latency (with prices, the cost in seconds without a missed deadline), how much it
        exceeds the planes known before, and the seconds that a missed deadline costs.
    """
    link = packed_link(packed, i, beta, phi)
    latency, excess, lateness, portfolio.n_planes[i, k] = learn(
        portfolio.outlines[i, k],
        reference(packed_inference(packed, i)),
        link,
        scratch,
        portfolio.planes[i, k],
        portfolio.n_planes[i, k],
    )
    return latency, excess, lateness


@njit(cache=True, nogil=True, inline="always")
def add(packed, portfolio, i, placement, beta, phi, kept):
    """Add a placement (L,) for UE i, found for shares of bandwidth and compute; return its entry.

    If the UE has the placement already, its entry is returned. If there is no room, the placement
    replaces the entry with the greatest value, but neither `LOCAL` nor `kept`.
    """
    size, n = portfolio.size[i], packed.first[i + 1] - packed.first[i]
    scratch = kernel.new_scratch(n)
    kernel.outline_of(placement, reference(packed_inference(packed, i)), scratch.outline)
    for k in range(size):
        if same(scratch.outline, portfolio.outlines[i, k], n):
            return k
    at = size
    if size == portfolio.outlines.shape[1]:
        at = -1
        for k in range(1, size):
            if k != kept and (at < 0 or portfolio.value[i, k] > portfolio.value[i, at]):
                at = k
    for tensor in range(n + 1):
        portfolio.outlines[i, at, tensor] = scratch.outline[tensor]
    portfolio.n_planes[i, at] = 0
    for touch in range(len(TOUCHES)):
        of_beta, of_phi = TOUCHES[touch]
        learn_at(packed, portfolio, i, at, beta * of_beta, phi * of_phi, scratch)
    portfolio.shares[i, at, 0], portfolio.shares[i, at, 1] = beta, phi
    portfolio.value[i, at] = -np.inf
    portfolio.size[i] = max(size, at + 1)
    return at


@lean_inner
def worth(planes, count, weight, channel, shares, price_b, price_p):
    """The least value of an entry with `count` planes (K, 4), over all shares.

    It is found by a pattern search on a logarithmic scale. The search starts at `shares` (2,), and
    overwrites them with those that the entry is worth.
    """
    best, beta, phi = np.inf, min(1.0, shares[0]), min(1.0, shares[1])
    for level in range(len(STEPS)):
        factor = STEPS[level]
        for _ in range(MOST_STEPS):
            from_beta, from_phi, before = beta, phi, best
            for way_b in range(3):
                b = varied(from_beta, way_b, factor)
                link = link_over(channel, b, 1.0)
                for way_p in range(3):
                    p = varied(from_phi, way_p, factor)
                    there = Link(link.up, link.down, link.message, 1.0 / p)
                    seconds = highest(planes, count, there)
                    value = cost(weight, seconds) + price_b * b + price_p * p
                    if value < best:
                        best, beta, phi = value, b, p
            if not best < before:
                break
    shares[0], shares[1] = beta, phi
    return best


@lean_inner
def varied(share, way, factor):
    """A share as it is (way 0), times a factor but at most 1 (way 1), or divided by it (way 2)."""
    if way == 0:
        return share
    return min(1.0, share * factor) if way == 1 else share / factor


@compiled
def add_all(packed, portfolio, placements, shares):
    """Add a placement for every UE, found for shares (N, 2); return the entries (N,).

    `placements` is the concatenation of the UEs' placements. A UE without a share of both resources
    gets `LOCAL`.
    """
    choice = np.empty(len(packed.weight), np.int64)
    for i in range(len(choice)):
        own = placements[packed.first[i] : packed.first[i + 1]]
        choice[i] = LOCAL
        if shares[i, 0] > 0.0 and shares[i, 1] > 0.0:
            choice[i] = add(packed, portfolio, i, own, shares[i, 0], shares[i, 1], LOCAL)
    return choice


@lean
def fastest(packed, portfolio, shares, choice):
    """Write every UE's entry with the least latency at its shares (N, 2) into `choice` (N,)."""
    for i in range(len(choice)):
        link = packed_link(packed, i, min(1.0, shares[i, 0]), min(1.0, shares[i, 1]))
        choice[i], least = LOCAL, packed.local_s[i]
        for k in range(1, portfolio.size[i]):
            latency = highest(portfolio.planes[i, k], portfolio.n_planes[i, k], link)
            if latency < least and portfolio.n_planes[i, k] > 0:
                choice[i], least = k, latency
