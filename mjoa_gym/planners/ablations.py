"""Every pair of a partition and a share rule, to tell what each of the two contributes.

Ours: the partition of each UE is computed with 1/N of band and server, in the instance's upload
mode (`dads-serial` always charges serial uploading); then the share rule divides both. Whether
uploading is serial or parallel is up to the instance, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mjoa_gym.model import kernel
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.model.simulator import BITS_PER_BYTE
from mjoa_gym.planners.dads import serial_cut
from mjoa_gym.planners.one_ue import OneUE, Partition, Placement, ShareRule, plan_each
from mjoa_gym.planners.shares import Shares, demand_shares, equal_shares
from mjoa_gym.planners.single_cut import uploading_cut


def pbt_dp_partition(one: OneUE) -> Placement:
    """PBT-DP at 1/N shares."""
    from mjoa_gym.planners.pbt_dp import pbt_dp

    return pbt_dp(
        one.ue.dnn,
        ue_seconds=one.ue.ue_seconds,
        edge_seconds=one.ue.edge_seconds * one.link.slowdown,
        uplink_bps=BITS_PER_BYTE / one.link.up,
        downlink_bps=BITS_PER_BYTE / one.link.down,
        resident=one.ue.resident,
        upload=kernel.UPLOAD_MODES[one.mode],
    )


def ara_shares(instance: Instance, placements: Sequence[Placement]) -> Shares:
    """ARA's shares."""
    from mjoa_gym.planners.ara import ara

    return ara(instance, placements)


PARTITIONS: dict[str, Partition] = {
    "single-cut": uploading_cut,
    "dads-serial": serial_cut,
    "pbt-dp": pbt_dp_partition,
}
SHARE_RULES: dict[str, ShareRule] = {
    "equal": equal_shares,
    "demand": demand_shares,
    "ara": ara_shares,
}
ABLATIONS: dict[str, Callable[[Instance], Plan]] = {
    f"{partition}+{rule}": partial(
        plan_each, partition=PARTITIONS[partition], share_rule=SHARE_RULES[rule]
    )
    for partition in PARTITIONS
    for rule in SHARE_RULES
}
"""The planners "single-cut+equal" to "pbt-dp+ara" by name."""
