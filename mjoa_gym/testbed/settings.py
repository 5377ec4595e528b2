"""How a server and a UE behave, and the links and devices that a UE emulates."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from mjoa_gym.testbed.frames import LEAST_RATE_BPS, MOST_PAYLOAD_BYTES, MOST_SLOWDOWN
from mjoa_gym.testbed.transmitter import MOST_CHUNK_BYTES
from mjoa_gym.validation import at_most, count, finite, fraction, positive

MOST_PORT = 2**16 - 1
MOST_SESSIONS = 500
"""Beyond, many systems would not give a process the descriptors."""


def port_number(name: str, port: int) -> int:
    """A port, 0 to 65535; a ValueError if it is none."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= MOST_PORT:
        raise ValueError(f"{name}={port!r}: a whole number from 0 to {MOST_PORT} is needed")
    return port


def slowdown(name: str, times: float) -> float:
    """How many times longer a layer takes, 1 to `MOST_SLOWDOWN`; else a ValueError."""
    if not 1 <= finite(name, times) <= MOST_SLOWDOWN:
        raise ValueError(f"{name}={times!r}: allowed are 1 to {MOST_SLOWDOWN:g}")
    return times


@dataclass(frozen=True)
class ServerSettings:
    """How a server is run.

    Attributes:
        token: What UEs must know.
        host: Address to listen on; anything but loopback needs a certificate.
        port: 0 for any free one.
        core: The core that executes layers, or None for any.
        memory_bytes: Parameters of all UEs that are kept.
        ue_memory_bytes: Those that one UE has uploaded.
        activation_bytes: Tensors of all UEs' queries that are at the server at a time.
        query_bytes: Tensors of one of them.
        model_bytes: Parameters of one network.
        payload_bytes: Longest payload of a frame.
        sessions: UEs at a time.
        hello_s: Seconds to authenticate.
        idle_s: Seconds without a frame until a UE's session is freed.
        slowdown: Where a controller plans, how much slower than this machine the server is.
        shaped_below: The operating system shapes all links (see `namespace`).
        certificate: A file to encrypt with (TLS), and its
        key: file; without them, nothing is encrypted.
    """

    token: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    core: int | None = None
    _: KW_ONLY
    memory_bytes: int = 4 << 30
    ue_memory_bytes: int = 4 << 30
    activation_bytes: int = 4 << 30
    query_bytes: int = 1 << 30
    model_bytes: int = 2 << 30
    payload_bytes: int = 1 << 20
    sessions: int = 64
    hello_s: float = 5.0
    idle_s: float = 60.0
    slowdown: float = 1.0
    shaped_below: bool = False
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError("token is empty: UEs and the server share a secret")
        if not 1 <= self.sessions <= MOST_SESSIONS:
            raise ValueError(f"sessions={self.sessions}: allowed are 1 to {MOST_SESSIONS}")
        for name in ("memory", "ue_memory", "activation", "query", "model", "payload"):
            count(f"{name}_bytes", getattr(self, f"{name}_bytes"))
        at_most("payload_bytes", self.payload_bytes, "the protocol's limit", MOST_PAYLOAD_BYTES)
        for name in ("hello_s", "idle_s"):
            positive(name, getattr(self, name))
        port_number("port", self.port)
        slowdown("slowdown", self.slowdown)
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")


@dataclass(frozen=True)
class UESettings:
    """How a UE behaves, and the links and devices it emulates.

    Attributes:
        token: The secret shared with the server.
        port: The server's port.
        host: The server's address.
        model: The network's name at the server.
        own_host: The address that it connects from; None for any.
        uplink_bps: Bits per second towards the edge; infinity for no shaping.
        downlink_bps: Bits per second towards the UE.
        shaped_below: The operating system shapes both links to these rates (see `namespace`).
        ue_slowdown: Each of the UE's layers takes so many times what it takes on this machine.
        edge_slowdown: The same for this UE's share of the server.
        busy: Share of a layer's stretched time in which a slowed-down UE executes it again and
            again; others on its core get the rest.
        connect_s: Patience for a connection; without one, inferences are local.
        ready_s: Patience for the server to get the network ready.
        stall_s: A server that is silent for so long during an inference is given up.
        hang_s: So is one that makes no progress for so long.
        payload_bytes: The longest payload that is accepted from the server.
        certificate: A copy of the server's, the only one that is accepted; None for no encryption,
            which only a server on loopback does without.
    """

    token: str = field(repr=False)
    port: int
    host: str = "127.0.0.1"
    model: str = "model"
    _: KW_ONLY
    own_host: str | None = None
    uplink_bps: float = float("inf")
    downlink_bps: float = float("inf")
    shaped_below: bool = False
    ue_slowdown: float = 1.0
    edge_slowdown: float = 1.0
    busy: float = 0.5
    connect_s: float = 2.0
    ready_s: float = 120.0
    stall_s: float = 3.0
    hang_s: float = 60.0
    payload_bytes: int = 1 << 20
    certificate: Path | None = None

    def __post_init__(self) -> None:
        port_number("port", self.port)
        rates = dict.fromkeys(("uplink_bps", "downlink_bps"), LEAST_RATE_BPS)
        for name, least in {**rates, "payload_bytes": MOST_CHUNK_BYTES}.items():
            if not (value := getattr(self, name)) >= least:
                raise ValueError(f"{name}={value!r}: must be at least {least:g}")
        for name in ("ue_slowdown", "edge_slowdown"):
            slowdown(name, getattr(self, name))
        fraction("busy", self.busy)
        for name in ("connect_s", "ready_s", "stall_s", "hang_s"):
            positive(name, getattr(self, name))
