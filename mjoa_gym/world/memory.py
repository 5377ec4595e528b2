"""The server's memory: which uploaded parameters are still there in the next round.

The unit is one layer of one UE (two UEs with the same network do not share it); a layer that is
uploaded in part occupies its part. A layer is *used* in a round if it was placed at the edge or if
any of its parameters arrived. While there is more than fits, the layer that has been unused for the
most rounds is dropped whole. Among equally old ones, the one with most bytes there goes first (the
fewest layers are lost), then that of the later UE, then the later layer.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def settle(resident, idle, placement, sent):
    """Add what a UE has sent in a round, and count the rounds since each layer was used; in place.

    Args:
        resident: (L,) fractions at the round's start; then, at its end.
        idle: (L,) rounds since the last use; 0 for layers that are not on the server.
        placement: (>= L,) 1 = edge.
        sent: (>= L,) which fraction of the missing part of each layer arrived.
    """
    for layer in range(len(resident)):
        before = resident[layer]
        after = min(1.0, before + (1.0 - before) * sent[layer])
        resident[layer] = after
        used = placement[layer] == 1 or after > before
        idle[layer] = 0 if used or after <= 0.0 else idle[layer] + 1


@njit(cache=True, nogil=True)
def evict(resident, idle, dnn, tables, memory_bytes):
    """Drop the least recently used layers until the rest fits; in place.

    Args:
        resident: (N, L) resident fractions.
        idle: (N, L) rounds since the last use.
        dnn: (N,) index of each UE's network.
        tables: With `n_layers` (D,) and `parameter_bytes` (D, L).
        memory_bytes: What the server keeps.

    Returns:
        The bytes dropped, and the bytes kept. Cost: O(N L), and O(log(N L)) for each dropped.
    """
    total = 0.0
    n_there = 0
    for i in range(len(dnn)):
        for layer in range(tables.n_layers[dnn[i]]):
            here = resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
            total += here
            n_there += here > 0.0
    if total <= memory_bytes:
        return 0.0, total
    ues, layers = np.empty(n_there, np.int64), np.empty(n_there, np.int64)
    unused, held, k = np.empty(n_there, np.int64), np.empty(n_there), 0
    for i in range(len(dnn)):
        for layer in range(tables.n_layers[dnn[i]]):
            here = resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
            if here > 0.0:
                ues[k], layers[k], unused[k], held[k] = i, layer, idle[i, layer], here
                k += 1
    heap = np.arange(n_there)
    for k in range(n_there // 2 - 1, -1, -1):
        _sift_down(heap, k, n_there, unused, held)
    dropped = 0.0
    while True:
        worst = heap[0]
        resident[ues[worst], layers[worst]] = 0.0
        idle[ues[worst], layers[worst]] = 0
        dropped += held[worst]
        total -= held[worst]
        held[worst] = 0.0
        n_there -= 1
        if total <= memory_bytes or n_there == 0:
            total = held.sum()  # without the rounding errors of the differences
            if total <= memory_bytes or n_there == 0:
                return dropped, total
        heap[0] = heap[n_there]
        _sift_down(heap, 0, n_there, unused, held)


@njit(cache=True, nogil=True)
def _sift_down(heap, k, n, unused, held):
    """Move entry k of a heap of n layers down to its place; the first one is to be dropped next."""
    layer = heap[k]
    while 2 * k + 1 < n:
        child = 2 * k + 1
        if child + 1 < n and _before(heap[child + 1], heap[child], unused, held):
            child += 1
        if not _before(heap[child], layer, unused, held):
            break
        heap[k] = heap[child]
        k = child
    heap[k] = layer


@njit(inline="always")
def _before(a, b, unused, held):
    """Whether layer a is dropped before layer b."""
    if unused[a] != unused[b]:
        return unused[a] > unused[b]
    if held[a] != held[b]:
        return held[a] > held[b]
    return a > b
