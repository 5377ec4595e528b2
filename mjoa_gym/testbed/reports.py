"""What the server reports of a query, checked, and the measured timeline made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.simulator import Interval
from mjoa_gym.testbed.executor import Execution
from mjoa_gym.testbed.frames import Frame
from mjoa_gym.testbed.headers import Kind, ProtocolError, QueryReport, within
from mjoa_gym.testbed.program import Program
from mjoa_gym.testbed.transmitter import Piece


def measured_timeline(
    start: float,
    placement: Sequence[int],
    executions: Sequence[Execution],
    pieces: Sequence[Piece],
    report: QueryReport | None,
    clock_offset: float,
) -> tuple[Interval, ...]:
    """Every use of a resource, as `simulate` gives it, in seconds since the start.

    Args:
        start: When the query began.
        placement: Of its layers.
        executions: On the UE.
        pieces: On the uplink.
        report: The server's, checked, or None without any.
        clock_offset: What has to be added to the server's times.
    """
    found = [("ue", "execute", *execution) for execution in executions]
    for piece in pieces:
        what = "parameters" if placement[piece.layer] else "prefetch"
        what = "activation" if piece.kind is Kind.TENSOR else what
        found.append(("uplink", what, piece.layer, piece.start, piece.end))
    if report is not None:
        lanes = ("edge", "execute", report.executed), ("downlink", "activation", report.sent)
        for resource, what, uses in lanes:
            for layer, begin, end in uses:
                found.append((resource, what, layer, begin + clock_offset, end + clock_offset))
    intervals = [Interval(r, w, n, a - start, b - start) for r, w, n, a, b in found]
    return tuple(sorted(intervals, key=lambda interval: (interval.start, interval.end)))


def resident_bytes(frame: Frame, program: Program) -> list[int]:
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


def resident_fractions(received: Sequence[int], program: Program) -> NDArray[np.float64]:
    """(L,) fractions of the parameters at the server, as `simulate` takes them."""
    return np.array(
        [
            1.0 if layout is None else here / layout.total_bytes
            for here, layout in zip(received, program.parameters, strict=True)
        ]
    )


def checked_report(frame: Frame, program: Program) -> QueryReport:
    """A query's report; raises a ProtocolError unless it is one, of layers of this network."""
    report = frame.header
    if not isinstance(report, QueryReport):
        raise ProtocolError(f"{frame.kind.name} instead of REPORT")
    for layer, _start, _end in (*report.executed, *report.sent):
        within("REPORT: layer", layer, 0, program.dnn.n_layers - 1)
    return report
