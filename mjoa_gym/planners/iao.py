"""IAO: a single cut for every UE, and units of server compute moved between the UEs.

Source: Tang et al., "Joint Multi-User DNN Partitioning and Computational Resource Allocation for
Collaborative Edge Intelligence", arXiv 2007.09072 (Iterative Alternating Optimization).

Its own assumptions: models are preinstalled; a network is a chain with one cut; the server's
compute comes in units that belong to one UE each; every UE's rate is fixed. Cuts and units are
improved in turn: the best cut for a UE's units, then units move between UEs, until no move helps.

Our formulation of it: the objective is the latency of the slowest UE (weights play no part); the
server has 10 units per UE, at least 50; each of N UEs plans with 1/N of the band. From equal units,
the slowest UE repeatedly gets one from the UE that stays fastest without it, as long as that UE
stays faster than the slowest. More units never make a UE's best cut slower, hence the end is
optimal for this model: a better allocation had to take units from a UE that would then be at least
as slow. Moves at the end that did not help the slowest are taken back. Units of UEs that stay local
go to the others in proportion, and the UEs that offload share the band equally. What it believes is
not what it is charged: the simulator makes it pay for the uploads that it did not foresee.
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

    With C units: at most N C evaluations of L + 1 cuts, O(L (L + edges)) each, usually few of them.
    """
    placements, units = balance(instance, max(LEAST_UNITS, UNITS_PER_UE * instance.n_ues))
    bandwidth_share, _ = equal_shares(instance, placements)
    used = np.where([placement.any() for placement in placements], units, 0)
    return Plan(placements, bandwidth_share, used / max(1, used.sum()))


def balance(instance: Instance, n_units: int) -> tuple[list[Placement], list[int]]:
    """The cuts and units (one each per UE) that minimise the slowest UE's preinstalled latency."""
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
