"""Headers of frames: which fields each kind has, of which type, and within which bounds.

A header that has other fields, or values beyond the bounds, is refused when it is decoded. What
depends on the network (is there such a layer?) is checked where the network is known.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.msgpack import Decoder

from mjoa_gym.model.inference import UPLOAD_MODES

VERSION: Literal[1] = 1
MOST_SLOWDOWN = 1e4
"""Most times that a layer can be stretched."""
LEAST_RATE_BPS = 1e3
"""Slowest link: a chunk of parameters on it takes less than a UE's patience."""
MOST_PAYLOAD_BYTES = 2**32 - 1
MOST_ITEMS = 8192
"""Entries of the longest list; a network has some hundred layers."""
MOST_SAID = 200
"""Characters of what is said about a header that cannot be read."""

Name = Annotated[str, Meta(max_length=256)]
Secret = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bits = Annotated[bytes, Meta(max_length=MOST_ITEMS)]
Natural = Annotated[int, Meta(ge=0)]
Layer = Annotated[int, Meta(ge=-1)]
"""The layer that makes a tensor or has parameters; -1 makes the network's input."""
Seconds = Annotated[float, Meta(ge=0.0, le=1e12)]
"""By the clock of the server."""
Uses = Annotated[list[tuple[Natural, Seconds, Seconds]], Meta(max_length=MOST_ITEMS)]
"""Layer, start and end of each use of a resource."""


class ProtocolError(Exception):
    """The other side has broken the protocol; the message says how, and is sent before closing."""


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of a frame; of some kinds there are none."""


class Hello(Header, frozen=True):
    """The UE introduces itself, with a proof that it knows the token."""

    version: Literal[1]
    proof: Secret
    model: Name
    fingerprint: Name


class Begin(Header, frozen=True):
    """What a UE asks for.

    Attributes:
        placement: (L,) 0 = UE, 1 = edge.
        prefetch: (L,) layers to upload in addition.
        upload: Upload mode, by its number.
        slowdown: Of the edge's layers.
        downlink_bps: Rate of the downlink; infinity for no shaping.
    """

    placement: Bits
    prefetch: Bits
    upload: Annotated[int, Meta(ge=0, lt=len(UPLOAD_MODES))]
    slowdown: Annotated[float, Meta(ge=1.0, le=MOST_SLOWDOWN)]
    downlink_bps: Annotated[float, Meta(ge=LEAST_RATE_BPS)]

    @property
    def mode(self) -> str:
        """The name of the upload mode."""
        return UPLOAD_MODES[self.upload]

    def check(self, n_layers: int) -> None:
        """Raise a ProtocolError unless it is about a network of so many layers."""
        for name, bits in (("placement", self.placement), ("prefetch", self.prefetch)):
            if len(bits) != n_layers:
                raise ProtocolError(f"BEGIN: {name}: {n_layers} bytes are needed")
            if max(bits) > 1:
                raise ProtocolError(f"BEGIN: {name} must be 0 or 1")


class Chunk(Header, frozen=True):
    """What a payload is a piece of, and where it begins in it."""

    layer: Layer
    offset: Natural


class Reason(Header, frozen=True):
    """Why something is refused."""

    reason: Annotated[str, Meta(max_length=4096)]


class Greeting(Header, frozen=True):
    """What the UE proves its knowledge of the token with."""

    version: Literal[1]
    nonce: Secret


class Ready(Header, frozen=True):
    """The longest payload that the server accepts."""

    payload: Annotated[int, Meta(ge=1, le=MOST_PAYLOAD_BYTES)]


class ResidentBytes(Header, frozen=True):
    """The bytes of each layer's parameters that the server has."""

    bytes: Annotated[list[Natural], Meta(max_length=MOST_ITEMS)]


class Started(ResidentBytes, frozen=True):
    """A query has begun at the server, at this time."""

    now: Seconds


class QueryReport(ResidentBytes, frozen=True):
    """When the server has executed and sent what in a query."""

    executed: Uses
    sent: Uses


class OneLayer(Header, frozen=True):
    """The layer that has been executed, or that there is no room for."""

    layer: Layer


class Heartbeat(Header, frozen=True):
    """Bytes of payload that the server has taken in, and how many layers it has executed."""

    got: Natural
    done: Natural


class Kind(IntEnum):
    """What a frame is, and the fields of its header."""

    decoder: Decoder[Any]

    def __new__(cls, code: int, header: type[Header] = Header) -> Kind:
        """The kind with this number; it is the number."""
        kind = int.__new__(cls, code)
        kind._value_, kind.decoder = code, Decoder(header)
        return kind

    HELLO = 1, Hello
    BEGIN = 2, Begin
    PARAMETERS = 3, Chunk
    END = 4
    STATE = 5
    PING = 6
    TENSOR = (
        16,
        Chunk,
    )  # from either side; above are the UE's, below the server's
    ERROR = 17, Reason
    GREETING = 32, Greeting
    READY = 33, Ready
    STARTED = 34, Started
    REFUSED = 35, Reason
    FINISHED = 36, OneLayer
    REPORT = 37, QueryReport
    RESIDENT = 38, ResidentBytes
    HEARTBEAT = 39, Heartbeat
    FULL = 40, OneLayer

    def header(self, packed: bytes) -> Any:
        """The header of a frame of this kind.

        Raises:
            ProtocolError: If it is not MessagePack, or has other fields.
        """
        try:
            return self.decoder.decode(packed)
        except (ValueError, RecursionError) as error:  # those of msgspec are ValueErrors
            said = str(error)[:MOST_SAID]  # it may quote what has come
            raise ProtocolError(f"{self.name}: a header cannot be read: {said}") from error


FROM_UE = frozenset(kind for kind in Kind if kind <= Kind.TENSOR)
FROM_SERVER = frozenset(kind for kind in Kind if kind >= Kind.TENSOR)


def within(what: str, value: int, lowest: int, highest: int) -> int:
    """A number that has come in a frame, if it is in its range.

    Raises:
        ProtocolError: If it is not.
    """
    if not lowest <= value <= highest:
        raise ProtocolError(f"{what}={value}: a whole number from {lowest} to {highest} is needed")
    return value
