"""The UE's part of one inference, which also finishes it if the server fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from mjoa_gym.execution.layered_model import Bundle
from mjoa_gym.layers import INPUT
from mjoa_gym.model.simulator import Interval
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.codec import Image
from mjoa_gym.testbed.connection import Connection, Watch
from mjoa_gym.testbed.executor import Execution, Executor
from mjoa_gym.testbed.frames import Begin, Frame, Kind, ProtocolError, QueryReport
from mjoa_gym.testbed.half import Half
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.settings import UESettings
from mjoa_gym.testbed.transmitter import ParameterStream, Transmitter


class Query(Half):
    """One inference on the UE.

    Args:
        program: The network, with its parameters.
        begin: The placement, the prefetched layers, the upload mode and the rates.
        executor: Executes the UE's layers.
        images: (L,) the layers' parameters, ready to be sent.
        settings: How the UE behaves.
        inputs: The network's input tensors; None to upload the marked layers and execute nothing.
        connection: The connection to the server; None to execute all layers on the UE.
        table: (L,) seconds that each layer counts as on the UE, if layers are paced.
    """

    side = 0

    def __init__(
        self,
        program: LayeredProgram,
        begin: Begin,
        executor: Executor,
        images: Sequence[Image | None],
        settings: UESettings,
        inputs: Bundle | None,
        connection: Connection | None,
        table: Sequence[float] | None = None,
    ) -> None:
        parameters, slowdown = program.network.needed_parameters, settings.ue_slowdown
        repeats = max(1, int(slowdown * settings.busy))
        if table is not None:  # it already has the UE's times
            slowdown, repeats = 1.0, 1
        super().__init__(program, begin, executor, parameters, slowdown, repeats, table)
        self.images = images
        self.settings = settings
        self.connection = connection
        self.failure: str | None = None  # why the UE gave the server up
        self.recovered: tuple[int, ...] = ()  # layers executed here instead
        self._latest = self.start = self.end = now()  # end: time of the last output
        self.complete: asyncio.Future[None] = self.loop.create_future()
        if inputs is None:
            self.complete.set_result(None)
        else:
            self.work.bundles[INPUT] = inputs
        self.over = False  # whether the server has ended the round
        self._clock_offset = 0.0
        self._stream: ParameterStream | None = None
        self._watch: Watch | None = None
        self._moved = asyncio.Event()

    async def run(
        self, until_s: float | None = None, on_complete: Callable[[Query], None] | None = None
    ) -> None:
        """Run until all outputs are here, then continue to upload if `until_s` is given.

        Args:
            until_s: Seconds after the start at which uploading ends. It ends earlier when
                everything is uploaded, the server is lost, or the server ends the round.
            on_complete: Called when all outputs are here.
        """
        self._latest = self.start = now()
        if self.connection is None:
            self._recover()
        else:
            self._ask(self.connection)
        await self.complete
        if on_complete is not None:
            on_complete(self)
        if until_s is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self.start + until_s):
                    while self._uploading:
                        self._moved.clear()
                        await self._moved.wait()

    def stop(self) -> None:
        """End all activity of this query."""
        self.stop_sending()
        if self._watch is not None:
            self._watch.stop()
        if self.connection is not None and self.connection.listener is self:
            self.connection.listener = None
        self.executor.cancel(self.work)

    def forget(self) -> None:
        """Release all tensors; use the query no more afterwards."""
        super().forget()
        self._stream = self._watch = None

    @property
    def open_at_server(self) -> bool:
        """Whether the server has begun the query and can be asked for its report."""
        begun = self._stream is not None
        return begun and self.connection is not None and self.connection.lost is None

    @property
    def _uploading(self) -> bool:
        """Whether there are still parameters to send, as far as is known."""
        if self.connection is None or self.failure is not None or self.over:
            return False
        return self._stream is None or self._stream.busy

    def _ask(self, connection: Connection) -> None:
        connection.listener = self
        if connection.lost is not None:
            self.lost(connection.lost)
            return
        connection.frames.write(Kind.BEGIN, self.begin)
        s = self.settings
        self._watch = Watch(connection, self.work, s.stall_s, s.hang_s)

    def heard(self, frame: Frame) -> None:
        """Handle a frame of the server."""
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
        elif frame.kind is Kind.OVER:
            self.over = True
            self._moved.set()
        elif frame.kind is Kind.SHARES:
            self.settings = replace(self.settings, uplink_bps=frame.header.uplink_bps)
            if self.link is not None:
                self.link.set_rate(self.settings.uplink_bps)
        else:
            raise ProtocolError(f"{frame.kind.name} within a query")

    def _server_started(self, frame: Frame) -> None:
        if self._stream is not None or self.failure is not None:
            raise ProtocolError("STARTED twice")
        time, theirs = now(), frame.header.now
        if not self.start <= theirs <= time:  # not the UE's clock, as on one machine
            self._clock_offset = (self.start + time) / 2 - theirs
        received = self.program.resident_bytes(frame)
        self._stream = ParameterStream(self.program, self.images, self.begin, received)
        self._moved.set()
        if self.begin.mode == "preinstalled" and (absent := self._stream.absent):
            self.lost(f"preinstalled, but layers {absent} are not at the server")
            return
        connection, s = self.connection, self.settings
        assert connection is not None, "the frame came over it"
        frames, most_bytes = connection.frames, connection.payload_bytes
        self.link = Transmitter(
            frames, s.uplink_bps, self._stream, self._moved.set, s.shaped_below, most_bytes
        )
        if INPUT in self.leaving:
            self.send(INPUT)
        if not self.complete.done():
            self.executor.submit(self.work)

    def _take_tensor(self, frame: Frame) -> None:
        tensor = self.take_in(frame)
        if self._watch is not None:
            self._watch.progress()
        if tensor is not None and self.failure is None:
            self.put(tensor)
            self._finish(tensor)

    def follow_up(self, execution: Execution | None) -> None:
        """Send a layer's output if the server needs it, check for completion, or fail (None)."""
        if execution is not None:
            since = self.since(execution)
            if execution.layer in self.leaving and self.failure is None:
                self.send(execution.layer, since)
            self._finish(execution.layer, since)
        elif not self.complete.done():
            error = self.work.error
            assert error is not None, "without an execution there is an error"
            self.complete.set_exception(error)

    def _finish(self, layer: int, since: float | None = None) -> None:
        """Note that a layer was executed on either side, at `since` on the clock or now."""
        if self._stream is not None:
            self._stream.finished(layer)
        if self.link is not None:
            self.link.wake()
        self._latest = max(self._latest, now() if since is None else since)
        self._check_complete()

    def _check_complete(self) -> None:
        if not self.complete.done() and self.program.sinks <= self.work.bundles.keys():
            self.end = self._latest
            self.complete.set_result(None)

    def timeline(self, report: QueryReport | None) -> tuple[Interval, ...]:
        """Return every use of a resource, in the form that `simulate` gives.

        Times are seconds from the start. Without the server's report its uses are missing.
        """
        found = [("ue", "execute", *execution) for execution in self.work.executions]
        for piece in () if self.link is None else self.link.pieces:
            what = "parameters" if self.begin.placement[piece.layer] else "prefetch"
            what = "activation" if piece.kind is Kind.TENSOR else what
            found.append(("uplink", what, piece.layer, piece.start, piece.end))
        if report is not None:
            lanes = ("edge", "execute", report.executed), ("downlink", "activation", report.sent)
            for resource, what, uses in lanes:
                for layer, start, end in uses:
                    here = start + self._clock_offset, end + self._clock_offset
                    found.append((resource, what, layer, *here))
        intervals = [Interval(r, w, n, a - self.start, b - self.start) for r, w, n, a, b in found]
        return tuple(sorted(intervals, key=lambda interval: (interval.start, interval.end)))

    def lost(self, reason: str) -> None:
        """Give the server up, and execute the missing layers on the UE."""
        if self.failure is not None:
            return
        self.failure = reason
        self.stop_sending()
        self._moved.set()
        if not self.complete.done():
            self._recover()

    def _recover(self) -> None:
        """Execute on the UE all layers that are still needed, from the tensors that are here."""
        self._latest = now()
        self.recovered = self.executor.redirect(self.work, self.program.missing_for_outputs)
        self._check_complete()
