"""Single cuts in program order, and the planner `single-cut`, which considers uploading.

The planner is ours and serves as a control. It makes Neurosurgeon's choice at the true cost. That
separates what a planner gains by considering the upload (against `neurosurgeon`) from what it gains
by more than one cut (against PBT-DP). Each of N UEs plans with 1/N of band and server, in the
instance's upload mode. The UEs that offload then share both equally.
"""

from __future__ import annotations

import numpy as np

from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Inference
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.model.link import Link
from mjoa_gym.planners.one_ue import OneUE, Placement, plan_each


def single_cut(instance: Instance) -> Plan:
    """Plan every UE with its best single cut. O(L (L + edges)) per UE."""
    return plan_each(instance, uploading_cut)


def uploading_cut(one: OneUE) -> Placement:
    """The best single cut in the instance's upload mode."""
    return best_cut(one.inference, one.link)[0]


def best_cut(inference: Inference, link: Link) -> tuple[Placement, float]:
    """The cut with the lowest latency, and that latency in seconds.

    Layers before a cut are on the UE, the others at the edge. Of equally good cuts, it is the one
    that offloads least. Every cut is simulated: O(L (L + edges)), also on networks that are not
    chains.
    """
    n = len(inference.ue_s)
    cuts = np.tri(n + 1, n, -1, dtype=np.int8) ^ 1
    latency = kernel.run_many(cuts, inference, link)
    cut = n - int(np.argmin(latency[::-1]))
    return cuts[cut].copy(), float(latency[cut])
