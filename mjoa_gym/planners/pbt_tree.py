"""PBT-DP's pruned binary tree over the layers of one DNN.

After a cut layer, all that the rest of the inference can feel of the past is the side that its
output is on and two times: `t`, when it exists there, and `s`, the uplink time used for what edge
layers so far needed (the *stream*). Whatever side each layer of the next block is given, it acts on
them as

    t' = max(t + A, s + B),    s' = s + C

because every time in the block is a longest path that starts either with the block's input or with
the parameter stream. From the first block to the last, a binary tree over the block's layers finds
its non-dominated (A, B, C), the *leaves*; each leaf then takes every pair of the *front*, the
non-dominated (t, s) per side before the block, to one after it. A node of a block's tree carries
times as pairs (a, b) meaning max(t + a, s + b). Inputs on either side share one tree with two
roots.

Two readings of the timing model:
    *Relaxed*: links carry any number of tensors at once, except that an edge layer never starts
    before all bytes that it and the edge layers before it need have been sent (they share one
    uplink, and edge layers run in program order). Every time is at most the true one and grows with
    every time before it, so dominance is exact, and the best leaf is a lower bound. Nodes beyond
    the width are replaced by their minimum.
    *Queued*: links are first come, first served; an estimate. A tensor that was produced before the
    last one sent counts as sent earlier. Nodes beyond the width are dropped.
On a chain every block is one layer, both readings are the timing model's recursion, and all pairs
are kept. Each step is non-decreasing in t and s, so a pair with t and s no larger than another's on
the same side ends no later, and the smallest final t is the optimum over all 2^L placements.

Bounds cut nodes off. For a weight theta in [0, 1], and any path from a tensor of the node through
layers still to run, with the best side for each layer of the path,

    latency >= theta (the tensor's time + the path's) + (1 - theta) (s + C + the path's uploads),

since the latency is at least the last t and at least the whole stream. theta = 1 is the time to go
with all parameters present; smaller ones carry the long-term influence of an upload.

Cost: O(layers x width x (live tensors + width)), and O(blocks x leaves x front).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import seconds_for

UE, EDGE, LOAD, UP, DOWN = range(5)
"""Columns of the seconds of a layer and its tensor."""
UP_LAST, DOWN_LAST, UE_FREE, EDGE_FREE, UP_FREE, DOWN_FREE, STREAM, DONE, TENSORS = (
    0, 1, 2, 4, 6, 8, 10, 12, 14,
)  # fmt: skip
"""Columns of a node: two times, then pairs. From TENSORS on, two pairs per place of a tensor: when
it is on the UE, and at the edge."""
PER_TENSOR = 4
NEVER, ABSENT, FOREVER = -np.inf, np.inf, 1e30
WEIGHTS = np.array([1.0, 0.8, 0.5])
"""Weights of a path's time in the bounds; the rest is the weight of the uplink's bytes."""
T, S, NODE, LEAF = range(4)
"""Rows of a front."""
CHILDREN = 5
"""The front of the children of one option."""
inner = njit(cache=True, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # type: ignore[call-overload]
"""For functions that only compiled ones call: they compile faster."""
KEPT, ORDER, ROOT, LIVE = range(4)
"""Rows of the lists: the children kept, in some order, the nodes' roots, the live tensors."""


class Tree(NamedTuple):
    """What the tree knows of an inference on a link; tensor 0 is the input, l + 1 layer l's."""

    offsets: NDArray[np.int64]  # as in `Inference`, with the next two
    predecessors: NDArray[np.int64]
    is_sink: NDArray[np.bool_]
    seconds: NDArray[np.float64]  # (L + 1, 5) of each tensor: UE, EDGE, LOAD, UP, DOWN
    place: NDArray[np.int64]  # (L + 1,) where nodes keep each tensor, -1 if nothing reads it
    first_reader: NDArray[np.int64]  # (L + 1,) the first layer that reads it, -1 if none does
    last_reader: NDArray[np.int64]  # (L + 1,) the last one
    is_cut: NDArray[np.bool_]  # (L,) whether only a layer's own output is live after it
    to_go: NDArray[np.float64]  # (2 (L + 1), 2, weights) the bounds' paths from each tensor and
    # side; in the second half for tensors that some layers have read already
    n_places: int
    is_chain: bool  # whether every layer reads just the layer before it
    serial: bool
    message: float
    relaxed: bool


@njit(cache=True, nogil=True)
def tree_of(inference, link, relaxed):
    """What the tree needs to know, for one of the readings; O(L x live + edges x weights).

    With WHOLE it is that of PARALLEL: it would only wait for more.
    """
    n = len(inference.ue_s)
    offsets, predecessors = inference.offsets, inference.predecessors
    seconds = np.empty((n + 1, 5))
    first_reader, last_reader = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    place = np.empty(n + 1, np.int64)
    tenant = np.empty(n + 1, np.int64)
    is_cut = np.empty(n, np.bool_)
    is_chain = True
    waits = inference.mode != Upload.PREINSTALLED
    for tensor in range(n + 1):
        layer = tensor - 1
        size = inference.output_bytes[layer] if layer >= 0 else inference.input_bytes
        seconds[tensor, UP] = min(FOREVER, seconds_for(size, link.up))
        seconds[tensor, DOWN] = min(FOREVER, seconds_for(size, link.down))
        seconds[tensor, UE] = seconds[tensor, EDGE] = seconds[tensor, LOAD] = 0.0
        place[tensor] = first_reader[tensor] = last_reader[tensor] = tenant[tensor] = -1
        if layer >= 0:
            seconds[tensor, UE] = min(FOREVER, inference.ue_s[layer])
            edge = seconds_for(inference.edge_s[layer], link.slowdown)
            seconds[tensor, EDGE] = min(FOREVER, edge)
            if waits:
                load = seconds_for(inference.missing_bytes[layer], link.up)
                seconds[tensor, LOAD] = min(FOREVER, load)
            for i in range(offsets[layer], offsets[layer + 1]):
                p = predecessors[i] + 1
                last_reader[p] = layer
                if first_reader[p] < 0:
                    first_reader[p] = layer
            if offsets[layer + 1] != layer + 1 or predecessors[layer] != layer - 1:
                is_chain = False
    n_places = live = 0
    sink_seen = False
    for tensor in range(n + 1):
        layer = tensor - 1
        if last_reader[tensor] >= 0:  # before the inputs of its own layer are let go
            free = 0
            while free < n_places and tenant[free] >= 0:
                free += 1
            n_places = max(n_places, free + 1)
            tenant[free] = tensor
            place[tensor] = free
            live += 1
        if layer >= 0:
            for i in range(offsets[layer], offsets[layer + 1]):
                p = predecessors[i] + 1
                if last_reader[p] == layer and tenant[place[p]] == p:
                    tenant[place[p]] = -1
                    live -= 1
            is_cut[layer] = live == 1 and place[tensor] >= 0 and not sink_seen
            sink_seen = sink_seen or inference.is_sink[layer]
    is_cut[n - 1] = True
    serial = inference.mode == Upload.SERIAL
    n_weights = 1 if serial else len(WEIGHTS)
    to_go = np.empty((2 * n + 2, 2, n_weights))
    for r in range(n_weights):
        path, sent = WEIGHTS[r], 1.0 - WEIGHTS[r]
        for tensor in range(2 * n + 2):
            to_go[tensor, 0, r] = to_go[tensor, 1, r] = 0.0
        for layer in range(n - 1, -1, -1):
            own = layer + 1
            load = seconds[own, LOAD]
            if inference.is_sink[layer]:
                back = path * (seconds[own, DOWN] + link.message)
                to_go[own, 1, r] = max(to_go[own, 1, r], back)
            ue = path * seconds[own, UE] + to_go[own, 0, r]
            edge = path * seconds[own, EDGE] + to_go[own, 1, r]
            edge += load if serial else sent * load
            for i in range(offsets[layer], offsets[layer + 1]):
                p = predecessors[i] + 1
                up = (path + sent) * seconds[p, UP] + path * link.message
                down = path * (seconds[p, DOWN] + link.message)
                from_ue, from_edge = min(ue, up + edge), min(edge, down + ue)
                to_go[p, 0, r] = max(to_go[p, 0, r], from_ue)
                to_go[p, 1, r] = max(to_go[p, 1, r], from_edge)
                if r == 0 or last_reader[p] == layer:
                    late = n + 1 + p
                    to_go[late, 0, r] = max(to_go[late, 0, r], from_ue)
                    to_go[late, 1, r] = max(to_go[late, 1, r], from_edge)
    return Tree(
        offsets, predecessors, inference.is_sink, seconds, place, first_reader, last_reader, is_cut,
        to_go, n_places, is_chain, serial, link.message, relaxed,
    )  # fmt: skip


class Work(NamedTuple):
    """Work arrays for the nodes of one level of a block's tree and their children."""

    nodes: NDArray[np.float64]  # (width, columns)
    children: NDArray[np.float64]  # (2 width, columns) child c is node c // 2 with side c % 2
    bounds: NDArray[np.float64]  # (bounds + 1, 2 width) of the children; the last is the highest
    lists: NDArray[np.int64]  # (4, 2 width) KEPT, ORDER, ROOT, LIVE
    origin: NDArray[np.float64]  # (2, bounds, 2) least weighted times of the inputs' fronts
    trace: NDArray[np.int64]  # (nodes of all levels,) which child each node was
    first: NDArray[np.int64]  # (L + 1,) the first node of each level


@inner
def extend(children, child, layer, side, tree):
    """Let a child also run `layer` on `side`; changes the child."""
    node = children[child]
    seconds, message = tree.seconds, tree.message
    own = layer + 1
    ready_a = ready_b = release_a = release_b = NEVER
    for i in range(tree.offsets[layer], tree.offsets[own]):
        tensor = tree.predecessors[i] + 1
        place = TENSORS + PER_TENSOR * tree.place[tensor]
        here, there = place + 2 * side, place + 2 - 2 * side
        if node[here] == ABSENT:
            begin_a, begin_b = node[there], node[there + 1]
            sending, lane, newest = seconds[tensor, DOWN], DOWN_FREE, DOWN_LAST
            if side == 1:
                sending, lane, newest = seconds[tensor, UP], UP_FREE, UP_LAST
                if not tree.serial:
                    node[STREAM + 1] += sending
            if not tree.relaxed and begin_a >= node[newest]:
                node[newest] = begin_a
                begin_a, begin_b = max(begin_a, node[lane]), max(begin_b, node[lane + 1])
                node[lane], node[lane + 1] = begin_a + sending, begin_b + sending
            node[here] = begin_a + sending + message
            node[here + 1] = begin_b + sending + message
        elif tree.relaxed:  # of the nodes that were merged, some may send it in less time
            sending = message + seconds[tensor, UP if side == 1 else DOWN]
            node[here] = min(node[here], node[there] + sending)
            node[here + 1] = min(node[here + 1], node[there + 1] + sending)
        ready_a, ready_b = max(ready_a, node[here]), max(ready_b, node[here + 1])
        # Serial uploading waits for the UE's tensors to leave, and for word of the edge's.
        known = message if node[there] == ABSENT else -message
        release_a = max(release_a, node[here] + known)
        release_b = max(release_b, node[here + 1] + known)
    if side == 1 and seconds[own, LOAD] > 0.0:
        if tree.serial:
            node[STREAM] = max(node[STREAM], release_a)
            node[STREAM + 1] = max(node[STREAM + 1], release_b)
        node[STREAM] += seconds[own, LOAD]
        node[STREAM + 1] += seconds[own, LOAD]
        ready_a = max(ready_a, node[STREAM] + message)
        ready_b = max(ready_b, node[STREAM + 1] + message)
    clock, lasting = UE_FREE, seconds[own, UE]
    if side == 1:
        clock, lasting = EDGE_FREE, seconds[own, EDGE]
    end_a = max(node[clock], ready_a) + lasting
    end_b = max(node[clock + 1], ready_b) + lasting
    node[clock], node[clock + 1] = end_a, end_b
    for i in range(tree.offsets[layer], tree.offsets[own]):
        tensor = tree.predecessors[i] + 1
        if tree.last_reader[tensor] == layer:
            place = TENSORS + PER_TENSOR * tree.place[tensor]
            for column in range(place, place + PER_TENSOR):
                node[column] = NEVER
    if tree.place[own] >= 0:
        place = TENSORS + PER_TENSOR * tree.place[own]
        node[place + 2 * side], node[place + 2 * side + 1] = end_a, end_b
        node[place + 2 - 2 * side] = node[place + 3 - 2 * side] = ABSENT
    if tree.is_sink[layer]:
        if side == 1:
            if not tree.relaxed:
                node[DOWN_LAST] = max(node[DOWN_LAST], end_a)
                end_a, end_b = max(end_a, node[DOWN_FREE]), max(end_b, node[DOWN_FREE + 1])
            end_a, end_b = end_a + seconds[own, DOWN], end_b + seconds[own, DOWN]
            node[DOWN_FREE], node[DOWN_FREE + 1] = end_a, end_b
            end_a, end_b = end_a + message, end_b + message
        node[DONE], node[DONE + 1] = max(node[DONE], end_a), max(node[DONE + 1], end_b)
    if tree.is_cut[layer]:
        for column in range(STREAM):
            node[column] = NEVER


@inner
def least_end(work, child, layer, n_live, tree):
    """The earliest end of any leaf below a child; writes down each bound and the highest."""
    node, live = work.children[child], work.lists
    root = live[ROOT, child // 2]
    highest = 0.0
    for r in range(tree.to_go.shape[2]):
        path, least = WEIGHTS[r], 0.0
        t, s = work.origin[root, r, 0], work.origin[root, r, 1]
        for k in range(n_live):
            row = tensor = live[LIVE, k]
            if tree.first_reader[tensor] <= layer:
                row = tensor + len(tree.place)
            column = TENSORS + PER_TENSOR * tree.place[tensor]
            ue = max(t + path * node[column], s + path * node[column + 1])
            edge = max(t + path * node[column + 2], s + path * node[column + 3])
            ue, edge = ue + tree.to_go[row, 0, r], edge + tree.to_go[row, 1, r]
            least = max(least, min(ue, edge))
        least = max(least, max(t + path * node[DONE], s + path * node[DONE + 1]))
        if path < 1.0:
            least += (1.0 - path) * node[STREAM + 1]
        work.bounds[r, child] = least
        highest = max(highest, least)
    work.bounds[tree.to_go.shape[2], child] = highest
    return highest


@inner
def sort_by(keys, row, lists, which, count):
    """Sort the first `count` numbers of a list by their keys (insertion sort, stable)."""
    for k in range(1, count):
        number = lists[which, k]
        key = keys[row, number]
        at = k
        while at > 0 and keys[row, lists[which, at - 1]] > key:
            lists[which, at] = lists[which, at - 1]
            at -= 1
        lists[which, at] = number


@inner
def dominates(nodes, one, other):
    """Whether nothing is later in one node than in the other."""
    for column in range(UE_FREE, nodes.shape[1]):
        if nodes[one, column] > nodes[other, column]:
            return False
    return True


@inner
def in_turns(work, n_kept):
    """Sort the nodes kept such that every bound in turn gives its best."""
    bounds, lists = work.bounds, work.lists
    total = len(bounds) - 1
    for r in range(total):
        for k in range(n_kept):
            lists[ORDER, k] = lists[KEPT, k]
        sort_by(bounds, r, lists, ORDER, n_kept)
        for k in range(n_kept):
            rank = k * total + r
            child = lists[ORDER, k]
            if r == 0 or rank < bounds[total, child]:
                bounds[total, child] = rank
    sort_by(bounds, total, lists, KEPT, n_kept)


@inner
def merge_similar(work, n_kept):
    """Keep the better half of the width; replace neighbours among the rest by their minimum.

    Neighbours have the same root and similar bounds.
    """
    lists, width = work.lists, len(work.nodes)
    singles = width // 2 if width >= 4 else 0
    n_rest = n_ue = 0
    for root in range(2):
        n_ue = n_rest  # in the end those of the UE's root
        for k in range(singles, n_kept):
            if lists[ROOT, lists[KEPT, k] // 2] == root:
                lists[ORDER, n_rest] = lists[KEPT, k]
                n_rest += 1
    groups = width - singles
    groups_ue = max(min(n_ue, 1), groups * n_ue // n_rest)
    merge(work, 0, n_ue, singles, groups_ue)
    merge(work, n_ue, n_rest, singles + groups_ue, groups - groups_ue)


@inner
def merge(work, begin, end, kept, groups):
    """Merge children `begin..end - 1` of ORDER into groups; they are kept from `kept` on."""
    children, lists = work.children, work.lists
    for group in range(groups):
        first = begin + group * (end - begin) // groups
        for k in range(first + 1, begin + (group + 1) * (end - begin) // groups):
            for column in range(children.shape[1]):
                children[lists[ORDER, first], column] = min(
                    children[lists[ORDER, first], column], children[lists[ORDER, k], column]
                )
        lists[KEPT, kept + group] = lists[ORDER, first]


@inner
def plant(work, tensor, tree):
    """Start a block's tree: two roots, whose input is on the UE and at the edge."""
    nodes = work.nodes
    place = TENSORS + PER_TENSOR * tree.place[tensor]
    for side in range(2):
        for column in range(nodes.shape[1]):
            nodes[side, column] = NEVER
        if not tree.serial:
            nodes[side, STREAM + 1] = 0.0
        nodes[side, place + 2 * side] = 0.0
        nodes[side, place + 2 - 2 * side] = nodes[side, place + 3 - 2 * side] = ABSENT
        work.lists[ROOT, side] = side
    work.lists[LIVE, 0] = tensor


@inner
def still_live(work, n_live, layer, tree):
    """Bring the list of live tensors up to date after a layer; returns their number."""
    kept, live = 0, work.lists
    for i in range(n_live):
        if tree.last_reader[live[LIVE, i]] > layer:
            live[LIVE, kept] = live[LIVE, i]
            kept += 1
    if tree.place[layer + 1] >= 0:
        live[LIVE, kept] = layer + 1
        kept += 1
    return kept


@inner
def undominated(work, n_order, all_welcome):
    """Put the children that none of the same root dominates into `KEPT`, by bound."""
    children, lists, n_kept = work.children, work.lists, 0
    for k in range(n_order):
        child = lists[ORDER, k]
        beaten = False
        for j in range(0 if all_welcome else n_kept):
            other = lists[KEPT, j]
            if (
                children[other, STREAM + 1] <= children[child, STREAM + 1]
                and lists[ROOT, other // 2] == lists[ROOT, child // 2]
                and dominates(children, other, child)
            ):
                beaten = True
                break
        if not beaten:
            lists[KEPT, n_kept] = child
            n_kept += 1
    return n_kept


@inner
def search_block(work, begin, end, tree, limit):
    """Run the tree over layers `begin..end - 1`; returns the number of leaves."""
    nodes, children, bounds, lists = work.nodes, work.children, work.bounds, work.lists
    width, columns = nodes.shape
    plant(work, begin, tree)
    n_live, count = 1, 2
    for layer in range(begin, end):
        n_live = still_live(work, n_live, layer, tree)
        n_order = np.int64(0)  # as a literal it would compile callees once more
        for c in range(2 * count):
            for column in range(columns):
                children[c, column] = nodes[c // 2, column]
            extend(children, c, layer, c % 2, tree)
            least = least_end(work, c, layer, n_live, tree)
            if least <= limit and least < FOREVER:
                lists[ORDER, n_order] = c
                n_order += 1
        sort_by(bounds, len(bounds) - 1, lists, ORDER, n_order)
        count = undominated(work, n_order, layer == len(tree.is_cut) - 1)
        if count > width:
            if tree.relaxed:
                merge_similar(work, count)
            else:
                in_turns(work, count)
            count = width
        first = work.first[layer]
        work.first[layer + 1] = first + count
        for k in range(count):
            child = lists[KEPT, k]
            for column in range(columns):
                nodes[k, column] = children[child, column]
            work.trace[first + k] = child
            lists[ORDER, k] = lists[ROOT, child // 2]
        for k in range(count):
            lists[ROOT, k] = lists[ORDER, k]
    return count


@inner
def branch(fronts, source, count, a, b, c, leaf, latest):
    """Give every node of the front `source` one option.

    Children have t' <= `latest`; they fill the front CHILDREN from the back.

    Returns:
        The index of the first child.
    """
    first, best = count, np.inf
    for i in range(count - 1, -1, -1):  # s grows towards the front: only an earlier t' is worth it
        t = max(fronts[source, T, i] + a, fronts[source, S, i] + b)
        if t < best and t <= latest:
            first -= 1
            best = t
            fronts[CHILDREN, T, first] = t
            fronts[CHILDREN, S, first] = fronts[source, S, i] + c
            fronts[CHILDREN, NODE, first] = fronts[source, NODE, i]
            fronts[CHILDREN, LEAF, first] = leaf
    return first


@inner
def join(fronts, source, n_source, first, end, joined):
    """Merge a front and the children into one without dominated nodes; returns its size."""
    i, j, kept = 0, first, 0
    least = np.inf
    while i < n_source or j < end:
        front, k = CHILDREN, j
        if j == end or (i < n_source and fronts[source, T, i] <= fronts[CHILDREN, T, j]):
            front, k = source, i
            i += 1
        else:
            j += 1
        if fronts[front, S, k] < least:
            least = fronts[front, S, k]
            for row in range(4):
                fronts[joined, row, kept] = fronts[front, row, k]
            kept += 1
    return kept


@inner
def thin(fronts, front, count, tensor, side, tree, limit, cap):
    """Drop nodes beyond a bound, then hold the front to `cap` nodes; returns its size.

    Relaxed, neighbours are replaced by their minimum; otherwise one of them stands for them.
    """
    kept = 0
    for i in range(count):
        bound = 0.0
        for r in range(tree.to_go.shape[2]):
            known = WEIGHTS[r] * fronts[front, T, i] + (1.0 - WEIGHTS[r]) * fronts[front, S, i]
            bound = max(bound, known + tree.to_go[tensor, side, r])
        if bound <= limit:
            for row in range(4):
                fronts[front, row, kept] = fronts[front, row, i]
            kept += 1
    if kept <= cap:
        return kept
    for group in range(cap):
        begin, end = group * kept // cap, (group + 1) * kept // cap
        for row in range(4):
            fronts[front, row, group] = fronts[front, row, begin]
        if tree.relaxed:
            fronts[front, S, group] = fronts[front, S, end - 1]
    return cap


@inner
def longer(array, size):
    """A copy of (fronts, rows, old size) with longer rows."""
    fronts, rows, old = array.shape
    copy = np.empty((fronts, rows, size))
    for front in range(fronts):
        for row in range(rows):
            for i in range(old):
                copy[front, row, i] = array[front, row, i]
    return copy


@inner
def set_origin(work, fronts, slots, count):
    """Write down the least weighted times that a block starts with, for its bounds."""
    for side in range(2):
        front = slots[side]
        for r in range(work.origin.shape[1]):
            t = s = FOREVER
            for i in range(count[side]):
                known = WEIGHTS[r] * fronts[front, T, i] + (1.0 - WEIGHTS[r]) * fronts[front, S, i]
                t, s = min(t, known), min(s, fronts[front, S, i])
            work.origin[side, r, 0], work.origin[side, r, 1] = t, s


@inner
def finish(work, fronts, slots, count, n_leaves, limit, best):
    """The best ends after the last block: rows time, node, leaf of `best`; returns their number."""
    n_best, most = 0, best.shape[1] - 1
    for leaf in range(n_leaves):
        a, b, side = work.nodes[leaf, DONE], work.nodes[leaf, DONE + 1], work.lists[ROOT, leaf]
        front = slots[side]
        for i in range(count[side]):
            t = max(fronts[front, T, i] + a, fronts[front, S, i] + b)
            if t > limit or (n_best == most and t >= best[0, n_best - 1]):
                continue
            at = min(n_best, most - 1)
            while at > 0 and best[0, at - 1] > t:
                for row in range(3):
                    best[row, at] = best[row, at - 1]
                at -= 1
            best[0, at], best[1, at], best[2, at] = t, fronts[front, NODE, i], leaf
            n_best = min(n_best + 1, most)
    return n_best


@njit(cache=True, nogil=True)
def search(tree, width, cap, limit, placements):
    """The best ways through the blocks.

    Args:
        tree: Of the inference on the link.
        width: Nodes per level of a block's tree.
        cap: Most nodes per side at a cut.
        limit: A latency known to be reachable; nodes that must exceed it are dropped.
        placements: (K, L) overwritten with the K best leaves, the best first.

    Returns:
        The number of leaves, and the time of the best (inf without leaves).
    """
    n, n_bounds = len(tree.is_cut), tree.to_go.shape[2]
    columns = TENSORS + PER_TENSOR * tree.n_places
    width = max(width, 2)
    work = Work(
        np.empty((width, columns)),
        np.empty((2 * width, columns)),
        np.empty((n_bounds + 1, 2 * width)),
        np.empty((4, max(2 * width, tree.n_places + 1)), np.int64),
        np.empty((2, n_bounds, 2)),
        np.empty(n * width, np.int64),
        np.empty(n + 1, np.int64),
    )
    fronts, size = np.empty((6, 4, 64)), 64
    slots, count, n_new = np.empty(5, np.int64), np.empty(2, np.int64), np.empty(2, np.int64)
    for k in range(5):
        slots[k] = k
    history, n_history = np.empty((1, 2, 256)), 0
    best = np.empty((3, len(placements) + 1))
    best[0, 0] = np.inf
    count[0], count[1] = 1, 0
    fronts[0, T, 0] = fronts[0, S, 0] = 0.0
    fronts[0, NODE, 0] = -1.0
    work.first[0] = 0
    begin, n_leaves = np.int64(0), np.int64(0)
    for cut in range(n):
        if not tree.is_cut[cut]:
            continue
        set_origin(work, fronts, slots, count)
        n_leaves = search_block(work, begin, cut + 1, tree, limit)
        begin = np.int64(cut + 1)
        if begin == n:
            break
        for target in range(2):
            latest = limit - tree.to_go[begin, target, 0]
            column = TENSORS + PER_TENSOR * tree.place[begin] + 2 * target
            n_new[target] = 0
            for leaf in range(n_leaves):
                a, b = work.nodes[leaf, column], work.nodes[leaf, column + 1]
                if a == ABSENT:
                    continue
                side = work.lists[ROOT, leaf]
                if n_new[target] + count[side] > size:
                    size = 2 * (n_new[target] + count[side])
                    fronts = longer(fronts, size)
                c = 0.0 if tree.serial else work.nodes[leaf, STREAM + 1]
                k = branch(fronts, slots[side], count[side], a, b, c, leaf, latest)
                if k < count[side]:
                    n_new[target] = join(
                        fronts, slots[2 + target], n_new[target], k, count[side], slots[4]
                    )
                    slots[2 + target], slots[4] = slots[4], slots[2 + target]
            front = slots[2 + target]
            n_new[target] = thin(fronts, front, n_new[target], begin, target, tree, limit, cap)
            if n_history + n_new[target] > history.shape[2]:
                history = longer(history, 2 * (n_history + n_new[target]))
            for i in range(n_new[target]):
                history[0, 0, n_history] = fronts[front, NODE, i]
                history[0, 1, n_history] = fronts[front, LEAF, i]
                fronts[front, NODE, i] = n_history
                n_history += 1
        for side in range(2):
            slots[side], slots[2 + side] = slots[2 + side], slots[side]
            count[side] = n_new[side]
    n_best = finish(work, fronts, slots, count, n_leaves, limit, best)
    for k in range(n_best):
        node, leaf = int(best[1, k]), int(best[2, k])
        for layer in range(n - 1, -1, -1):
            child = work.trace[work.first[layer] + leaf]
            placements[k, layer] = child % 2
            leaf = child // 2
            if layer > 0 and tree.is_cut[layer - 1]:
                leaf, node = int(history[0, 1, node]), int(history[0, 0, node])
    return n_best, best[0, 0]
