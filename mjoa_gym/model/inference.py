"""The demands of one inference as arrays: network, seconds and missing bytes.

`inference_of` is the only way from a `DNN` to the arrays that kernels read.
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
    """The upload modes, which say when parameters may be sent (`docs/model.md`).

    Kernels compare the numbers of the modes.
    """

    PARALLEL = 0
    SERIAL = 1
    WHOLE = 2
    PREINSTALLED = 3

    @staticmethod
    def of(name: str) -> Upload:
        """The mode with the name "parallel", "serial", "whole" or "preinstalled"."""
        return Upload[choice("upload", name, UPLOAD_MODES).upper()]

    @property
    def label(self) -> str:
        """The mode's name, as `of` takes it."""
        return self.name.lower()


UPLOAD_MODES = tuple(mode.label for mode in Upload)


@by_reference
class Inference(NamedTuple):
    """The demands of one inference, for any placement and any link.

    Kernels do not change its arrays.
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
    prices: Prices = FREE  # for planners; the simulation does not depend on them


def resident_fractions(dnn: DNN, resident: ArrayLike | None) -> NDArray[np.float64]:
    """The fractions of a network's parameters on the server: (L,), each in [0, 1].

    `resident=None` means that nothing is on the server.

    Raises:
        ValueError: If the shape is wrong, or a fraction is out of range.
    """
    there = np.zeros(dnn.n_layers) if resident is None else resident
    return fraction_vector("resident", there, dnn.n_layers)


def inference_of(
    dnn: DNN,
    ue_seconds: ArrayLike,
    edge_seconds: ArrayLike,
    resident: ArrayLike | None = None,
    upload: Upload = Upload.PARALLEL,
) -> Inference:
    """Convert one inference to arrays.

    The arguments are those of `simulate`.

    Raises:
        ValueError: If an argument is not allowed. The message names it.
    """
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
