"""PBT-DP: where to run each layer of one DNN, for given rates (Pruned Binary Tree based DP).

The idea and the name are the paper's (Yang et al., Computer Networks 231, 2023): a binary tree over
the layers, pruned with regard to the long-term influence between layers. The details are our
formulation, which `pbt_tree` describes. This module simulates the best leaves of the tree and
improves the fastest of them. The best placement then takes over whatever helps from the other
leaves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import compiled, inner, lean_inner
from mjoa_gym.model.energy import judge
from mjoa_gym.model.inference import Inference, Upload, inference_of
from mjoa_gym.model.link import Link, link_at, seconds_for
from mjoa_gym.model.objective import late
from mjoa_gym.planners.pbt_tree import search, tree_of
from mjoa_gym.validation import count

WIDTH = 64
"""The number of nodes that a level of the tree keeps on a DAG."""
LONG_BLOCK, RUN, LAST_RUN = 32, 3, 6
"""In networks with a block of more layers than `LONG_BLOCK`, runs of layers are moved: up to `RUN`
layers in leaves, and up to `LAST_RUN` layers in the end."""
LEAVES = 64
"""The number of leaves of the tree that are simulated."""
IMPROVED, HOPELESS = 3, 1.05
"""How many of the fastest leaves are improved. Leaves that are slower than `HOPELESS` times the
best latency are not."""
PAIRS = 2
"""A layer is moved together with one of the layers that it reads, and this many of them are
tried."""
FRONT = 512
"""The number of nodes per side that are kept at a cut of a DAG."""
UNLIMITED = 1 << 60
BORDER = kernel.WAITS | kernel.CROSSES
"""The bits of an outline for a layer that sends to the other side or reads from it."""
ROUNDING = 1.0 + 1e-9


@compiled
def partition(inference, link, width, placement):
    """Improve a placement with PBT-DP, and return its latency; compiled as a whole.

    The result is never slower than the placement to start from, all-UE, or any single cut. A start
    that is nearly as fast as the result saves time, because bounds cut off whatever is slower.

    Args:
        inference: What the inference requires of the resources, L layers.
        link: What it gets of them.
        width: The number of nodes that a level of the tree keeps if the network is not a chain.
            With 0 there is no tree: only the start and the best single cut are improved.
        placement: (L,) int8, 0 = UE, 1 = edge. The search starts from it (zeros are all-UE), and
            overwrites it if a faster one is found.

    Returns:
        The simulated latency of the placement in seconds. With prices (`inference.prices`) it is
        the cost in seconds before the weight, which is then minimised.
    """
    n = len(inference.ue_s)
    scratch, outline = kernel.new_scratch(n), np.empty(n + 1, np.uint8)
    prices, ue_s = inference.prices, inference.ue_s
    tree = tree_of(inference, with_tolls(inference), tolled(link, prices), False, 1.0)
    exact = tree.is_chain and inference.mode != Upload.WHOLE and prices.free
    best = judge(placement, inference, link, scratch)
    local = 0.0
    for layer in range(n):
        local += ue_s[layer]
    local += prices.computing * local + late(prices, local)
    if not best <= local:
        best = local
        for layer in range(n):
            placement[layer] = 0
    run = last_run = 1
    if not exact:
        if tree.longest_block > LONG_BLOCK:
            run, last_run = RUN, LAST_RUN
        best = best_single_cut(inference, link, scratch, placement, best, np.empty(n, np.int8))
        best = improve(inference, link, scratch, placement, best, run, outline)
        if width == 0:
            return best
    leaves = np.empty((1 if exact else LEAVES, n), np.int8)
    n_leaves, _ = search(tree, width, UNLIMITED if exact else FRONT, best * ROUNDING, leaves)
    latencies = np.empty(len(leaves))
    for k in range(n_leaves):
        latencies[k] = judge(leaves[k], inference, link, scratch)
    for _ in range(min(n_leaves, IMPROVED)):
        k = 0
        for other in range(1, n_leaves):
            if latencies[other] < latencies[k]:
                k = other
        latency, latencies[k] = latencies[k], np.inf
        if latency > best * HOPELESS or n_differences(leaves[k], placement) == 0:
            continue
        if not exact:
            latency = improve(inference, link, scratch, leaves[k], latency, run, outline)
        if latency < best:
            best = latency
            for layer in range(n):
                placement[layer] = leaves[k, layer]
    if n_leaves > 1:
        before, failed_end = best, np.zeros(n, np.int64)
        best = exchange(inference, link, scratch, placement, best, leaves[:n_leaves], failed_end)
        if best < before or run < last_run:
            best = improve(inference, link, scratch, placement, best, last_run, outline)
    return best


def best_partition(
    inference: Inference, link: Link, width: int, placement: NDArray[np.int8]
) -> float:
    """Do the same as `partition`, for callers that are not compiled."""
    return float(partition(inference, link, width, placement))


@inner
def with_tolls(inference):
    """The seconds (L,) on the UE, with the price of computing added, for the tree.

    No placement then takes longer in the tree than it costs, because what happens along a path
    happens at different times and is paid for each time.
    """
    prices = inference.prices
    if prices.free:
        return inference.ue_s
    ue_s = np.empty(len(inference.ue_s))
    for layer in range(len(ue_s)):
        ue_s[layer] = inference.ue_s[layer] * (1.0 + prices.computing)
    return ue_s


@lean_inner
def tolled(link, prices):
    """The link with the prices of sending and receiving added to its times, as in `with_tolls`."""
    up, down = link.up * (1.0 + prices.sending), link.down * (1.0 + prices.receiving)
    return Link(up, down, link.message, link.slowdown)


@compiled
def partition_bound(inference, link, width, front, limit):
    """A certified lower bound on the latency of every placement, at most `limit`.

    Args:
        inference: What the inference requires of the resources.
        link: What it gets of them.
        width: Nodes per level of a block's relaxed tree; more give a tighter bound.
        front: Nodes per side at cuts; more give a tighter bound.
        limit: A latency known to be reachable, or inf.

    Returns:
        Seconds.
    """
    return priced_bound(inference, link, width, front, limit, 1.0)


@compiled
def priced_bound(inference, link, width, front, limit, price):
    """Do the same as `partition_bound` if parameters may be on the server already, for a price.

    The bound is on the latency plus `price` times the seconds that the uplink would have needed for
    the parameters that are there. It holds for all placements and for all fractions of the
    parameters that may be there.

    Args:
        inference: What the inference requires of the resources if nothing is on the server; not in
            SERIAL mode.
        link: What it gets of them.
        width: Nodes per level of a block's relaxed tree; more give a tighter bound.
        front: Nodes per side at cuts; more give a tighter bound.
        limit: A value known to be reachable, or inf.
        price: In [0, 1]. At 1 it does not pay to have anything on the server, and at 0 everything
            is there.

    Returns:
        Seconds, exact up to rounding on chains in PARALLEL mode if `front` is large enough.
    """
    leaf = np.empty((1, len(inference.ue_s)), np.int8)
    tree = tree_of(inference, inference.ue_s, link, True, price)
    cap = UNLIMITED if tree.is_chain else front
    return min(limit, search(tree, width, cap, limit * ROUNDING, leaf)[1])


@lean_inner
def best_single_cut(inference, link, scratch, placement, best, trial):
    """Overwrite `placement` with the best single cut if that is faster; either side may be first.

    Cuts at which a processor or the uplink alone is busy for longer than the best latency so far
    are not simulated.

    Args:
        inference: What the inference requires of the resources.
        link: What it gets of them.
        scratch: Work arrays for the simulation.
        placement: (L,) a placement with the latency `best`; overwritten if a cut is faster.
        best: Seconds.
        trial: (L,) a work array.

    Returns:
        The latency of `placement` in seconds.
    """
    n = len(placement)
    uploads = inference.mode != Upload.PREINSTALLED
    for first in range(2):
        ue = edge = load = 0.0
        for layer in range(n):
            trial[layer] = 1 - first
            ue += first * inference.ue_s[layer]
            edge += (1 - first) * inference.edge_s[layer]
            load += (1 - first) * inference.missing_bytes[layer]
        for cut in range(n):
            busy = max(ue, seconds_for(edge, link.slowdown))
            if uploads:
                busy = max(busy, seconds_for(load, link.up))
            if busy <= best:
                latency = judge(trial, inference, link, scratch)
                if latency < best:
                    best = latency
                    for layer in range(n):
                        placement[layer] = trial[layer]
            trial[cut] = first
            ue += (1 - 2 * first) * inference.ue_s[cut]
            edge -= (1 - 2 * first) * inference.edge_s[cut]
            load -= (1 - 2 * first) * inference.missing_bytes[cut]
    return best


@lean_inner
def improve(inference, link, scratch, placement, best, longest, outline):
    """Move layers to the other side as long as that helps: runs of layers, or two layers at a time.

    The two are a layer and one that it reads. Only layers at a border start a move: those that send
    to the other side or read from it. In WHOLE mode every layer may start a move, because its
    parameters delay all others.

    Args:
        inference: What the inference requires of the resources.
        link: What it gets of them.
        scratch: Work arrays for the simulation.
        placement: (L,) a placement with the latency `best`; it changes in place.
        best: Seconds.
        longest: The most layers of a run, which are consecutive in program order and on one side.
        outline: (L + 1,) a work array.

    Returns:
        The latency of `placement` in seconds.
    """
    n = len(placement)
    always = BORDER if inference.mode == Upload.WHOLE else 0
    kernel.outline_of(placement, inference, outline)
    failed = 0
    layer = 0
    while failed < n:
        failed += 1
        n_runs = 1
        while n_runs < min(longest, layer + 1) and placement[layer - n_runs] == placement[layer]:
            n_runs += 1
        n_moves = n_runs + inference.offsets[layer + 1] - inference.offsets[layer]
        pairs, near = 0, always
        for move in range(n_moves):
            other = layer - move
            if move < n_runs:
                near |= outline[other + 1] & BORDER
            else:
                other = inference.predecessors[inference.offsets[layer] + move - n_runs]
                near = always | ((outline[layer + 1] | outline[other + 1]) & BORDER)
                pairs += near != 0
                if other < 0 or pairs > PAIRS:
                    continue
            if near == 0:
                continue
            step = 1 if move < n_runs else max(1, layer - other)
            for at in range(other, layer + 1, step):
                placement[at] = 1 - placement[at]
            latency = judge(placement, inference, link, scratch)
            if latency < best:
                best = latency
                failed = 0
                for tensor in range(n + 1):
                    outline[tensor] = scratch.outline[tensor]
                break
            for at in range(other, layer + 1, step):
                placement[at] = 1 - placement[at]
        layer = (layer + 1) % n
    return best


@lean_inner
def exchange(inference, link, scratch, placement, best, leaves, failed_end):
    """Give runs of layers the sides that they have in other leaves, as long as that helps.

    A run is a sequence of layers, in program order, that all have other sides in the leaf than in
    the placement.

    Args:
        inference: What the inference requires of the resources.
        link: What it gets of them.
        scratch: Work arrays for the simulation.
        placement: (L,) a placement with the latency `best`; it changes in place.
        best: Seconds.
        leaves: (K, L) other placements.
        failed_end: (L,) a work array of zeros: for each layer, the end of the last run from it that
            did not help, since the placement changed.

    Returns:
        The latency of `placement` in seconds.
    """
    n = len(placement)
    failed = k = 0
    while failed < len(leaves):
        failed += 1
        end = 0
        while end < n:
            begin = end
            while end < n and leaves[k, end] != placement[end]:
                placement[end] = leaves[k, end]
                end += 1
            if end > begin:
                latency = best
                if failed_end[begin] != end:
                    latency = judge(placement, inference, link, scratch)
                if latency < best:
                    best = latency
                    failed = 0
                    for layer in range(n):
                        failed_end[layer] = 0
                else:
                    failed_end[begin] = end
                    for layer in range(begin, end):
                        placement[layer] = 1 - placement[layer]
            end += 1
        k = (k + 1) % len(leaves)
    return best


@lean_inner
def n_differences(one, other):
    """The number of layers in which two placements differ."""
    differences = 0
    for layer in range(len(one)):
        differences += one[layer] != other[layer]
    return differences


def pbt_dp(
    dnn: DNN,
    ue_seconds: ArrayLike,
    edge_seconds: ArrayLike,
    uplink_bps: float,
    downlink_bps: float,
    resident: ArrayLike | None = None,
    upload: str = "parallel",
    width: int = WIDTH,
    message_s: float = 0.0,
    compute_share: float = 1.0,
) -> NDArray[np.int8]:
    """The placement of one DNN with (near-)minimal latency.

    It is exactly optimal on chains in every upload mode except "whole". On other networks it is
    near-optimal, and never worse than the best single cut, all-UE and all-edge.

    Args:
        dnn: The network, L layers.
        ue_seconds: (L,) seconds of each layer on the UE.
        edge_seconds: (L,) seconds of each layer on the whole server.
        uplink_bps: Bits per second towards the edge.
        downlink_bps: Bits per second towards the UE.
        resident: (L,) fraction of each layer's parameters already on the server; default none.
        upload: "parallel", "serial", "whole" or "preinstalled".
        width: The number of nodes that a level of the tree keeps if the network is not a chain.
        message_s: Seconds from the departure of a message's last byte until it can be used.
        compute_share: This UE's share of the server, in [0, 1].

    Returns:
        (L,) 0 = UE, 1 = edge.

    Raises:
        ValueError: If an argument is not allowed. The message names the field, its value and what
            is allowed.
    """
    inference = inference_of(dnn, ue_seconds, edge_seconds, resident, Upload.of(upload))
    link = link_at(uplink_bps, downlink_bps, message_s, compute_share)
    placement = np.zeros(dnn.n_layers, np.int8)
    best_partition(inference, link, count("width", width), placement)
    return placement
