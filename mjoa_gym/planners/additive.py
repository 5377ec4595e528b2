"""Seconds as the earlier systems add them up: nothing overlaps, each transfer is paid in full."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.compiling import compiled
from mjoa_gym.model.link import seconds_for
from mjoa_gym.planners.one_ue import OneUE


class AdditiveSeconds(NamedTuple):
    """The parts of an inference of layers (or blocks) 0..L-1, each by itself.

    Tensor 0 is the network's input, and tensor l + 1 is the output of layer l.
    """

    ue_s: NDArray[np.float64]  # (L,)
    edge_s: NDArray[np.float64]  # (L,) on the UE's share of the server
    missing_bytes: NDArray[np.float64]  # (L,) of parameters that are not on the server yet
    upload_s: NDArray[np.float64]  # (L,) to send the missing bytes
    up_s: NDArray[np.float64]  # (L + 1,) to send each tensor to the edge
    down_s: NDArray[np.float64]  # (L + 1,) to send each tensor to the UE


@compiled
def additive_seconds(inference, link):
    """The parts of an inference over a link; every transfer also takes `link.message`. O(L)."""
    n = len(inference.ue_s)
    edge_s, upload_s = np.empty(n), np.zeros(n)
    up_s, down_s = np.empty(n + 1), np.empty(n + 1)
    for tensor in range(n + 1):
        sent = inference.output_bytes[tensor - 1] if tensor > 0 else inference.input_bytes
        up_s[tensor] = seconds_for(sent, link.up) + link.message
        down_s[tensor] = seconds_for(sent, link.down) + link.message
    for layer in range(n):
        edge_s[layer] = seconds_for(inference.edge_s[layer], link.slowdown)
        if inference.missing_bytes[layer] > 0.0:
            upload_s[layer] = seconds_for(inference.missing_bytes[layer], link.up) + link.message
    return AdditiveSeconds(inference.ue_s, edge_s, inference.missing_bytes, upload_s, up_s, down_s)


def block_chain(one: OneUE) -> tuple[AdditiveSeconds, NDArray[np.intp]]:
    """The seconds of a UE's chain of blocks, and (L,) the block of every layer. O(L).

    A block begins after a layer that every path passes and ends with the next such layer
    (`DNN.is_cut`). In a chain every layer is a block. A block executes on one side. IONN and its
    follow-up plan with this chain.
    """
    inference, is_cut = one.inference, one.ue.dnn.is_cut
    starts = np.concatenate(([0], np.flatnonzero(is_cut)[:-1] + 1))
    n = len(starts)
    output_bytes = inference.output_bytes[is_cut]
    output_bytes[-1] = inference.output_bytes[inference.is_sink].sum()
    blocks = inference._replace(
        offsets=np.arange(n + 1),
        predecessors=np.arange(-1, n - 1),
        is_sink=np.arange(n) == n - 1,
        ue_s=np.add.reduceat(inference.ue_s, starts),
        edge_s=np.add.reduceat(inference.edge_s, starts),
        output_bytes=output_bytes,
        missing_bytes=np.add.reduceat(inference.missing_bytes, starts),
    )
    block_of = np.repeat(np.arange(n), np.diff(starts, append=len(is_cut)))
    return additive_seconds(blocks, one.link), block_of
