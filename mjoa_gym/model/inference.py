"""What one inference asks of the resources: its network, seconds and missing bytes, as arrays.

`inference_of` is the one way from a `DNN` to what kernels read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model.objective import FREE, Prices
from mjoa_gym.model.reference import by_reference
from mjoa_gym.validation import choice, fraction_vector, non_negative_vector


class Upload(IntEnum):
    """When parameters are uploaded (`docs/model.md`); kernels compare its numbers."""

    PARALLEL = 0
    SERIAL = 1
    WHOLE = 2
    PREINSTALLED = 3

    @staticmethod
    def of(name: str) -> Upload:
        """The mode called "parallel", "serial", "whole" or "preinstalled"."""
        return Upload[choice("upload", name, UPLOAD_MODES).upper()]

    @property
    def label(self) -> str:
        """Its name, as `of` takes it."""
        return self.name.lower()


UPLOAD_MODES = tuple(mode.label for mode in Upload)


@by_reference
class Inference(NamedTuple):
    """What one inference asks of the resources, whatever the placement and the link.

    Kernels only read its arrays.
    """

    offsets: NDArray[np.int64]  # (L + 1,) layer l reads `predecessors[offsets[l]:offsets[l + 1]]`
    predecessors: NDArray[np.int64]  # (edges,) tensor indices, -1 is the network's input
    is_sink: NDArray[np.bool_]  # (L,)
    ue_s: NDArray[np.float64]  # (L,) seconds on the UE
    edge_s: NDArray[np.float64]  # (L,) seconds on the whole server
    output_bytes: NDArray[np.float64]  # (L,)
    missing_bytes: NDArray[np.float64]  # (L,) parameter bytes that are not on the server yet
    input_bytes: float  # bytes of the network's input
    mode: int  # the number of the upload mode; with PREINSTALLED no byte counts as missing
    prices: Prices = FREE  # what it counts as for planners; it changes nothing that happens


def resident_fractions(dnn: DNN, resident: ArrayLike | None) -> NDArray[np.float64]:
    """(L,) fractions of the parameters on the server, each in [0, 1]; None is nothing."""
    there = np.zeros(dnn.n_layers) if resident is None else resident
    return fraction_vector("resident", there, dnn.n_layers)


def inference_of(
    dnn: DNN,
    ue_seconds: ArrayLike,
    edge_seconds: ArrayLike,
    resident: ArrayLike | None = None,
    upload: Upload = Upload.PARALLEL,
) -> Inference:
    """One inference as arrays; arguments as in `simulate`, and a ValueError names the wrong one."""
    n = dnn.n_layers
    return Inference(
        offsets=dnn.predecessor_offsets.copy(),
        predecessors=dnn.predecessor_indices.copy(),
        is_sink=dnn.is_sink.copy(),
        ue_s=non_negative_vector("ue_seconds", ue_seconds, n).copy(),
        edge_s=non_negative_vector("edge_seconds", edge_seconds, n).copy(),
        output_bytes=dnn.output_bytes.copy(),
        missing_bytes=dnn.parameter_bytes * (1.0 - resident_fractions(dnn, resident)),
        input_bytes=dnn.input_bytes,
        mode=int(upload),
    )
