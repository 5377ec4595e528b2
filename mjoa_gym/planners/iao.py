"""IAO: a single cut for every UE, and units of server compute that move between the UEs.

Source: Tang et al., "Joint Multi-User DNN Partitioning and Computational Resource Allocation for
Collaborative Edge Intelligence", arXiv 2007.09072 (Iterative Alternating Optimization).

Its own assumptions: models are preinstalled. A network is a chain with one cut. The server's
compute comes in units, and each unit belongs to one UE. Every UE's rate is fixed. Cuts and units
are improved in turn: first the best cut for a UE's units, then units move between UEs, until no
move helps.

Our formulation of it: the objective is the latency of the slowest UE, so weights have no effect.
The server has 10 units per UE, and at least 50. Each of N UEs plans with 1/N of the band. The
search starts from equal units. The slowest UE repeatedly gets one unit from the UE that stays
fastest without it, as long as that UE stays faster than the slowest. More units never make a UE's
best cut slower, so the end is optimal for this model: a better allocation would have to take units
from a UE that would then be at least as slow. Moves at the end that did not help the slowest UE are
undone. The units of UEs that stay local go to the others in proportion, and the UEs that offload
share the band equally. The simulator also charges the plan for the uploads, which the planner does
not consider.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.one_ue import Placement, all_local, at_equal_shares, equal_shares
from mjoa_gym.planners.single_cut import best_cut

UNITS_PER_UE = 10
LEAST_UNITS = 50


def iao(instance: Instance) -> Plan:
    """Plan all UEs with IAO.

    Cost: with C units, at most N C searches for a best cut, O(L (L + edges)) each; usually few of
    them.
    """
    placements, units = balance(instance, max(LEAST_UNITS, UNITS_PER_UE * instance.n_ues))
    bandwidth_share, _ = equal_shares(instance, placements)
    used = np.where([placement.any() for placement in placements], units, 0)
    return Plan(placements, bandwidth_share, used / max(1, used.sum()))


def balance(instance: Instance, n_units: int) -> tuple[list[Placement], list[int]]:
    """The cuts and the units of all UEs that minimise the slowest UE's preinstalled latency."""
    views = at_equal_shares(instance)

    @cache
    def cut_with(i: int, units: int) -> tuple[Placement, float]:
        view = views[i]
        if view is None or units == 0:
            return all_local(instance.ues[i]), float(instance.local_s[i])
        link = view.link._replace(slowdown=n_units / units)
        return best_cut(view.preinstalled, link)

    n = instance.n_ues
    units = [n_units // n + (i < n_units % n) for i in range(n)]
    best_s, best = np.inf, list(units)
    while True:
        latency = [cut_with(i, units[i])[1] for i in range(n)]
        slowest = int(np.argmax(latency))
        if latency[slowest] < best_s:
            best_s, best = latency[slowest], list(units)
        without_one = [
            cut_with(i, units[i] - 1)[1] if i != slowest and units[i] else np.inf for i in range(n)
        ]
        donor = int(np.argmin(without_one))
        if not without_one[donor] < latency[slowest]:
            return [cut_with(i, best[i])[0] for i in range(n)], best
        units[donor] -= 1
        units[slowest] += 1
