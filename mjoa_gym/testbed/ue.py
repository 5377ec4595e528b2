"""The user equipment: holds a network, asks the edge server for help, and never depends on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.execution.layered_model import Bundle, TensorSpec
from mjoa_gym.layers import INPUT
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.model.simulator import Interval
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.codec import Image
from mjoa_gym.testbed.connection import Connection, EdgeError, open_connection
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import Begin, Frame, Kind, Pace, ProtocolError, QueryReport, within
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.query import Query
from mjoa_gym.testbed.settings import UESettings
from mjoa_gym.validation import binary_vector, choice


@dataclass(frozen=True, eq=False)
class MeasuredInference:
    """What came of one inference.

    Attributes:
        outputs: The network's result, in its own structure.
        latency_s: Seconds from the question to the server, or the start of local execution, until
            all outputs were on the UE. Connecting is not part of it.
        connect_s: Seconds spent connecting before, if that was necessary.
        timeline: Every use of a resource, as `simulate` gives it. Of the server's part, only what
            it has reported, which it does after the inference.
        failure: What went wrong with the server, or None.
        recovered: Layers that were placed at the edge and executed here because of that.
        resident: (L,) fractions of the layers' parameters at the server, as it last said.
        overhead_bytes: Bytes on the uplink that are neither parameters nor activations.
        overruns: Paced layers that were not done when their table said, on both sides.
    """

    outputs: Any
    latency_s: float
    connect_s: float
    timeline: tuple[Interval, ...]
    failure: str | None
    recovered: tuple[int, ...]
    resident: NDArray[np.float64]
    overhead_bytes: int
    overruns: int = 0


class Pacing(NamedTuple):
    """Seconds that each layer counts as on either side, (L,), whatever it takes for real."""

    ue_s: Sequence[float]
    edge_s: Sequence[float] = ()  # at the UE's share of the server; none if a controller knows


class UserEquipment:
    """One UE with one network. Belongs to an event loop; one inference at a time.

    Args:
        program: The network, with its parameters.
        executor: Executes its layers; may be shared.
        settings: How it behaves.
        pacing: What layers count as, to be free of the machine's noise; the slowdowns of the
            settings are of no meaning then.
    """

    def __init__(
        self,
        program: LayeredProgram,
        executor: Executor,
        settings: UESettings,
        pacing: Pacing | None = None,
    ) -> None:
        self.program = program
        self.executor = executor
        self.settings = settings
        self.pacing = pacing
        self._images = [
            None if layout is None else Image(layout, program.network.parameters(layer))
            for layer, layout in enumerate(program.parameters)
        ]
        self.query: Query | None = None  # the inference that is going on
        self._connection: Connection | None = None
        self._forgotten()
        self._turn = asyncio.Lock()

    def digests(self) -> list[bytes]:
        """(L,) SHA-256 of the layers' parameters as they are sent; nothing where there are none."""
        return [b"" if image is None else image.digest() for image in self._images]

    @property
    def connected(self) -> bool:
        """Whether there is a connection that is not known to be lost."""
        return self._connection is not None and self._connection.lost is None

    async def connect(self) -> Connection:
        """The connection; opened, unless that is done.

        Raises:
            EdgeError: If there is no server, or it does not want us.
        """
        if self._connection is None or self._connection.lost is not None:
            await self.close()
            self._connection = await open_connection(self.settings, self.program.fingerprint)
            if self.pacing is not None and len(self.pacing.edge_s):
                pace = Pace([float(seconds) for seconds in self.pacing.edge_s])
                self._connection.frames.write(Kind.PACE, pace)
        return self._connection

    async def __aenter__(self) -> UserEquipment:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave the server, which then frees what it has of this UE."""
        if self._connection is not None:
            self._connection.close("closed by the UE")
            await self._connection.wait_closed()
            self._connection = None

    async def resident(self) -> NDArray[np.float64]:
        """(L,) fractions of the layers' parameters at the server; without a server, none."""
        async with self._turn:
            self._forgotten()
            with contextlib.suppress(EdgeError, ProtocolError):
                connection = await self.connect()
                answer = await connection.ask(Kind.STATE, self.settings.stall_s)
                self._received = self.program.resident_bytes(answer)
        return self._fractions()

    async def infer(
        self,
        inputs: Bundle,
        placement: ArrayLike,
        upload: str = "parallel",
        prefetch: ArrayLike | None = None,
        until_s: float | None = None,
    ) -> MeasuredInference:
        """One inference; whatever happens to the server, the outputs are right.

        Args:
            inputs: The network's input tensors.
            placement: (L,) 0 = UE, 1 = edge.
            upload: "parallel", "serial", "whole" or "preinstalled".
            prefetch: (L,) layers to upload in addition, behind the others.
            until_s: Until when prefetching goes on if that is after the outputs are here.

        Raises:
            ValueError: Naming field, value and what is allowed.
        """
        n = self.program.dnn.n_layers
        marks = np.zeros(n) if prefetch is None or upload == "preinstalled" else prefetch
        begin = self._begin(
            binary_vector("placement", placement, n).tobytes(),
            binary_vector("prefetch", marks, n).tobytes(),
            choice("upload", upload, UPLOAD_MODES),
        )
        return await self.take(begin, inputs, until_s)

    async def take(
        self,
        begin: Begin,
        inputs: Bundle,
        until_s: float | None,
        settings: UESettings | None = None,
        on_complete: Callable[[Query], None] | None = None,
    ) -> MeasuredInference:
        """One inference as `infer`, of a plan that is known to be in order.

        `settings` are others than the UE's; `on_complete` is called when all outputs are here.
        """
        wanted = list(self.program.tensors[INPUT].specs.values())
        if (given := [TensorSpec.of(tensor) for tensor in inputs]) != wanted:
            raise ValueError(f"inputs are {given}; the network takes {wanted}")
        async with self._turn:
            return await self._infer(begin, inputs, until_s, settings or self.settings, on_complete)

    async def _infer(
        self,
        begin: Begin,
        inputs: Bundle,
        until_s: float | None,
        settings: UESettings,
        on_complete: Callable[[Query], None] | None,
    ) -> MeasuredInference:
        connection, asked_at, failure = None, now(), None
        if any(begin.placement + begin.prefetch):
            try:
                connection = await self.connect()
            except EdgeError as error:
                failure = str(error)
        table = None if self.pacing is None else self.pacing.ue_s
        query = Query(
            self.program, begin, self.executor, self._images, settings, inputs,
            connection, table,
        )  # fmt: skip
        self.query = query
        try:
            report = await self._see_through(query, until_s, on_complete)
        finally:
            self.query = None
        late = len(query.work.overruns) + (0 if report is None else report.overruns)
        result = MeasuredInference(
            self.program.network.outputs(query.work.bundles),
            query.end - query.start,
            query.start - asked_at,
            query.timeline(report),
            failure or query.failure,
            query.recovered,
            self._fractions(),
            0 if query.link is None else query.link.overhead_bytes,
            late,
        )
        query.forget()
        return result

    async def install(self, layers: Sequence[int] | None = None) -> None:
        """Upload the parameters of layers (default: all) at full speed, without an inference.

        Raises:
            EdgeError: If that fails.
            ValueError: If there is no such layer.
        """
        n = self.program.dnn.n_layers
        wanted = range(n) if layers is None else layers
        if unknown := sorted(set(wanted) - set(range(n))):
            raise ValueError(f"layers: {unknown} are none of this network's, 0 to {n - 1}")
        begin = self._begin(bytes(n), bytes(layer in wanted for layer in range(n)), "parallel")
        fast = replace(self.settings, uplink_bps=float("inf"), shaped_below=False)
        async with self._turn:
            to = await self.connect()
            query = Query(self.program, begin, self.executor, self._images, fast, None, to)
            await self._see_through(query, float("inf"))
        if query.failure is not None:
            raise EdgeError(query.failure)
        there = self._fractions()
        if absent := [layer for layer in wanted if there[layer] < 1]:
            raise EdgeError(f"no memory at the server for layers {absent} as well")

    def _begin(self, placement: bytes, prefetch: bytes, upload: str) -> Begin:
        s = self.settings
        downlink_bps = float("inf") if s.shaped_below else float(s.downlink_bps)
        mode = UPLOAD_MODES.index(upload)
        slowdown = float(s.edge_slowdown) if self.pacing is None else 1.0
        return Begin(placement, prefetch, mode, slowdown, downlink_bps)

    async def _see_through(
        self,
        query: Query,
        until_s: float | None,
        on_complete: Callable[[Query], None] | None = None,
    ) -> QueryReport | None:
        """Let a query take its course and end it; returns what the server reports."""
        try:
            await query.run(until_s, on_complete)
            report = await self._end(query)
        except BaseException:  # abandoned: the server must not go on with it either
            if query.connection is not None:
                query.connection.close("the query was abandoned")
            query.stop()
            query.forget()
            raise
        query.stop()
        return report

    async def _end(self, query: Query) -> QueryReport | None:
        """End a query at the server; returns what the server reports."""
        query.stop_sending()
        if query.open_at_server and self._connection is not None:
            try:
                answer = await self._connection.ask(Kind.END, self.settings.stall_s)
                return self._checked(answer)
            except ProtocolError as error:
                self._connection.close(f"what the server sends is wrong: {error}")
            except EdgeError:
                pass  # the outputs are here; the next query connects anew
        if not self.connected:
            self._forgotten()
        return None

    def _checked(self, answer: Frame) -> QueryReport:
        """A query's report; a ProtocolError unless it is one, of layers of this network."""
        self._received = self.program.resident_bytes(answer)
        report = answer.header
        if not isinstance(report, QueryReport):
            raise ProtocolError(f"{answer.kind.name} instead of REPORT")
        for layer, _start, _end in (*report.executed, *report.sent):
            within("REPORT: layer", layer, 0, self.program.dnn.n_layers - 1)
        return report

    def _forgotten(self) -> None:
        """As far as is known the server has nothing of ours."""
        self._received = [0] * self.program.dnn.n_layers

    def _fractions(self) -> NDArray[np.float64]:
        """(L,) fractions of the parameters at the server, as `simulate` takes them."""
        return self.program.fractions(self._received)
