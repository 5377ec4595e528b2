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


def is_chain(inference: Inference) -> bool:
    """Whether every layer reads just the layer before it."""
    n = len(inference.ue_s)
    return np.array_equal(inference.offsets, np.arange(n + 1)) and np.array_equal(
        inference.predecessors, np.arange(-1, n - 1)
    )


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
    layout = layout_of(inference)
    exact = inference.mode != Upload.WHOLE and is_chain(inference)
    placement[:] = 0
    best = float(np.sum(inference.ue_s)) if exact else best_single_cut(inference, link, placement)
    if np.diff(layout.first).max() > LONG_BLOCK:
        width *= 4
    leaves = np.empty((1 if exact else LEAVES, len(placement)), np.int8)
    for relaxed in (True, False):
        limit = best * (1.0 + 1e-9)
        options = find_options(_waiting_less(inference), link, relaxed, width, limit, layout)
        n_leaves, bound = search(options, relaxed, UNLIMITED if exact else FRONT, limit, leaves)
        if n_leaves == 0:
            break
        seconds = kernel.run_many(leaves[:n_leaves], inference, link)
        leaf, latency = leaves[seconds.argmin()], float(seconds.min())
        proven = exact or (relaxed and min(best, latency) <= bound * (1.0 + 1e-9))
        if not proven:
            latency = improve(inference, link, leaf, latency)
        if latency < best:
            best = latency
            placement[:] = leaf
        if proven:
            break
    return best


def partition_bound(
    inference: Inference, link: Link, width: int, front: int, limit: float
) -> float:
    """A certified lower bound on the latency of every placement, at most `limit`.

    That is a latency known to be reachable, or inf. A greater `width` (of a block's relaxed tree)
    or `front` (nodes per side at cuts) gives a tighter bound.
    """
    inference = _waiting_less(inference)
    options = find_options(inference, link, True, width, limit * (1.0 + 1e-9), layout_of(inference))
    cap = UNLIMITED if is_chain(inference) else front
    leaf = np.empty((1, len(inference.ue_s)), np.int8)
    return min(limit, search(options, True, cap, limit * (1.0 + 1e-9), leaf)[1])


def best_single_cut(inference: Inference, link: Link, placement: NDArray[np.int8]) -> float:
    """The best placement with one side for layers below a cut and the other above, both ways.

    Overwrites `placement` (L,), returns its latency.
    """
    n = len(placement)
    above = np.triu(np.ones((n, n), np.int8))
    cuts = np.concatenate([np.zeros((1, n), np.int8), above, 1 - above])
    seconds = kernel.run_many(cuts, inference, link)
    placement[:] = cuts[seconds.argmin()]
    return float(seconds.min())


@njit(cache=True, nogil=True)
def improve(inference, link, placement, best):
    """Move layers to the other side, alone or with one they read, as long as that helps.

    Changes `placement`, whose latency is `best`; returns the new one.
    """
    n = len(placement)
    scratch = kernel.new_scratch(n)
    failed = layer = 0
    while failed < n:
        failed += 1
        for i in range(inference.offsets[layer] - 1, inference.offsets[layer + 1]):
            p = inference.predecessors[i] if i >= inference.offsets[layer] else layer
            if p < 0:
                continue
            flip(placement, layer, p)
            latency = kernel.run(placement, inference, link, scratch)[1]
            if latency < best:
                best = latency
                failed = 0
            else:
                flip(placement, layer, p)
        layer = (layer + 1) % n
    return best


@njit(cache=True, nogil=True)
def flip(placement, layer, other):
    """Move one layer or two to the other side."""
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
