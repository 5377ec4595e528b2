"""What MJOA-MU's search chooses from: a few placements per UE, and what is known of each.

A placement's latency is the maximum of a few planes (`planes`), so that whatever is asked of an
entry - its latency at some shares, the shares that it is worth at some prices - costs a few
multiplications instead of simulations. The simulator is asked once at the answer: where it knows of
a higher plane, that is added.
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
"""Planes remembered per entry."""
TOUCHES = ((1.0, 1.0), (0.3, 1.0), (1.0, 0.3))
"""Shares, in units of those for which an entry is found, at which its first planes are read."""
STEPS, MOST_STEPS = (2.0, 1.25, 1.06), 12
"""Factors by which shares vary in the search for those that an entry is worth, and how often."""


@by_reference
class Portfolio(NamedTuple):
    """Up to K placements for each of N UEs of at most L layers; entry `LOCAL` is all-local."""

    outlines: NDArray[np.uint8]  # (N, K, L + 1) see `kernel.outline_of`
    size: NDArray[np.int64]  # (N,) entries of each UE
    planes: NDArray[np.float64]  # (N, K, P, 4)
    n_planes: NDArray[np.int64]  # (N, K) how many of them are known
    shares: NDArray[
        np.float64
    ]  # (N, K, 2) those of both resources that it is worth, at some prices
    value: NDArray[np.float64]
    """(N, K) its weighted latency with them, plus their price; if that is too much to be of
    interest, no more than that (see `value_all`), and -inf for a new entry."""
    prices: NDArray[np.float64]  # (2,) the prices, of bandwidth and of compute


def new_portfolio(packed: Packed, entries: int) -> Portfolio:
    """A portfolio with room for so many entries per UE, where everybody has just the first."""
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
    """Per UE (..., L) 1 for the layers at the edge, of one entry or of several (...)."""
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
    """Simulate UE i's entry k at some shares, and keep the plane found there if it is new.

    Returns:
        The latency, how much it exceeds the planes known so far, and seconds for being late.
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
    """Add a placement (L,) for UE i, found for shares of bandwidth and compute; returns its entry.

    If there is no room, it takes the place of the entry of greatest value, but not that of `kept`.
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
    """The least priced latency of an entry with `count` planes (K, 4), weighted.

    A pattern search on a logarithmic scale, which starts at `shares` (2,) and leaves them where it
    ends.
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
    """A share as it is (way 0), by a factor larger (1), but at most all, or smaller (2)."""
    if way == 0:
        return share
    return min(1.0, share * factor) if way == 1 else share / factor


@compiled
def add_all(packed, portfolio, placements, shares):
    """Add a placement for every UE, found for shares (N, 2); returns their entries (N,).

    `placements` is the concatenation over UEs.
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
    """Write every UE's entry of least latency at its shares (N, 2) into `choice` (N,)."""
    for i in range(len(choice)):
        link = packed_link(packed, i, min(1.0, shares[i, 0]), min(1.0, shares[i, 1]))
        choice[i], least = LOCAL, packed.local_s[i]
        for k in range(1, portfolio.size[i]):
            latency = highest(portfolio.planes[i, k], portfolio.n_planes[i, k], link)
            if latency < least and portfolio.n_planes[i, k] > 0:
                choice[i], least = k, latency
