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
"""Pieces of a transfer that are this near are one, where it is not we who shape the link."""
UNSENT_BYTES = 1 << 20
"""The sender waits for the connection when so much is waiting to be sent."""


class Piece(NamedTuple):
    """An uninterrupted use of the link, for a tensor of a layer's or its parameters."""

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


class ParameterStream:
    """The background source of an uplink: the parameters that are missing, in program order.

    With serial uploading, a layer's parameters wait until its predecessors have been executed, and
    hold up those behind them. `received` are the bytes of each layer that the server has already.
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
        """The layers that the edge needs and that are still to be sent."""
        return [transfer.layer for transfer in self._missing if transfer.layer in self._reader]

    @property
    def busy(self) -> bool:
        """Whether anything is still to be sent."""
        sending = self._current is not None and not self._current.done
        return sending or bool(self._missing)

    def finished(self, layer: int) -> None:
        """A layer has been executed, on either side."""
        self._finished.add(layer)
        if self._serial:
            self._released_at = now()

    def refused(self, layer: int) -> None:
        """The server has no room for a prefetched layer: it is not sent any further."""
        if self._current is not None and self._current.layer == layer:
            self._current = None

    def __call__(self) -> Transfer | None:
        """What to send now, if anything."""
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
    """The transmitter of one direction; a task of the event loop, from its making to `stop`.

    When no activation waits it sends what `background` gives, parameters: the same transfer until
    it is done, None for a pause. Where the link is `shaped_below`, by the operating system, chunks
    are as long as at its rate, but each goes as soon as the connection has taken the one before.
    """

    frames: FrameWriter
    rate_bps: float  # infinity for no shaping
    background: Callable[[], Transfer | None] = lambda: None
    on_sent: Callable[[], None] = lambda: None  # called when a transfer's last byte is handed over
    shaped_below: bool = False
    most_bytes: int = MOST_CHUNK_BYTES  # the longest payload that the other side accepts
    pieces: list[Piece] = field(default_factory=list)  # what has been sent when
    overhead_bytes: int = 0  # of headers among it

    def __post_init__(self) -> None:
        self.set_rate(self.rate_bps)
        if self.shaped_below:
            self._keep_little_unsent()
        self._waiting: deque[Transfer] = deque()
        self._wake = asyncio.Event()
        self._free_at = 0.0
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._run())

    def set_rate(self, rate_bps: float) -> None:
        """Let the link have another rate, from the next chunk on."""
        self.rate_bps = rate_bps
        wanted = min(rate_bps / BITS_PER_BYTE * CHUNK_S, MOST_CHUNK_BYTES)
        self.chunk_bytes = min(max(LEAST_CHUNK_BYTES, int(wanted)), self.most_bytes)
        self.shaped = rate_bps < float("inf") and not self.shaped_below

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
            await asyncio.sleep(0)  # late or unshaped: let others have a turn

    def _note(self, transfer: Transfer, start: float, end: float) -> None:
        if self.pieces:
            last = self.pieces[-1]
            same = last.kind == transfer.kind and last.layer == transfer.layer
            if same and start <= last.end + (0.0 if self.shaped else TOUCHING_S):
                self.pieces[-1] = last._replace(end=end)
                return
        self.pieces.append(Piece(transfer.kind, transfer.layer, start, end))

    def _keep_little_unsent(self) -> None:
        """Let but a few chunks wait in buffers, so that activations need not wait for them."""
        transport = self.frames.writer.transport
        # Not 0: with TLS, asyncio then waits for room even if nothing is left to send.
        transport.set_write_buffer_limits(high=1, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            size = max(LEAST_BUFFER_BYTES, 2 * self.chunk_bytes)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
