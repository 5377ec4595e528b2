"""PBT-DP over the blocks of a network: fronts of (t, s), pruned by dominance and bounds.

A node of the binary tree at a cut layer is a side and the two times (t, s) of `pbt_block`; an
option (A, B, C) of the next block makes it t' = max(t + A, s + B), s' = s + C. Per side only the
non-dominated pairs are kept.

Why this is exact on chains:
    There every layer is a block with one option per pair of sides, and the options are the timing
    model's chain recursion. Each step is non-decreasing in t and s. So if one node has t and s no
    larger than another on the same side, then whatever sides follow, it ends no later: the other
    can go. All pairs that are not dominated are kept, and a node is cut off by a bound only if no
    way to the end is shorter than a latency known to be reachable. Hence the smallest final t is
    the optimum over all 2^L placements.

Two bounds cut nodes off. Whatever the stream does, an option takes at least A and adds C. With the
least theta A + (1 - theta) C over all remaining blocks (a shortest path over the cuts) for a weight
theta in [0, 1],

    latency >= theta t + (1 - theta) s + that,

since the latency is at least the last t and at least the whole stream. theta = 1 is the time to go
with all parameters present; smaller ones carry the long-term influence of an upload.

Cost: O(blocks x options x front). On chains of real networks the front has a handful of pairs, in
the worst case 2^L; on DAGs it is held to `cap`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import seconds_for
from mjoa_gym.planners.pbt_block import (
    DONE,
    NEVER,
    PER_TENSOR,
    STREAM,
    TENSORS,
    WHERE,
    new_level,
    search_block,
)

THETAS = np.array([1.0, 0.85, 0.7, 0.5, 0.3])


class Options(NamedTuple):
    """All options of all blocks of a network, and what they imply.

    Attributes:
        a: (options,) seconds from t to t'.
        b: (options,) seconds from s to t', -inf if the block waits for no parameters.
        c: (options,) seconds of uplink.
        out: (options,) side of the block's output.
        sides: (options, longest block) placements of the block's layers.
        start: (blocks, 2, 2) first and end of the options for an input on the UE, at the edge.
        first: (blocks + 1,) first layer of each block.
        to_go: (blocks + 1, 2, thetas) the bounds' "that", before each block.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]
    out: NDArray[np.int8]
    sides: NDArray[np.int8]
    start: NDArray[np.int64]
    first: NDArray[np.int64]
    to_go: NDArray[np.float64]


@njit(cache=True, nogil=True)
def grow(array, size):
    """A copy with a longer last axis."""
    bigger = np.empty(array.shape[:-1] + (size,), array.dtype)  # noqa: RUF005 - Numba's way
    bigger[..., : array.shape[-1]] = array
    return bigger


@njit(cache=True, nogil=True)
def longest_paths(inference, link, first, end, to_go):
    """Extend `to_go` from tensor `end` back to `first`: longest path, each layer's best side."""
    for layer in range(end - 1, first - 1, -1):
        if inference.is_sink[layer]:
            back = seconds_for(inference.output_bytes[layer], link.down)
            to_go[layer + 1, 1] = back + link.message
        ue = inference.ue_s[layer] + to_go[layer + 1, 0]
        edge = seconds_for(inference.edge_s[layer], link.slowdown) + to_go[layer + 1, 1]
        for i in range(inference.offsets[layer], inference.offsets[layer + 1]):
            p = inference.predecessors[i]
            sent = inference.output_bytes[p] if p >= 0 else inference.input_bytes
            from_ue = min(ue, seconds_for(sent, link.up) + link.message + edge)
            from_edge = min(edge, seconds_for(sent, link.down) + link.message + ue)
            to_go[p + 1, 0] = max(to_go[p + 1, 0], from_ue)
            to_go[p + 1, 1] = max(to_go[p + 1, 1], from_edge)


@njit(cache=True, nogil=True)
def one_layer(layer, side, out, inference, link):
    """The option (A, B, C) of a block of one layer: the chain recursion."""
    sent = inference.output_bytes[layer - 1] if layer > 0 else inference.input_bytes
    a = c = 0.0
    b = NEVER
    if out == 0:
        if side == 1:
            a += seconds_for(sent, link.down) + link.message
        a += inference.ue_s[layer]
    else:
        if side == 0:
            c = seconds_for(sent, link.up)
            a = c + link.message
        edge_s = seconds_for(inference.edge_s[layer], link.slowdown)
        if inference.missing_bytes[layer] > 0.0 and inference.mode != Upload.PREINSTALLED:
            load = seconds_for(inference.missing_bytes[layer], link.up)
            c += load
            if inference.mode != Upload.SERIAL:
                b = c + link.message + edge_s
            elif side == 0:
                a += load
            else:  # word of the layer before goes to the UE, then the parameters come
                a += load + 2.0 * link.message
        a += edge_s
    if layer == len(inference.ue_s) - 1 and out == 1:
        back = seconds_for(inference.output_bytes[layer], link.down) + link.message
        a += back
        b += back
    return a, b, 0.0 if inference.mode == Upload.SERIAL else c


@njit(cache=True, nogil=True)
def find_options(inference, link, relaxed, width, limit, layout):
    """The options of every block, from the last to the first.

    Args:
        inference: What it asks of the resources; its mode is not WHOLE.
        link: What it gets of them.
        relaxed: Which reading of the timing model (`pbt_block`).
        width: Nodes per level of a block's tree.
        limit: A latency known to be reachable.
        layout: Of the network.
    """
    n = len(inference.ue_s)
    ends = np.flatnonzero(layout.is_cut) + 1
    first = np.zeros(len(ends) + 1, np.int64)
    first[1:] = ends
    n_blocks, longest = len(ends), np.max(np.diff(first))
    trees = np.sum(np.diff(first) > 1)
    most = 4 * (n_blocks - trees) + 2 * (width + 1) * trees
    a, b, c = np.empty(most), np.empty(most), np.empty(most)
    out, sides = np.zeros(most, np.int8), np.zeros((most, longest), np.int8)
    start = np.zeros((n_blocks, 2, 2), np.int64)
    to_go = np.full((n_blocks + 1, 2, len(THETAS)), np.inf)
    to_go[n_blocks] = 0.0
    paths = np.zeros((n + 1, 2))
    level = new_level(width if trees > 0 else 1, layout.n_slots, longest)
    count = 0
    for block in range(n_blocks - 1, -1, -1):
        begin, end = first[block], first[block + 1]
        if trees > 0:
            longest_paths(inference, link, begin, end, paths)
        for side in range(2 if block > 0 else 1):
            start[block, side, 0] = count
            if end - begin == 1:
                for o in range(2):
                    a[count], b[count], c[count] = one_layer(begin, side, o, inference, link)
                    out[count], sides[count, 0] = o if end < n else 0, o
                    count += 1
            else:
                leaves = search_block(
                    level, begin, end, side, inference, link, relaxed,
                    limit if block == 0 else np.inf, layout, paths,
                )  # fmt: skip
                for k in range(leaves):
                    node = level.nodes[k]
                    for o in range(2 if end < n else 1):
                        column = DONE
                        if end < n:
                            tensor = TENSORS + PER_TENSOR * layout.slot[end]
                            if node[tensor + WHERE] == 1 - o:
                                continue  # a merged node may stand for both sides
                            column = tensor + 2 * o
                        a[count], b[count] = node[column], node[column + 1]
                        c[count] = 0.0 if inference.mode == Upload.SERIAL else node[STREAM + 1]
                        out[count] = o
                        sides[count, : end - begin] = level.sides[k, : end - begin]
                        count += 1
            start[block, side, 1] = count
            for o in range(start[block, side, 0], count):
                for r in range(len(THETAS)):
                    cost = THETAS[r] * a[o] + (1.0 - THETAS[r]) * c[o]
                    beyond = to_go[block + 1, out[o], r]
                    to_go[block, side, r] = min(to_go[block, side, r], cost + beyond)
            paths[begin, side] = max(paths[begin, side], to_go[block, side, 0])
    return Options(a, b, c, out, sides, start, first, to_go)


@njit(cache=True, nogil=True)
def branch(source, count, a, b, c, option, room, children):
    """Give every node of one front one option.

    Args:
        source: (3, size) rows t, s, node number; sorted by t, none dominated.
        count: Number of nodes in it.
        a: Seconds from t to t'.
        b: Seconds from s to t'.
        c: Seconds from s to s'.
        option: Number of the option.
        room: Largest t' a child may have.
        children: (4, size) rows t', s', parent, option, filled from the back up to `count`.

    Returns:
        The index of the first child.
    """
    first, best = count, np.inf
    for i in range(count - 1, -1, -1):  # s grows towards the front: only an earlier t' is worth it
        t = max(source[0, i] + a, source[1, i] + b)
        if t < best and t <= room:
            first -= 1
            best = t
            children[0, first] = t
            children[1, first] = source[1, i] + c
            children[2, first] = source[2, i]
            children[3, first] = option
    return first


@njit(cache=True, nogil=True)
def join(left, n_left, right, first, end, joined):
    """Merge two fronts sorted by t into one without dominated nodes; returns its size."""
    i, j, kept = 0, first, 0
    least = np.inf
    while i < n_left or j < end:
        if j == end or (i < n_left and left[0, i] <= right[0, j]):
            if left[1, i] < least:
                least = left[1, i]
                joined[:, kept] = left[:, i]
                kept += 1
            i += 1
        else:
            if right[1, j] < least:
                least = right[1, j]
                joined[:, kept] = right[:, j]
                kept += 1
            j += 1
    return kept


@njit(cache=True, nogil=True)
def thin(front, count, to_go, limit, relaxed, cap):
    """Drop nodes beyond a bound, then hold the front to `cap` nodes; returns its size.

    Relaxed, neighbours are replaced by their minimum; otherwise one of them stands for them.
    """
    kept = 0
    for i in range(count):
        bound = 0.0
        for r in range(len(THETAS)):
            known = THETAS[r] * front[0, i] + (1.0 - THETAS[r]) * front[1, i]
            bound = max(bound, known + to_go[r])
        if bound <= limit:
            front[:, kept] = front[:, i]
            kept += 1
    if kept <= cap:
        return kept
    for group in range(cap):
        begin, end = group * kept // cap, (group + 1) * kept // cap
        front[:, group] = front[:, begin]
        if relaxed:
            front[1, group] = front[1, end - 1]
    return cap


@njit(cache=True, nogil=True)
def search(options, relaxed, cap, limit, placements):
    """The best ways through the blocks.

    Args:
        options: Of the network.
        relaxed: Whether fronts that are too large are merged (a lower bound) or thinned.
        cap: Most nodes per side.
        limit: A latency known to be reachable; nodes that must exceed it are dropped.
        placements: (K, L) overwritten with the K best leaves, the best first.

    Returns:
        The number of leaves, and the time of the best (inf without leaves).
    """
    n_blocks = len(options.first) - 1
    size = 32
    front = np.empty((2, 3, size))
    new, joined, children = np.empty((4, size)), np.empty((4, size)), np.empty((4, size))
    trace = np.empty((2, 256), np.int64)  # of every node: its parent, its option
    n_nodes = 0
    count, new_count = np.array([1, 0]), np.zeros(2, np.int64)
    front[0, 0, 0] = front[0, 1, 0] = 0.0
    front[0, 2, 0] = -1
    next_front = np.empty((2, 3, size))
    for block in range(n_blocks - 1):
        for target in range(2):
            room = limit - options.to_go[block + 1, target, 0]
            n_new = 0
            for side in range(2):
                for o in range(options.start[block, side, 0], options.start[block, side, 1]):
                    if options.out[o] != target or count[side] == 0:
                        continue
                    first = branch(
                        front[side], count[side], options.a[o], options.b[o], options.c[o], o,
                        room, children,
                    )  # fmt: skip
                    if n_new + count[side] - first > size:
                        size = 2 * (n_new + count[side])
                        new, joined = grow(new, size), grow(joined, size)
                        children, front = grow(children, size), grow(front, size)
                        next_front = grow(next_front, size)
                    n_new = join(new, n_new, children, first, count[side], joined)
                    new, joined = joined, new
            n_new = thin(new, n_new, options.to_go[block + 1, target], limit, relaxed, cap)
            if n_nodes + n_new > trace.shape[1]:
                trace = grow(trace, 2 * (n_nodes + n_new))
            for i in range(n_new):
                next_front[target, 0, i] = new[0, i]
                next_front[target, 1, i] = new[1, i]
                next_front[target, 2, i] = n_nodes
                trace[0, n_nodes] = int(new[2, i])
                trace[1, n_nodes] = int(new[3, i])
                n_nodes += 1
            new_count[target] = n_new
        front, next_front = next_front, front
        count[:] = new_count
    return finish(options, front, count, trace, limit, placements)


@njit(cache=True, nogil=True)
def finish(options, front, count, trace, limit, placements):
    """Take the last block and trace the best leaves back to their placements; see `search`."""
    block = len(options.first) - 2
    n_best, k_best = 0, len(placements)
    time, parent, option = np.full(k_best + 1, np.inf), np.zeros(k_best + 1), np.zeros(k_best + 1)
    for side in range(2):
        for o in range(options.start[block, side, 0], options.start[block, side, 1]):
            for i in range(count[side]):
                t = max(front[side, 0, i] + options.a[o], front[side, 1, i] + options.b[o])
                if t > limit or (n_best == k_best and t >= time[n_best - 1]):
                    continue
                at = min(n_best, k_best - 1)
                while at > 0 and time[at - 1] > t:
                    time[at], parent[at], option[at] = time[at - 1], parent[at - 1], option[at - 1]
                    at -= 1
                time[at], parent[at], option[at] = t, front[side, 2, i], o
                n_best = min(n_best + 1, k_best)
    for k in range(n_best):
        node, o = int(parent[k]), int(option[k])
        for b in range(block, -1, -1):
            begin, end = options.first[b], options.first[b + 1]
            placements[k, begin:end] = options.sides[o, : end - begin]
            if b > 0:
                node, o = trace[0, node], trace[1, node]
    return n_best, time[0]
