"""A link of a given rate: one serial transmitter that sends activations before parameters.

A chunk of n bytes occupies the link for n / rate seconds. It is passed to the connection at the end
of this time, so it arrives when it would arrive complete over such a link. The time at which the
link becomes free is computed, not measured. So a late wake-up delays one chunk, and none of those
that follow. All bytes of data frames are charged, headers included. The few control frames of a
query are not.

Activations pre-empt parameters between chunks. A chunk lasts `CHUNK_S` seconds, so an activation
waits for half of that on average while parameters are being sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mjoa_gym.layers import INPUT
from mjoa_gym.model.link import BITS_PER_BYTE
from mjoa_gym.testbed.clock import now, sleep_until
from mjoa_gym.testbed.codec import Image
from mjoa_gym.testbed.frames import Begin, Chunk, FrameWriter, Kind, encode
from mjoa_gym.testbed.program import LayeredProgram

CHUNK_S = 2e-3
LEAST_CHUNK_BYTES = 2048
MOST_CHUNK_BYTES = 1 << 18
LEAST_BUFFER_BYTES = 1 << 14
TOUCHING_S = 1e-3
"""Pieces of a transfer with shorter gaps (seconds) count as one, unless the link is shaped here."""
UNSENT_BYTES = 1 << 20
"""Unsent bytes in a connection's buffer above which the sender waits."""


class Piece(NamedTuple):
    """An uninterrupted use of the link, for a layer's output or its parameters."""

    kind: Kind
    layer: int
    start: float
    end: float


@dataclass(eq=False)
class Transfer:
    """An image that is being sent, and how many of its bytes have been sent."""

    kind: Kind
    layer: int
    image: Image
    offset: int = 0
    ready_at: float = field(default_factory=now)

    @property
    def done(self) -> bool:
        """Whether the last byte has been sent."""
        return self.offset >= self.image.layout.total_bytes


class ParameterStream:
    """The background source of an uplink: the missing parameters in program order, then prefetches.

    In serial mode, a layer's parameters wait until its predecessors have been executed, and the
    layers behind it wait too.

    Args:
        program: The network.
        images: (L,) the layers' parameters, ready to be sent; None for a layer without.
        begin: The placement, the prefetched layers and the upload mode.
        received: (L,) bytes of each layer that the server already has.
    """

    def __init__(
        self,
        program: LayeredProgram,
        images: Sequence[Image | None],
        begin: Begin,
        received: Sequence[int],
    ) -> None:
        self._predecessors = program.dnn.predecessors
        self._serial = begin.mode == "serial"
        self._reader = program.to_upload(begin.placement)
        marked = (layer for layer, mark in enumerate(begin.prefetch) if mark)
        transfers = (
            Transfer(Kind.PARAMETERS, layer, image, received[layer])
            for layer in dict.fromkeys((*self._reader, *marked))
            if (image := images[layer]) is not None
        )
        self._missing = [transfer for transfer in transfers if not transfer.done]
        self._finished = {INPUT}
        self._released_at = now()
        self._current: Transfer | None = None

    @property
    def absent(self) -> list[int]:
        """The layers that the edge needs and that are still waiting to be sent."""
        return [transfer.layer for transfer in self._missing if transfer.layer in self._reader]

    @property
    def busy(self) -> bool:
        """Whether there is still anything to send."""
        sending = self._current is not None and not self._current.done
        return sending or bool(self._missing)

    def finished(self, layer: int) -> None:
        """Note that a layer has been executed, on either side."""
        self._finished.add(layer)
        if self._serial:
            self._released_at = now()

    def refused(self, layer: int) -> None:
        """Stop sending a prefetched layer for which the server has no room."""
        if self._current is not None and self._current.layer == layer:
            self._current = None

    def __call__(self) -> Transfer | None:
        """Return what to send now, or None."""
        if self._current is None or self._current.done:
            self._current = None
            if self._missing:
                layer = self._missing[0].layer
                awaited = self._predecessors[self._reader.get(layer, layer)]
                if not self._serial or self._finished.issuperset(awaited):
                    self._current = self._missing.pop(0)
                    self._current.ready_at = self._released_at
        return self._current


@dataclass(eq=False)
class Transmitter:
    """The transmitter of one direction.

    It is a task of the event loop, from its construction until `stop`.

    Attributes:
        frames: Writes the frames.
        rate_bps: Rate of the link in bits per second; infinity for no shaping.
        background: Gives what to send while no activation waits, that is, parameters. It gives the
            same transfer until that is done, and None for a pause.
        on_sent: Called when the last byte of a transfer has been passed to the connection.
        shaped_below: Whether the operating system shapes the link. Then chunks have the same length
            as otherwise, but each is sent as soon as the connection has taken the one before.
        most_bytes: Longest payload that the other side accepts.
        pieces: The uses of the link so far.
        overhead_bytes: Bytes of the prefixes and headers sent so far.
    """

    frames: FrameWriter
    rate_bps: float
    background: Callable[[], Transfer | None] = lambda: None
    on_sent: Callable[[], None] = lambda: None
    shaped_below: bool = False
    most_bytes: int = MOST_CHUNK_BYTES
    pieces: list[Piece] = field(default_factory=list)
    overhead_bytes: int = 0

    def __post_init__(self) -> None:
        self.set_rate(self.rate_bps)
        if self.shaped_below:
            self._keep_little_unsent()
        self._waiting: deque[Transfer] = deque()
        self._wake = asyncio.Event()
        self._free_at = 0.0
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._run())

    def set_rate(self, rate_bps: float) -> None:
        """Set the link's rate in bits per second, from the next chunk on."""
        self.rate_bps = rate_bps
        wanted = min(rate_bps / BITS_PER_BYTE * CHUNK_S, MOST_CHUNK_BYTES)
        self.chunk_bytes = min(max(LEAST_CHUNK_BYTES, int(wanted)), self.most_bytes)
        self.shaped = rate_bps < float("inf") and not self.shaped_below

    def send(self, transfer: Transfer) -> None:
        """Queue an activation behind those that are already waiting."""
        self._waiting.append(transfer)
        self._wake.set()

    def wake(self) -> None:
        """Ask the background source again."""
        self._wake.set()

    def stop(self) -> None:
        """Send nothing more, not even the chunk that is on its way."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its traceback keeps this object alive

    async def _run(self) -> None:
        with contextlib.suppress(ConnectionError, OSError):  # the reader notices it too
            while True:
                self._wake.clear()
                transfer = self._waiting[0] if self._waiting else self.background()
                if transfer is None:
                    await self._wake.wait()
                    continue
                await self._send_chunk(transfer)
                if transfer.done:
                    if self._waiting and transfer is self._waiting[0]:
                        self._waiting.popleft()
                    self.on_sent()

    async def _send_chunk(self, transfer: Transfer) -> None:
        payload = transfer.image.slices(transfer.offset, self.chunk_bytes)
        header = Chunk(transfer.layer, transfer.offset)
        start = max(self._free_at, transfer.ready_at) if self.shaped else now()
        extra = len(encode(transfer.kind, self.frames.sequence, header))
        size = len(payload) + extra
        end = start + size * BITS_PER_BYTE / self.rate_bps if self.shaped else start
        self._free_at = end
        await sleep_until(end)
        self.frames.write(transfer.kind, header, payload)
        if self.shaped_below:
            await self.frames.writer.drain()
            end = now()
        self.overhead_bytes += extra
        transfer.offset += len(payload)
        self._note(transfer, start, end)
        if self.frames.writer.transport.get_write_buffer_size() > UNSENT_BYTES:
            await self.frames.writer.drain()
        elif not self.shaped or end < now() - CHUNK_S:
            await asyncio.sleep(0)  # late or unshaped: let other tasks run

    def _note(self, transfer: Transfer, start: float, end: float) -> None:
        if self.pieces:
            last = self.pieces[-1]
            same = last.kind == transfer.kind and last.layer == transfer.layer
            if same and start <= last.end + (0.0 if self.shaped else TOUCHING_S):
                self.pieces[-1] = last._replace(end=end)
                return
        self.pieces.append(Piece(transfer.kind, transfer.layer, start, end))

    def _keep_little_unsent(self) -> None:
        """Keep the buffers small, so that activations do not wait for many chunks."""
        transport = self.frames.writer.transport
        # Not 0: with TLS, asyncio then waits for room even if nothing is left to send.
        transport.set_write_buffer_limits(high=1, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            size = max(LEAST_BUFFER_BYTES, 2 * self.chunk_bytes)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
