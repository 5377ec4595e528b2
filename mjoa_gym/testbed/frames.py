"""Frames: what goes over a connection, and everything that is refused at its border.

A frame is a fixed prefix (kind, sequence number, lengths), a header of a few named numbers in
MessagePack, and a payload of raw bytes. Nothing in it is code, and nothing is unpickled. Lengths
are checked before anything is read or allocated, sequence numbers count the frames of one direction
of one connection, so a frame that is repeated, lost or reordered closes it.

Cost: 11 bytes and the header, 20 to 30 bytes per frame of data.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from mjoa_gym.validation import count, finite

VERSION = 1
MOST_SLOWDOWN = 1e4
"""Most times that a layer can be stretched."""
LEAST_RATE_BPS = 1e3
"""Slowest link: a chunk of parameters on it takes less than a UE's patience."""
PREFIX = struct.Struct("!BIHI")
MOST_PORT = 2**16 - 1
MAX_SEQUENCE = 2**32 - 1
MAX_HEADER_BYTES = 2**16 - 1
MOST_ITEMS = 8192
"""Entries of the longest list in a header; a network has some hundred layers."""


class Kind(IntEnum):
    """What a frame is."""

    # from the UE
    HELLO = 1
    BEGIN = 2
    PARAMETERS = 3
    END = 4
    STATE = 5
    PING = 6
    # from either side
    TENSOR = 16
    ERROR = 17
    # from the server
    GREETING = 32
    READY = 33
    STARTED = 34
    REFUSED = 35
    FINISHED = 36
    REPORT = 37
    RESIDENT = 38
    HEARTBEAT = 39
    FULL = 40


FROM_UE = frozenset(
    {Kind.HELLO, Kind.BEGIN, Kind.PARAMETERS, Kind.END, Kind.STATE, Kind.PING, Kind.TENSOR}
)
FROM_SERVER = frozenset(Kind) - FROM_UE | {Kind.TENSOR}


class ProtocolError(Exception):
    """The other side has broken the protocol; the message says how, and is sent before closing."""


class Frame(NamedTuple):
    """A frame that has arrived.

    Attributes:
        kind: What it is.
        header: Its named values.
        payload: Its bytes.
    """

    kind: Kind
    header: dict[str, Any]
    payload: bytes

    def number(self, key: str, lowest: int, highest: int) -> int:
        """A whole number of the header.

        Raises:
            ProtocolError: If it is missing, of another type or out of range.
        """
        value = self.header.get(key)
        if type(value) is not int or not lowest <= value <= highest:
            raise ProtocolError(
                f"{self.kind.name}: {key}={_shown(value)}: a whole number from {lowest} to "
                f"{highest} is needed"
            )
        return value

    def real(self, key: str, lowest: float, highest: float) -> float:
        """A number of the header; as `number`, but not necessarily whole."""
        value = self.header.get(key)
        number = type(value) in (int, float)
        if value is None or not number or not lowest <= value <= highest:  # NaN fails, too
            raise ProtocolError(
                f"{self.kind.name}: {key}={_shown(value)}: a number from {lowest} to {highest} "
                "is needed"
            )
        return float(value)

    def text(self, key: str, longest: int = 256) -> str:
        """A text of the header, at most `longest` characters."""
        value = self.header.get(key)
        if type(value) is not str or len(value) > longest:
            raise ProtocolError(f"{self.kind.name}: {key}={_shown(value)}: a text is needed")
        return value

    def data(self, key: str, size: int) -> bytes:
        """Bytes of the header, exactly `size` of them."""
        value = self.header.get(key)
        if type(value) is not bytes or len(value) != size:
            raise ProtocolError(f"{self.kind.name}: {key}: {size} bytes are needed")
        return value


@dataclass(frozen=True)
class FrameLimits:
    """What a reader accepts.

    Attributes:
        payload_bytes: Longest payload.
        header_bytes: Longest header.
    """

    payload_bytes: int = 1 << 20
    header_bytes: int = MAX_HEADER_BYTES

    def __post_init__(self) -> None:
        count("payload_bytes", self.payload_bytes)
        count("header_bytes", self.header_bytes)


def port_number(name: str, port: int) -> int:
    """A port, 0 to 65535.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= MOST_PORT:
        raise ValueError(f"{name}={port!r}: a whole number from 0 to {MOST_PORT} is needed")
    return port


def slowdown(name: str, times: float) -> float:
    """How many times longer a layer takes, 1 to `MOST_SLOWDOWN`.

    Raises:
        ValueError: If it is none.
    """
    if not 1 <= finite(name, times) <= MOST_SLOWDOWN:
        raise ValueError(f"{name}={times!r}: allowed are 1 to {MOST_SLOWDOWN:g}")
    return times


def encode(
    kind: Kind, sequence: int, header: Mapping[str, Any], payload: bytes | memoryview = b""
) -> bytes:
    """The bytes of a frame up to its payload, which is not copied."""
    packed = msgpack.packb(header)
    if len(packed) > MAX_HEADER_BYTES:
        raise ValueError(f"the header of {kind.name} has {len(packed)} bytes: too many")
    return PREFIX.pack(kind, sequence, len(packed), len(payload)) + packed


class FrameWriter:
    """Writes the frames of one direction; belongs to one event loop."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.sequence = 0
        self.payload_bytes = 0

    def write(
        self, kind: Kind, header: Mapping[str, Any] | None = None, payload: bytes | memoryview = b""
    ) -> int:
        """Hand a frame to the connection at once; returns its bytes on the wire."""
        head = encode(kind, self.sequence, header or {}, payload)
        self.sequence += 1
        self.payload_bytes += len(payload)
        self.writer.write(head)
        if len(payload):
            self.writer.write(payload)
        return len(head) + len(payload)

    def size_of(self, kind: Kind, header: Mapping[str, Any]) -> int:
        """Bytes that a frame with this header has beside its payload."""
        return len(encode(kind, self.sequence, header))

    async def drain(self) -> None:
        """Wait until the connection has taken what was written, more or less."""
        await self.writer.drain()


class FrameReader:
    """Reads and checks the frames of one direction."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        limits: FrameLimits,
        allowed: frozenset[Kind],
    ) -> None:
        self.reader = reader
        self.limits = limits
        self.allowed = allowed
        self.sequence = 0
        self.payload_bytes = 0

    async def read(self) -> Frame | None:
        """The next frame; None if the other side has closed between two frames.

        Raises:
            ProtocolError: If it is malformed, truncated, too long, repeated or out of order.
            ConnectionError: If the connection is lost.
        """
        try:
            prefix = await self.reader.readexactly(PREFIX.size)
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return None
            raise ProtocolError("the connection was closed within a frame") from error
        code, sequence, header_bytes, payload_bytes = PREFIX.unpack(prefix)
        kind = self._checked(code, sequence, header_bytes, payload_bytes)
        try:
            packed = await self.reader.readexactly(header_bytes)
            payload = await self.reader.readexactly(payload_bytes) if payload_bytes else b""
        except asyncio.IncompleteReadError as error:
            raise ProtocolError("the connection was closed within a frame") from error
        self.sequence += 1
        self.payload_bytes += payload_bytes
        return Frame(kind, decode_header(packed), payload)

    def _checked(self, code: int, sequence: int, header_bytes: int, payload_bytes: int) -> Kind:
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
        if header_bytes > self.limits.header_bytes:
            raise ProtocolError(f"{kind.name}: a header of {header_bytes} bytes is too long")
        if payload_bytes > self.limits.payload_bytes:
            raise ProtocolError(
                f"{kind.name}: a payload of {payload_bytes} bytes; at most "
                f"{self.limits.payload_bytes} are allowed"
            )
        return kind


def decode_header(packed: bytes) -> dict[str, Any]:
    """The header's values.

    Raises:
        ProtocolError: If it is not a MessagePack map with names as keys.
    """
    try:
        header = msgpack.unpackb(
            packed,
            max_str_len=4096,
            max_bin_len=MAX_HEADER_BYTES,
            max_array_len=MOST_ITEMS,
            max_map_len=32,
            max_ext_len=0,
        )
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError(f"a header cannot be read: {type(error).__name__}") from error
    if not isinstance(header, dict) or not all(isinstance(key, str) for key in header):
        raise ProtocolError("a header must be a map with names as keys")
    return header


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
