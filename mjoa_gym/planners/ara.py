"""ARA: shares of bandwidth and compute for given placements (Asynchronous Resource Allocation).

Name and idea are the paper's (Yang et al., Computer Networks 231, 2023): allocate both resources
asynchronously, from the inner-association of the two resources within a UE and the
inter-association between UEs. Its details are our formulation, in two steps:

1. *Exchange*: one resource and one pair of UEs at a time. The UE whose weighted latency gains most
   from a little more of the resource takes some from the UE that misses it least, as much as lowers
   their sum most; only these two are simulated again. The resources take turns.
2. *Balance*: single exchanges stall where a UE's latency has a kink (its longest path changes from
   one bound by the link to one bound by the server): there, more of one resource alone helps
   nobody, although more of both would. So the paths found so far, as planes, are balanced over both
   resources and all UEs at once (`planes.balance`), the simulator adds the paths that become
   longest there, and so on until it knows no longer one. On chains the planes bound the latency
   from below, so this converges to the optimum of the convex problem.

Cost: O(N) simulations per round of exchanges and of planes; a few rounds of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.model.instance import Instance, Plan, latencies, latency_of
from mjoa_gym.model.kernel import new_scratch
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.planes import SMOOTHING, add_planes, balance

MOST_PLANES = 24
"""Longest paths remembered per UE."""
PRECISION = 1e-6
"""Balancing ends when no latency exceeds its planes by more, relatively."""
ROUNDS = 30
"""Most rounds of balancing."""
NUDGE = 1e-4
"""Relative change of a share that measures a marginal latency."""


@njit(cache=True, nogil=True)
def cost_at(packed, placements, i, shares, r, share, scratch):
    """What UE i would cost if its share of resource r were `share`."""
    beta = share if r == 0 else shares[i, 0]
    phi = share if r == 1 else shares[i, 1]
    placement = placements[packed.first[i] : packed.first[i + 1]]
    return cost(packed.weight[i], latency_of(packed, i, placement, beta, phi, scratch))


@njit(cache=True, nogil=True)
def measure(packed, placements, i, shares, marginal, scratch):
    """Update UE i's marginal latencies: seconds lost and gained per unit of each resource."""
    for r in range(2):
        share = shares[i, r]
        here = cost_at(packed, placements, i, shares, r, share, scratch)
        less = cost_at(packed, placements, i, shares, r, share * (1.0 - NUDGE), scratch)
        more = cost_at(packed, placements, i, shares, r, share * (1.0 + NUDGE), scratch)
        marginal[i, r, 0] = (less - here) / (NUDGE * share)
        marginal[i, r, 1] = (here - more) / (NUDGE * share)


@njit(cache=True, nogil=True)
def exchange(packed, placements, active, shares):
    """Step 1: exchanges of one resource between one pair of UEs; changes `shares` (N, 2)."""
    n = len(active)
    scratch = new_scratch(np.max(np.diff(packed.first)))
    marginal = np.zeros((n, 2, 2))
    for i in range(n):
        if active[i]:
            measure(packed, placements, i, shares, marginal, scratch)
    idle = 0
    for turn in range(2 * n):
        r = turn % 2
        giver = taker = -1
        for i in range(n):
            if active[i] and (giver < 0 or marginal[i, r, 0] < marginal[giver, r, 0]):
                giver = i
            if active[i] and (taker < 0 or marginal[i, r, 1] > marginal[taker, r, 1]):
                taker = i
        gap = marginal[taker, r, 1] - marginal[giver, r, 0]
        idle = idle + 1 if giver == taker or gap <= 1e-3 * marginal[taker, r, 1] else 0
        if idle == 2:
            return
        if idle > 0:
            continue
        low, high = 0.0, 0.9 * shares[giver, r]
        for _ in range(12):  # the sum of the two is convex in the amount: ternary search
            third = (high - low) / 3.0
            left = right = 0.0
            for i, sign in ((giver, -1.0), (taker, 1.0)):
                share = shares[i, r]
                few, many = share + sign * (low + third), share + sign * (high - third)
                left += cost_at(packed, placements, i, shares, r, few, scratch)
                right += cost_at(packed, placements, i, shares, r, many, scratch)
            if left < right:
                high -= third
            else:
                low += third
        shares[giver, r] -= low
        shares[taker, r] += low
        measure(packed, placements, giver, shares, marginal, scratch)
        measure(packed, placements, taker, shares, marginal, scratch)


@njit(cache=True, nogil=True)
def allocate(packed, placements, shares, with_exchange, rounds):
    """ARA on arrays, with at most `rounds` rounds of balancing.

    `shares` (N, 2) are overwritten with the best ones. If all UEs with a layer at the edge have
    positive shares, those are the start; else equal shares are.

    Returns:
        The weighted sum of latencies, and the prices of bandwidth and compute.
    """
    n = len(packed.weight)
    active = np.zeros(n, np.bool_)
    warm = True
    for i in range(n):
        active[i] = np.any(placements[packed.first[i] : packed.first[i + 1]] == 1)
        if not active[i]:
            shares[i] = 0.0
        warm = warm and (not active[i] or np.min(shares[i]) > 0.0)
    n_active = np.sum(active)
    if n_active == 0:
        return np.sum(cost(packed.weight, packed.local_s)), 0.0, 0.0
    if not warm:
        for i in range(n):
            if active[i]:
                shares[i] = 1.0 / n_active
    for r in range(2):
        shares[:, r] /= np.sum(shares[:, r])
    if n_active > 1 and with_exchange:
        exchange(packed, placements, active, shares)
    seconds = latencies(packed, placements, shares[:, 0], shares[:, 1])
    best = np.sum(cost(packed.weight, seconds))
    if not best < np.inf:
        return best, 0.0, 0.0
    planes, n_planes = np.empty((n, MOST_PLANES, 4)), np.zeros(n, np.int64)
    for of_beta, of_phi in ((1.0, 1.0), (0.3, 1.0), (1.0, 0.3)):
        beta, phi = shares[:, 0] * of_beta, shares[:, 1] * of_phi
        add_planes(packed, placements, active, beta, phi, planes, n_planes)
    trial = shares.copy()
    price_b = price_p = 0.0
    for turn in range(rounds):
        level = 0 if turn == 0 else min(turn, len(SMOOTHING) - 2)
        price_b, price_p = balance(packed, active, planes, n_planes, trial, level)
        total, surprise = add_planes(
            packed, placements, active, trial[:, 0], trial[:, 1], planes, n_planes
        )
        if total < best:
            best = total
            shares[:] = trial
        if surprise < PRECISION:
            break
    return best, price_b, price_p


def ara(
    instance: Instance, placements: Sequence[ArrayLike], balanced: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bandwidth and compute shares for given placements.

    On chains within 0.1 % of the optimum of the convex problem; never worse than equal shares among
    the UEs with a layer at the edge.

    Args:
        instance: The instance.
        placements: Per UE (L,) 0 = UE, 1 = edge.
        balanced: Whether to balance after exchanging (step 2).

    Returns:
        bandwidth_share (N,) and compute_share (N,), zero for UEs that stay local.

    Raises:
        ValueError: If the placements do not fit the instance.
    """
    nothing = np.zeros(len(placements))
    plan = Plan(placements, nothing, nothing)
    plan.check_fits(instance)
    shares = np.zeros((instance.n_ues, 2))
    allocate(
        instance.packed, np.concatenate(plan.placements), shares, True, ROUNDS if balanced else 0
    )
    return shares[:, 0].copy(), shares[:, 1].copy()
