"""Every pair of a partition and a share rule, to show what each of the two contributes.

The pairs are ours. The partition places each UE's layers with 1/N of band and server, in the
instance's upload mode (`dads-serial` always charges serial uploading). Then the share rule divides
both resources. The instance also decides whether the simulator uploads serially or in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.ara import ara
from mjoa_gym.planners.dads import minimum_cut
from mjoa_gym.planners.one_ue import (
    OneUE,
    Partition,
    Placement,
    ShareRule,
    Shares,
    all_local,
    equal_shares,
    plan_each,
)
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition
from mjoa_gym.planners.single_cut import uploading_cut


def pbt_dp_partition(one: OneUE) -> Placement:
    """PBT-DP's placement at 1/N shares."""
    placement = all_local(one.ue)
    best_partition(one.inference, one.link, WIDTH, placement)
    return placement


def demand_shares(instance: Instance, placements: Sequence[Placement]) -> Shares:
    """Shares in proportion to the weighted bytes and edge seconds that each UE demands.

    The bytes are those of the missing parameters of the UE's edge layers and of the tensors that
    cross. A UE with a layer at the edge always gets a little of both resources, so that nothing
    takes forever.
    """
    moved_bytes, edge_s = np.zeros((2, instance.n_ues))
    uses = np.array([placement.any() for placement in placements])
    uploads = instance.upload != "preinstalled"
    for i in np.flatnonzero(uses).tolist():
        ue, at_edge = instance.ues[i], placements[i] == 1
        crossing: set[int] = set()
        for layer, ps in enumerate(ue.dnn.predecessors):
            crossing |= {p for p in ps if at_edge[layer] != (p >= 0 and at_edge[p])}
        crossing |= set(np.flatnonzero(ue.dnn.is_sink & at_edge).tolist())
        tensors = sum(ue.dnn.output_bytes[p] if p >= 0 else ue.dnn.input_bytes for p in crossing)
        missing = ue.dnn.parameter_bytes * (1.0 - ue.resident) * uploads
        moved_bytes[i] = ue.weight * (tensors + missing[at_edge].sum())
        edge_s[i] = ue.weight * ue.edge_seconds[at_edge].sum()
    return _proportional(moved_bytes, uses), _proportional(edge_s, uses)


def _proportional(demand: NDArray[np.float64], uses: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Shares in proportion to demand, with at least 1 % of the mean demand for every user."""
    floored = np.where(uses, np.maximum(demand, 0.01 * demand.sum() / max(1, uses.sum())), 0.0)
    floored = np.where(uses & (demand.sum() == 0), 1.0, floored)
    return floored / floored.sum() if floored.any() else floored


PARTITIONS: dict[str, Partition] = {
    "single-cut": uploading_cut,
    "dads-serial": minimum_cut,
    "pbt-dp": pbt_dp_partition,
}
SHARE_RULES: dict[str, ShareRule] = {"equal": equal_shares, "demand": demand_shares, "ara": ara}
ABLATIONS: dict[str, Callable[[Instance], Plan]] = {
    f"{p}+{r}": partial(plan_each, partition=partition, share_rule=share_rule)
    for p, partition in PARTITIONS.items()
    for r, share_rule in SHARE_RULES.items()
}
"""The planners "single-cut+equal" to "pbt-dp+ara", by name."""
