"""The server's memory: which uploaded parameters are still there in the next round.

The unit is one layer of one UE (two UEs with the same network do not share it); a layer that is
uploaded in part occupies its part. A layer is *used* in a round if it was placed at the edge or if
any of its parameters arrived. While there is more than fits, the layer that has been unused for the
most rounds is dropped whole. Among equally old ones, the one with most bytes there goes first (the
fewest layers are lost), then that of the later UE, then the later layer.
"""

from __future__ import annotations

from mjoa_gym.model.compiling import lean, lean_inner


@lean
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


@lean
def evict(resident, idle, dnn, tables, memory_bytes):
    """Drop the least recently used layers until the rest fits; in place.

    `resident` and `idle` (N, L) are those of UEs with networks `dnn` (N,).

    Returns:
        The bytes dropped, and the bytes kept. Cost: O(N L) for each layer dropped.
    """
    dropped, total = 0.0, bytes_there(resident, dnn, tables)
    if total <= memory_bytes:
        return dropped, total
    while True:
        i, layer = _next_to_go(resident, idle, dnn, tables)
        if i >= 0:
            held = resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
            resident[i, layer] = 0.0
            idle[i, layer] = 0
            dropped += held
            total -= held
        if total <= memory_bytes or i < 0:
            total = bytes_there(resident, dnn, tables)  # without the differences' rounding errors
            if total <= memory_bytes or i < 0:
                return dropped, total


@lean_inner
def _next_to_go(resident, idle, dnn, tables):
    """The UE and the layer that are dropped first; (-1, -1) if nothing is there."""
    oldest, most, last_i, last_layer = -1, 0.0, -1, -1
    for i in range(len(dnn)):
        for layer in range(tables.n_layers[dnn[i]]):
            held = resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
            unused = idle[i, layer]
            if held > 0.0 and (unused > oldest or (unused == oldest and held >= most)):
                oldest, most, last_i, last_layer = unused, held, i, layer
    return last_i, last_layer


@lean_inner
def bytes_there(resident, dnn, tables):
    """The bytes of all layers that are on the server."""
    total = 0.0
    for i in range(len(dnn)):
        for layer in range(tables.n_layers[dnn[i]]):
            total += resident[i, layer] * tables.parameter_bytes[dnn[i], layer]
    return total
