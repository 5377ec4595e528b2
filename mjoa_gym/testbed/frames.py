"""The frames that both sides exchange, and the checks of every frame that arrives.

A frame has a fixed prefix (kind, sequence number, lengths), a header of a few named values in
MessagePack, and a payload of raw bytes. It contains no code, and nothing is unpickled. Lengths are
checked before anything is read or allocated. Sequence numbers count the frames of one direction of
a connection, so a frame that is repeated, lost or reordered closes the connection. The decoder
refuses a header with fields that its kind does not have, and values beyond their bounds. Checks
that depend on the network, for instance whether it has such a layer, are made where the network is
known.

Cost: 11 bytes and the header, in total 20 to 30 bytes, for each frame of data, and 5 microseconds
to read it.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta, Struct
from msgspec.msgpack import Decoder, Encoder

from mjoa_gym.model.inference import UPLOAD_MODES

VERSION: Literal[1] = 1
PREFIX = struct.Struct("!BIHI")
MOST_HEADER_BYTES = 2**16 - 1
"""The largest number that fits into the prefix."""
MOST_PAYLOAD_BYTES = 2**32 - 1
READ_AHEAD_BYTES = 1 << 20
"""Bytes that a connection reads ahead."""
MOST_SLOWDOWN = 1e4
"""Largest factor by which a layer can be stretched."""
LEAST_RATE_BPS = 1e3
"""Rate of the slowest link, on which a chunk of parameters takes less than a UE's `stall_s`."""
MOST_ITEMS = 8192
"""Entries of the longest list. Networks have some hundred layers."""
MOST_SAID = 200
"""Longest message, in characters, about a header that cannot be read."""

Name = Annotated[str, Meta(max_length=256)]
Secret = Annotated[bytes, Meta(min_length=32, max_length=32)]
Bits = Annotated[bytes, Meta(max_length=MOST_ITEMS)]
Natural = Annotated[int, Meta(ge=0)]
Layer = Annotated[int, Meta(ge=-1)]
"""The layer that makes a tensor or has parameters; -1 makes the network's input."""
Seconds = Annotated[float, Meta(ge=0.0, le=1e12)]
"""Seconds: a duration, or a time of the server's clock."""
Times = Annotated[list[Seconds], Meta(max_length=MOST_ITEMS)]
"""(L,) seconds of each layer."""
Flag = Annotated[int, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=LEAST_RATE_BPS)]
Digest = Annotated[bytes, Meta(max_length=32)]
"""SHA-256 of a layer's parameters; empty for a layer without."""
Uses = Annotated[list[tuple[Natural, Seconds, Seconds]], Meta(max_length=MOST_ITEMS)]
"""Layer, start and end of each use of a resource."""
OWN_USES = (
    ("ue", "execute"), ("uplink", "activation"), ("uplink", "parameters"), ("uplink", "prefetch"),
)  # fmt: skip
ALL_USES = (*OWN_USES, ("edge", "execute"), ("downlink", "activation"))
"""Resources and what they are used for. Only the UE knows of the first ones, `OWN_USES`."""
OwnUse = tuple[Annotated[int, Meta(ge=0, lt=len(OWN_USES))], Layer, Seconds, Seconds]
"""Index in `OWN_USES`, layer, start and end of a use."""


class ProtocolError(Exception):
    """The other side has broken the protocol; the message says how.

    A server sends the message before it closes the connection.
    """


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """The header of a frame. Some kinds have no fields."""


class Hello(Header, frozen=True):
    """A UE's first frame, with the proof that it knows the token, and its network."""

    version: Literal[1]
    proof: Secret
    model: Name
    fingerprint: Name


class Begin(Header, frozen=True):
    """The start of a query. Placement and prefetch have one byte per layer, 0 or 1."""

    placement: Bits
    prefetch: Bits
    upload: Annotated[int, Meta(ge=0, lt=len(UPLOAD_MODES))]
    slowdown: Annotated[float, Meta(ge=1.0, le=MOST_SLOWDOWN)]
    downlink_bps: Rate

    @property
    def mode(self) -> str:
        """The upload mode's name."""
        return UPLOAD_MODES[self.upload]

    def check(self, n_layers: int) -> None:
        """Raise a ProtocolError unless it fits a network with this number of layers."""
        for name, bits in (("placement", self.placement), ("prefetch", self.prefetch)):
            if len(bits) != n_layers:
                raise ProtocolError(f"BEGIN: {name}: {n_layers} bytes are needed")
            if max(bits) > 1:
                raise ProtocolError(f"BEGIN: {name} must be 0 or 1")


class Chunk(Header, frozen=True):
    """The tensor or the parameters of which a payload is a piece, and its place in their bytes."""

    layer: Layer
    offset: Natural


class Reason(Header, frozen=True):
    """Why something is refused."""

    reason: Annotated[str, Meta(max_length=4096)]


class Greeting(Header, frozen=True):
    """The server's first frame, with the challenge that the UE answers."""

    version: Literal[1]
    nonce: Secret


class Ready(Header, frozen=True):
    """The server's answer to a correct proof: the longest payload that it accepts."""

    payload: Annotated[int, Meta(ge=1, le=MOST_PAYLOAD_BYTES)]


class ResidentBytes(Header, frozen=True):
    """(L,) bytes of each layer's parameters that the server has."""

    bytes: Annotated[list[Natural], Meta(max_length=MOST_ITEMS)]


class Started(ResidentBytes, frozen=True):
    """A query has begun at the server, at this time of the server's clock."""

    now: Seconds


class QueryReport(ResidentBytes, frozen=True):
    """The server's uses of its resources in a query, and the number of its late paced layers."""

    executed: Uses
    sent: Uses
    overruns: Natural


class OneLayer(Header, frozen=True):
    """A layer that has been executed, or for which there is no room."""

    layer: Layer


class Heartbeat(Header, frozen=True):
    """How many bytes of payload the server has received, and how many layers it has executed."""

    got: Natural
    done: Natural


class Pace(Header, frozen=True):
    """(L,) seconds that each layer counts as at the server if paced; empty to end the pacing."""

    edge_s: Times


class Profile(Header, frozen=True):
    """What a UE reports to the controller when it registers.

    Attributes:
        ue_s: (L,) seconds of each layer on the UE.
        edge_s: (L,) seconds of each layer on the whole server; if empty, the server measures them.
        uplink_bps: Rate of the uplink with the whole band, in bits per second.
        downlink_bps: Rate of the downlink with the whole band, in bits per second.
        message_s: Seconds that a message costs besides its bytes.
        weight: Weight of the UE's latency.
        deadline_s: Seconds within which the UE wants its results; infinity for no deadline.
        paced: Whether layers count as `edge_s` at the server, 0 or 1.
        digests: (L,) digests of the layers' parameters; empty if they must not be shared.
    """

    ue_s: Times
    edge_s: Times
    uplink_bps: Rate
    downlink_bps: Rate
    message_s: Annotated[float, Meta(ge=0.0, le=60.0)]
    weight: Annotated[float, Meta(gt=0.0, le=1e12)]
    deadline_s: Annotated[float, Meta(gt=0.0)]
    paced: Flag
    digests: Annotated[list[Digest], Meta(max_length=MOST_ITEMS)]

    def check(self, n_layers: int) -> None:
        """Raise a ProtocolError unless it fits a network with this number of layers."""
        wanted = {"ue_s": {n_layers}, "edge_s": {0, n_layers}, "digests": {0, n_layers}}
        for name, lengths in wanted.items():
            if len(getattr(self, name)) not in lengths:
                raise ProtocolError(f"REGISTER: {name}: {n_layers} entries are needed")
        if sum(self.ue_s) <= 0:
            raise ProtocolError("REGISTER: ue_s: at least one layer takes time")


class Grant(Header, frozen=True):
    """What the UE with this number may do in a round, and its predicted latency in seconds."""

    ue: Natural
    round: Natural
    placement: Bits
    prefetch: Bits
    upload: Annotated[int, Meta(ge=0, lt=len(UPLOAD_MODES))]
    uplink_bps: Rate  # at least `LEAST_RATE_BPS`, also without a share
    downlink_bps: Rate
    slowdown: Annotated[float, Meta(ge=1.0, le=MOST_SLOWDOWN)]
    predicted_s: Seconds

    @property
    def begin(self) -> Begin:
        """The query that the UE may begin."""
        return Begin(self.placement, self.prefetch, self.upload, self.slowdown, self.downlink_bps)


class Done(Header, frozen=True):
    """A UE's report that it has all outputs of a round's inference."""

    round: Natural
    latency_s: Seconds
    failed: Flag  # whether the UE gave the server up
    overruns: Natural  # number of its paced layers that were late


class Used(Header, frozen=True):
    """A UE's uses of its resources in a round, in seconds from its start, for those who watch."""

    round: Natural
    uses: Annotated[list[OwnUse], Meta(max_length=MOST_ITEMS)]


class Observe(Header, frozen=True):
    """The first frame of a client that only watches, with the proof that it knows the token."""

    version: Literal[1]
    proof: Secret


class Look(Header, frozen=True):
    """A watching client's request for the events from this number on."""

    since: Natural


class Watched(Header, frozen=True):
    """Whether somebody watches, so that UEs must report what they use."""

    on: Flag


class Shares(Header, frozen=True):
    """The new rate of a UE's uplink, in bits per second."""

    uplink_bps: Rate


class Kind(IntEnum):
    """The kind of a frame, with a number and the type of its header."""

    decoder: Decoder[Any]

    def __new__(cls, code: int, header: type[Header] = Header) -> Kind:
        """Make the kind that is this number and has this header."""
        kind = int.__new__(cls, code)
        kind._value_, kind.decoder = code, Decoder(header)
        return kind

    HELLO = 1, Hello
    BEGIN = 2, Begin
    PARAMETERS = 3, Chunk
    END = 4
    STATE = 5
    PING = 6
    PACE = 7, Pace
    REGISTER = 8, Profile
    ASK = 9  # a request for the next round's plan
    DONE = 10, Done
    USED = 11, Used
    OBSERVE = 12, Observe
    LOOK = 13, Look
    TENSOR = 16, Chunk  # both sides; the kinds above are the UE's, those below the server's
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
    GRANT = 41, Grant
    SHARES = 42, Shares
    OVER = 43  # the round is over: the UE must upload nothing more
    WATCHED = 44, Watched
    SEEN = 45  # events and the present state, as JSON

    def header(self, packed: bytes) -> Any:
        """Decode a header of this kind.

        Raises:
            ProtocolError: If the bytes are not such a header.
        """
        try:
            return self.decoder.decode(packed)
        except (ValueError, RecursionError) as error:  # msgspec raises ValueErrors
            said = str(error)[:MOST_SAID]  # it may quote what has arrived
            raise ProtocolError(f"{self.name}: a header cannot be read: {said}") from error


FROM_UE = frozenset(kind for kind in Kind if kind <= Kind.TENSOR)
FROM_SERVER = frozenset(kind for kind in Kind if kind >= Kind.TENSOR)
_packed = Encoder().encode


def within(what: str, value: int, lowest: int, highest: int) -> int:
    """Return a number from a frame if it is in its range.

    Raises:
        ProtocolError: If it is not.
    """
    if not lowest <= value <= highest:
        raise ProtocolError(f"{what}={value}: a whole number from {lowest} to {highest} is needed")
    return value


class Frame(NamedTuple):
    """A frame that has arrived."""

    kind: Kind
    header: Any
    payload: bytes

    def layer(self, n_layers: int, lowest: int = 0) -> int:
        """Return the layer that the header names.

        Raises:
            ProtocolError: If it is not in `lowest` to `n_layers - 1`.
        """
        return within(f"{self.kind.name}: layer", self.header.layer, lowest, n_layers - 1)


def encode(kind: Kind, sequence: int, header: Header, payload: bytes | memoryview = b"") -> bytes:
    """Return the bytes of a frame before its payload, which is not copied.

    Raises:
        ValueError: If the header is too long.
    """
    packed = _packed(header)
    if len(packed) > MOST_HEADER_BYTES:
        raise ValueError(f"the header of {kind.name} has {len(packed)} bytes: too many")
    return PREFIX.pack(kind, sequence, len(packed), len(payload)) + packed


@dataclass
class FrameWriter:
    """Writes the frames of one direction. It belongs to one event loop."""

    writer: asyncio.StreamWriter
    sequence: int = 0
    payload_bytes: int = 0

    def write(
        self, kind: Kind, header: Header | None = None, payload: bytes | memoryview = b""
    ) -> None:
        """Pass a frame to the connection at once."""
        self.writer.write(encode(kind, self.sequence, header or Header(), payload))
        self.sequence += 1
        self.payload_bytes += len(payload)
        if len(payload):
            self.writer.write(payload)


@dataclass
class FrameReader:
    """Reads the frames of one direction, and checks their kind, order and length."""

    reader: asyncio.StreamReader
    allowed: frozenset[Kind]
    most_bytes: int = 1 << 20
    sequence: int = 0
    payload_bytes: int = 0
    all_bytes: int = 0  # prefixes and headers included

    async def read(self) -> Frame | None:
        """Return the next frame, or None if the other side has closed between two frames.

        Raises:
            ProtocolError: If it is malformed, truncated, too long, repeated or out of order, or of
                a kind that the other side must not send.
        """
        try:
            if not (first := await self.reader.read(1)):
                return None
            prefix = first + await self.reader.readexactly(PREFIX.size - 1)
            code, sequence, header_bytes, payload_bytes = PREFIX.unpack(prefix)
            kind = self._checked(code, sequence, payload_bytes)
            packed = await self.reader.readexactly(header_bytes)
            payload = await self.reader.readexactly(payload_bytes) if payload_bytes else b""
        except asyncio.IncompleteReadError as error:
            raise ProtocolError("the connection was closed within a frame") from error
        self.sequence += 1
        self.payload_bytes += payload_bytes
        self.all_bytes += PREFIX.size + header_bytes + payload_bytes
        return Frame(kind, kind.header(packed), payload)

    def _checked(self, code: int, sequence: int, payload_bytes: int) -> Kind:
        try:
            kind = Kind(code)
        except ValueError as error:
            raise ProtocolError(f"no frame has kind {code}") from error
        if kind not in self.allowed:
            raise ProtocolError(f"a frame of kind {kind.name} does not come from this side")
        if sequence != self.sequence:
            raise ProtocolError(
                f"{kind.name}: sequence number {sequence}, but {self.sequence} comes next"
            )
        if payload_bytes > self.most_bytes:
            raise ProtocolError(
                f"{kind.name}: a payload of {payload_bytes} bytes; at most {self.most_bytes} are "
                "allowed"
            )
        return kind
