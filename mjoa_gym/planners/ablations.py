"""Every pair of a partition and a share rule, to tell what each of the two contributes.

Ours: the partition of each UE is computed with 1/N of band and server, in the instance's upload
mode (`dads-serial` always charges serial uploading); then the share rule divides both. Whether
uploading is serial or parallel is up to the instance, too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.ara import ara
from mjoa_gym.planners.dads import serial_cut
from mjoa_gym.planners.one_ue import (
    OneUE,
    Partition,
    Placement,
    ShareRule,
    all_local,
    plan_each,
)
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition
from mjoa_gym.planners.shares import demand_shares, equal_shares
from mjoa_gym.planners.single_cut import uploading_cut


def pbt_dp_partition(one: OneUE) -> Placement:
    """PBT-DP at 1/N shares."""
    placement = all_local(one.ue)
    best_partition(one.inference, one.link, WIDTH, placement)
    return placement


PARTITIONS: dict[str, Partition] = {
    "single-cut": uploading_cut,
    "dads-serial": serial_cut,
    "pbt-dp": pbt_dp_partition,
}
SHARE_RULES: dict[str, ShareRule] = {
    "equal": equal_shares,
    "demand": demand_shares,
    "ara": ara,
}
ABLATIONS: dict[str, Callable[[Instance], Plan]] = {
    f"{partition}+{rule}": partial(
        plan_each, partition=PARTITIONS[partition], share_rule=SHARE_RULES[rule]
    )
    for partition in PARTITIONS
    for rule in SHARE_RULES
}
"""The planners "single-cut+equal" to "pbt-dp+ara" by name."""
