"""One inference on the UE: what it executes, sends, awaits, and how it ends if the server fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.dnn import INPUT
from mjoa_gym.importers.layered_model import Bundle
from mjoa_gym.kernel import UPLOAD_MODES
from mjoa_gym.simulator import Interval
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.codec import Image, Incoming, image_of_bundle
from mjoa_gym.testbed.connection import Connection
from mjoa_gym.testbed.executor import Execution, Executor, Work
from mjoa_gym.testbed.frames import Frame, Kind, ProtocolError
from mjoa_gym.testbed.link import Link, Piece, Transfer
from mjoa_gym.testbed.program import Program


@dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        placement: (L,) 0 = UE, 1 = edge.
        upload: Upload mode.
        prefetch: (L,) layers to upload in addition.
        uplink_bps: Rate of the uplink.
        downlink_bps: Rate of the downlink.
        ue_slowdown: How much slower than this machine the UE is.
        edge_slowdown: The same for its share of the server.
        stall_s: Without any sign of the server for so long, it counts as lost.
        hang_s: The same without any progress at the server, though it has all that it needs.
    """

    placement: tuple[int, ...]
    upload: str
    prefetch: tuple[int, ...]
    uplink_bps: float
    downlink_bps: float
    ue_slowdown: float
    edge_slowdown: float
    stall_s: float
    hang_s: float


class Query:
    """The state of one inference; belongs to the event loop.

    Attributes:
        failure: Why the server was given up, or None.
        recovered: The layers that the UE executed instead of the server.
        start: When it began.
        end: When the last output was there.
    """

    def __init__(
        self,
        program: Program,
        parameters: Sequence[Mapping[str, Any]],
        images: Sequence[Image | None],
        executor: Executor,
        order: Order,
        inputs: Bundle,
    ) -> None:
        self.program = program
        self.images = images
        self.executor = executor
        self.order = order
        self.loop = asyncio.get_running_loop()
        self.failure: str | None = None
        self.recovered: tuple[int, ...] = ()
        self.start = now()
        self.end = self.start
        self.connection: Connection | None = None
        self.link: Link | None = None
        self.complete: asyncio.Future[None] = self.loop.create_future()
        self.clock_offset = 0.0
        self.downs: list[Piece] = []
        ups, downs = program.crossing(order.placement)
        self.ups = frozenset(ups)
        self.incoming = {t: Incoming(f"tensor {t}", program.tensors[t]) for t in downs}
        self.finished = {INPUT}
        self.sinks = {int(sink) for sink in program.dnn.is_sink.nonzero()[0]}
        layers = [n for n, side in enumerate(order.placement) if not side]
        self.work = Work(
            program.network,
            layers,
            program.dnn.predecessors,
            parameters.__getitem__,
            order.ue_slowdown,
            self._executed,
        )
        self.work.bundles[INPUT] = inputs
        self._stream: list[int] = []
        self._reader: dict[int, int] = {}
        self._offsets: Sequence[int] = ()
        self._transfer: Transfer | None = None
        self._released_at = self.start
        self._started: asyncio.Future[None] = self.loop.create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._sending: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._asked_at = self.start
        self._progress = (0, 0)
        self._progress_at = self._taken_at = now()

    # -- its course ----------------------------------------------------------------------------

    async def run(self, connection: Connection | None) -> None:
        """Run until all outputs are here; without a connection, all of it locally."""
        self.start = now()
        if connection is None:
            self._recover()
        elif await self._open(connection):
            if INPUT in self.ups:
                self._send_tensor(INPUT)
            self.executor.submit(self.work)
        await self.complete

    async def upload_only(self, connection: Connection) -> None:
        """Upload what is marked, without an inference."""
        self.complete.set_result(None)
        if await self._open(connection):
            await self.upload_until(float("inf"))

    async def upload_until(self, when: float) -> None:
        """Wait until everything is sent or the time has come."""
        while self.uploading and now() < when:
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if when == float("inf") else when - now()):
                    await self._moved.wait()

    async def _open(self, connection: Connection) -> bool:
        """Begin at the server; whether it agrees."""
        self.connection = connection
        connection.listener = self
        if connection.lost is not None:
            self._give_up(connection.lost)
            return False
        self._begin(connection)
        self._tasks.append(asyncio.create_task(self._watch(connection)))
        try:
            await self._started
        except _Refused:
            return False
        self.link = Link(
            connection.frames,
            self.order.uplink_bps,
            self._next_parameters,
            lambda _: self._moved.set(),
        )
        self._sending = asyncio.create_task(self._send(self.link, connection))
        return self.failure is None

    def stop_sending(self) -> None:
        """Send nothing more of this query; a chunk that has not gone out does not."""
        if self._sending is not None:
            self._sending.cancel()

    def stop(self) -> None:
        """End everything that goes on because of this query."""
        self.stop_sending()
        for task in self._tasks:
            task.cancel()
        if self.connection is not None and self.connection.listener is self:
            self.connection.listener = None
        self.executor.cancel(self.work)

    @property
    def open_at_server(self) -> bool:
        """Whether the server has begun with it and can be asked for its report."""
        began = self._started.done() and self._started.exception() is None
        return began and self.connection is not None and self.connection.lost is None

    @property
    def uploading(self) -> bool:
        """Whether parameters are still to be sent."""
        busy = self._transfer is not None and not self._transfer.done
        return self.failure is None and (busy or bool(self._stream))

    def _begin(self, connection: Connection) -> None:
        order = self.order
        self._asked_at = now()
        connection.frames.write(
            Kind.BEGIN,
            {
                "placement": bytes(order.placement),
                "prefetch": bytes(order.prefetch),
                "upload": UPLOAD_MODES.index(order.upload),
                "slowdown": float(order.edge_slowdown),
                "downlink_bps": float(order.downlink_bps),
            },
        )

    async def _send(self, link: Link, connection: Connection) -> None:
        try:
            await link.run()
        except (ConnectionError, OSError) as error:
            connection.close(f"connection lost: {type(error).__name__}")

    # -- what the server says ------------------------------------------------------------------

    def heard(self, frame: Frame) -> None:
        """A frame has arrived."""
        n = self.program.dnn.n_layers
        if frame.kind is Kind.TENSOR:
            self._take_tensor(frame)
        elif frame.kind is Kind.FINISHED:
            self._finish(frame.number("layer", 0, n - 1))
        elif frame.kind is Kind.HEARTBEAT:
            progress = frame.number("got", 0, 2**63), frame.number("done", 0, n)
            if progress != self._progress:
                self._progress_at = now()
            if progress[0] != self._progress[0]:
                self._taken_at = now()
            self._progress = progress
        elif frame.kind is Kind.STARTED:
            self._server_started(frame)
        elif frame.kind is Kind.REFUSED:
            self._give_up(f"the server refuses: {frame.text('reason', 4096)}")
        elif frame.kind is Kind.FULL:
            layer = frame.number("layer", 0, n - 1)
            if self._transfer is not None and self._transfer.layer == layer:
                self._transfer = None
            self._moved.set()
        else:
            raise ProtocolError(f"{frame.kind.name} within a query")

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        self._give_up(reason)

    def _server_started(self, frame: Frame) -> None:
        if self._started.done():
            raise ProtocolError("STARTED twice")
        time = now()
        theirs = frame.real("now", 0.0, float("inf"))
        if not self._asked_at <= theirs <= time:  # else it is our clock, as on one machine
            self.clock_offset = (self._asked_at + time) / 2 - theirs
        received = resident_bytes(frame, self.program)
        order, missing = self.order, self._missing(received)
        self._reader = self.program.to_upload(order.placement)
        if order.upload == "preinstalled":
            absent = [layer for layer in self._reader if missing[layer]]
            if absent:
                self._started.set_result(None)
                self._give_up(f"preinstalled, but layers {absent} are not at the server")
                return
        edge = [layer for layer in self._reader if missing[layer]]
        extra = [
            layer
            for layer, mark in enumerate(order.prefetch)
            if mark and missing[layer] and layer not in edge
        ]
        self._stream, self._offsets, self._released_at = edge + extra, received, time
        self._progress_at = time
        self._started.set_result(None)

    def _missing(self, received: Sequence[int]) -> list[bool]:
        layouts = self.program.parameters
        return [
            layout is not None and here < layout.total_bytes
            for layout, here in zip(layouts, received, strict=True)
        ]

    def _take_tensor(self, frame: Frame) -> None:
        layer = frame.number("layer", 0, self.program.dnn.n_layers - 1)
        incoming = self.incoming.get(layer)
        if incoming is None:
            raise ProtocolError(f"TENSOR: {layer} is not one that comes down")
        incoming.write(frame.number("offset", 0, incoming.layout.total_bytes), frame.payload)
        self._progress_at = now()
        if incoming.complete and self.failure is None:
            self.executor.put(self.work, layer, incoming.bundle())
            self._finish(layer)
            self._check_complete()

    # -- what the UE does ----------------------------------------------------------------------

    def _executed(self, work: Work, execution: Execution | None) -> None:
        """In the executor's thread: tell the event loop if anything follows."""
        layer = -2 if execution is None else execution.layer
        needed = layer in self.ups or layer in self.sinks or self.order.upload == "serial"
        if needed or execution is None or work.done:
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                self.loop.call_soon_threadsafe(self._follow_up, execution)

    def _follow_up(self, execution: Execution | None) -> None:
        if execution is None:
            if not self.complete.done():
                error = self.work.error
                assert error is not None, "without an execution there is an error"
                self.complete.set_exception(error)
            return
        if execution.layer in self.ups and self.failure is None:
            self._send_tensor(execution.layer)
        self._finish(execution.layer)
        self._check_complete()

    def _send_tensor(self, tensor: int) -> None:
        if self.link is not None:
            image = image_of_bundle(self.work.bundles[tensor])
            self.link.send(Transfer(Kind.TENSOR, tensor, image))

    def _finish(self, layer: int) -> None:
        self.finished.add(layer)
        self._released_at = now() if self.order.upload == "serial" else self._released_at
        if self.link is not None:
            self.link.wake()

    def _check_complete(self) -> None:
        if not self.complete.done() and self.sinks <= self.work.bundles.keys():
            self.end = now()
            self.complete.set_result(None)

    def _next_parameters(self) -> Transfer | None:
        """The parameter stream: in program order, and with serial uploading after predecessors."""
        if self._transfer is not None and not self._transfer.done:
            return self._transfer
        self._transfer = None
        if not self._stream:
            return None
        layer = self._stream[0]
        if self.order.upload == "serial":
            predecessors = self.program.dnn.predecessors[self._reader.get(layer, layer)]
            if not self.finished.issuperset(predecessors):
                return None
        image = self.images[layer]
        assert image is not None, "only layers with parameters are in the stream"
        del self._stream[0]
        self._transfer = Transfer(
            Kind.PARAMETERS, layer, image, self._offsets[layer], self._released_at
        )
        return self._transfer

    # -- when the server fails -----------------------------------------------------------------

    async def _watch(self, connection: Connection) -> None:
        """Give up a server that is silent, takes nothing in, or makes no progress."""
        stall_s, hang_s = self.order.stall_s, self.order.hang_s
        while True:
            await asyncio.sleep(stall_s / 4)
            time = now()
            if connection.frames.payload_bytes == self._progress[0]:
                self._taken_at = time
            if self.work.running is not None:
                self._progress_at = time
            if time - connection.heard_at > stall_s:
                connection.close(f"nothing heard for {stall_s:g} s")
            elif time - self._taken_at > stall_s:
                connection.close(f"the server has taken nothing in for {stall_s:g} s")
            elif time - self._progress_at > hang_s:
                connection.close(f"no progress for {hang_s:g} s")

    def _give_up(self, reason: str) -> None:
        if self.failure is not None:
            return
        self.failure = reason
        self._moved.set()
        if not self._started.done():
            self._started.set_exception(_Refused())
        if not self.complete.done():
            self._recover()

    def _recover(self) -> None:
        """Execute here what is missing, from the tensors that are here."""
        self.recovered = self.executor.redirect(self.work, self.program.missing_for_outputs)
        self._check_complete()

    # -- what was measured ---------------------------------------------------------------------

    def intervals(self, report: Frame | None) -> tuple[Interval, ...]:
        """The measured timeline, as `simulate` gives it, in seconds since the start."""
        found = [("ue", "execute", *execution) for execution in self.work.executions]
        for piece in self.link.pieces if self.link is not None else ():
            if piece.kind is Kind.TENSOR:
                what = "activation"
            else:
                what = "parameters" if self.order.placement[piece.layer] else "prefetch"
            found.append(("uplink", what, piece.layer, piece.start, piece.end))
        if report is not None:
            for resource, what, key in (
                ("edge", "execute", "executed"),
                ("downlink", "activation", "sent"),
            ):
                for layer, start, end in measured_rows(report, key):
                    shift = self.clock_offset
                    found.append((resource, what, layer, start + shift, end + shift))
        shifted = [Interval(r, w, n, a - self.start, b - self.start) for r, w, n, a, b in found]
        return tuple(sorted(shifted, key=lambda interval: (interval.start, interval.end)))


class _Refused(Exception):
    """The query does not begin at the server."""


def resident_bytes(frame: Frame, program: Program) -> list[int]:
    """The bytes of each layer's parameters that the server says it has.

    Raises:
        ProtocolError: If it says nonsense.
    """
    value = frame.header.get("bytes")
    sizes = [0 if layout is None else layout.total_bytes for layout in program.parameters]
    if not isinstance(value, list) or len(value) != len(sizes):
        raise ProtocolError(f"{frame.kind.name}: bytes must have one entry per layer")
    if not all(type(b) is int and 0 <= b <= size for b, size in zip(value, sizes, strict=True)):
        raise ProtocolError(f"{frame.kind.name}: bytes are out of range")
    return value


def resident_fractions(received: Sequence[int], program: Program) -> NDArray[np.float64]:
    """(L,) fractions of the parameters at the server, as `simulate` takes them."""
    return np.array(
        [
            1.0 if layout is None else here / layout.total_bytes
            for here, layout in zip(received, program.parameters, strict=True)
        ]
    )


def measured_rows(frame: Frame, key: str) -> list[tuple[int, float, float]]:
    """Rows of layer, start and end of a report.

    Raises:
        ProtocolError: If they are not.
    """
    rows = frame.header.get(key)
    if not isinstance(rows, list):
        raise ProtocolError(f"REPORT: {key} must be a list")
    for row in rows:
        if not isinstance(row, list) or [type(v) for v in row] != [int, float, float]:
            raise ProtocolError(f"REPORT: {key} must hold layer, start and end")
    return [(layer, start, end) for layer, start, end in rows]
