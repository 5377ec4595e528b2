"""The server's memory: which uploaded parameters are still there in the next round.

The memory has R rows of layers. Each UE has its own row. Where parameters are shared, each network
has a row instead, and UEs with the same network use the same row. The unit is one layer of a row. A
layer that is uploaded in part occupies only that part. Networks may have layers in common: the
first network that has a layer *owns* it (`Tables.owner`), and the rows of the other networks repeat
the owner's state.

A layer is *used* in a round if it was placed at the edge or if any of its parameters arrived. While
the layers do not fit, the layer that has been unused for the most rounds is dropped whole. Layers
that are to be *retained* are dropped only after all others. Among equally old layers, the layer
with the most bytes on the server goes first (so the fewest layers are lost), then the one of the
later row, then the later layer.
"""

from __future__ import annotations

from numba import njit

from mjoa_gym.model.compiling import lean, lean_inner

RETAINED = 1 << 30
"""Subtracted from the idle rounds of marked layers while layers are dropped."""


@njit(inline="always")
def row_of(dnn, i, shared):
    """Return the row of UE i, among UEs with networks `dnn` (N,)."""
    return dnn[i] if shared else i


@njit(inline="always")
def network_of(dnn, row, shared):
    """Return the network of a row."""
    return row if shared else dnn[row]


@njit(inline="always")
def owner_of(tables, row, layer):
    """Return the row and the layer of the owner of a row's layer."""
    return tables.owner[0, row, layer], tables.owner[1, row, layer]


@lean
def settle(resident, idle, placement, sent):
    """Add what a UE sent in a round, and count the rounds since each layer was used; in place.

    `resident` (L,) are fractions, `idle` (L,) is 0 for layers that are not on the server, and
    `sent` (>= L,) is the fraction of each layer's missing part that arrived.
    """
    for layer in range(len(resident)):
        before = resident[layer]
        after = min(1.0, before + (1.0 - before) * sent[layer])
        resident[layer] = after
        used = placement[layer] == 1 or after > before
        idle[layer] = 0 if used or after <= 0.0 else idle[layer] + 1


@lean_inner
def count_writers(dnn, tables, writers):
    """Count the UEs (N,) that run each row's network (R,).

    If networks have layers in common, every count is at least 2, so that all UEs go through
    `combine`.
    """
    several = 0
    for row in range(len(writers)):
        several += 2 if tables.borrows[row] else 0
    for row in range(len(writers)):
        writers[row] = several
    for i in range(len(dnn)):
        writers[dnn[i]] += 1


@lean_inner
def combine(dnn, placement, sent, tables, used, arrived):
    """Record what a UE placed and sent (>= L,) at the owners of its layers; in place.

    `used` and `arrived` (R, L) become the maximum over all UEs of what they placed and sent: bytes
    that arrive twice count once.
    """
    for layer in range(tables.n_layers[dnn]):
        row, own = owner_of(tables, dnn, layer)
        used[row, own] = max(used[row, own], placement[layer])
        arrived[row, own] = max(arrived[row, own], sent[layer])


@lean_inner
def repeat(resident, idle, tables):
    """Copy the state of the owners of layers into the rows (R, L) that repeat it."""
    for row in range(len(resident)):
        for layer in range(tables.n_layers[row] if tables.borrows[row] else 0):
            there, own = owner_of(tables, row, layer)
            resident[row, layer] = resident[there, own]
            idle[row, layer] = idle[there, own]


@lean_inner
def retain(dnn, i, placement, tables, shared, idle):
    """Make the layers that UE i marks (>= L,) younger, in `idle` (R, L), than all unmarked ones.

    `forget_marks` undoes this after `evict`.
    """
    if shared and tables.borrows[dnn]:
        for layer in range(tables.n_layers[dnn]):
            row, own = owner_of(tables, dnn, layer)
            if placement[layer] and idle[row, own] >= 0:
                idle[row, own] -= RETAINED
        return
    rounds = idle[dnn if shared else i]
    for layer in range(tables.n_layers[dnn]):
        rounds[layer] -= RETAINED if placement[layer] & (rounds[layer] >= 0) else 0


@lean_inner
def forget_marks(idle):
    """Restore the idle rounds (R, L) from before `retain`."""
    for row in range(len(idle)):
        own = idle[row]
        for layer in range(len(own)):
            own[layer] += RETAINED if own[layer] < 0 else 0


@lean
def evict(resident, idle, dnn, tables, shared, memory_bytes, next_of):
    """Drop the least recently used layers until the rest fits; in place.

    `resident` and `idle` (R, L) describe rows, which belong to UEs with networks `dnn` (N,) or are
    `shared`. Layers that `retain` has marked go last. `next_of` (R,) is overwritten.

    Returns:
        The bytes dropped, and the bytes kept. Cost: O(R L), and O(R + L) for each layer dropped.
    """
    sizes = tables.owned_bytes if shared else tables.parameter_bytes
    dropped, total = 0.0, bytes_there(resident, dnn, tables, shared)
    if total > memory_bytes:
        for row in range(len(resident)):
            d, next_of[row] = network_of(dnn, row, shared), -1
            if tables.owns[d] or not shared:
                next_of[row] = _next_of_row(resident[row], idle[row], sizes[d], tables.n_layers[d])
        while True:
            row = _next_row(resident, idle, dnn, sizes, shared, next_of)
            if row >= 0:
                layer, d = next_of[row], network_of(dnn, row, shared)
                held = resident[row, layer] * sizes[d, layer]
                resident[row, layer] = 0.0
                idle[row, layer] = 0
                dropped += held
                total -= held
                next_of[row] = _next_of_row(resident[row], idle[row], sizes[d], tables.n_layers[d])
            if total <= memory_bytes or row < 0:
                # sum again, without the rounding errors of the differences
                total = bytes_there(resident, dnn, tables, shared)
                if total <= memory_bytes or row < 0:
                    break
        if shared:
            repeat(resident, idle, tables)
    return dropped, total


@lean_inner
def _next_of_row(resident, idle, sizes, n_layers):
    """Return the layer of a row (L,) that is dropped first; -1 if the row is empty."""
    oldest, most, found = -2 * RETAINED, 0.0, -1
    for layer in range(n_layers):
        if resident[layer] > 0.0 and idle[layer] >= oldest:
            held = resident[layer] * sizes[layer]
            if held > 0.0 and (idle[layer] > oldest or held >= most):
                oldest, most, found = idle[layer], held, layer
    return found


@lean_inner
def _next_row(resident, idle, dnn, sizes, shared, next_of):
    """Return the row whose next layer is dropped first; -1 if the memory is empty."""
    oldest, most, found = -2 * RETAINED, 0.0, -1
    for row in range(len(resident)):
        layer = next_of[row]
        if layer >= 0:
            held, unused = resident[row, layer], idle[row, layer]
            held *= sizes[network_of(dnn, row, shared), layer]
            if unused > oldest or (unused == oldest and held >= most):
                oldest, most, found = unused, held, row
    return found


@lean_inner
def bytes_there(resident, dnn, tables, shared):
    """Return the bytes of all layers on the server, in rows (R, L) as in `evict`."""
    sizes, total = tables.owned_bytes if shared else tables.parameter_bytes, 0.0
    for row in range(len(resident)):
        d = network_of(dnn, row, shared)
        if tables.owns[d] or not shared:
            for layer in range(tables.n_layers[d]):
                total += resident[row, layer] * sizes[d, layer]
    return total
