"""How a UE behaves, and the links and devices that it emulates."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field

from mjoa_gym.testbed.frames import port_number, slowdown
from mjoa_gym.testbed.headers import LEAST_RATE_BPS
from mjoa_gym.testbed.transmitter import MOST_CHUNK_BYTES
from mjoa_gym.validation import positive


@dataclass(frozen=True)
class UESettings:
    """How a UE behaves, and the links and devices it emulates.

    Attributes:
        token: The secret shared with the server.
        port: The server's port.
        host: The server's address.
        model: The network's name at the server.
        uplink_bps: Bits per second towards the edge; infinity for no shaping.
        downlink_bps: Bits per second towards the UE.
        shaped_below: The operating system shapes both links to these rates (see `namespace`).
        ue_slowdown: Each of the UE's layers takes so many times what it takes on this machine.
        edge_slowdown: The same for this UE's share of the server.
        connect_s: Patience for a connection; without one, inferences are local.
        ready_s: Patience for the server to get the network ready.
        stall_s: A server that is silent for so long during an inference is given up.
        hang_s: So is one that makes no progress for so long.
        payload_bytes: The longest payload that is accepted from the server.
    """

    token: str = field(repr=False)
    port: int
    host: str = "127.0.0.1"
    model: str = "model"
    _: KW_ONLY
    uplink_bps: float = float("inf")
    downlink_bps: float = float("inf")
    shaped_below: bool = False
    ue_slowdown: float = 1.0
    edge_slowdown: float = 1.0
    connect_s: float = 2.0
    ready_s: float = 120.0
    stall_s: float = 3.0
    hang_s: float = 60.0
    payload_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        port_number("port", self.port)
        for name in ("uplink_bps", "downlink_bps"):
            if not getattr(self, name) >= LEAST_RATE_BPS:
                value = getattr(self, name)
                raise ValueError(f"{name}={value!r}: must be at least {LEAST_RATE_BPS:g}")
        if not self.payload_bytes >= MOST_CHUNK_BYTES:
            value = self.payload_bytes
            raise ValueError(f"payload_bytes={value}: must be at least {MOST_CHUNK_BYTES}")
        for name in ("ue_slowdown", "edge_slowdown"):
            slowdown(name, getattr(self, name))
        for name in ("connect_s", "ready_s", "stall_s", "hang_s"):
            positive(name, getattr(self, name))
