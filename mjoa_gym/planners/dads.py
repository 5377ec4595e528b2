"""DADS: the minimum s-t cut of a DAG, with models preinstalled or with serial uploading.

Source: Hu et al., "Dynamic Adaptive DNN Surgery for Inference Acceleration on the Edge", INFOCOM
2019, in its light-load case: minimise the latency of one inference.

Its own assumptions: the server holds every model. The latency is the *sum* of all times on the
device, on the server and on the network, and nothing overlaps. For a chain that is exact. On a DAG
the simulator overlaps branches and transfers, so the minimum of the sum need not be the minimum of
the latency.

Our formulation of it: data may cross in both directions any number of times. A tensor that crosses
is paid once, however many layers read it. The outputs end on the UE. Each of N UEs plans with 1/N
of band and server, and the UEs that offload then share both equally. `dads` does not consider
uploads, but the simulator charges its plan for them. `dads-serial` is our extension: it adds the
seconds to upload a layer's missing parameters to the layer's server time. The problem is still a
minimum cut. If messages take no time, its solution on a chain is the optimum of serial uploading.

The graph: the source of the flow is on the UE side, its sink on the edge side. A layer l that is
cut off from the source pays its edge time (arc source -> l). A layer that is cut off from the sink
pays its UE time (arc l -> sink). Tensor p has a node `sent`, with an arc p -> sent of the uplink
seconds and an unlimited arc from sent to each reader. Every tensor except the network's input also
has a node `returned`, with an unlimited arc from each reader to returned, and an arc returned -> p
of the downlink seconds.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.inference import Inference
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.additive import AdditiveSeconds, additive_seconds
from mjoa_gym.planners.one_ue import OneUE, Placement, plan_each

RESOLUTION = 2**29
"""The number of units of time in the all-local latency.

Max-flow works on 32-bit integers, so each arc is rounded to a unit. The cut that is found therefore
exceeds the optimum by at most (arcs in a cut, < 4 L) / 2^29 of the all-local latency: below 2e-6
for 250 layers. An arc that costs more than the whole all-local execution is never cut. Capacities
are limited to slightly more than that, so that neither unlimited arcs nor sums overflow.
"""


def dads(instance: Instance) -> Plan:
    """Plan every UE with DADS; one max-flow over 3 L + 3 nodes per UE."""
    return plan_each(instance, partial(minimum_cut, uploads=False))


def dads_serial(instance: Instance) -> Plan:
    """Plan every UE with DADS extended by serial uploading; one max-flow per UE."""
    return plan_each(instance, minimum_cut)


def minimum_cut(one: OneUE, uploads: bool = True) -> Placement:
    """The placement that minimises the sum of UE, edge and transfer seconds.

    Of equally good placements, it is the one that offloads least. With `uploads`, the upload of
    every missing parameter is added. Otherwise all parameters are taken to be on the server.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    inference = one.inference
    n, local_s = len(inference.ue_s), inference.ue_s.sum()
    if local_s == 0.0:
        return np.zeros(n, dtype=np.int8)
    tails, heads, arc_s = _arcs(inference, additive_seconds(inference, one.link), uploads)
    never = np.rint(inference.ue_s * (RESOLUTION / local_s)).sum() + 1
    units = np.minimum(np.rint(arc_s * (RESOLUTION / local_s)), never).astype(np.int32)
    source, sink = n, n + 1
    backwards = csr_array((units, (heads, tails)), shape=(3 * n + 3, 3 * n + 3))
    residual = csr_array(backwards - maximum_flow(backwards, sink, source).flow)
    residual.eliminate_zeros()
    edge_side = breadth_first_order(residual, sink, return_predecessors=False)  # nodes reaching it
    return np.isin(np.arange(n), edge_side).astype(np.int8)


def _arcs(
    inference: Inference, seconds: AdditiveSeconds, uploads: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """The tails, heads and seconds of all arcs; no two arcs join the same two nodes.

    Nodes 0..n-1 are the layers, n is the source, and n + 1 is the sink. The `sent` nodes of tensors
    -1..n-1 begin at n + 2. The `returned` nodes of tensors 0..n-1 follow them.
    """
    n = len(inference.ue_s)
    source, sink, sent, returned = n, n + 1, n + 3, 2 * n + 3
    layers = np.arange(n)
    readers = np.repeat(layers, np.diff(inference.offsets))
    read = inference.predecessors
    from_ue = read >= 0
    down_s = seconds.down_s[1:]
    at_edge_s = seconds.edge_s + seconds.upload_s if uploads else seconds.edge_s
    groups = [
        (np.full(n, source), layers, at_edge_s + np.where(inference.is_sink, down_s, 0.0)),
        (layers, np.full(n, sink), inference.ue_s),
        ([source], [sent - 1], seconds.up_s[:1]),
        (layers, sent + layers, seconds.up_s[1:]),
        (sent + read, readers, np.full(len(read), np.inf)),
        (readers[from_ue], returned + read[from_ue], np.full(from_ue.sum(), np.inf)),
        (returned + layers, layers, down_s),
    ]
    tails, heads, arc_s = (np.concatenate(column) for column in zip(*groups, strict=True))
    return tails.astype(np.int32), heads.astype(np.int32), arc_s  # SciPy's solver takes 32 bits
