"""PBT-DP: where to run each layer of one DNN, for given rates (Pruned Binary Tree based DP)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Inference, Upload, inference_of
from mjoa_gym.model.link import Link, link_at
from mjoa_gym.planners.pbt_tree import search, tree_of
from mjoa_gym.validation import count

WIDTH = 64
"""Nodes that a level of the tree keeps on a DAG."""
LEAVES = 32
"""Leaves of the tree that are simulated."""
FRONT = 512
"""Nodes per side that are kept at a cut of a DAG."""
UNLIMITED = 1 << 60
BORDER = kernel.WAITS | kernel.CROSSES
"""An outline's bits of a layer that sends to the other side or reads from there."""
ROUNDING = 1.0 + 1e-9


@njit(cache=True, nogil=True)
def partition(inference, link, width, placement):
    n = len(inference.ue_s)
    scratch = kernel.new_scratch(n)
    tree = tree_of(inference, link)
    exact = tree.is_chain and inference.mode != Upload.WHOLE
    best = 0.0
    for layer in range(n):
        placement[layer] = 0
        best += inference.ue_s[layer]
    if not exact:
        best = best_single_cut(inference, link, scratch, placement, best)
    leaves = np.empty((1 if exact else LEAVES, n), np.int8)
    n_leaves, _ = search(tree, width, UNLIMITED if exact else FRONT, best * ROUNDING, leaves)
    fastest, index = np.inf, 0
    for k in range(n_leaves):
        latency = kernel.run(leaves[k], inference, link, scratch)[1]
        if latency < fastest:
            fastest, index = latency, k
    if n_leaves > 0 and not exact:
        fastest = improve(inference, link, scratch, leaves[index], fastest)
    if fastest < best:
        best = fastest
        for layer in range(n):
            placement[layer] = leaves[index, layer]
    return best


def best_partition(
    inference: Inference, link: Link, width: int, placement: NDArray[np.int8]
) -> float:
    """PBT-DP on arrays: overwrites `placement` (L,), returns its simulated latency in seconds."""
    return float(partition(inference, link, width, placement))


def partition_bound(
    inference: Inference, link: Link, width: int, front: int, limit: float
) -> float:
    """A certified lower bound on the latency of every placement, at most `limit`."""
    leaf = np.empty((1, len(inference.ue_s)), np.int8)
    tree = tree_of(inference, link)._replace(relaxed=True)
    front = UNLIMITED if tree.is_chain else front
    return min(limit, search(tree, width, front, limit * ROUNDING, leaf)[1])


@njit(cache=True, nogil=True)
def best_single_cut(inference, link, scratch, placement, best):
    n = len(placement)
    trial = np.empty(n, np.int8)
    ue = edge = load = 0.0
    for layer in range(n):
        edge += inference.edge_s[layer]
        load += inference.missing_bytes[layer]
    if inference.mode == Upload.PREINSTALLED:
        load = 0.0
    all_ue, all_edge, all_load = best, edge, load
    for first in range(2):
        ue, edge, load = (0.0, all_edge, all_load) if first == 0 else (all_ue, 0.0, 0.0)
        for layer in range(n):
            trial[layer] = 1 - first
        for cut in range(n):
            least = max(
                ue,
                max(
                    edge * link.slowdown if edge > 0.0 else 0.0,
                    load * link.up if load > 0.0 else 0.0,
                ),
            )
            if least < best:
                latency = kernel.run(trial, inference, link, scratch)[1]
                if latency < best:
                    best = latency
                    for layer in range(n):
                        placement[layer] = trial[layer]
            trial[cut] = first
            sign = 1.0 if first == 0 else -1.0
            ue += sign * inference.ue_s[cut]
            edge -= sign * inference.edge_s[cut]
            if inference.mode != Upload.PREINSTALLED:
                load -= sign * inference.missing_bytes[cut]
    return best


@njit(cache=True, nogil=True)
def improve(inference, link, scratch, placement, best):
    """Move layers to the other side, alone or with one they read, as long as that helps.

    Only layers that send to the other side or read from it are moved.
    """
    n = len(placement)
    outline = np.empty(n + 1, np.uint8)
    kernel.outline_of(placement, inference, outline)
    failed = 0
    layer = 0
    while failed < n:
        failed += 1
        for i in range(inference.offsets[layer] - 1, inference.offsets[layer + 1]):
            p = inference.predecessors[i] if i >= inference.offsets[layer] else layer
            if p < 0 or not (outline[layer + 1] | outline[p + 1]) & BORDER:
                continue
            flip(placement, layer, p)
            latency = kernel.run(placement, inference, link, scratch)[1]
            if latency < best:
                best = latency
                failed = 0
                for tensor in range(n + 1):
                    outline[tensor] = scratch.outline[tensor]
            else:
                flip(placement, layer, p)
        layer = (layer + 1) % n
    return best


@njit(cache=True, nogil=True)
def flip(placement, layer, other):
    """Move a layer and another one (or itself again) to their other sides."""
    placement[layer] = 1 - placement[layer]
    if other != layer:
        placement[other] = 1 - placement[other]


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

    Exactly optimal on chains in every upload mode but "whole"; on other networks near-optimal,
    never worse than the best single cut, all-UE and all-edge.

    Args:
        dnn: The network, L layers.
        ue_seconds: (L,) seconds on the UE.
        edge_seconds: (L,) seconds on the whole server.
        uplink_bps: Bits per second towards the edge.
        downlink_bps: Bits per second towards the UE.
        resident: (L,) fraction of each layer's parameters already on the server; default none.
        upload: Upload mode.
        width: Nodes that a level of the tree keeps where the network is no chain.
        message_s: As for `simulate`.
        compute_share: This UE's share of the server.

    Returns:
        (L,) 0 = UE, 1 = edge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    inference = inference_of(dnn, ue_seconds, edge_seconds, resident, Upload.of(upload))
    link = link_at(uplink_bps, downlink_bps, message_s, compute_share)
    placement = np.zeros(dnn.n_layers, np.int8)
    best_partition(inference, link, count("width", width), placement)
    return placement
