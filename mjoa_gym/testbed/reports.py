"""What the server reports, checked: which parameters it has, and what it did in a query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.testbed.frames import Frame
from mjoa_gym.testbed.headers import ProtocolError, QueryReport, within
from mjoa_gym.testbed.program import LayeredProgram


def resident_bytes(frame: Frame, program: LayeredProgram) -> list[int]:
    """The bytes of each layer's parameters that the server says it has.

    Raises:
        ProtocolError: If it says nonsense.
    """
    here: list[int] = frame.header.bytes
    if len(here) != len(program.parameters):
        raise ProtocolError(f"{frame.kind.name}: bytes must have one entry per layer")
    for layer, layout in enumerate(program.parameters):
        most = 0 if layout is None else layout.total_bytes
        within(f"{frame.kind.name}: bytes[{layer}]", here[layer], 0, most)
    return here


def resident_fractions(received: Sequence[int], program: LayeredProgram) -> NDArray[np.float64]:
    """(L,) fractions of the parameters at the server, as `simulate` takes them."""
    return np.array(
        [
            1.0 if layout is None else here / layout.total_bytes
            for here, layout in zip(received, program.parameters, strict=True)
        ]
    )


def checked_report(frame: Frame, program: LayeredProgram) -> QueryReport:
    """A query's report; raises a ProtocolError unless it is one, of layers of this network."""
    report = frame.header
    if not isinstance(report, QueryReport):
        raise ProtocolError(f"{frame.kind.name} instead of REPORT")
    for layer, _start, _end in (*report.executed, *report.sent):
        within("REPORT: layer", layer, 0, program.dnn.n_layers - 1)
    return report
