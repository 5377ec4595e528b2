"""What the server reports of a query, checked, and the measured timeline made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.simulator import Interval
from mjoa_gym.testbed.executor import Execution
from mjoa_gym.testbed.frames import Frame, Kind, ProtocolError
from mjoa_gym.testbed.link import Piece
from mjoa_gym.testbed.program import Program


def measured_timeline(
    start: float,
    placement: Sequence[int],
    executions: Sequence[Execution],
    pieces: Sequence[Piece],
    report: Frame | None,
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
        for lane in (("edge", "execute", "executed"), ("downlink", "activation", "sent")):
            for layer, begin, end in report.header[lane[2]]:
                found.append((*lane[:2], layer, begin + clock_offset, end + clock_offset))
    intervals = [Interval(r, w, n, a - start, b - start) for r, w, n, a, b in found]
    return tuple(sorted(intervals, key=lambda interval: (interval.start, interval.end)))


def resident_bytes(frame: Frame, program: Program) -> list[int]:
    """The bytes of each layer's parameters that the server says it has.

    Raises:
        ProtocolError: If it says nonsense.
    """
    value = frame.header.get("bytes")
    sizes = [0 if layout is None else layout.total_bytes for layout in program.parameters]
    if not isinstance(value, list) or len(value) != len(sizes):
        raise ProtocolError(f"{frame.kind.name}: bytes must have one entry per layer")
    if not all(type(b) is int and 0 <= b <= size for b, size in zip(value, sizes, strict=True)):
        raise ProtocolError(f"{frame.kind.name}: bytes are out of range")
    return value


def resident_fractions(received: Sequence[int], program: Program) -> NDArray[np.float64]:
    """(L,) fractions of the parameters at the server, as `simulate` takes them."""
    return np.array(
        [
            1.0 if layout is None else here / layout.total_bytes
            for here, layout in zip(received, program.parameters, strict=True)
        ]
    )


def check_report(frame: Frame, program: Program) -> None:
    """Raise a ProtocolError unless the report is rows of an existing layer, a start and an end."""
    for key in ("executed", "sent"):
        rows = frame.header.get(key)
        if not isinstance(rows, list):
            raise ProtocolError(f"REPORT: {key} must be a list")
        for row in rows:
            if not isinstance(row, list) or [type(v) for v in row] != [int, float, float]:
                raise ProtocolError(f"REPORT: {key} must hold layer, start and end")
            if not 0 <= row[0] < program.dnn.n_layers:
                raise ProtocolError(f"REPORT: {key} has layer {row[0]}")
