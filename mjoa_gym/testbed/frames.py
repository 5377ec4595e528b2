"""Frames: what goes over a connection, and everything that is refused at its border.

A frame is a fixed prefix (kind, sequence number, lengths), a header of a few named values in
MessagePack (see `headers`), and a payload of raw bytes. Nothing in it is code, and nothing is
unpickled. Lengths are checked before anything is read or allocated, sequence numbers count the
frames of one direction of one connection, so a frame that is repeated, lost or reordered closes it.

Cost: 11 bytes and the header, 20 to 30 bytes per frame of data; 5 microseconds to read one.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec.msgpack import Encoder

from mjoa_gym.testbed.headers import Header, Kind, ProtocolError, within

PREFIX = struct.Struct("!BIHI")
MOST_HEADER_BYTES = 2**16 - 1
"""As many as the prefix can say."""
READ_AHEAD_BYTES = 1 << 20
"""What a connection reads before it is asked to."""
_packed = Encoder().encode


class Frame(NamedTuple):
    """A frame that has arrived.

    Attributes:
        kind: What it is.
        header: Its fields.
        payload: Its bytes.
    """

    kind: Kind
    header: Any
    payload: bytes

    def layer(self, n_layers: int, lowest: int = 0) -> int:
        """The layer that the header names, `lowest` to the last of so many.

        Raises:
            ProtocolError: If there is no such layer.
        """
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

    def size_of(self, kind: Kind, header: Header) -> int:
        """Bytes that a frame with this header has beside its payload."""
        return len(encode(kind, self.sequence, header))

    async def drain(self) -> None:
        """Wait until the connection has taken what was written, more or less."""
        await self.writer.drain()


@dataclass
class FrameReader:
    """Reads and checks the frames of one direction.

    Attributes:
        reader: The connection.
        allowed: The kinds that may come from there.
        most_bytes: The longest payload that is accepted.
        sequence: How many frames have come.
        payload_bytes: Bytes of their payloads.
    """

    reader: asyncio.StreamReader
    allowed: frozenset[Kind]
    most_bytes: int = 1 << 20
    sequence: int = 0
    payload_bytes: int = 0

    async def read(self) -> Frame | None:
        """The next frame; None if the other side has closed between two frames.

        Raises:
            ProtocolError: If it is malformed, truncated, too long, repeated or out of order.
            ConnectionError: If the connection is lost.
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
