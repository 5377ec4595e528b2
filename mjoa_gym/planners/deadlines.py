"""Shares that meet deadlines: the last step of MJOA-MU if a missed deadline has a price.

The cost jumps at a deadline, but prices and planes express slopes only. So the search starts from
the best plan and gives one UE at a time more or less of one resource or of both, for one of its
portfolio's entries. The other UEs divide what is left in proportion to their shares. The change
that costs least is kept, until no change lowers the cost. Changes of both resources by different
factors are tried only when no other change helps.

Cost: O(N x entries x `FEW`) plans per change, each of N simulations.
"""

from __future__ import annotations

import numpy as np

from mjoa_gym.model.compiling import compiled, lean_inner
from mjoa_gym.model.energy import judge_outline
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.model.kernel import new_scratch
from mjoa_gym.model.objective import cost
from mjoa_gym.model.reference import reference
from mjoa_gym.planners.portfolio import LOCAL

FACTORS = (1.0, 1.02, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 0.9, 0.7, 0.5)
"""Factors on the shares that a UE has, or on those that the portfolio has for another entry."""
CHANGES = np.array(
    [
        *((factor, factor) for factor in FACTORS),
        *((factor, 1.0) for factor in FACTORS[1:]),
        *((1.0, factor) for factor in FACTORS[1:]),
        *((b, c) for b in FACTORS[1:] for c in FACTORS[1:] if b != c),
    ]
)
"""Factors on the shares of bandwidth and compute. The first pair changes nothing."""
FEW = 3 * len(FACTORS) - 2
"""The number of changes that are tried before the others."""
MOST_SHIFTS = 60
"""The most changes."""
GAIN = 1e-6
"""The least relative gain for which something is changed."""


@compiled
def shift(packed, portfolio, choice, shares, objective):
    """Improve entries (N,) and shares (N, 2) in place, and return the new cost.

    `objective` is the cost before.
    """
    n = len(choice)
    scratch = new_scratch(portfolio.outlines.shape[2] - 1)
    trial, own, others = np.empty((n, 2)), np.empty(2), np.empty(2)
    trial_choice, tried = choice.copy(), FEW
    for _ in range(MOST_SHIFTS):
        best, best_i, best_k, best_b, best_p = objective * (1.0 - GAIN), -1, -1, 0.0, 0.0
        for i in range(n):
            for k in range(portfolio.size[i]):
                for change in range(tried):
                    if k == LOCAL and change > 0:
                        break
                    for r in range(2):
                        own[r] = 0.0
                        if k != LOCAL:
                            had = shares[i, r] if k == choice[i] else portfolio.shares[i, k, r]
                            own[r] = min(1.0, CHANGES[change, r] * had)
                    trial_choice[i] = k
                    give(shares, i, own, trial)
                    total = total_cost(packed, portfolio, trial_choice, trial, best, scratch)
                    if total < best:
                        best, best_i, best_k, best_b, best_p = total, i, k, own[0], own[1]
            trial_choice[i] = choice[i]
        if best_i < 0:
            if tried == len(CHANGES):
                break
            tried = len(CHANGES)
            continue
        tried = FEW
        objective, others[0], others[1] = best, best_b, best_p
        give(shares, best_i, others, trial)
        trial_choice[best_i] = choice[best_i] = best_k
        for i in range(n):
            shares[i, 0], shares[i, 1] = trial[i, 0], trial[i, 1]
    return objective


@lean_inner
def give(shares, i, own, trial):
    """Write shares into `trial` (N, 2): UE i gets `own` (2,), and the others divide the rest.

    The others keep the proportions that they have in `shares` (N, 2).
    """
    for r in range(2):
        rest = 0.0
        for j in range(len(shares)):
            rest += shares[j, r] if j != i else 0.0
        scale = (1.0 - own[r]) / rest if rest > 0.0 else 0.0
        for j in range(len(shares)):
            trial[j, r] = own[r] if j == i else scale * shares[j, r]


@lean_inner
def total_cost(packed, portfolio, choice, shares, limit, scratch):
    """The cost of entries (N,) with shares (N, 2).

    If the cost reaches the limit, the result is some number that also reaches it.
    """
    total = 0.0
    for i in range(len(choice)):
        seconds = packed.local_s[i]
        if choice[i] != LOCAL:
            link = packed_link(packed, i, shares[i, 0], shares[i, 1])
            outline = portfolio.outlines[i, choice[i]]
            inference = reference(packed_inference(packed, i))
            seconds = judge_outline(outline, inference, inference.prices, link, scratch)
        total += cost(packed.weight[i], seconds)
        if total >= limit:
            break
    return total
