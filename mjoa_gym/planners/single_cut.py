"""The best single cut that knows about uploading: Neurosurgeon's choices, the true cost.

Ours, as a control: it separates what a planner gains by knowing the upload (against `neurosurgeon`)
from what it gains by more than one cut (against PBT-DP). Each of N UEs plans with 1/N of band and
server, in the instance's upload mode; those that offload then share both equally.
"""

from __future__ import annotations

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.cuts import best_cut, cut_placement
from mjoa_gym.planners.one_ue import OneUE, Placement, plan_each


def single_cut(instance: Instance) -> Plan:
    """Plan every UE with its best single cut. O(L (L + edges)) per UE."""
    return plan_each(instance, uploading_cut)


def uploading_cut(one: OneUE) -> Placement:
    """The best single cut in the instance's upload mode."""
    cut, _ = best_cut(one.inference, one.link)
    return cut_placement(cut, one.ue.dnn.n_layers)
