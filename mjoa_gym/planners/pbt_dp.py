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
from mjoa_gym.model.simulator import make_job, seconds_per_byte
from mjoa_gym.planners.pbt_block import layout_of
from mjoa_gym.planners.pbt_tree import find_options, search
from mjoa_gym.validation import choice

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
def is_chain(job):
    """Whether every layer reads just the layer before it."""
    for layer in range(len(job.ue_s)):
        if job.offsets[layer + 1] != layer + 1 or job.predecessors[layer] != layer - 1:
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
def fastest(leaves, job, link, mode, scratch):
    """The index and the simulated latency of the fastest leaf; (0, inf) without leaves."""
    best, index = np.inf, 0
    for k in range(len(leaves)):
        latency = kernel.run(leaves[k], leaves.shape[1], job, link, mode, scratch)[1]
        if latency < best:
            best, index = latency, k
    return index, best


def best_partition(
    job: kernel.Job, link: kernel.Link, mode: int, width: int, placement: NDArray[np.int8]
) -> float:
    """PBT-DP on arrays: overwrites `placement` (L,), returns its simulated latency in seconds.

    The kernels it calls are compiled one by one: inlined into each other they would take minutes.
    """
    n = len(placement)
    scratch, layout = kernel.new_scratch(n), layout_of(job)
    exact = mode != kernel.WHOLE and is_chain(job)
    tree_mode = kernel.PARALLEL if mode == kernel.WHOLE else mode
    placement[:] = 0
    best = float(np.sum(job.ue_s))
    if not exact:
        best = best_single_cut(job, link, mode, scratch, placement)
    if longest_block(layout) > LONG_BLOCK:
        width *= 4
    for relaxed in (True, False):
        limit = best * (1.0 + 1e-9)
        options = find_options(job, link, tree_mode, relaxed, width, limit, layout)
        leaves = np.empty((1 if exact else LEAVES, n), np.int8)
        cap = UNLIMITED if exact else FRONT
        n_leaves, bound = search(options, relaxed, cap, limit, leaves)
        k, latency = fastest(leaves[:n_leaves], job, link, mode, scratch)
        proven = exact or (relaxed and min(best, latency) <= bound * (1.0 + 1e-9))
        if n_leaves > 0 and not proven:
            latency = improve(job, link, mode, scratch, leaves[k], latency)
        if latency < best:
            best = latency
            placement[:] = leaves[k]
        if proven:
            break
    return best


def partition_bound(
    job: kernel.Job, link: kernel.Link, mode: int, width: int, front: int, limit: float
) -> float:
    """A certified lower bound on the latency of every placement, at most `limit`.

    Args:
        job: The inference.
        link: Rates.
        mode: Upload mode's code.
        width: Nodes per level of a block's relaxed tree; more give a tighter bound.
        front: Nodes per side at cuts; likewise.
        limit: A latency known to be reachable, or inf.
    """
    if mode == kernel.WHOLE:
        mode = kernel.PARALLEL  # waits for less
    options = find_options(job, link, mode, True, width, limit * (1.0 + 1e-9), layout_of(job))
    cap = UNLIMITED if is_chain(job) else front
    leaf = np.empty((1, len(job.ue_s)), np.int8)
    return min(limit, search(options, True, cap, limit * (1.0 + 1e-9), leaf)[1])


@njit(cache=True, nogil=True)
def best_single_cut(job, link, mode, scratch, placement):
    """The best placement with one side for layers below a cut and the other above, both ways."""
    n = len(placement)
    trial = np.zeros(n, np.int8)
    placement[:] = 0
    best = kernel.run(trial, n, job, link, mode, scratch)[1]
    for first in range(2):
        trial[:] = 1 - first
        for cut in range(n):
            latency = kernel.run(trial, n, job, link, mode, scratch)[1]
            if latency < best:
                best = latency
                placement[:] = trial
            trial[cut] = first
    return best


@njit(cache=True, nogil=True)
def improve(job, link, mode, scratch, placement, best):
    """Move layers to the other side, alone or with one they read, as long as that helps.

    Returns:
        The latency.
    """
    n = len(placement)
    failed = 0
    layer = 0
    while failed < n:
        failed += 1
        for i in range(job.offsets[layer] - 1, job.offsets[layer + 1]):
            p = job.predecessors[i] if i >= job.offsets[layer] else layer
            if p < 0:
                continue
            placement[layer] = 1 - placement[layer]
            if p != layer:
                placement[p] = 1 - placement[p]
            latency = kernel.run(placement, n, job, link, mode, scratch)[1]
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
) -> NDArray[np.int8]:
    """The placement of one DNN with (near-)minimal latency.

    Exactly optimal on chains in every upload mode but "whole"; on other networks near-optimal,
    never worse than the best single cut, all-UE and all-edge.

    Args:
        dnn: The network, L layers.
        ue_seconds: (L,) seconds on the UE.
        edge_seconds: (L,) seconds on this UE's share of the server.
        uplink_bps: Bits per second towards the edge.
        downlink_bps: Bits per second towards the UE.
        resident: (L,) fraction of each layer's parameters already on the server; default none.
        upload: Upload mode.
        width: Nodes that a level of the tree keeps where the network is no chain.

    Returns:
        (L,) 0 = UE, 1 = edge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    if width < 1:
        raise ValueError(f"width={width!r}: must be at least 1")
    mode = kernel.UPLOAD_MODES.index(choice("upload", upload, kernel.UPLOAD_MODES))
    job, _ = make_job(dnn, ue_seconds, edge_seconds, resident)
    up = seconds_per_byte("uplink_bps", uplink_bps)
    link = kernel.Link(up, seconds_per_byte("downlink_bps", downlink_bps), 1.0)
    placement = np.zeros(dnn.n_layers, np.int8)
    best_partition(job, link, mode, width, placement)
    return placement
