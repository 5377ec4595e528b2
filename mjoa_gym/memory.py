"""The server's memory: which uploaded parameters are still there in the next round.

The unit is one layer of one UE (two UEs with the same network do not share it); a layer that is
uploaded in part occupies its part. A layer is *used* in a round if it was placed at the edge or if
any of its parameters arrived. While there is more than fits, the layer that has been unused for the
most rounds is dropped whole. Among equally old ones, the one with most bytes there goes first (the
fewest layers are lost), then that of the later UE, then the later layer.
"""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def age(idle, placements, before, after):
    """Count the rounds since each layer was used; in place.

    Args:
        idle: (N, L) rounds since the last use; 0 for layers that are not on the server.
        placements: (N, L) 1 = edge, in the round that ends.
        before: (N, L) resident fractions at the round's start.
        after: (N, L) at its end.
    """
    for i in range(idle.shape[0]):
        for layer in range(idle.shape[1]):
            used = placements[i, layer] == 1 or after[i, layer] > before[i, layer]
            if used or after[i, layer] <= 0.0:
                idle[i, layer] = 0
            else:
                idle[i, layer] += 1


@njit(cache=True, nogil=True)
def evict(resident, idle, dnn, parameter_bytes, memory_bytes):
    """Drop the least recently used layers until the rest fits; in place.

    Args:
        resident: (N, L) resident fractions.
        idle: (N, L) rounds since the last use.
        dnn: (N,) index of each UE's network.
        parameter_bytes: (D, L) of each network.
        memory_bytes: What the server keeps.

    Returns:
        The bytes dropped, and the bytes kept.
    """
    dropped = 0.0
    while True:
        total = worst_bytes = 0.0
        worst_ue = worst_layer = -1
        worst_idle = -1
        for i in range(resident.shape[0]):
            for layer in range(resident.shape[1]):
                here = resident[i, layer] * parameter_bytes[dnn[i], layer]
                if here <= 0.0:
                    continue
                total += here
                older = idle[i, layer] > worst_idle
                if older or (idle[i, layer] == worst_idle and here >= worst_bytes):
                    worst_ue, worst_layer = i, layer
                    worst_idle, worst_bytes = idle[i, layer], here
        if total <= memory_bytes:
            return dropped, total
        resident[worst_ue, worst_layer] = 0.0
        idle[worst_ue, worst_layer] = 0
        dropped += worst_bytes
