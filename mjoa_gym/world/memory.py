"""The server's memory: which uploaded parameters are still there in the next round.

The unit is one layer of one UE (two UEs with the same network do not share it); a layer that is
uploaded in part occupies its part. A layer is *used* in a round if it was placed at the edge or if
any of its parameters arrived. While there is more than fits, the layer that has been unused for the
most rounds is dropped whole. Among equally old ones, the one with most bytes there goes first (the
fewest layers are lost), then that of the later UE, then the later layer.
"""

from __future__ import annotations

import heapq

from numba import njit


@njit(cache=True, nogil=True)
def settle(resident, idle, placement, sent):
    """Add what a UE has sent in a round, and count the rounds since each layer was used; in place.

    `resident` (L,) are fractions, `idle` (L,) is 0 for layers that are not on the server, `sent`
    (>= L,) says which fraction of the missing part of each layer arrived.
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

    `resident` and `idle` (N, L) are those of UEs with networks `dnn` (N,).

    Returns:
        The bytes dropped, and the bytes kept. Cost: O(N L), and O(log(N L)) for each dropped.
    """
    dropped, total = 0.0, bytes_there(resident, dnn, tables)
    if total <= memory_bytes:
        return dropped, total
    heap = []
    for i in range(len(dnn)):
        for layer in range(tables.n_layers[dnn[i]]):
            held = resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
            if held > 0.0:
                heap.append((-idle[i, layer], -held, -i, -layer))
    heapq.heapify(heap)
    while True:
        _, minus_held, minus_i, minus_layer = heapq.heappop(heap)
        resident[-minus_i, -minus_layer] = 0.0
        idle[-minus_i, -minus_layer] = 0
        dropped -= minus_held
        total += minus_held
        if total <= memory_bytes or len(heap) == 0:
            total = bytes_there(resident, dnn, tables)  # without the differences' rounding errors
            if total <= memory_bytes or len(heap) == 0:
                return dropped, total


@njit(cache=True, nogil=True)
def bytes_there(resident, dnn, tables):
    """The bytes of all layers that are on the server."""
    total = 0.0
    for i in range(len(dnn)):
        for layer in range(tables.n_layers[dnn[i]]):
            total += resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
    return total
