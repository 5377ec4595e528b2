"""Efficiency-based uploading: greedy by latency gained per uploaded byte.

Source: Shin, Jeong, Moon, "Enhanced Partitioning of DNN Layers for Uploading from Mobile Devices to
Edge Servers", EMDL 2019, a follow-up of IONN with a finer upload plan.

Its own assumptions: the chain of blocks and the serial uploading are IONN's. Whether a range of
blocks is worth uploading depends on its efficiency. That is the latency that it takes off later
queries, per byte of its parameters.

Our formulation of it: only the outline of the system is known to us. The search starts from
all-local. It takes the range of consecutive blocks whose move to the edge has the greatest gain per
missing byte, where the gain is that of a query *after* the upload. It moves the range, and repeats
until no range has a gain. The sequence of ranges is the upload plan. In this order, each range is
placed at the edge if that shortens the present inference with the upload charged in full. The
others are marked as `prefetch`, which the simulator sends in program order. Each of N UEs plans
with 1/N of band and server, and the UEs that offload then share both equally.
"""

from __future__ import annotations

import numpy as np

from mjoa_gym.model.compiling import compiled
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.additive import block_chain
from mjoa_gym.planners.one_ue import OneUE, Placement, plan_each_with_prefetch


def efficiency(instance: Instance) -> Plan:
    """Plan every UE greedily by latency gained per uploaded byte.

    Cost: at most B steps of O(B^2) for B blocks per UE.
    """
    return plan_each_with_prefetch(instance, efficient_ranges)


def efficient_ranges(one: OneUE) -> tuple[Placement, Placement]:
    """The placement that pays within this inference, and marks of all layers that ever pay."""
    chain, block_of = block_chain(one)
    n = len(chain.ue_s)
    uploaded, placed = np.zeros(n, np.int8), np.zeros(n, np.int8)
    while True:
        first, end = most_efficient_range(chain, uploaded)
        if first == end:
            break
        uploaded[first:end] = 1
        extended = placed.copy()
        extended[first:end] = 1
        if path_seconds(chain, extended, 1.0) < path_seconds(chain, placed, 1.0):
            placed = extended
    return placed[block_of], uploaded[block_of]


@compiled
def path_seconds(chain, placement, factor):
    """Seconds of one inference, with `factor` times the seconds of uploading parameters."""
    total, side = 0.0, 0
    for b in range(len(placement)):
        if placement[b] != side:
            total += chain.up_s[b] if side == 0 else chain.down_s[b]
        side = placement[b]
        total += chain.edge_s[b] + factor * chain.upload_s[b] if side else chain.ue_s[b]
    return total + (chain.down_s[-1] if side else 0.0)


@compiled
def most_efficient_range(chain, at_edge):
    """The range (first, end) of blocks with the most seconds gained per missing byte.

    The range may include blocks that are `at_edge` (B,) already. A range with a gain and no missing
    bytes comes first. If no range has a gain, first == end.
    """
    n = len(at_edge)
    best_first, best_end, best_gain, best_bytes = 0, 0, 0.0, 0.0
    rounding = 1e-12 * path_seconds(chain, at_edge, 0.0)
    for first in range(n):
        if at_edge[first]:
            continue
        # The range's gain in seconds, without the tensor after its last block.
        gain = chain.down_s[first] if first > 0 and at_edge[first - 1] else -chain.up_s[first]
        missing_bytes = 0.0
        for b in range(first, n):
            if at_edge[b] == 0:
                gain += chain.ue_s[b] - chain.edge_s[b]
                missing_bytes += chain.missing_bytes[b]
            next_side = at_edge[b + 1] if b + 1 < n else 0
            if at_edge[b] == 0 and next_side == 1:
                gain += chain.up_s[b + 1]  # the tensor no longer crosses
            elif at_edge[b] == 1 and next_side == 0:
                gain += chain.down_s[b + 1]
            range_gain = gain - (chain.down_s[b + 1] if next_side == 0 else 0.0)
            better = range_gain * best_bytes - best_gain * missing_bytes
            if range_gain > rounding and (
                best_first == best_end or better > 0.0 or (better == 0.0 and range_gain > best_gain)
            ):
                best_first, best_end = first, b + 1
                best_gain, best_bytes = range_gain, missing_bytes
    return best_first, best_end
