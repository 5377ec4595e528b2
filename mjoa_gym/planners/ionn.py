"""IONN: which blocks to offload and in which order to upload them, by shortest paths.

Source: Jeong et al., "IONN: Incremental Offloading of Neural Network Computations from Mobile
Devices to Edge Servers", SoCC 2018.

Its own assumptions: the layers between dominators merge into one, so that every network is a chain.
The plan is a shortest path. For each block the graph has an edge for the client's execution, an
upload edge (input / rate), an edge for the server's execution (plus parameters / rate, because
uploading is serial), and a download edge. Parameters serve several queries. The system therefore
repeats the search with the parameters' seconds multiplied by K^level, for level 0, 1, 2, ..., with
K = 0.8 as in its published example, until the factor is below 0.001. Each new plan is the next step
of the upload.

Our formulation for one round: the placement is the plan of level 0, which pays for all of its
uploading. The layers that later plans put on the server in addition are marked as `prefetch`. The
order of the steps is lost, because the simulator sends prefetched layers in program order. The
original system would not wait for an upload within a query. Here an inference waits if level 0
finds that this pays. The server takes no time to load the model. Each of N UEs plans with 1/N of
band and server, and the UEs that offload then share both equally.
"""

from __future__ import annotations

import numpy as np

from mjoa_gym.model.compiling import compiled
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.additive import block_chain
from mjoa_gym.planners.one_ue import OneUE, Placement, plan_each_with_prefetch

FACTORS = 0.8 ** np.arange(31)
"""The factors K^level on the parameters' seconds at each level, for K = 0.8, down to 0.001."""


def ionn(instance: Instance) -> Plan:
    """Plan every UE with IONN; 31 shortest paths of O(blocks) each per UE."""
    return plan_each_with_prefetch(instance, upload_steps)


def upload_steps(one: OneUE) -> tuple[Placement, Placement]:
    """The placement of level 0, and marks of the layers that any level uploads."""
    chain, block_of = block_chain(one)
    plans = np.stack([shortest_path(chain, factor) for factor in FACTORS])
    return plans[0][block_of], plans.max(axis=0)[block_of]


@compiled
def shortest_path(chain, factor):
    """The side (B,) of every block on the path of least seconds.

    The seconds of uploading parameters are multiplied by `factor`. Of equally good sides, the UE is
    chosen.
    """
    n = len(chain.ue_s)
    from_edge = np.zeros(n + 1, np.bool_)  # whether tensor b best reaches the UE from the edge
    from_ue = np.zeros(n + 1, np.bool_)  # whether tensor b best reaches the edge from the UE
    on_ue, at_edge = 0.0, chain.up_s[0]
    from_ue[0] = True
    for b in range(n):
        ue_end = on_ue + chain.ue_s[b]
        edge_end = at_edge + chain.edge_s[b] + factor * chain.upload_s[b]
        downloaded = edge_end + chain.down_s[b + 1]
        uploaded = ue_end + chain.up_s[b + 1]
        from_edge[b + 1] = downloaded < ue_end
        from_ue[b + 1] = uploaded <= edge_end
        on_ue, at_edge = min(ue_end, downloaded), min(edge_end, uploaded)
    placement = np.empty(n, np.int8)
    side = 0
    for b in range(n, 0, -1):
        if side == 0 and from_edge[b]:
            side = 1
        elif side == 1 and from_ue[b]:
            side = 0
        placement[b - 1] = side
    return placement
