"""PBT-DP's pruned binary tree over the layers of one DNN."""

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
WEIGHTS = np.array([1.0, 0.85, 0.7, 0.5, 0.3])
"""Weights of a path's time in the bounds; the rest is the weight of the uplink's bytes."""
T, S, NODE, LEAF = range(4)
"""Rows of a front."""


class Tree(NamedTuple):
    """What the tree knows of an inference on a link."""

    offsets: NDArray[np.int64]
    predecessors: NDArray[np.int64]
    is_sink: NDArray[np.bool_]
    seconds: NDArray[np.float64]  # (L + 1, 5)
    place: NDArray[np.int64]  # (L + 1,)
    first_reader: NDArray[np.int64]  # (L + 1,)
    last_reader: NDArray[np.int64]  # (L + 1,)
    is_cut: NDArray[np.bool_]  # (L,)
    to_go: NDArray[np.float64]  # (L + 1, 2, weights)
    n_places: int
    is_chain: bool
    serial: bool
    waits: bool
    message: float


@njit(cache=True, nogil=True)
def tree_of(inference, link):
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
            seconds[tensor, EDGE] = min(FOREVER, seconds_for(inference.edge_s[layer], link.slowdown))
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
        offsets, predecessors, inference.is_sink, seconds, place, first_reader, last_reader, is_cut, to_go,
        n_places, is_chain, serial, waits, link.message,
    )  # fmt: skip



@njit(cache=True, nogil=True)
def extend(node, layer, side, tree, relaxed):
    """Let a node also run `layer` on `side`; changes the node."""
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
            if not relaxed and begin_a >= node[newest]:
                node[newest] = begin_a
                begin_a, begin_b = max(begin_a, node[lane]), max(begin_b, node[lane + 1])
                node[lane], node[lane + 1] = begin_a + sending, begin_b + sending
            node[here] = begin_a + sending + message
            node[here + 1] = begin_b + sending + message
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
            if not relaxed:
                end_a, end_b = max(end_a, node[DOWN_FREE]), max(end_b, node[DOWN_FREE + 1])
            end_a, end_b = end_a + seconds[own, DOWN], end_b + seconds[own, DOWN]
            node[DOWN_FREE], node[DOWN_FREE + 1] = end_a, end_b
            end_a, end_b = end_a + message, end_b + message
        node[DONE], node[DONE + 1] = max(node[DONE], end_a), max(node[DONE + 1], end_b)
    if tree.is_cut[layer]:
        for column in range(STREAM):
            node[column] = NEVER


@njit(cache=True, nogil=True)
def least_end(node, layer, tree, live, n_live, origin, bounds, c):
    """The earliest end of any leaf below a node; `bounds` is overwritten with each bound."""
    highest = 0.0
    for r in range(tree.to_go.shape[2]):
        path = WEIGHTS[r]
        least = 0.0
        t, s = origin[r, 0], origin[r, 1]
        for k in range(n_live):
            tensor = live[k]
            column = TENSORS + PER_TENSOR * tree.place[tensor]
            ue = max(t + path * node[column], s + path * node[column + 1])
            edge = max(t + path * node[column + 2], s + path * node[column + 3])
            row = tensor if tree.first_reader[tensor] > layer else tensor + len(tree.place)
            ue, edge = ue + tree.to_go[row, 0, r], edge + tree.to_go[row, 1, r]
            least = max(least, min(ue, edge))
        least = max(least, max(t + path * node[DONE], s + path * node[DONE + 1]))
        if path < 1.0:
            least += (1.0 - path) * node[STREAM + 1]
        bounds[r, c] = least
        highest = max(highest, least)
    return highest


@njit(cache=True, nogil=True)
def sort_by(keys, order, count, spare):
    """Sort the first `count` numbers in `order` by their keys (merge sort, stable)."""
    step = 1
    while step < count:
        for first in range(0, count, 2 * step):
            middle = min(count, first + step)
            end = min(count, middle + step)
            i, j = first, middle
            for k in range(first, end):
                if j == end or (i < middle and keys[order[i]] <= keys[order[j]]):
                    spare[k] = order[i]
                    i += 1
                else:
                    spare[k] = order[j]
                    j += 1
        for k in range(count):
            order[k] = spare[k]
        step *= 2


@njit(cache=True, nogil=True)
def dominates(a, b):
    """Whether nothing is later in node a than in node b."""
    for column in range(UE_FREE, len(a)):  # noqa: SIM110 - Numba's way
        if a[column] > b[column]:
            return False
    return True


@njit(cache=True, nogil=True)
def in_turns(bounds, kept, n_kept, order, spare, marks):
    """Sort the nodes kept such that each bound in turn gives its best."""
    n_bounds = len(bounds) - 1
    for r in range(n_bounds):
        for k in range(n_kept):
            order[k] = kept[k]
        sort_by(bounds[r], order, n_kept, spare)
        for k in range(n_kept):
            rank = k * n_bounds + r
            if r == 0 or rank < marks[order[k]]:
                marks[order[k]] = rank
    sort_by(marks, kept, n_kept, spare)


@njit(cache=True, nogil=True)
def merge_similar(children, kept, n_kept, width):
    """Keep the better half of the width; replace neighbours among the rest by their minimum."""
    singles = width // 2
    groups = width - singles
    rest = n_kept - singles
    for group in range(groups):
        first = singles + group * rest // groups
        end = singles + (group + 1) * rest // groups
        for k in range(first + 1, end):
            for column in range(children.shape[1]):
                children[kept[first], column] = min(
                    children[kept[first], column], children[kept[k], column]
                )
        kept[singles + group] = kept[first]


@njit(cache=True, nogil=True)
def search_block(work, begin, end, origin, tree, relaxed, limit):
    """Run the tree over layers `begin..end - 1`; returns the number of leaves."""
    nodes, children, bounds, kept, order, spare, root, live, trace, first = work
    columns = nodes.shape[1]
    for side in range(2):
        for column in range(columns):
            nodes[side, column] = NEVER
        if not tree.serial:
            nodes[side, STREAM + 1] = 0.0
        place = TENSORS + PER_TENSOR * tree.place[begin]
        nodes[side, place + 2 * side] = 0.0
        nodes[side, place + 2 - 2 * side] = nodes[side, place + 3 - 2 * side] = ABSENT
        root[side] = side
    live[0] = begin
    n_live, count = 1, 2
    total = len(bounds) - 1
    width = len(nodes)
    for layer in range(begin, end):
        last = layer == len(tree.is_cut) - 1
        k = 0
        for i in range(n_live):
            if tree.last_reader[live[i]] > layer:
                live[k] = live[i]
                k += 1
        n_live = k
        if tree.place[layer + 1] >= 0:
            live[n_live] = layer + 1
            n_live += 1
        n_order = 0
        for c in range(2 * count):
            for column in range(columns):
                children[c, column] = nodes[c // 2, column]
            extend(children[c], layer, c % 2, tree, relaxed)
            least = least_end(children[c], layer, tree, live, n_live, origin[root[c // 2]], bounds, c)
            bounds[total, c] = least
            if least <= limit and least < FOREVER:
                order[n_order] = c
                n_order += 1
        sort_by(bounds[total], order, n_order, spare)
        n_kept = 0
        for k in range(n_order):
            c = order[k]
            beaten = False
            if not last:
                for j in range(n_kept):
                    if root[kept[j] // 2] == root[c // 2] and dominates(children[kept[j]], children[c]):
                        beaten = True
                        break
            if not beaten:
                kept[n_kept] = c
                n_kept += 1
        if n_kept > width:
            if relaxed:
                merge_similar(children, kept, n_kept, width)
            else:
                in_turns(bounds, kept, n_kept, order, spare, bounds[total])
            n_kept = width
        first[layer + 1] = first[layer] + n_kept
        for k in range(n_kept):
            for column in range(columns):
                nodes[k, column] = children[kept[k], column]
            trace[first[layer] + k] = kept[k]
            order[k] = root[kept[k] // 2]
        for k in range(n_kept):
            root[k] = order[k]
        count = n_kept
    return count


@njit(cache=True, nogil=True)
def branch(front, side, count, a, b, c, leaf, room, children):
    """Give every node of one front one option; returns the index of the first child."""
    first, best = count, np.inf
    row = 3 * side
    for i in range(count - 1, -1, -1):  # s grows towards the front: only an earlier t' is worth it
        t = max(front[row, i] + a, front[row + 1, i] + b)
        if t < best and t <= room:
            first -= 1
            best = t
            children[T, first] = t
            children[S, first] = front[row + 1, i] + c
            children[NODE, first] = front[row + 2, i]
            children[LEAF, first] = leaf
    return first


@njit(cache=True, nogil=True)
def join(left, n_left, right, first, end, joined):
    """Merge two fronts sorted by t into one without dominated nodes; returns its size."""
    i, j, kept = 0, first, 0
    least = np.inf
    while i < n_left or j < end:
        if j == end or (i < n_left and left[T, i] <= right[T, j]):
            if left[S, i] < least:
                least = left[S, i]
                for row in range(4):
                    joined[row, kept] = left[row, i]
                kept += 1
            i += 1
        else:
            if right[S, j] < least:
                least = right[S, j]
                for row in range(4):
                    joined[row, kept] = right[row, j]
                kept += 1
            j += 1
    return kept


@njit(cache=True, nogil=True)
def thin(front, count, to_go, limit, relaxed, cap):
    """Drop nodes beyond a bound, then hold the front to `cap` nodes; returns its size."""
    kept = 0
    for i in range(count):
        bound = 0.0
        for r in range(len(to_go)):
            known = WEIGHTS[r] * front[T, i] + (1.0 - WEIGHTS[r]) * front[S, i]
            bound = max(bound, known + to_go[r])
        if bound <= limit:
            for row in range(4):
                front[row, kept] = front[row, i]
            kept += 1
    if kept <= cap:
        return kept
    for group in range(cap):
        begin, end = group * kept // cap, (group + 1) * kept // cap
        for row in range(4):
            front[row, group] = front[row, begin]
        if relaxed:
            front[S, group] = front[S, end - 1]
    return cap


@njit(cache=True, nogil=True)
def longer(array, size):
    """A copy with longer rows."""
    rows, columns = array.shape
    copy = np.empty((rows, size))
    for row in range(rows):
        for column in range(columns):
            copy[row, column] = array[row, column]
    return copy


@njit(cache=True, nogil=True)
def search(tree, relaxed, width, cap, limit, placements):
    """The best ways through the blocks; returns their number and the time of the best."""
    n, columns = len(tree.is_cut), TENSORS + PER_TENSOR * tree.n_places
    n_weights = tree.to_go.shape[2]
    width = max(width, 2)
    room = 2 * width
    first = np.empty(n + 1, np.int64)
    first[0] = 0
    trace = np.empty(n * width, np.int64)
    work = (
        np.empty((width, columns)), np.empty((room, columns)), np.empty((n_weights + 1, room)),
        np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64),
        np.empty(room, np.int64), np.empty(tree.n_places + 1, np.int64), trace, first,
    )  # fmt: skip
    nodes, root = work[0], work[6]
    origin = np.empty((2, n_weights, 2))
    size = 64
    front, new, other, children = (
        np.empty((6, size)), np.empty((4, size)), np.empty((4, size)), np.empty((4, size)),
    )  # fmt: skip
    next_front = np.empty((6, size))
    history = np.empty((2, 256))
    n_history = 0
    count, next_count = np.empty(2, np.int64), np.empty(2, np.int64)
    count[0], count[1] = 1, 0
    front[0, 0] = front[1, 0] = 0.0
    front[2, 0] = -1.0
    n_best, k_best = 0, len(placements)
    best = np.empty((3, k_best + 1))
    best[0, 0] = np.inf
    begin = 0
    for cut in range(n):
        if not tree.is_cut[cut]:
            continue
        for side in range(2):
            for r in range(n_weights):
                t = s = FOREVER
                for i in range(count[side]):
                    known = WEIGHTS[r] * front[3 * side, i]
                    known += (1.0 - WEIGHTS[r]) * front[3 * side + 1, i]
                    t, s = min(t, known), min(s, front[3 * side + 1, i])
                origin[side, r, 0], origin[side, r, 1] = t, s
        n_leaves = search_block(work, begin, cut + 1, origin, tree, relaxed, limit)
        begin = cut + 1
        if cut == n - 1:
            for leaf in range(n_leaves):
                a, b, side = nodes[leaf, DONE], nodes[leaf, DONE + 1], root[leaf]
                for i in range(count[side]):
                    t = max(front[3 * side, i] + a, front[3 * side + 1, i] + b)
                    if t > limit or (n_best == k_best and t >= best[0, n_best - 1]):
                        continue
                    at = min(n_best, k_best - 1)
                    while at > 0 and best[0, at - 1] > t:
                        for row in range(3):
                            best[row, at] = best[row, at - 1]
                        at -= 1
                    best[0, at], best[1, at], best[2, at] = t, front[3 * side + 2, i], leaf
                    n_best = min(n_best + 1, k_best)
            break
        for target in range(2):
            latest = limit - tree.to_go[cut + 1, target, 0]
            n_new = 0
            column = TENSORS + PER_TENSOR * tree.place[cut + 1] + 2 * target
            for leaf in range(n_leaves):
                if nodes[leaf, column] == ABSENT:
                    continue
                side = root[leaf]
                if n_new + count[side] > size:
                    size = 2 * (n_new + count[side])
                    new, other, children = longer(new, size), longer(other, size), longer(children, size)
                    front, next_front = longer(front, size), longer(next_front, size)
                c = 0.0 if tree.serial else nodes[leaf, STREAM + 1]
                k = branch(
                    front, side, count[side], nodes[leaf, column], nodes[leaf, column + 1], c, leaf,
                    latest, children,
                )  # fmt: skip
                if k < count[side]:
                    n_new = join(new, n_new, children, k, count[side], other)
                    new, other = other, new
            n_new = thin(new, n_new, tree.to_go[cut + 1, target], limit, relaxed, cap)
            if n_history + n_new > history.shape[1]:
                history = longer(history, 2 * (n_history + n_new))
            for i in range(n_new):
                next_front[3 * target, i] = new[T, i]
                next_front[3 * target + 1, i] = new[S, i]
                next_front[3 * target + 2, i] = n_history
                history[0, n_history], history[1, n_history] = new[NODE, i], new[LEAF, i]
                n_history += 1
            next_count[target] = n_new
        front, next_front = next_front, front
        count[0], count[1] = next_count[0], next_count[1]
    for k in range(n_best):
        node, leaf = int(best[1, k]), int(best[2, k])
        for layer in range(n - 1, -1, -1):
            c = trace[first[layer] + leaf]
            placements[k, layer] = c % 2
            leaf = c // 2
            if layer > 0 and tree.is_cut[layer - 1]:
                leaf, node = int(history[1, node]), int(history[0, node])
    return n_best, best[0, 0]
