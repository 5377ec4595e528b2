"""One UE's network as a chain of blocks, in seconds: what IONN and its follow-up plan with.

A block is what lies after one layer that every path passes, up to the next (`DNN.is_cut`); a chain
is its own chain of blocks. A block executes on one side. The cost of a placement is the *sum* of
its execution, transfers and uploads: nothing overlaps, uploading is charged serially, in full.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.planners.one_ue import OneUE


class BlockChain(NamedTuple):
    """Seconds per block b = 0..B-1; block b reads tensor b and makes tensor b + 1.

    Attributes:
        ue_s: (B,) on the UE.
        edge_s: (B,) on the UE's share of the server.
        missing_bytes: (B,) parameter bytes that are not on the server yet.
        upload_s: (B,) to send those.
        up_s: (B + 1,) to send each tensor to the edge; tensor 0 is the network's input.
        down_s: (B + 1,) to send each tensor to the UE.
    """

    ue_s: NDArray[np.float64]
    edge_s: NDArray[np.float64]
    missing_bytes: NDArray[np.float64]
    upload_s: NDArray[np.float64]
    up_s: NDArray[np.float64]
    down_s: NDArray[np.float64]


def block_chain(one: OneUE) -> tuple[BlockChain, NDArray[np.intp]]:
    """A UE's chain of blocks, and (L,) the block of every layer. O(L)."""
    dnn, job, link = one.ue.dnn, one.job, one.link
    starts = np.concatenate(([0], np.flatnonzero(dnn.is_cut)[:-1] + 1))
    block_of = np.repeat(np.arange(len(starts)), np.diff(starts, append=dnn.n_layers))
    tensor_bytes = np.concatenate(([job.input_bytes], job.output_bytes[dnn.is_cut]))
    tensor_bytes[-1] = job.output_bytes[job.is_sink].sum()
    missing_bytes = np.add.reduceat(job.missing_bytes, starts)
    chain = BlockChain(
        ue_s=np.add.reduceat(job.ue_s, starts),
        edge_s=np.add.reduceat(job.edge_s, starts) * link.slowdown,
        missing_bytes=missing_bytes,
        upload_s=missing_bytes * link.up,
        up_s=tensor_bytes * link.up,
        down_s=tensor_bytes * link.down,
    )
    return chain, block_of
