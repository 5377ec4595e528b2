"""Frames as a UE of the toy network would write them, and frames as nobody should."""

from __future__ import annotations

from typing import Any

from mjoa_gym.testbed.frames import PREFIX
from mjoa_gym.testbed.program import Program

N = 7
BEGIN = {
    "placement": bytes([1] * N), "prefetch": bytes(N), "upload": 0, "slowdown": 1.0,
    "downlink_bps": 1e9,
}  # fmt: skip


def begin(**changes: Any) -> dict[str, Any]:
    return BEGIN | changes


def raw(kind: int, sequence: int, header: bytes, payload: bytes = b"",
        header_bytes: int | None = None, payload_bytes: int | None = None) -> bytes:  # fmt: skip
    return (
        PREFIX.pack(
            kind,
            sequence,
            len(header) if header_bytes is None else header_bytes,
            len(payload) if payload_bytes is None else payload_bytes,
        )
        + header
        + payload
    )


def parameters_image(program: Program, layer: int) -> bytes:
    layout = program.parameters[layer]
    assert layout is not None
    return layout.header + bytes(layout.total_bytes - len(layout.header))
