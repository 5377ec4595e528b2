"""PBT-DP's pruned binary tree over the layers of one DNN.

After a cut layer, the rest of the inference depends on the past in three things only: the side that
the cut layer's output is on, the time `t` at which it exists there, and the uplink time `s` used
for what edge layers needed so far (the *stream*). Whatever sides the layers of the next block are
given, they act on `t` and `s` as

    t' = max(t + A, s + B),    s' = s + C

because every time in the block is a longest path that starts either with the block's input or with
the parameter stream. From the first block to the last, a binary tree over the block's layers finds
the non-dominated (A, B, C), the *leaves*. The non-dominated pairs (t, s) before a block are its
*front*, one for each side. Each leaf takes every pair of the front to a pair after the block. A
node of a block's tree carries times as pairs (a, b), which mean max(t + a, s + b). Inputs on either
side share one tree with two roots.

There are two readings of the timing model, relaxed and queued:

*   *Relaxed*: links carry any number of tensors at once, with one exception: an edge layer never
    starts before all bytes that it and the edge layers before it need have been sent (they share
    one uplink, and edge layers run in program order). Every time is at most the true one and grows
    with every time before it. So dominance is exact, and the best leaf is a lower bound. Nodes
    beyond the width are replaced by their minimum.
*   *Queued*: links are first come, first served, which is an estimate. A tensor that was produced
    before the last one sent counts as sent earlier. What is sent to the edge also delays the edge
    layers that ran before it was needed. Nodes beyond the width are dropped.

On a chain every block is one layer, both readings are the timing model's recursion, and all pairs
are kept. Each step is non-decreasing in t and s. So a pair with t and s no larger than another's on
the same side ends no later, and the smallest final t is the optimum over all 2^L placements.

Bounds cut nodes off. For a weight theta in [0, 1], and any path from a tensor of the node through
layers still to run, with the best side for each layer of the path,

    latency >= theta (the tensor's time + the path's) + (1 - theta) (s + C + the path's uploads),

because the latency is at least the last t and at least the whole stream. theta = 1 gives the time
to go with all parameters present. Smaller weights carry the long-term influence of an upload.

A head start of the stream may be for sale (`streaming_bound` says what it stands for). Then b
seconds of it cost price x b, with a price below 1. Take a placement that ends at T without any
stream, and at max(T, S) with the whole of it. Its least time and payment together are T + price x
max(0, S - T). To find the least of that over all placements, payments are counted as time, on t and
on s. A leaf then buys just as much as it must in order not to wait for the stream,

    b = max(0, s + B - t - A),    t' = t + A + price x b,    s' = s + C - (1 - price) x b,

which adds up to the same, because a head start that is bought later serves everything that comes
later. What is still to come grows with t and s as before, so dominance stays exact. The bounds hold
for the weights theta >= 1 - price, with times from the block's input only, because time that is
spent waiting for the stream may be bought.

Cost: O(layers x width x (live tensors + width)), and O(blocks x leaves x front).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.compiling import inner, lean_inner
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import seconds_for

INPUT, END, PLACE, FIRST_READER, LAST_READER, IS_CUT, IS_SINK, COLUMNS = range(8)
"""Columns of the tree's data on the layers. INPUT lists the tensors that the layers read, up to row
END for each layer. PLACE is where nodes keep a tensor (0: no layer reads it). FIRST_READER and
LAST_READER are tensors, too (0: none). After a cut only the cut layer's tensor is live."""
UE, EDGE, LOAD, UP, DOWN, TO_GO = range(6)
"""Columns of the seconds of a layer and its tensor. From TO_GO on they are the bounds' paths from
the tensor: for each weight, on the UE and at the edge. LATE columns later are the same paths for
tensors that some layers have read already."""
WEIGHTS = np.array([1.0, 0.8, 0.5])
"""The weights of a path's time in the bounds. The rest is the weight of the uplink's bytes."""
LATE = 2 * len(WEIGHTS)
BOUND, HIGHEST, ROOT, UP_LAST, DOWN_LAST, UE_FREE, EDGE_FREE, UP_FREE, DOWN_FREE, STREAM, DONE = (
    0, 3, 4, 5, 6, 7, 9, 11, 13, 15, 17,
)  # fmt: skip
"""Columns of a node: its bounds, the highest of them, its root, two times, then pairs."""
TENSORS, PER_TENSOR = 19, 4
"""From TENSORS on there are two pairs for each place of a tensor: when it is on the UE, and when it
is at the edge."""
NEVER, ABSENT, FOREVER, AT_ONCE = -np.inf, np.inf, 1e30, 1e-300
MOST_GAPS = 30
"""The number of live tensors whose gaps fit into 64 bits with those of the root."""
KEPT, ORDER, LIVE, ROW, GAPS, LISTS = range(6)
"""Rows of the lists: the children that are kept, the children in some order, the live tensors, the
rows of the nodes, and the gaps of the children that are kept (`gaps_of`); the number of lists."""
T, S, NODE, LEAF, PER_FRONT = range(5)
"""Rows of a front, and the number of these rows."""
CHILDREN = 5 * PER_FRONT
"""The first row of the front that holds the children of one leaf."""


class Tree(NamedTuple):
    """An inference on a link as the tree reads it; tensor 0 is the input, tensor l + 1 layer l's.

    Everything is in few arrays, because each array costs compile time in every function that passes
    it on.
    """

    layers: NDArray[np.int64]  # (max(L + 1, edges), COLUMNS)
    seconds: NDArray[np.float64]  # (L + 1, TO_GO + 2 LATE)
    message: float
    n: int  # the number of layers
    columns: int  # the columns of a node
    n_weights: int
    longest_block: int  # the most layers between two cuts
    is_chain: bool  # whether every layer reads just the layer before it
    serial: bool
    relaxed: bool
    price: float  # the price of a second's head start of the stream; 1 if none is for sale


@lean_inner
def weight_of(r, price):
    """The weight of a path's time in the bound with index r."""
    return max(WEIGHTS[r], 1.0 - price)


@lean_inner
def finite(amount, rate):
    """The same as `seconds_for`, but at most FOREVER."""
    seconds = seconds_for(amount, rate)
    return seconds if seconds < FOREVER else FOREVER


@inner
def tree_of(inference, ue_s, link, relaxed, price):
    """Collect what the tree needs for one of the readings; O(L x live tensors + edges x weights).

    `ue_s` (L,) are the seconds on the UE. The tree for WHOLE mode is that for PARALLEL mode,
    because WHOLE only waits for more. `price` is that of a head start (1: none is for sale). Prices
    below 1 need the relaxed reading, and a mode other than SERIAL.
    """
    n = len(inference.ue_s)
    edges = len(inference.predecessors)
    offsets, predecessors, is_sink = inference.offsets, inference.predecessors, inference.is_sink
    edge_s, output_bytes = inference.edge_s, inference.output_bytes
    missing_bytes = inference.missing_bytes
    layers = np.zeros((max(n + 1, edges), COLUMNS), np.int64)
    for i in range(edges):
        layers[i, INPUT] = predecessors[i] + 1
    seconds = np.zeros((n + 1, TO_GO + 2 * LATE))
    serial = inference.mode == Upload.SERIAL
    load = 0.0 if inference.mode == Upload.PREINSTALLED else link.up
    is_chain = True
    size = inference.input_bytes
    for tensor in range(n + 1):
        if tensor > 0:
            layer = tensor - 1
            size = output_bytes[layer]
            seconds[tensor, UE] = finite(ue_s[layer], 1.0)
            seconds[tensor, EDGE] = finite(edge_s[layer], link.slowdown)
            seconds[tensor, LOAD] = finite(missing_bytes[layer], load)
            if missing_bytes[layer] > 0.0 and inference.mode != Upload.PREINSTALLED:
                seconds[tensor, LOAD] = max(seconds[tensor, LOAD], AT_ONCE)
            layers[tensor, END] = offsets[tensor]
            layers[tensor, IS_SINK] = is_sink[layer]
            for i in range(layers[layer, END], layers[tensor, END]):
                p = layers[i, INPUT]
                layers[p, LAST_READER] = tensor
                if layers[p, FIRST_READER] == 0:
                    layers[p, FIRST_READER] = tensor
            if layers[tensor, END] != tensor or layers[layer, INPUT] != layer:
                is_chain = False
        seconds[tensor, UP] = finite(size, link.up)
        seconds[tensor, DOWN] = finite(size, link.down)
    columns = find_places(layers, n)
    longest = begin = 0
    for tensor in range(1, n + 1):
        if layers[tensor, IS_CUT] > 0:
            longest, begin = max(longest, tensor - begin), tensor
    n_weights = 1 if serial else len(WEIGHTS)
    for r in range(n_weights):
        find_to_go(layers, seconds, n, link.message, serial, r, weight_of(r, price))
    return Tree(
        layers, seconds, link.message, n, columns, n_weights, longest, is_chain, serial, relaxed,
        price,
    )  # fmt: skip


@inner
def find_places(layers, n):
    """Give a place to each tensor that is read, and find the cuts; return a node's columns."""
    free = np.zeros(n + 1, np.int64)
    n_free = n_places = live = sinks = 0
    for tensor in range(n + 1):
        if layers[tensor, LAST_READER] > 0:  # before the places of its layer's inputs are freed
            if n_free > 0:
                n_free -= 1
                layers[tensor, PLACE] = free[n_free]
            else:
                layers[tensor, PLACE] = TENSORS + PER_TENSOR * n_places
                n_places += 1
            live += 1
        if tensor > 0:
            for i in range(layers[tensor - 1, END], layers[tensor, END]):
                p = layers[i, INPUT]
                if layers[p, LAST_READER] == tensor and layers[p, PLACE] > 0:
                    free[n_free] = layers[p, PLACE]
                    n_free += 1
                    live -= 1
            if live == 1 and layers[tensor, PLACE] > 0 and sinks == 0:
                layers[tensor, IS_CUT] = 1
            sinks += layers[tensor, IS_SINK]
    layers[n, IS_CUT] = 1
    return TENSORS + PER_TENSOR * n_places


@lean_inner
def find_to_go(layers, seconds, n, message, serial, r, path):
    """Find the bounds' paths from every tensor for the weight with index r, which is `path`."""
    sent = 1.0 - path
    on_ue, at_edge = TO_GO + 2 * r, TO_GO + 2 * r + 1
    for own in range(n, 0, -1):
        if layers[own, IS_SINK] > 0:
            back = path * (seconds[own, DOWN] + message)
            seconds[own, at_edge] = max(seconds[own, at_edge], back)
        ue = path * seconds[own, UE] + seconds[own, on_ue]
        edge = path * seconds[own, EDGE] + seconds[own, at_edge]
        edge += seconds[own, LOAD] if serial else sent * seconds[own, LOAD]
        for i in range(layers[own - 1, END], layers[own, END]):
            p = layers[i, INPUT]
            from_ue = min(ue, seconds[p, UP] + path * message + edge)
            from_edge = min(edge, path * (seconds[p, DOWN] + message) + ue)
            seconds[p, on_ue] = max(seconds[p, on_ue], from_ue)
            seconds[p, at_edge] = max(seconds[p, at_edge], from_edge)
            if r == 0 or layers[p, LAST_READER] == own:
                seconds[p, on_ue + LATE] = max(seconds[p, on_ue + LATE], from_ue)
                seconds[p, at_edge + LATE] = max(seconds[p, at_edge + LATE], from_edge)


@lean_inner
def extend(node, own, side, tree):
    """Let a node also run the layer of tensor `own` on `side`; changes the node."""
    layers, seconds, message = tree.layers, tree.seconds, tree.message
    ready_a = ready_b = release_a = release_b = NEVER
    begin, end = layers[own - 1, END], layers[own, END]
    sent, lane, newest, clock = DOWN, DOWN_FREE, DOWN_LAST, UE_FREE
    if side == 1:
        sent, lane, newest, clock = UP, UP_FREE, UP_LAST, EDGE_FREE
    for i in range(begin, end):
        tensor = layers[i, INPUT]
        here = layers[tensor, PLACE] + 2 * side
        there = layers[tensor, PLACE] + 2 - 2 * side
        sending, away = seconds[tensor, sent], node[there]
        if node[here] == ABSENT:
            begin_a, begin_b = away, node[there + 1]
            if side == 1 and not tree.serial:
                node[STREAM + 1] += sending
                if not tree.relaxed:  # it has delayed what edge layers before this one waited for
                    node[EDGE_FREE + 1] += sending
            if not tree.relaxed and begin_a >= node[newest]:
                node[newest] = begin_a
                begin_a, begin_b = max(begin_a, node[lane]), max(begin_b, node[lane + 1])
                node[lane], node[lane + 1] = begin_a + sending, begin_b + sending
            node[here] = begin_a + sending + message
            node[here + 1] = begin_b + sending + message
        elif tree.relaxed:  # some of the nodes that were merged may send it in less time
            node[here] = min(node[here], away + sending + message)
            node[here + 1] = min(node[here + 1], node[there + 1] + sending + message)
        ready_a, ready_b = max(ready_a, node[here]), max(ready_b, node[here + 1])
        # Serial uploading waits until the UE's tensors have left and the edge's are known here.
        known = message if away == ABSENT else -message
        release_a = max(release_a, node[here] + known)
        release_b = max(release_b, node[here + 1] + known)
    load, lasting = seconds[own, LOAD], seconds[own, side]
    if side == 1 and load > 0.0:
        if tree.serial:
            node[STREAM] = max(node[STREAM], release_a)
            node[STREAM + 1] = max(node[STREAM + 1], release_b)
        node[STREAM] += load
        node[STREAM + 1] += load
        ready_a = max(ready_a, node[STREAM] + message)
        ready_b = max(ready_b, node[STREAM + 1] + message)
    end_a = max(node[clock], ready_a) + lasting
    end_b = max(node[clock + 1], ready_b) + lasting
    node[clock], node[clock + 1] = end_a, end_b
    for i in range(begin, end):
        tensor = layers[i, INPUT]
        if layers[tensor, LAST_READER] == own:
            for column in range(PER_TENSOR):
                node[layers[tensor, PLACE] + column] = NEVER
    place = layers[own, PLACE]
    if place > 0:
        for column in range(PER_TENSOR):
            node[place + column] = ABSENT
        node[place + 2 * side], node[place + 2 * side + 1] = end_a, end_b
    if layers[own, IS_SINK] > 0:
        if side == 1:
            if not tree.relaxed:
                node[DOWN_LAST] = max(node[DOWN_LAST], end_a)
                end_a, end_b = max(end_a, node[DOWN_FREE]), max(end_b, node[DOWN_FREE + 1])
            end_a, end_b = end_a + seconds[own, DOWN], end_b + seconds[own, DOWN]
            node[DOWN_FREE], node[DOWN_FREE + 1] = end_a, end_b
            end_a, end_b = end_a + message, end_b + message
        node[DONE], node[DONE + 1] = max(node[DONE], end_a), max(node[DONE + 1], end_b)
    if layers[own, IS_CUT] > 0:
        for column in range(UP_LAST, STREAM):
            node[column] = NEVER


@lean_inner
def least_end(node, own, lists, n_live, origin, tree):
    """A lower bound on the end of any leaf below a node.

    Each weight's bound and the highest of them, which is returned, are written into the node.
    """
    layers, seconds = tree.layers, tree.seconds
    root = int(node[ROOT])
    highest = 0.0
    for r in range(tree.n_weights):
        path, least = weight_of(r, tree.price), 0.0
        t, s = origin[root, 2 * r], origin[root, 2 * r + 1]
        if tree.price < 1.0:  # time spent waiting for the stream may be bought
            s = -FOREVER
        for k in range(n_live):
            tensor = lists[LIVE, k]
            column, to_go = layers[tensor, PLACE], TO_GO + 2 * r
            if layers[tensor, FIRST_READER] <= own:
                to_go += LATE
            ue = max(t + path * node[column], s + path * node[column + 1])
            edge = max(t + path * node[column + 2], s + path * node[column + 3])
            ue, edge = ue + seconds[tensor, to_go], edge + seconds[tensor, to_go + 1]
            least = max(least, min(ue, edge))
        least = max(least, max(t + path * node[DONE], s + path * node[DONE + 1]))
        if path < 1.0:
            least += (1.0 - path) * node[STREAM + 1]
        node[BOUND + r] = least
        highest = max(highest, least)
    node[HIGHEST] = highest
    return highest


@lean_inner
def sort_by(nodes, column, lists, count):
    """Sort the first `count` rows of the list ORDER by a column (insertion sort, stable)."""
    for k in range(1, count):
        row = lists[ORDER, k]
        key = nodes[row, column]
        at = k
        while at > 0 and nodes[lists[ORDER, at - 1], column] > key:
            lists[ORDER, at] = lists[ORDER, at - 1]
            at -= 1
        lists[ORDER, at] = row


@lean_inner
def in_turns(nodes, lists, n_kept, n_weights):
    """Sort the nodes that are kept such that every bound in turn contributes its best node."""
    for turn in range(n_weights + 1):
        for k in range(n_kept):
            lists[ORDER, k] = lists[KEPT, k]
        sort_by(nodes, BOUND + turn if turn < n_weights else HIGHEST, lists, n_kept)
        for k in range(n_kept):
            rank, row = k * n_weights + turn, lists[ORDER, k]
            if turn == n_weights:
                lists[KEPT, k] = row
            elif turn == 0 or rank < nodes[row, HIGHEST]:
                nodes[row, HIGHEST] = rank


@lean_inner
def merge_similar(nodes, lists, n_kept, width, n_live, layers):
    """Keep the better half of the width, and replace neighbours among the rest by their minimum.

    Neighbours have the same root and similar bounds. Where possible, they also have their tensors
    in the same places.
    """
    singles = width // 2 if width >= 4 else 0
    n_rest, n_ue = np.int64(0), 0
    for k in range(singles, n_kept):
        row = lists[KEPT, k]
        key = nodes[row, ROOT]
        n_ue += key == 0.0
        for tensor in range(n_live):
            column = layers[lists[LIVE, tensor], PLACE]
            key = (
                3.0 * key
                + (nodes[row, column] == ABSENT)
                + 2.0 * (nodes[row, column + 2] == ABSENT)
            )
        nodes[row, BOUND] = key  # the bound itself is no longer needed
        lists[ORDER, n_rest] = row
        n_rest += 1
    sort_by(nodes, np.int64(BOUND), lists, n_rest)
    groups = width - singles
    groups_ue = max(min(n_ue, 1), groups * n_ue // n_rest)
    for group in range(groups):
        if group < groups_ue:
            first, end = group * n_ue // groups_ue, (group + 1) * n_ue // groups_ue
        else:
            n_edge, groups_edge, own = n_rest - n_ue, groups - groups_ue, group - groups_ue
            first = n_ue + own * n_edge // groups_edge
            end = n_ue + (own + 1) * n_edge // groups_edge
        row = lists[ORDER, first]
        for k in range(first + 1, end):
            for column in range(nodes.shape[1]):
                nodes[row, column] = min(nodes[row, column], nodes[lists[ORDER, k], column])
        lists[KEPT, singles + group] = row


@lean_inner
def plant(nodes, lists, tensor, tree):
    """Start a block's tree with two roots: the block's input is on the UE, or at the edge."""
    place = tree.layers[tensor, PLACE]
    for side in range(2):
        for column in range(tree.columns):
            nodes[side, column] = NEVER
        if not tree.serial:
            nodes[side, STREAM + 1] = 0.0
        for column in range(PER_TENSOR):
            nodes[side, place + column] = ABSENT
        nodes[side, place + 2 * side], nodes[side, place + 2 * side + 1] = 0.0, NEVER
        nodes[side, ROOT] = side
        lists[ROW, side] = side
    lists[LIVE, 0] = tensor


@lean_inner
def still_live(lists, n_live, own, layers):
    """Bring the list of live tensors up to date after a layer; return their number."""
    kept = 0
    for i in range(n_live):
        if layers[lists[LIVE, i], LAST_READER] > own:
            lists[LIVE, kept] = lists[LIVE, i]
            kept += 1
    if layers[own, PLACE] > 0:
        lists[LIVE, kept] = own
        kept += 1
    return kept


@lean_inner
def undominated(nodes, lists, n_order, n_live, layers):
    """Put the children that none of the same root dominates into `KEPT`; return their number.

    They stay in the order of their bounds.
    """
    n_kept = 0
    for k in range(n_order):
        child = lists[ORDER, k]
        gaps = gaps_of(nodes[child], lists, n_live, layers)
        beaten = False
        for j in range(n_kept):
            if lists[GAPS, j] & ~gaps == 0:
                beaten = no_later(nodes[lists[KEPT, j]], nodes[child], lists, n_live, layers)
                if beaten:
                    break
        if not beaten:
            lists[KEPT, n_kept], lists[GAPS, n_kept] = child, gaps
            n_kept += 1
    return n_kept


@lean_inner
def gaps_of(node, lists, n_live, layers):
    """The side of a node's root and the sides where its live tensors are absent, as a bit mask.

    A node can only dominate another with the same root, and only if its tensors are absent nowhere
    else than the other's. Then no bit of its mask is missing in the other's.
    """
    gaps = np.int64(1) << np.int64(node[ROOT])
    for k in range(min(n_live, MOST_GAPS)):
        column = layers[lists[LIVE, k], PLACE]
        ue, edge = np.int64(node[column] == ABSENT), np.int64(node[column + 2] == ABSENT)
        gaps = 4 * gaps | 2 * edge | ue
    return gaps


@lean_inner
def no_later(one, other, lists, n_live, layers):
    """Whether all times of one node are at most those of another."""
    if one[STREAM + 1] > other[STREAM + 1]:
        return False
    for k in range(n_live):
        place = layers[lists[LIVE, k], PLACE]
        for column in range(place, place + PER_TENSOR):
            if one[column] > other[column]:
                return False
    for column in range(UE_FREE, TENSORS):  # noqa: SIM110 - Numba's way
        if one[column] > other[column]:
            return False
    return True


@lean_inner
def search_block(nodes, lists, trace, origin, begin, end, tree, limit):
    """Run the tree over the layers of tensors `begin + 1..end`; return the number of leaves.

    The nodes and their children use the same two blocks of rows and change places at each level.
    Child c comes from the node that is at c // 2 in the list ROW, and has side c % 2.
    """
    width = nodes.shape[0] // 4
    plant(nodes, lists, begin, tree)
    base = 0
    n_live, count = np.int64(1), np.int64(2)  # Numba compiles callees again for literals
    for own in range(begin + 1, end + 1):
        n_live = still_live(lists, n_live, own, tree.layers)
        n_order, base = np.int64(0), 2 * width - base
        for c in range(2 * count):
            parent, child = lists[ROW, c // 2], base + c
            for column in range(tree.columns):
                nodes[child, column] = nodes[parent, column]
            extend(nodes[child], own, c % 2, tree)
            least = least_end(nodes[child], own, lists, n_live, origin, tree)
            if least <= limit and least < FOREVER:
                lists[ORDER, n_order] = child
                n_order += 1
        sort_by(nodes, np.int64(HIGHEST), lists, n_order)
        count = n_order
        if own < tree.n:
            count = undominated(nodes, lists, n_order, n_live, tree.layers)
        else:
            for k in range(count):
                lists[KEPT, k] = lists[ORDER, k]
        if count > width:
            if tree.relaxed:
                merge_similar(nodes, lists, count, width, n_live, tree.layers)
            else:
                in_turns(nodes, lists, count, tree.n_weights)
            count = width
        for k in range(count):
            lists[ROW, k] = lists[KEPT, k]
            trace[own, k] = lists[KEPT, k] - base
    return count


@lean_inner
def branch(fronts, source, count, a, b, c, leaf, latest):
    """Apply a leaf (a, b, c) to every node of the front `source`.

    Only children with t' <= `latest` are kept. They fill the front CHILDREN from the back.

    Returns:
        The index of the first child.
    """
    first, best = count, np.inf
    for i in range(count - 1, -1, -1):  # s grows on the way: only an earlier t' is of interest
        t = max(fronts[source + T, i] + a, fronts[source + S, i] + b)
        if t < best and t <= latest:
            first -= 1
            best = t
            fronts[CHILDREN + T, first] = t
            fronts[CHILDREN + S, first] = fronts[source + S, i] + c
            fronts[CHILDREN + NODE, first] = fronts[source + NODE, i]
            fronts[CHILDREN + LEAF, first] = leaf
    return first


@lean_inner
def branch_at(price, fronts, source, count, a, b, c, leaf, latest):
    """Do the same as `branch` if a head start is for sale.

    The children then come in any order and are sorted here. Some may be dominated.
    """
    first = count
    for i in range(count):
        t, s = fronts[source + T, i] + a, fronts[source + S, i] + c
        bought = max(0.0, fronts[source + S, i] + b - t)
        t, s = t + price * bought, s - (1.0 - price) * bought
        if t > latest:
            continue
        first -= 1
        at = first
        while at + 1 < count and fronts[CHILDREN + T, at + 1] < t:
            for row in range(CHILDREN, CHILDREN + PER_FRONT):
                fronts[row, at] = fronts[row, at + 1]
            at += 1
        fronts[CHILDREN + T, at], fronts[CHILDREN + S, at] = t, s
        fronts[CHILDREN + NODE, at] = fronts[source + NODE, i]
        fronts[CHILDREN + LEAF, at] = leaf
    return first


@lean_inner
def adds(fronts, source, n_source, first, end):
    """Whether a front lacks any of the children: most leaves have none that it lacks."""
    i = 0
    for j in range(first, end):
        while i < n_source and fronts[source + T, i] <= fronts[CHILDREN + T, j]:
            i += 1
        if i == 0 or fronts[CHILDREN + S, j] < fronts[source + S, i - 1]:
            return True
    return False


@lean_inner
def join(fronts, source, n_source, first, end, joined):
    """Merge a front and the children into one without dominated nodes; return its size."""
    i, j, kept = 0, first, 0
    least = np.inf
    while i < n_source or j < end:
        front, k = CHILDREN, j
        if j == end or (i < n_source and fronts[source + T, i] <= fronts[CHILDREN + T, j]):
            front, k = source, i
            i += 1
        else:
            j += 1
        if fronts[front + S, k] < least:
            least = fronts[front + S, k]
            for row in range(PER_FRONT):
                fronts[joined + row, kept] = fronts[front + row, k]
            kept += 1
    return kept


@lean_inner
def thin(fronts, front, count, to_go, limit, cap, relaxed, price):
    """Drop nodes beyond a bound, then reduce the front to `cap` nodes; return its size.

    `to_go` has the bounds' paths in every other place. In the relaxed reading neighbours are
    replaced by their minimum, otherwise by one of them.
    """
    kept = 0
    for i in range(count):
        bound = 0.0
        for r in range(len(WEIGHTS)):
            path = weight_of(r, price)
            known = path * fronts[front + T, i] + (1.0 - path) * fronts[front + S, i]
            bound = max(bound, known + to_go[2 * r])
        if bound <= limit:
            for row in range(PER_FRONT):
                fronts[front + row, kept] = fronts[front + row, i]
            kept += 1
    if kept <= cap:
        return kept
    for group in range(cap):
        begin, end = group * kept // cap, (group + 1) * kept // cap
        for row in range(PER_FRONT):
            fronts[front + row, group] = fronts[front + row, begin]
        if relaxed:
            fronts[front + S, group] = fronts[front + S, end - 1]
    return cap


@inner
def longer(array, size):
    """A copy of an array with longer rows."""
    copy = np.zeros((array.shape[0], size))
    for row in range(array.shape[0]):
        for i in range(array.shape[1]):
            copy[row, i] = array[row, i]
    return copy


@lean_inner
def set_origin(origin, side, fronts, front, count, price):
    """Write the least weighted times with which a block starts on a side, for its bounds."""
    for r in range(len(WEIGHTS)):
        path = weight_of(r, price)
        t = s = FOREVER
        for i in range(count):
            t = min(t, path * fronts[front + T, i] + (1.0 - path) * fronts[front + S, i])
            s = min(s, fronts[front + S, i])
        origin[side, 2 * r], origin[side, 2 * r + 1] = t, s


@lean_inner
def finish(nodes, lists, n_leaves, fronts, slots, count, limit, best, price):
    """Write the best ends after the last block, and return their number.

    The rows of `best` are the time, the node and the leaf of each end.
    """
    n_best, most = 0, best.shape[1] - 1
    for leaf in range(n_leaves):
        row = lists[ROW, leaf]
        a, b, side = nodes[row, DONE], nodes[row, DONE + 1], int(nodes[row, ROOT])
        front = slots[side]
        for i in range(count[side]):
            t, behind = fronts[front + T, i] + a, fronts[front + S, i] + b
            if behind > t:
                t = behind if price >= 1.0 else t + price * (behind - t)
            if t > limit or (n_best == most and t >= best[0, n_best - 1]):
                continue
            at = min(n_best, most - 1)
            while at > 0 and best[0, at - 1] > t:
                for line in range(3):
                    best[line, at] = best[line, at - 1]
                at -= 1
            best[0, at], best[1, at], best[2, at] = t, fronts[front + NODE, i], leaf
            n_best = min(n_best + 1, most)
    return n_best


@inner
def search(tree, width, cap, limit, placements):
    """Find the best ways through the blocks.

    Args:
        tree: The inference on the link.
        width: Nodes per level of a block's tree.
        cap: The most nodes per side at a cut.
        limit: A latency known to be reachable. Nodes that must exceed it are dropped.
        placements: (K, L) overwritten with the K best leaves, the best first.

    Returns:
        The number of leaves, and the time of the best one (inf without leaves).
    """
    layers, n = tree.layers, tree.n
    width = max(width, 2)
    nodes, trace = np.zeros((4 * width, tree.columns)), np.zeros((n + 1, width), np.int64)
    lists, origin = np.zeros((LISTS, max(2 * width, tree.columns)), np.int64), np.zeros((2, LATE))
    fronts, size = np.zeros((6 * PER_FRONT, 64)), 64
    slots, count = np.zeros(5, np.int64), np.zeros(4, np.int64)
    for k in range(5):
        slots[k] = k * PER_FRONT
    history, n_history = np.zeros((2, 256)), 0
    best = np.zeros((3, len(placements) + 1))
    best[0, 0] = np.inf
    fronts[T, 0] = fronts[S, 0] = 0.0
    fronts[NODE, 0] = -1.0
    count[0] = 1
    begin, n_leaves = np.int64(0), np.int64(0)
    for cut in range(1, n + 1):
        if layers[cut, IS_CUT] == 0:
            continue
        for side in range(2):
            set_origin(origin, side, fronts, slots[side], count[side], tree.price)
        n_leaves = search_block(nodes, lists, trace, origin, begin, cut, tree, limit)
        begin = np.int64(cut)
        if begin == n:
            break
        for target in range(2):
            latest = limit - tree.seconds[begin, TO_GO + target]
            column = layers[begin, PLACE] + 2 * target
            n_new = np.int64(0)
            for leaf in range(n_leaves):
                row = lists[ROW, leaf]
                a, b, side = nodes[row, column], nodes[row, column + 1], int(nodes[row, ROOT])
                if a == ABSENT:
                    continue
                if n_new + count[side] > size:
                    size = 2 * (n_new + count[side])
                    fronts = longer(fronts, size)
                c = 0.0 if tree.serial else nodes[row, STREAM + 1]
                source, n_source = slots[side], count[side]
                if tree.price < 1.0:
                    k = branch_at(tree.price, fronts, source, n_source, a, b, c, leaf, latest)
                else:
                    k = branch(fronts, source, n_source, a, b, c, leaf, latest)
                if adds(fronts, slots[2 + target], n_new, k, count[side]):
                    n_new = join(fronts, slots[2 + target], n_new, k, count[side], slots[4])
                    slots[2 + target], slots[4] = slots[4], slots[2 + target]
            front, to_go = slots[2 + target], tree.seconds[begin, TO_GO + target :]
            n_new = thin(fronts, front, n_new, to_go, limit, cap, tree.relaxed, tree.price)
            if n_history + n_new > history.shape[1]:
                history = longer(history, 2 * (n_history + n_new))
            for i in range(n_new):
                history[0, n_history] = fronts[front + NODE, i]
                history[1, n_history] = fronts[front + LEAF, i]
                fronts[front + NODE, i] = n_history
                n_history += 1
            count[2 + target] = n_new
        for side in range(2):
            slots[side], slots[2 + side] = slots[2 + side], slots[side]
            count[side] = count[2 + side]
    n_best = finish(nodes, lists, n_leaves, fronts, slots, count, limit, best, tree.price)
    for k in range(n_best):
        node, leaf = int(best[1, k]), int(best[2, k])
        for own in range(n, 0, -1):
            child = trace[own, leaf]
            placements[k, own - 1] = child % 2
            leaf = child // 2
            if own > 1 and layers[own - 1, IS_CUT] > 0:
                leaf, node = int(history[1, node]), int(history[0, node])
    return n_best, best[0, 0]
