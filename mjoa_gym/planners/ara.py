"""ARA: shares of bandwidth and compute for given placements (Asynchronous Resource Allocation).

The name and the idea are the paper's (Yang et al., Computer Networks 231, 2023): both resources are
allocated asynchronously, from the inner-association of the two resources within a UE and the
inter-association between UEs. The details are our formulation, in two steps:

1. *Exchange*: one resource moves between one pair of UEs at a time. The UE whose weighted latency
   falls most with a little more of the resource receives some from the UE that loses least. The
   amount is the one that lowers the sum of both latencies most. Only these two UEs are simulated
   again. The resources take turns.
2. *Balance*: single exchanges get stuck where a UE's latency has a kink (its longest path changes
   from one bound by the link to one bound by the server). There, more of one resource alone helps
   no UE, although more of both would. So the paths found so far, as planes, are balanced over both
   resources and all UEs at once (`planes.balance`). Then the simulator adds the paths that have
   become longest. This repeats until the simulator finds no longer path. On chains the planes bound
   the latency from below, so it converges to the optimum of the convex problem.

Cost: O(N) simulations per round of exchanges and per round of balancing; a few rounds of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.model.compiling import compiled, inner, lean_inner
from mjoa_gym.model.instance import Instance, Plan, counts_of, evaluate_cost, packed_link
from mjoa_gym.model.kernel import ZERO, new_scratch
from mjoa_gym.model.objective import MISSING, cost
from mjoa_gym.planners.planes import SMOOTHING, balance, highest
from mjoa_gym.planners.portfolio import LOCAL, add_all, learn_at, new_portfolio

PRECISION = 1e-6
"""Balancing ends when no latency exceeds its planes by more than this, relatively."""
ROUNDS = 30
"""The most rounds of balancing."""
NUDGE = 1e-4
"""The relative change of a share with which marginal costs are measured."""


@lean_inner
def cost_at(packed, placements, i, shares, r, share, scratch):
    """The cost of UE i if its share of resource r were `share`."""
    beta = share if r == 0 else shares[i, 0]
    phi = share if r == 1 else shares[i, 1]
    placement = placements[packed.first[i] : packed.first[i + 1]]
    return cost(packed.weight[i], counts_of(packed, i, placement, beta, phi, scratch))


@lean_inner
def measure(packed, placements, i, shares, marginal, scratch):
    """Update UE i's marginal costs.

    For each resource they are the cost added by having less and the cost saved by having more, per
    unit of the share.
    """
    for r in range(2):
        share = shares[i, r]
        here = cost_at(packed, placements, i, shares, r, share, scratch)
        less = cost_at(packed, placements, i, shares, r, share * (1.0 - NUDGE), scratch)
        more = cost_at(packed, placements, i, shares, r, share * (1.0 + NUDGE), scratch)
        marginal[i, r, 0] = (less - here) / (NUDGE * share)
        marginal[i, r, 1] = (here - more) / (NUDGE * share)


@compiled
def exchange(packed, placements, active, shares):
    """Step 1: exchange one resource between one pair of UEs at a time; changes `shares` (N, 2)."""
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
        for _ in range(12):  # ternary search: the sum of both costs is convex in the amount
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
        if packed.prices[giver, MISSING] > 0.0:  # then it is not: costs jump at deadlines
            change = 0.0
            for i, sign in ((giver, -1.0), (taker, 1.0)):
                share = shares[i, r]
                change += cost_at(packed, placements, i, shares, r, share + sign * low, scratch)
                change -= cost_at(packed, placements, i, shares, r, share, scratch)
            if not change < 0.0:
                continue
        shares[giver, r] -= low
        shares[taker, r] += low
        measure(packed, placements, giver, shares, marginal, scratch)
        measure(packed, placements, taker, shares, marginal, scratch)


@compiled
def settle(packed, portfolio, choice, shares, limit, rounds):
    """Step 2 for the chosen entry (N,) of every UE, from the shares that the portfolio has for it.

    Args:
        packed: The instance.
        portfolio: The entries; planes that are found are added.
        choice: (N,) the chosen entries.
        shares: (N, 2) overwritten with the best shares, unless the objective is inf.
        limit: An objective that must be beaten. The search ends as soon as the planes say that no
            shares can do that, and the objective is then inf.
        rounds: The most rounds of balancing.

    Returns:
        The objective (the sum of the UEs' costs), and the prices of bandwidth and compute.
    """
    n_ues, n, idle, weight = len(choice), ZERO, 0.0, packed.weight
    for i in range(n_ues):
        if choice[i] == LOCAL:
            idle += cost(weight[i], packed.local_s[i])
        else:
            n += 1
    if n == 0:
        for i in range(n_ues):
            shares[i, 0] = shares[i, 1] = 0.0
        return idle, 0.0, 0.0
    users, planes, n_planes = chosen(portfolio, choice, n)
    trial = np.empty((n, 2))
    start(portfolio, choice, users, trial)
    scratch = new_scratch(portfolio.outlines.shape[2] - 1)
    best, price_b, price_p = np.inf, 0.0, 0.0
    for turn in range(rounds):
        level = 0 if turn == 0 else min(turn, len(SMOOTHING) - 2)
        price_b, price_p = balance(packed, users, planes, n_planes, trial, level)
        total = surprise = 0.0
        for j in range(n):
            i = users[j]
            link = packed_link(packed, i, trial[j, 0], trial[j, 1])
            total += cost(weight[i], highest(planes[j], n_planes[j], link))
        if idle + total >= limit:
            break
        total = idle
        for j in range(n):
            i, k = users[j], choice[users[j]]
            latency, excess, lateness = learn_at(
                packed, portfolio, i, k, trial[j, 0], trial[j, 1], scratch
            )
            total += cost(weight[i], latency + lateness)
            surprise = max(surprise, abs(excess) / latency if latency > 0.0 else 0.0)
            if excess != 0.0:
                n_planes[j] = portfolio.n_planes[i, k]
                copy_planes(portfolio.planes[i, k], planes[j])
        if total < best and total < limit:
            best = total
            for i in range(n_ues):
                shares[i, 0] = shares[i, 1] = 0.0
            for j in range(n):
                shares[users[j], 0], shares[users[j], 1] = trial[j, 0], trial[j, 1]
        if surprise < PRECISION:
            break
    return best, price_b, price_p


@lean_inner
def copy_planes(source, target):
    """Copy planes (K, 4)."""
    for k in range(len(source)):
        for c in range(4):
            target[k, c] = source[k, c]


@inner
def chosen(portfolio, choice, n):
    """The n users, and copies of their entries' planes (n, K, 4) and of the numbers of planes.

    The users are the UEs whose chosen entry is not `LOCAL`.
    """
    users, n_planes = np.empty(n, np.int64), np.empty(n, np.int64)
    planes = np.empty((n, portfolio.planes.shape[2], 4))
    j = 0
    for i in range(len(choice)):
        if choice[i] != LOCAL:
            users[j] = i
            n_planes[j] = portfolio.n_planes[i, choice[i]]
            copy_planes(portfolio.planes[i, choice[i]], planes[j])
            j += 1
    return users, planes, n_planes


@lean_inner
def start(portfolio, choice, users, shares):
    """Write the chosen entries' shares (n, 2), scaled so that those of each resource sum to 1."""
    sum_b = sum_p = 0.0
    for j in range(len(users)):
        own = portfolio.shares[users[j], choice[users[j]]]
        shares[j, 0], shares[j, 1] = own[0], own[1]
        sum_b += own[0]
        sum_p += own[1]
    for j in range(len(users)):
        shares[j, 0] /= sum_b
        shares[j, 1] /= sum_p


def ara(
    instance: Instance, placements: Sequence[ArrayLike], balanced: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bandwidth and compute shares for given placements.

    On chains the result is within 0.1 % of the optimum of the convex problem. It is never worse
    than equal shares among the UEs with a layer at the edge.

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
    packed, joined = instance.packed, np.concatenate(plan.placements)
    active = np.array([placement.any() for placement in plan.placements])
    shares = np.repeat(active / max(1, active.sum()), 2).reshape(-1, 2)
    if active.sum() > 1:
        exchange(packed, joined, active, shares)
    objective = evaluate_cost(instance, Plan(placements, shares[:, 0], shares[:, 1])).sum()
    if balanced and active.any() and objective < np.inf:
        portfolio = new_portfolio(packed, 2)
        choice = add_all(packed, portfolio, joined, shares)
        settle(packed, portfolio, choice, shares, objective, ROUNDS)
    return shares[:, 0].copy(), shares[:, 1].copy()
