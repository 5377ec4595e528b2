"""What UEs change in MJOA-MU's search: answers to prices, and moves that the others adapt to.

Cost: `respond` simulates O(N x menu) inferences, `best_moves` O(N^2 x tried placements).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.instance import latency_of
from mjoa_gym.model.kernel import new_scratch
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.ara import allocate

ADAPTATIONS, ADAPT_ROUNDS = 3, 4
"""How often UEs adapt to a move, and rounds of ARA each time."""
GAIN = 1e-6
"""Smallest relative improvement worth a change."""


class Menus(NamedTuple):
    """Placements to choose from, per group of UEs that run the same network."""

    group: NDArray[np.int64]  # (N,) of each UE
    first: NDArray[np.int64]  # (groups,) where in `sides` the group's menu begins
    size: NDArray[np.int64]  # (groups,) placements on it
    sides: NDArray[np.int8]  # the placements one after the other


@njit(cache=True, nogil=True)
def entry(packed, menus, i, k):
    """(L,) placement k on UE i's menu."""
    n_layers = packed.first[i + 1] - packed.first[i]
    at = menus.first[menus.group[i]] + k * n_layers
    return menus.sides[at : at + n_layers]


@njit(cache=True, nogil=True)
def priced(packed, i, placement, beta, phi, prices, scratch):
    """Weighted latency plus the price of the shares."""
    seconds = latency_of(packed, i, placement, beta, phi, scratch)
    return cost(packed.weight[i], seconds) + prices[0] * beta + prices[1] * phi


@njit(cache=True, nogil=True)
def cheapest_shares(packed, i, placement, start, prices, scratch):
    """About the least priced latency over all shares, and those of bandwidth and compute.

    A pattern search on a logarithmic scale.
    """
    beta, phi = min(1.0, start[0]), min(1.0, start[1])
    best = priced(packed, i, placement, beta, phi, prices, scratch)
    for factor in (2.0, 1.25):
        for _ in range(8):
            improved = False
            for db, dp in ((1.0, factor), (1.0, 1.0 / factor), (factor, 1.0), (1.0 / factor, 1.0)):
                b, p = min(1.0, beta * db), min(1.0, phi * dp)
                value = priced(packed, i, placement, b, p, prices, scratch)
                if value < best:
                    best, beta, phi, improved = value, b, p, True
            if not improved:
                break
    return best, beta, phi


@njit(cache=True, nogil=True)
def respond(packed, menus, placements, shares, prices, new_placements, new_shares):
    """Every UE's best choice from its menu and shares (N, 2) at the given prices.

    They are written to `new_placements` and `new_shares`. Returns (N,) how much less than now each
    UE's priced latency would be.
    """
    n = len(packed.weight)
    scratch = new_scratch(np.max(np.diff(packed.first)))
    gain = np.zeros(n)
    users = max(1, np.sum(shares[:, 0] > 0.0))
    for i in range(n):
        a, b = packed.first[i], packed.first[i + 1]
        local = cost(packed.weight[i], packed.local_s[i])
        now, start = local, np.full(2, 1.0 / users)
        if shares[i, 0] > 0.0:
            start = shares[i]
            now = priced(packed, i, placements[a:b], shares[i, 0], shares[i, 1], prices, scratch)
        best = local
        new_placements[a:b] = 0
        new_shares[i] = 0.0
        for k in range(menus.size[menus.group[i]]):
            choice = entry(packed, menus, i, k)
            if cost(packed.weight[i], latency_of(packed, i, choice, 1.0, 1.0, scratch)) >= best:
                continue  # not even with everything
            value, beta, phi = cheapest_shares(packed, i, choice, start, prices, scratch)
            if value < best:
                best = value
                new_placements[a:b] = choice
                new_shares[i, 0], new_shares[i, 1] = beta, phi
        gain[i] = now - best
    return gain


@njit(cache=True, nogil=True)
def adapt(packed, menus, placements, shares, scratch):
    """Give every UE with shares the fastest placement on its menu; whether any changed."""
    changed = False
    for i in range(len(packed.weight)):
        if shares[i, 0] == 0.0 or shares[i, 1] == 0.0:
            continue
        own = placements[packed.first[i] : packed.first[i + 1]]
        best = latency_of(packed, i, own, shares[i, 0], shares[i, 1], scratch)
        for k in range(menus.size[menus.group[i]]):
            choice = entry(packed, menus, i, k)
            seconds = latency_of(packed, i, choice, shares[i, 0], shares[i, 1], scratch)
            if seconds < best * (1.0 - GAIN):
                best, changed = seconds, True
                own[:] = choice
    return changed


@njit(cache=True, nogil=True)
def least_user(packed, placements, shares, but):
    """The UE, apart from one, whose shares lower its weighted latency least; -1 if nobody's do."""
    scratch = new_scratch(np.max(np.diff(packed.first)))
    least, found = np.inf, -1
    for i in range(len(packed.weight)):
        own = placements[packed.first[i] : packed.first[i + 1]]
        if i == but or not np.any(own == 1):
            continue
        seconds = latency_of(packed, i, own, shares[i, 0], shares[i, 1], scratch)
        gain = cost(packed.weight[i], packed.local_s[i] - seconds)
        if gain < least:
            least, found = gain, i
    return found


@njit(cache=True, nogil=True)
def promising(packed, menus, i, shares, prices, most, scratch):
    """The placements on UE i's menu with the least priced latency, as indices: at most `most`."""
    start = shares[i] if shares[i, 0] > 0.0 else np.full(2, 1.0 / len(packed.weight))
    values = np.empty(menus.size[menus.group[i]])
    for k in range(len(values)):
        choice = entry(packed, menus, i, k)
        values[k] = cheapest_shares(packed, i, choice, start, prices, scratch)[0]
    return np.argsort(values)[:most]


@njit(cache=True, nogil=True)
def best_moves(packed, menus, placements, shares, objective, prices, most):
    """Try placements on every UE's menu, let ARA and the other UEs adapt, keep what helps.

    Of every menu, none and the `most` placements with the least priced latency are tried; those a
    second time with the UE that gains least from its shares sent home. `placements` and `shares`
    (N, 2) change in place. Returns the objective, and whether any move improved it.
    """
    scratch = new_scratch(np.max(np.diff(packed.first)))
    moved = False
    for i in range(len(packed.weight)):
        a, b = packed.first[i], packed.first[i + 1]
        chosen = promising(packed, menus, i, shares, prices, most, scratch)
        for c in range(-1, len(chosen)):
            for evict in range(2):
                trial, trial_shares = placements.copy(), shares.copy()
                trial[a:b] = 0
                if c >= 0:
                    trial[a:b] = entry(packed, menus, i, chosen[c])
                if evict == 1:
                    j = least_user(packed, placements, shares, i)
                    if j < 0 or c < 0:
                        continue
                    trial[packed.first[j] : packed.first[j + 1]] = 0
                elif np.array_equal(trial[a:b], placements[a:b]):
                    continue
                if c >= 0 and trial_shares[i, 0] == 0.0:
                    trial_shares[i] = 1.0 / len(packed.weight)
                value = np.inf
                for turn in range(ADAPTATIONS + 1):
                    if turn > 0 and not adapt(packed, menus, trial, trial_shares, scratch):
                        break
                    now = allocate(packed, trial, trial_shares, False, ADAPT_ROUNDS)[0]
                    value = min(value, now)
                if value < objective * (1.0 - GAIN):
                    objective, moved = value, True
                    shares[:] = trial_shares
                    placements[:] = trial
    return objective, moved
