"""One inference on the UE: what it executes, sends, awaits, and how it ends if the server fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from mjoa_gym.execution.layered_model import Bundle
from mjoa_gym.layers import INPUT
from mjoa_gym.model.simulator import Interval
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.codec import Image, Incoming, image_of_bundle
from mjoa_gym.testbed.connection import Connection
from mjoa_gym.testbed.executor import Execution, Executor, Work
from mjoa_gym.testbed.frames import Frame
from mjoa_gym.testbed.headers import Begin, Kind, ProtocolError, QueryReport
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.reports import resident_bytes
from mjoa_gym.testbed.settings import UESettings
from mjoa_gym.testbed.stream import ParameterStream
from mjoa_gym.testbed.transmitter import Transfer, Transmitter
from mjoa_gym.testbed.watch import Watch

BUSY = 0.5
"""Share of a layer's stretched time in which a slowed-down UE executes it; others get the rest."""


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
        program: LayeredProgram,
        parameters: Sequence[Mapping[str, Any]],
        images: Sequence[Image | None],
        executor: Executor,
        settings: UESettings,
        begin: Begin,
        inputs: Bundle,
    ) -> None:
        self.program = program
        self.images = images
        self.executor = executor
        self.settings = settings
        self.begin = begin
        self.loop = asyncio.get_running_loop()
        self.failure: str | None = None
        self.recovered: tuple[int, ...] = ()
        self.start = now()
        self.end = self.start
        self.connection: Connection | None = None
        self.link: Transmitter | None = None
        self.complete: asyncio.Future[None] = self.loop.create_future()
        self.clock_offset = 0.0
        ups, downs = program.crossing(begin.placement)
        self.ups = frozenset(ups)
        self.incoming = {t: Incoming(f"tensor {t}", program.tensors[t]) for t in downs}
        self.sinks = {int(sink) for sink in program.dnn.is_sink.nonzero()[0]}
        layers = [n for n, side in enumerate(begin.placement) if not side]
        self.work = Work(
            program.network,
            layers,
            program.dnn.predecessors,
            parameters.__getitem__,
            settings.ue_slowdown,
            self._executed,
            max(1, int(settings.ue_slowdown * BUSY)),
        )
        self.work.bundles[INPUT] = inputs
        self._stream: ParameterStream | None = None
        self._watch: Watch | None = None
        self._answered = asyncio.Event()
        self._moved = asyncio.Event()
        self._asked_at = self.start

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
            self.lost(connection.lost)
            return False
        self._asked_at = now()
        connection.frames.write(Kind.BEGIN, self.begin)
        s = self.settings
        self._watch = Watch(connection, self.work, s.stall_s, s.hang_s)
        self._watch.start()
        await self._answered.wait()
        if self._stream is None or self.failure is not None:
            return False
        self.link = Transmitter(
            connection.frames,
            s.uplink_bps,
            self._stream,
            self._moved.set,
            s.shaped_below,
            connection.payload_bytes,
        )
        return True

    def taken_in(self) -> int:
        """Bytes of payload that the server has taken in, as it last said."""
        return 0 if self._watch is None else self._watch.received

    def stop_sending(self) -> None:
        """Send nothing more of this query; a chunk that has not gone out does not."""
        if self.link is not None:
            self.link.stop()

    def stop(self) -> None:
        """End everything that goes on because of this query."""
        self.stop_sending()
        if self._watch is not None:
            self._watch.stop()
        if self.connection is not None and self.connection.listener is self:
            self.connection.listener = None
        self.executor.cancel(self.work)

    def forget(self) -> None:
        """Let go of all tensors; only when nothing more is asked of it."""
        self.work.forget()
        self.incoming.clear()
        self.link = self._stream = self._watch = None

    @property
    def open_at_server(self) -> bool:
        """Whether the server has begun with it and can be asked for its report."""
        begun = self._stream is not None
        return begun and self.connection is not None and self.connection.lost is None

    @property
    def uploading(self) -> bool:
        """Whether parameters are still to be sent."""
        return self.failure is None and self._stream is not None and self._stream.busy

    # -- what the server says ------------------------------------------------------------------

    def heard(self, frame: Frame) -> None:
        """A frame has arrived."""
        n = self.program.dnn.n_layers
        if frame.kind is Kind.TENSOR:
            self._take_tensor(frame)
        elif frame.kind is Kind.FINISHED:
            self._finish(frame.layer(n))
        elif frame.kind is Kind.HEARTBEAT:
            if self._watch is not None:
                self._watch.heartbeat(frame.header, n)
        elif frame.kind is Kind.STARTED:
            self._server_started(frame)
        elif frame.kind is Kind.REFUSED:
            self.lost(f"the server refuses: {frame.header.reason}")
        elif frame.kind is Kind.FULL:
            if self._stream is not None:
                self._stream.refused(frame.layer(n))
            self._moved.set()
        else:
            raise ProtocolError(f"{frame.kind.name} within a query")

    def _server_started(self, frame: Frame) -> None:
        if self._answered.is_set():
            raise ProtocolError("STARTED twice")
        time = now()
        theirs = frame.header.now
        if not self._asked_at <= theirs <= time:  # else it is our clock, as on one machine
            self.clock_offset = (self._asked_at + time) / 2 - theirs
        received = resident_bytes(frame, self.program)
        self._stream = ParameterStream(self.program, self.images, self.begin, received)
        self._answered.set()
        if self.begin.mode == "preinstalled" and self._stream.absent:
            layers = self._stream.absent
            self.lost(f"preinstalled, but layers {layers} are not at the server")

    def _take_tensor(self, frame: Frame) -> None:
        layer = frame.layer(self.program.dnn.n_layers)
        incoming = self.incoming.get(layer)
        if incoming is None:
            raise ProtocolError(f"TENSOR: {layer} is not one that comes down")
        incoming.write(frame.header.offset, frame.payload)
        if self._watch is not None:
            self._watch.progress()
        if incoming.complete and self.failure is None:
            self.executor.put(self.work, layer, incoming.bundle())
            self._finish(layer)
            self._check_complete()

    # -- what the UE does ----------------------------------------------------------------------

    def _executed(self, work: Work, execution: Execution | None) -> None:
        """In the executor's thread: tell the event loop if anything follows."""
        layer = -2 if execution is None else execution.layer
        needed = layer in self.ups or layer in self.sinks or self.begin.mode == "serial"
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
        if self._stream is not None:
            self._stream.finished(layer)
        if self.link is not None:
            self.link.wake()

    def _check_complete(self) -> None:
        if not self.complete.done() and self.sinks <= self.work.bundles.keys():
            self.end = now()
            self.complete.set_result(None)

    def timeline(self, report: QueryReport | None) -> tuple[Interval, ...]:
        """Every use of a resource, as `simulate` gives it, with those that the server reports."""
        found = [("ue", "execute", *execution) for execution in self.work.executions]
        for piece in () if self.link is None else self.link.pieces:
            what = "parameters" if self.begin.placement[piece.layer] else "prefetch"
            what = "activation" if piece.kind is Kind.TENSOR else what
            found.append(("uplink", what, piece.layer, piece.start, piece.end))
        if report is not None:
            lanes = ("edge", "execute", report.executed), ("downlink", "activation", report.sent)
            for resource, what, uses in lanes:
                for layer, start, end in uses:
                    here = start + self.clock_offset, end + self.clock_offset
                    found.append((resource, what, layer, *here))
        intervals = [Interval(r, w, n, a - self.start, b - self.start) for r, w, n, a, b in found]
        return tuple(sorted(intervals, key=lambda interval: (interval.start, interval.end)))

    # -- when the server fails -----------------------------------------------------------------

    def lost(self, reason: str) -> None:
        """The server is given up; what is missing is executed here."""
        if self.failure is not None:
            return
        self.failure = reason
        self.stop_sending()
        self._moved.set()
        self._answered.set()
        if not self.complete.done():
            self._recover()

    def _recover(self) -> None:
        """Execute here what is missing, from the tensors that are here."""
        self.recovered = self.executor.redirect(self.work, self.program.missing_for_outputs)
        self._check_complete()
