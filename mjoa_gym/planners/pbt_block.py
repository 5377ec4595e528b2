"""The options of one block: PBT-DP's binary tree between two cut layers.

After a cut layer, all that the rest of the inference can feel of the past is the side that its
output is on and two times: `t`, when it exists there, and `s`, the uplink time used for what edge
layers so far needed (the *stream*). Whatever side each layer of the next block is given, it acts on
them as

    t' = max(t + A, s + B),    s' = s + C

because every time in the block is a longest path that starts either with the block's input or with
the parameter stream. This module finds the non-dominated (A, B, C) of a block, its *options*, by a
binary tree over its layers. A node carries times as pairs (a, b) meaning max(t + a, s + b).

Two readings of the timing model:
    *Relaxed*: links carry any number of tensors at once, except that an edge layer never starts
    before all bytes that it and the edge layers before it need have been sent (they share one
    uplink, and edge layers run in program order). Every time is at most the true one and grows with
    every time before it, so dominance is exact, and options lead to lower bounds. Beyond `width`
    nodes the least promising are replaced by their minimum.
    *Queued*: links are first come, first served in the order of need; an estimate. Beyond `width`
    nodes the least promising are dropped.
On a block of one layer both are the chain recursion of the timing model.

Cost: O(layers x width x (live tensors + width)) per block and side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import seconds_for

NEVER = -np.inf
UE_FREE, EDGE_FREE, UP_FREE, DOWN_FREE, STREAM, DONE, TENSORS = 0, 2, 4, 6, 8, 10, 12
"""Columns of a node, each time a pair. From TENSORS on, five per live tensor: the pair on the UE,
the pair at the edge, and where it is."""
WHERE, PER_TENSOR = 4, 5
ON_UE, AT_EDGE, ON_BOTH, NOT_LIVE = 0.0, 1.0, 2.0, 3.0
STREAM_PRICES = (0.0, 0.25, 1.0)


class TensorPlaces(NamedTuple):
    """Where a node keeps the tensors of a network.

    Attributes:
        slot: (L + 1,) place of each tensor, -1 if nothing reads it; tensor 0 is the input.
        last_reader: (L + 1,) the last layer that reads it, -1 if none does.
        is_cut: (L,) whether only a layer's own output is live after it.
        n_slots: Number of places.
    """

    slot: NDArray[np.int64]
    last_reader: NDArray[np.int64]
    is_cut: NDArray[np.bool_]
    n_slots: int


class Level(NamedTuple):
    """Work arrays for the nodes of one level of a block's tree and their children."""

    nodes: NDArray[np.float64]
    children: NDArray[np.float64]
    sides: NDArray[np.int8]
    child_sides: NDArray[np.int8]
    bounds: NDArray[np.float64]
    keys: NDArray[np.int64]
    kept: NDArray[np.int64]
    tensor_of: NDArray[np.int64]


@njit(cache=True, nogil=True)
def new_level(width, n_slots, n_layers):
    """Work arrays for up to `width` nodes; `sides` (width, n_layers) are the nodes' placements."""
    columns = TENSORS + PER_TENSOR * n_slots
    return Level(
        np.zeros((width, columns)),
        np.zeros((2 * width, columns)),
        np.zeros((width, n_layers), np.int8),
        np.zeros((width, n_layers), np.int8),
        np.empty(2 * width),
        np.empty(2 * width, np.int64),
        np.empty(2 * width, np.int64),
        np.zeros(n_slots, np.int64),
    )


@njit(cache=True, nogil=True)
def layout_of(inference):
    """Give every tensor a place for as long as later layers read it; O(L x live + edges)."""
    n = len(inference.ue_s)
    last_reader = np.full(n + 1, -1)
    for layer in range(n):
        for i in range(inference.offsets[layer], inference.offsets[layer + 1]):
            last_reader[inference.predecessors[i] + 1] = layer
    slot = np.full(n + 1, -1)
    free = np.zeros(n + 1, np.bool_)
    is_cut = np.zeros(n, np.bool_)
    n_slots = live = 0
    sink_seen = False
    for tensor in range(n + 1):
        layer = tensor - 1
        if last_reader[tensor] >= 0:  # before the inputs of its own layer are let go
            place = 0
            while place < n_slots and not free[place]:
                place += 1
            if place == n_slots:
                n_slots += 1
            free[place] = False
            slot[tensor] = place
            live += 1
        if layer >= 0:
            for i in range(inference.offsets[layer], inference.offsets[layer + 1]):
                p = inference.predecessors[i]
                if last_reader[p + 1] == layer:
                    free[slot[p + 1]] = True
                    live -= 1
            is_cut[layer] = live == 1 and slot[tensor] >= 0 and not sink_seen
            sink_seen = sink_seen or inference.is_sink[layer]
    is_cut[n - 1] = True
    return TensorPlaces(slot, last_reader, is_cut, n_slots)


@njit(cache=True, nogil=True)
def later(node, column, other):
    """Raise the pair at `column` to the pair at `other`."""
    node[column] = max(node[column], node[other])
    node[column + 1] = max(node[column + 1], node[other + 1])


@njit(cache=True, nogil=True)
def put(node, column, other, seconds):
    """Set the pair at `column` to `seconds` after the pair at `other`."""
    node[column] = node[other] + seconds
    node[column + 1] = node[other + 1] + seconds


@njit(cache=True, nogil=True)
def extend(node, layer, side, inference, link, relaxed, slot):
    """Let a node also run `layer` on `side`; changes the node."""
    lane, clock = (UP_FREE if side == 1 else DOWN_FREE), (EDGE_FREE if side == 1 else UE_FREE)
    serial, message = inference.mode == Upload.SERIAL, link.message
    ready_a = ready_b = release_a = release_b = NEVER
    for i in range(inference.offsets[layer], inference.offsets[layer + 1]):
        p = inference.predecessors[i]
        tensor = TENSORS + PER_TENSOR * slot[p + 1]
        here, there = tensor + 2 * side, tensor + 2 - 2 * side
        if node[tensor + WHERE] == 1 - side:
            sent = inference.output_bytes[p] if p >= 0 else inference.input_bytes
            seconds = seconds_for(sent, link.up if side == 1 else link.down)
            if relaxed:
                put(node, here, there, seconds + message)
            else:
                later(node, lane, there)
                put(node, lane, lane, seconds)
                put(node, here, lane, message)
            node[tensor + WHERE] = ON_BOTH
            if side == 1 and not serial:
                put(node, STREAM, STREAM, seconds)
        ready_a, ready_b = max(ready_a, node[here]), max(ready_b, node[here + 1])
        # Serial uploading waits for the UE's tensors to leave, and for word of the edge's.
        known = message if node[tensor + WHERE] == AT_EDGE else -message
        release_a = max(release_a, node[here] + known)
        release_b = max(release_b, node[here + 1] + known)
    waits = inference.mode != Upload.PREINSTALLED and inference.missing_bytes[layer] > 0.0
    if side == 1 and waits:
        if serial:
            node[STREAM] = max(node[STREAM], release_a)
            node[STREAM + 1] = max(node[STREAM + 1], release_b)
        put(node, STREAM, STREAM, seconds_for(inference.missing_bytes[layer], link.up))
        ready_a = max(ready_a, node[STREAM] + message)
        ready_b = max(ready_b, node[STREAM + 1] + message)
    node[clock] = max(node[clock], ready_a)
    node[clock + 1] = max(node[clock + 1], ready_b)
    seconds = (
        seconds_for(inference.edge_s[layer], link.slowdown) if side == 1 else inference.ue_s[layer]
    )
    put(node, clock, clock, seconds)
    sent = seconds_for(inference.output_bytes[layer], link.up if side == 0 else link.down)
    if slot[layer + 1] >= 0:
        tensor = TENSORS + PER_TENSOR * slot[layer + 1]
        put(node, tensor + 2 * side, clock, 0.0)
        put(node, tensor + 2 - 2 * side, clock, sent + message)
        node[tensor + WHERE] = side
    if inference.is_sink[layer] and side == 0:
        later(node, DONE, clock)
    elif inference.is_sink[layer]:
        if relaxed:
            node[DOWN_FREE] = node[DOWN_FREE + 1] = NEVER
        later(node, DOWN_FREE, clock)
        put(node, DOWN_FREE, DOWN_FREE, sent)
        node[DONE] = max(node[DONE], node[DOWN_FREE] + message)
        node[DONE + 1] = max(node[DONE + 1], node[DOWN_FREE + 1] + message)


@njit(cache=True, nogil=True)
def settle(node, layer, inference, layout, to_go, tensor_of):
    """Forget the tensors that no later layer reads.

    Args:
        node: Changed.
        layer: Its last layer.
        inference: The inference.
        layout: Of its network.
        to_go: (L + 1, 2) least time from a tensor on the UE, at the edge, to the end.
        tensor_of: (places,) which tensor is where.

    Returns:
        The earliest end of a leaf below if the block starts at t = s = 0, and a key of where the
        tensors are.
    """
    key = 17
    bound = max(node[DONE], node[DONE + 1])
    for i in range(inference.offsets[layer], inference.offsets[layer + 1]):
        p = inference.predecessors[i]
        if layout.last_reader[p + 1] == layer:
            tensor = TENSORS + PER_TENSOR * layout.slot[p + 1]
            node[tensor : tensor + WHERE] = NEVER
            node[tensor + WHERE] = NOT_LIVE
    for place in range(len(tensor_of)):
        tensor = TENSORS + PER_TENSOR * place
        where = node[tensor + WHERE]
        key = key * 1000003 + int(where)
        if where != NOT_LIVE:
            ue = max(node[tensor], node[tensor + 1]) + to_go[tensor_of[place], 0]
            edge = max(node[tensor + 2], node[tensor + 3]) + to_go[tensor_of[place], 1]
            bound = max(bound, min(ue, edge))
    return bound, key


@njit(cache=True, nogil=True)
def dominates(a, b):
    """Whether no time of node a is later than that of node b."""
    for column in range(len(a)):  # noqa: SIM110 - Numba's way
        if a[column] > b[column]:
            return False
    return True


@njit(cache=True, nogil=True)
def undominated(level, count, all_welcome):
    """Put the children that none of the same key dominates into `level.kept`, by bound.

    With `all_welcome` (at the end, where other readings of the model may differ) all are kept.
    """
    n_kept = 0
    for i in np.argsort(level.bounds[:count], kind="mergesort"):
        if level.bounds[i] == np.inf:
            break
        beaten = False
        for k in range(0 if all_welcome else n_kept):
            j = level.kept[k]
            if level.keys[j] == level.keys[i] and dominates(level.children[j], level.children[i]):
                beaten = True
                break
        if not beaten:
            level.kept[n_kept] = i
            n_kept += 1
    return n_kept


@njit(cache=True, nogil=True)
def most_promising(level, n_kept):
    """Keep as many nodes as the level holds, in turn by bound + price x upload for several prices.

    What a node has uploaded delays it only if more edge layers follow, so no single order is right:
    this is the long-term influence between layers.
    """
    width = len(level.nodes)
    kept = level.kept[:n_kept].copy()
    orders = np.empty((len(STREAM_PRICES), n_kept), np.int64)
    for r in range(len(STREAM_PRICES)):
        score = np.empty(n_kept)
        for k in range(n_kept):
            upload = max(level.children[kept[k], STREAM + 1], 0.0)
            score[k] = level.bounds[kept[k]] + STREAM_PRICES[r] * upload
        orders[r] = np.argsort(score, kind="mergesort")
    chosen = np.zeros(n_kept, np.bool_)
    n_chosen = position = 0
    while n_chosen < width:
        for r in range(len(STREAM_PRICES)):
            if not chosen[orders[r, position]] and n_chosen < width:
                chosen[orders[r, position]] = True
                n_chosen += 1
        position += 1
    level.kept[:width] = kept[chosen]
    return width


@njit(cache=True, nogil=True)
def merge_similar(level, n_kept):
    """Keep the better half of the width; replace neighbours among the rest by their minimum.

    Neighbours have their tensors in the same places, where possible, and similar bounds.
    """
    width = len(level.nodes)
    singles = width // 2
    groups = width - singles
    rest = level.kept[singles:n_kept].copy()
    rest = rest[np.argsort(level.keys[rest], kind="mergesort")]  # stable: by bound within a key
    for group in range(groups):
        first, end = group * len(rest) // groups, (group + 1) * len(rest) // groups
        merged = level.children[rest[first]]
        for k in range(first + 1, end):
            other = level.children[rest[k]]
            for column in range(len(merged)):
                is_where = column >= TENSORS and (column - TENSORS) % PER_TENSOR == WHERE
                if not is_where:
                    merged[column] = min(merged[column], other[column])
                elif merged[column] != other[column]:
                    merged[column] = ON_BOTH
        level.kept[singles + group] = rest[first]
    return width


@njit(cache=True, nogil=True)
def search_block(level, first, end, side, inference, link, relaxed, limit, layout, to_go):
    """Run the tree over layers `first..end - 1`, whose input is tensor `first` on `side`.

    Nodes whose bound exceeds `limit` are dropped (inf unless the block starts at t = s = 0).

    Returns:
        The number of leaves in `level.nodes`; row k of `level.sides` has leaf k's placement.
    """
    slot, nodes, children = layout.slot, level.nodes, level.children
    width = len(nodes)
    root = TENSORS + PER_TENSOR * slot[first]
    nodes[0, :] = NEVER
    nodes[0, TENSORS + WHERE :: PER_TENSOR] = NOT_LIVE
    nodes[0, STREAM + 1] = 0.0 if inference.mode != Upload.SERIAL else NEVER
    sent = inference.output_bytes[first - 1] if first > 0 else inference.input_bytes
    nodes[0, root + 2 * side] = 0.0
    sending = seconds_for(sent, link.up if side == 0 else link.down)
    nodes[0, root + 2 - 2 * side] = sending + link.message
    nodes[0, root + WHERE] = side
    level.tensor_of[:] = first
    count = 1
    for layer in range(first, end):
        if slot[layer + 1] >= 0:
            level.tensor_of[slot[layer + 1]] = layer + 1
        for c in range(2 * count):
            children[c] = nodes[c // 2]
            extend(children[c], layer, c % 2, inference, link, relaxed, slot)
            bound, level.keys[c] = settle(
                children[c], layer, inference, layout, to_go, level.tensor_of
            )
            level.bounds[c] = bound if bound <= limit else np.inf
        n_kept = undominated(
            level, 2 * count, layer == len(inference.ue_s) - 1 and 2 * count <= width
        )
        if n_kept > width and relaxed:
            n_kept = merge_similar(level, n_kept)
        elif n_kept > width:
            n_kept = most_promising(level, n_kept)
        for k in range(n_kept):
            c = level.kept[k]
            nodes[k] = children[c]
            level.child_sides[k, : layer - first] = level.sides[c // 2, : layer - first]
            level.child_sides[k, layer - first] = c % 2
        level.sides[:n_kept, : layer - first + 1] = level.child_sides[:n_kept, : layer - first + 1]
        count = n_kept
    return count
