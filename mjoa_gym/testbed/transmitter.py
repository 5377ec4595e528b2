"""A link of a given rate: one serial transmitter, on which activations go before parameters.

A chunk of n bytes occupies the link for n / rate seconds; it is handed to the connection when these
are over, so what arrives complete arrives when it would on such a link. The time at which the link
becomes free is computed, not measured: being woken late delays one chunk, never the ones behind it.
All bytes of data frames are charged, headers included; the few control frames of a query are not.

Pre-emption is between chunks. A chunk lasts `CHUNK_S`, so an activation waits half of that on
average if parameters are being sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mjoa_gym.model.link import BITS_PER_BYTE
from mjoa_gym.testbed.clock import now, sleep_until
from mjoa_gym.testbed.codec import Image
from mjoa_gym.testbed.frames import FrameWriter
from mjoa_gym.testbed.headers import Chunk, Kind

CHUNK_S = 2e-3
LEAST_CHUNK_BYTES = 2048
MOST_CHUNK_BYTES = 1 << 18
LEAST_BUFFER_BYTES = 1 << 14
TOUCHING_S = 1e-3
"""Pieces of a transfer that are this near are one, where it is not we who shape the link."""
UNSENT_BYTES = 1 << 20
"""The sender waits for the connection when so much is waiting to be sent."""


class Piece(NamedTuple):
    """An uninterrupted use of the link.

    Attributes:
        kind: `Kind.TENSOR` or `Kind.PARAMETERS`.
        layer: What was sent: the layer that made the tensor or owns the parameters.
        start: When the link began with it.
        end: When the link was free again.
    """

    kind: Kind
    layer: int
    start: float
    end: float


@dataclass(eq=False)
class Transfer:
    """Something on its way: an image, and how much of it has been sent."""

    kind: Kind
    layer: int
    image: Image
    offset: int = 0
    ready_at: float = field(default_factory=now)

    @property
    def done(self) -> bool:
        """Whether its last byte has been sent."""
        return self.offset >= self.image.layout.total_bytes


def chunk_bytes(rate_bps: float, most: int = MOST_CHUNK_BYTES) -> int:
    """Payload of a chunk on a link of this rate, if the other side accepts so much."""
    wanted = min(rate_bps / BITS_PER_BYTE * CHUNK_S, MOST_CHUNK_BYTES)
    return min(max(LEAST_CHUNK_BYTES, int(wanted)), most)


class Transmitter:
    """The transmitter of one direction; a task of the event loop, from its making to `stop`.

    Args:
        frames: Where chunks go.
        rate_bps: Bits per second; infinity for no shaping.
        shaped_below: The operating system shapes the link: chunks are as long as at this rate, but
            each is handed over as soon as the connection has taken the one before.
        background: What to send when no activation waits, parameters: the same transfer until it
            is done, None for a pause.
        on_sent: Called when the last byte of a transfer has been handed over.
        most_bytes: The longest payload that the other side accepts.
    """

    def __init__(
        self,
        frames: FrameWriter,
        rate_bps: float,
        background: Callable[[], Transfer | None] = lambda: None,
        on_sent: Callable[[], None] = lambda: None,
        shaped_below: bool = False,
        most_bytes: int = MOST_CHUNK_BYTES,
    ) -> None:
        self.frames = frames
        self.chunk_bytes = chunk_bytes(rate_bps, most_bytes)
        self.rate_bps = rate_bps
        self.shaped = rate_bps < float("inf") and not shaped_below
        self.background = background
        self.on_sent = on_sent
        self.shaped_below = shaped_below
        if shaped_below:
            keep_little_unsent(frames, self.chunk_bytes)
        self.pieces: list[Piece] = []
        self.overhead_bytes = 0
        self._waiting: deque[Transfer] = deque()
        self._wake = asyncio.Event()
        self._free_at = 0.0
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._run())

    def send(self, transfer: Transfer) -> None:
        """Queue an activation behind those that wait already."""
        self._waiting.append(transfer)
        self._wake.set()

    def wake(self) -> None:
        """Ask the background source again."""
        self._wake.set()

    def stop(self) -> None:
        """Send nothing more; a chunk that has not gone out does not."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its traceback refers to us

    async def _run(self) -> None:
        with contextlib.suppress(ConnectionError, OSError):  # who reads notices it, too
            while True:
                await self._send_next()

    async def _send_next(self) -> None:
        """Send a chunk, or wait for one."""
        self._wake.clear()
        transfer = self._waiting[0] if self._waiting else self.background()
        if transfer is None:
            await self._wake.wait()
            return
        await self._send_chunk(transfer)
        if transfer.done:
            if self._waiting and transfer is self._waiting[0]:
                self._waiting.popleft()
            self.on_sent()

    async def _send_chunk(self, transfer: Transfer) -> None:
        payload = transfer.image.slices(transfer.offset, self.chunk_bytes)
        header = Chunk(transfer.layer, transfer.offset)
        start = max(self._free_at, transfer.ready_at) if self.shaped else now()
        extra = self.frames.size_of(transfer.kind, header)
        size = len(payload) + extra
        end = start + size * BITS_PER_BYTE / self.rate_bps if self.shaped else start
        self._free_at = end
        await sleep_until(end)
        self.frames.write(transfer.kind, header, payload)
        if self.shaped_below:
            await self.frames.drain()
            end = now()
        self.overhead_bytes += extra
        transfer.offset += len(payload)
        self._note(transfer, start, end)
        if self.frames.writer.transport.get_write_buffer_size() > UNSENT_BYTES:
            await self.frames.drain()
        elif not self.shaped or end < now() - CHUNK_S:
            await asyncio.sleep(0)  # late or unshaped: let others have a turn

    def _note(self, transfer: Transfer, start: float, end: float) -> None:
        if self.pieces:
            last = self.pieces[-1]
            same = last.kind == transfer.kind and last.layer == transfer.layer
            if same and start <= last.end + (0.0 if self.shaped else TOUCHING_S):
                self.pieces[-1] = last._replace(end=end)
                return
        self.pieces.append(Piece(transfer.kind, transfer.layer, start, end))


def keep_little_unsent(frames: FrameWriter, chunk: int) -> None:
    """Let no more than a few chunks wait in buffers, so that activations need not wait for them."""
    transport = frames.writer.transport
    transport.set_write_buffer_limits(high=0)
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max(LEAST_BUFFER_BYTES, 2 * chunk))
