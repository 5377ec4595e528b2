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
        The bytes dropped, and the bytes kept. Cost: O(N L), and O(N + L) for each dropped.
    """
    dropped, total = 0.0, bytes_there(resident, dnn, tables)
    if total <= memory_bytes:
        return dropped, total
    first = np.empty(len(dnn), np.int64)  # the layer of each UE that would go first
    for i in range(len(dnn)):
        first[i] = first_to_go(resident[i], idle[i], dnn[i], tables)
    while True:
        oldest, most, chosen = 0, 0.0, -1
        for i in range(len(dnn)):
            layer = first[i]
            if layer >= 0:
                age = idle[i, layer]
                held = resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
                if chosen < 0 or age > oldest or (age == oldest and held >= most):
                    oldest, most, chosen = age, held, i
        if total <= memory_bytes or chosen < 0:
            total = bytes_there(resident, dnn, tables)  # without the differences' rounding errors
            if total <= memory_bytes or chosen < 0:
                return dropped, total
        resident[chosen, first[chosen]] = 0.0
        idle[chosen, first[chosen]] = 0
        first[chosen] = first_to_go(resident[chosen], idle[chosen], dnn[chosen], tables)
        dropped += most
        total -= most


@njit(cache=True, nogil=True)
def first_to_go(resident, idle, d, tables):
    """The layer (of network d) of one UE that is dropped first; -1 if none is there."""
    oldest, most, chosen = 0, 0.0, -1
    for layer in range(tables.n_layers[d]):
        held = resident[layer] * tables.parameter_bytes[d, layer]
        if held > 0.0:
            age = idle[layer]
            if chosen < 0 or age > oldest or (age == oldest and held >= most):
                oldest, most, chosen = age, held, layer
    return chosen


@njit(cache=True, nogil=True)
def bytes_there(resident, dnn, tables):
    """The bytes of all layers that are on the server."""
    total = 0.0
    for i in range(len(dnn)):
        for layer in range(tables.n_layers[dnn[i]]):
            total += resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
    return total
