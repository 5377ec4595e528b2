"""PBT-DP: where to run each layer of one DNN, for given rates (Pruned Binary Tree based DP).

The idea and the name are the paper's (Yang et al., Computer Networks 231, 2023): a binary tree over
the layers, pruned with regard to the long-term influence between layers. Its details are our
formulation: blocks between cut layers, each with its options (`pbt_block`), and a tree over the
blocks (`pbt_tree`).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Inference, Upload, inference_of
from mjoa_gym.model.link import Link, link_at
from mjoa_gym.planners.pbt_block import layout_of
from mjoa_gym.planners.pbt_tree import find_options, search
from mjoa_gym.validation import count

WIDTH = 64
"""Nodes that a level of the tree keeps on a DAG."""
LEAVES = 16
"""Leaves of the tree that are simulated."""
FRONT = 512
"""Nodes per side that are kept at a cut of a DAG."""
UNLIMITED = 1 << 60
LONG_BLOCK = 32
"""Layers in a block beyond which its tree is four times as wide."""


@njit(cache=True, nogil=True)
def is_chain(inference):
    """Whether every layer reads just the layer before it."""
    for layer in range(len(inference.ue_s)):
        if inference.offsets[layer + 1] != layer + 1 or inference.predecessors[layer] != layer - 1:
            return False
    return True


@njit(cache=True, nogil=True)
def longest_block(layout):
    """Layers in the longest block between two cuts."""
    longest = begin = 0
    for layer in range(len(layout.is_cut)):
        if layout.is_cut[layer]:
            longest = max(longest, layer + 1 - begin)
            begin = layer + 1
    return longest


@njit(cache=True, nogil=True)
def fastest(leaves, inference, link, scratch):
    """The index and the simulated latency of the fastest leaf; (0, inf) without leaves."""
    best, index = np.inf, 0
    for k in range(len(leaves)):
        latency = kernel.run(leaves[k], inference, link, scratch)[1]
        if latency < best:
            best, index = latency, k
    return index, best


def _waiting_less(inference: Inference) -> Inference:
    """The inference in a mode that the tree knows: with WHOLE it would only wait for more."""
    if inference.mode == Upload.WHOLE:
        return inference._replace(mode=int(Upload.PARALLEL))
    return inference


def best_partition(
    inference: Inference, link: Link, width: int, placement: NDArray[np.int8]
) -> float:
    """PBT-DP on arrays: overwrites `placement` (L,), returns its simulated latency in seconds.

    The kernels it calls are compiled one by one: inlined into each other they would take minutes.
    """
    n = len(placement)
    scratch, layout = kernel.new_scratch(n), layout_of(inference)
    exact = inference.mode != Upload.WHOLE and is_chain(inference)
    relaxation = _waiting_less(inference)
    placement[:] = 0
    best = float(np.sum(inference.ue_s))
    if not exact:
        best = best_single_cut(inference, link, scratch, placement)
    if longest_block(layout) > LONG_BLOCK:
        width *= 4
    for relaxed in (True, False):
        limit = best * (1.0 + 1e-9)
        options = find_options(relaxation, link, relaxed, width, limit, layout)
        leaves = np.empty((1 if exact else LEAVES, n), np.int8)
        cap = UNLIMITED if exact else FRONT
        n_leaves, bound = search(options, relaxed, cap, limit, leaves)
        k, latency = fastest(leaves[:n_leaves], inference, link, scratch)
        proven = exact or (relaxed and min(best, latency) <= bound * (1.0 + 1e-9))
        if n_leaves > 0 and not proven:
            latency = improve(inference, link, scratch, leaves[k], latency)
        if latency < best:
            best = latency
            placement[:] = leaves[k]
        if proven:
            break
    return best


def partition_bound(
    inference: Inference, link: Link, width: int, front: int, limit: float
) -> float:
    """A certified lower bound on the latency of every placement, at most `limit`.

    Args:
        inference: What it asks of the resources.
        link: What it gets of them.
        width: Nodes per level of a block's relaxed tree; more give a tighter bound.
        front: Nodes per side at cuts; likewise.
        limit: A latency known to be reachable, or inf.
    """
    inference = _waiting_less(inference)
    options = find_options(inference, link, True, width, limit * (1.0 + 1e-9), layout_of(inference))
    cap = UNLIMITED if is_chain(inference) else front
    leaf = np.empty((1, len(inference.ue_s)), np.int8)
    return min(limit, search(options, True, cap, limit * (1.0 + 1e-9), leaf)[1])


@njit(cache=True, nogil=True)
def best_single_cut(inference, link, scratch, placement):
    """The best placement with one side for layers below a cut and the other above, both ways."""
    n = len(placement)
    trial = np.zeros(n, np.int8)
    placement[:] = 0
    best = kernel.run(trial, inference, link, scratch)[1]
    for first in range(2):
        trial[:] = 1 - first
        for cut in range(n):
            latency = kernel.run(trial, inference, link, scratch)[1]
            if latency < best:
                best = latency
                placement[:] = trial
            trial[cut] = first
    return best


@njit(cache=True, nogil=True)
def improve(inference, link, scratch, placement, best):
    """Move layers to the other side, alone or with one they read, as long as that helps.

    Returns:
        The latency.
    """
    n = len(placement)
    failed = 0
    layer = 0
    while failed < n:
        failed += 1
        for i in range(inference.offsets[layer] - 1, inference.offsets[layer + 1]):
            p = inference.predecessors[i] if i >= inference.offsets[layer] else layer
            if p < 0:
                continue
            placement[layer] = 1 - placement[layer]
            if p != layer:
                placement[p] = 1 - placement[p]
            latency = kernel.run(placement, inference, link, scratch)[1]
            if latency < best:
                best = latency
                failed = 0
            else:
                placement[layer] = 1 - placement[layer]
                if p != layer:
                    placement[p] = 1 - placement[p]
        layer = (layer + 1) % n
    return best


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
