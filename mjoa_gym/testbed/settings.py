"""Settings of a server and of a UE, the emulated links and devices included."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from mjoa_gym.testbed.frames import LEAST_RATE_BPS, MOST_PAYLOAD_BYTES, MOST_SLOWDOWN
from mjoa_gym.testbed.transmitter import MOST_CHUNK_BYTES
from mjoa_gym.validation import at_most, count, finite, fraction, positive

MOST_PORT = 2**16 - 1
MOST_SESSIONS = 500
"""Many systems give a process no descriptors for more."""


def port_number(name: str, port: int) -> int:
    """Return a port, or raise a ValueError if it is not a whole number from 0 to 65535."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= MOST_PORT:
        raise ValueError(f"{name}={port!r}: a whole number from 0 to {MOST_PORT} is needed")
    return port


def slowdown(name: str, times: float) -> float:
    """Return a slowdown, or raise a ValueError if it is not in 1 to `MOST_SLOWDOWN`."""
    if not 1 <= finite(name, times) <= MOST_SLOWDOWN:
        raise ValueError(f"{name}={times!r}: allowed are 1 to {MOST_SLOWDOWN:g}")
    return times


@dataclass(frozen=True)
class ServerSettings:
    """How a server runs.

    Attributes:
        token: The secret that UEs must know.
        host: Address to listen on; anything but loopback needs a certificate.
        port: Port to listen on; 0 for any free one.
        core: Core that executes layers; None for any.
        memory_bytes: Largest size of the parameters that are kept.
        ue_memory_bytes: Largest size of those that one UE has uploaded.
        activation_bytes: Largest size of the tensors of all open queries.
        query_bytes: Largest size of the tensors of one query.
        model_bytes: Largest size of a network's parameters.
        payload_bytes: Longest payload of a frame.
        sessions: Largest number of sessions at a time, of UEs and of clients that watch.
        hello_s: Seconds within which a client must authenticate itself.
        idle_s: Seconds without a frame after which a session ends.
        slowdown: With a controller, how many times slower than this machine the server is.
        shaped_below: Whether the operating system shapes all links (see `namespace`).
        certificate: File of the certificate for TLS; None for no encryption.
        key: File of the certificate's key.

    Raises:
        ValueError: Naming field, value and what is allowed.
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
        own_host: Address that the UE connects from; None for any.
        uplink_bps: Bits per second towards the edge; infinity for no shaping.
        downlink_bps: Bits per second towards the UE; infinity for no shaping.
        shaped_below: Whether the operating system shapes both links to these rates (see
            `namespace`).
        ue_slowdown: How many times longer the UE's layers take than on this machine.
        edge_slowdown: The same for layers on this UE's share of the server.
        busy: Part of a layer's stretched time in which a slowed-down UE executes the layer
            repeatedly. Other UEs on the same core get the rest.
        connect_s: Seconds to wait for a connection; without one, inferences are local.
        ready_s: Seconds to wait until the server has prepared the network.
        stall_s: Seconds of silence after which the UE gives the server up.
        hang_s: Seconds without progress after which the UE gives the server up.
        payload_bytes: Longest payload that is accepted from the server.
        certificate: Copy of the server's certificate, the only one that is accepted. None for no
            encryption, which is accepted on loopback only.

    Raises:
        ValueError: Naming field, value and what is allowed.
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
