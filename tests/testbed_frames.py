"""Frames as a UE of the toy network would write them, and frames as nobody should."""

from __future__ import annotations

from typing import Any

from mjoa_gym.testbed.frames import PREFIX, VERSION, Kind
from mjoa_gym.testbed.program import LayeredProgram

N = 7
BEGIN = {
    "placement": bytes([1] * N), "prefetch": bytes(N), "upload": 0, "slowdown": 1.0,
    "downlink_bps": 1e9,
}  # fmt: skip
HELLO = {"version": VERSION, "proof": bytes(32), "model": "toy", "fingerprint": ""}
CHUNK = {"layer": 0, "offset": 0}
BYTES = {"bytes": [0] * N}
PROFILE = {
    "ue_s": [0.1] * N, "edge_s": [0.01] * N, "uplink_bps": 1e8, "downlink_bps": 1e8,
    "message_s": 1e-3, "weight": 1.0, "deadline_s": 1.0, "paced": 0, "digests": [bytes(32)] * N,
}  # fmt: skip
HEADERS: dict[Kind, dict[str, Any]] = {
    Kind.HELLO: HELLO,
    Kind.BEGIN: BEGIN,
    Kind.PARAMETERS: CHUNK,
    Kind.END: {},
    Kind.STATE: {},
    Kind.PING: {},
    Kind.PACE: {"edge_s": [0.1] * N},
    Kind.REGISTER: PROFILE,
    Kind.ASK: {},
    Kind.DONE: {"round": 1, "latency_s": 0.5, "failed": 0, "overruns": 0},
    Kind.USED: {"round": 1, "uses": [[0, 0, 0.0, 0.1], [1, -1, 0.0, 0.1]]},
    Kind.OBSERVE: {"version": VERSION, "proof": bytes(32)},
    Kind.LOOK: {"since": 0},
    Kind.TENSOR: CHUNK,
    Kind.ERROR: {"reason": "no"},
    Kind.GREETING: {"version": VERSION, "nonce": bytes(32)},
    Kind.READY: {"payload": 1 << 20},
    Kind.STARTED: BYTES | {"now": 1.0},
    Kind.REFUSED: {"reason": "no"},
    Kind.FINISHED: {"layer": 0},
    Kind.REPORT: BYTES | {"executed": [[0, 1.0, 2.0]], "sent": [], "overruns": 0},
    Kind.RESIDENT: BYTES,
    Kind.HEARTBEAT: {"got": 0, "done": 0},
    Kind.FULL: {"layer": 0},
    Kind.GRANT: BEGIN | {"ue": 1, "round": 1, "uplink_bps": 1e6, "predicted_s": 0.5},
    Kind.SHARES: {"uplink_bps": 1e6},
    Kind.OVER: {},
    Kind.WATCHED: {"on": 1},
    Kind.SEEN: {},
}
"""The fields of every kind of frame, as they should be."""


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


def parameters_image(program: LayeredProgram, layer: int) -> bytes:
    layout = program.parameters[layer]
    assert layout is not None
    return layout.header + bytes(layout.total_bytes - len(layout.header))
