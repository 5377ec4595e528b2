"""Frames: what goes over a connection, and everything that is refused at its border.

A frame is a fixed prefix (kind, sequence number, lengths), a header of a few named values in
MessagePack, and a payload of raw bytes. Nothing in it is code, and nothing is unpickled. Lengths
are checked before anything is read or allocated. Sequence numbers count the frames of one direction
of one connection, so a frame that is repeated, lost or reordered closes it. A header that has other
fields than its kind, or values beyond their bounds, is refused when it is decoded. What depends on
the network (is there such a layer?) is checked where the network is known.

Cost: 11 bytes and the header, 20 to 30 bytes per frame of data; 5 microseconds to read one.
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
"""As many as the prefix can say."""
MOST_PAYLOAD_BYTES = 2**32 - 1
READ_AHEAD_BYTES = 1 << 20
"""What a connection reads before it is asked to."""
MOST_SLOWDOWN = 1e4
"""Most times that a layer can be stretched."""
LEAST_RATE_BPS = 1e3
"""Slowest link: a chunk of parameters on it takes less than a UE's patience."""
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
Times = Annotated[list[Seconds], Meta(max_length=MOST_ITEMS)]
"""Seconds of each layer."""
Flag = Annotated[int, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=LEAST_RATE_BPS)]
Digest = Annotated[bytes, Meta(max_length=32)]
"""SHA-256, or nothing."""
Uses = Annotated[list[tuple[Natural, Seconds, Seconds]], Meta(max_length=MOST_ITEMS)]
"""Layer, start and end of each use of a resource."""
OWN_USES = (
    ("ue", "execute"), ("uplink", "activation"), ("uplink", "parameters"), ("uplink", "prefetch"),
)  # fmt: skip
ALL_USES = (*OWN_USES, ("edge", "execute"), ("downlink", "activation"))
"""Resources and what they are used for; of the first ones only the UE knows."""
OwnUse = tuple[Annotated[int, Meta(ge=0, lt=len(OWN_USES))], Layer, Seconds, Seconds]
"""Its place in `OWN_USES`, its layer, start and end."""


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
    """What a UE asks for; placement and prefetch have a byte per layer, 0 or 1."""

    placement: Bits
    prefetch: Bits
    upload: Annotated[int, Meta(ge=0, lt=len(UPLOAD_MODES))]
    slowdown: Annotated[float, Meta(ge=1.0, le=MOST_SLOWDOWN)]
    downlink_bps: Rate

    @property
    def mode(self) -> str:
        """The name of the upload mode."""
        return UPLOAD_MODES[self.upload]

    def check(self, n_layers: int) -> None:
        """Raise a ProtocolError unless it is about a network with this number of layers."""
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
    """When the server has executed and sent what in a query, and how many paced layers overran."""

    executed: Uses
    sent: Uses
    overruns: Natural


class OneLayer(Header, frozen=True):
    """The layer that has been executed, or that there is no room for."""

    layer: Layer


class Heartbeat(Header, frozen=True):
    """Bytes of payload that the server has taken in, and how many layers it has executed."""

    got: Natural
    done: Natural


class Pace(Header, frozen=True):
    """Seconds that each layer counts as at the server, whatever it takes; empty to end that."""

    edge_s: Times


class Profile(Header, frozen=True):
    """What a UE tells the controller: its layers, its link with the whole band, what it wants.

    Without `edge_s` the server measures its own seconds. `paced` says that layers count as those
    seconds at the server. `digests` are those of the layers' parameters, if they may be shared.
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
        """Raise a ProtocolError unless it is about a network with this number of layers."""
        wanted = {"ue_s": {n_layers}, "edge_s": {0, n_layers}, "digests": {0, n_layers}}
        for name, lengths in wanted.items():
            if len(getattr(self, name)) not in lengths:
                raise ProtocolError(f"REGISTER: {name}: {n_layers} entries are needed")
        if sum(self.ue_s) <= 0:
            raise ProtocolError("REGISTER: ue_s: at least one layer takes time")


class Grant(Header, frozen=True):
    """What a UE, by its number, may do in a round, and what the controller expects of it."""

    ue: Natural
    round: Natural
    placement: Bits
    prefetch: Bits
    upload: Annotated[int, Meta(ge=0, lt=len(UPLOAD_MODES))]
    uplink_bps: Rate  # the least rate where there is no share
    downlink_bps: Rate
    slowdown: Annotated[float, Meta(ge=1.0, le=MOST_SLOWDOWN)]
    predicted_s: Seconds

    @property
    def begin(self) -> Begin:
        """What it lets a UE ask for."""
        return Begin(self.placement, self.prefetch, self.upload, self.slowdown, self.downlink_bps)


class Done(Header, frozen=True):
    """All outputs of a round's inference are on the UE, after so many seconds."""

    round: Natural
    latency_s: Seconds
    failed: Flag  # whether the server was given up
    overruns: Natural  # of its paced layers


class Used(Header, frozen=True):
    """What a UE has used in a round, in seconds from its beginning, for those who watch."""

    round: Natural
    uses: Annotated[list[OwnUse], Meta(max_length=MOST_ITEMS)]


class Observe(Header, frozen=True):
    """Somebody who only watches introduces itself, with a proof that it knows the token."""

    version: Literal[1]
    proof: Secret


class Look(Header, frozen=True):
    """The number of the first event that is wanted."""

    since: Natural


class Watched(Header, frozen=True):
    """Whether somebody watches, so that UEs are to say what they use."""

    on: Flag


class Shares(Header, frozen=True):
    """The rate that a UE's uplink has from now on."""

    uplink_bps: Rate


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
    PACE = 7, Pace
    REGISTER = 8, Profile
    ASK = 9  # for the next round's plan
    DONE = 10, Done
    USED = 11, Used
    OBSERVE = 12, Observe
    LOOK = 13, Look
    TENSOR = 16, Chunk  # from either side; above are the UE's, below the server's
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
    OVER = 43  # the round is: nothing more is to be uploaded
    WATCHED = 44, Watched
    SEEN = 45  # what has happened, as JSON

    def header(self, packed: bytes) -> Any:
        """The header of a frame of this kind; a ProtocolError if it is none."""
        try:
            return self.decoder.decode(packed)
        except (ValueError, RecursionError) as error:  # those of msgspec are ValueErrors
            said = str(error)[:MOST_SAID]  # it may quote what has come
            raise ProtocolError(f"{self.name}: a header cannot be read: {said}") from error


FROM_UE = frozenset(kind for kind in Kind if kind <= Kind.TENSOR)
FROM_SERVER = frozenset(kind for kind in Kind if kind >= Kind.TENSOR)
_packed = Encoder().encode


def within(what: str, value: int, lowest: int, highest: int) -> int:
    """A number that has come in a frame; a ProtocolError if it is not in its range."""
    if not lowest <= value <= highest:
        raise ProtocolError(f"{what}={value}: a whole number from {lowest} to {highest} is needed")
    return value


class Frame(NamedTuple):
    """A frame that has arrived."""

    kind: Kind
    header: Any
    payload: bytes

    def layer(self, n_layers: int, lowest: int = 0) -> int:
        """The layer that the header names; a ProtocolError if the network has no such layer."""
        return within(f"{self.kind.name}: layer", self.header.layer, lowest, n_layers - 1)


def encode(kind: Kind, sequence: int, header: Header, payload: bytes | memoryview = b"") -> bytes:
    """The bytes of a frame up to its payload, which is not copied."""
    packed = _packed(header)
    if len(packed) > MOST_HEADER_BYTES:
        raise ValueError(f"the header of {kind.name} has {len(packed)} bytes: too many")
    return PREFIX.pack(kind, sequence, len(packed), len(payload)) + packed


@dataclass
class FrameWriter:
    """Writes the frames of one direction; belongs to one event loop."""

    writer: asyncio.StreamWriter
    sequence: int = 0
    payload_bytes: int = 0

    def write(
        self, kind: Kind, header: Header | None = None, payload: bytes | memoryview = b""
    ) -> None:
        """Hand a frame to the connection at once."""
        self.writer.write(encode(kind, self.sequence, header or Header(), payload))
        self.sequence += 1
        self.payload_bytes += len(payload)
        if len(payload):
            self.writer.write(payload)


@dataclass
class FrameReader:
    """Reads and checks the frames of one direction: kinds, order, and the longest payload."""

    reader: asyncio.StreamReader
    allowed: frozenset[Kind]
    most_bytes: int = 1 << 20
    sequence: int = 0
    payload_bytes: int = 0
    all_bytes: int = 0  # prefixes and headers included

    async def read(self) -> Frame | None:
        """The next frame; None if the other side has closed between two frames.

        Raises a ProtocolError if it is malformed, truncated, too long, repeated or out of order.
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
