"""The user equipment: it has a network, uses the edge server, and can always finish without it."""

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
    """The result of one inference.

    Attributes:
        outputs: The network's result, in the structure that the network gives it.
        latency_s: Seconds from the first message to the server, or from the start of local
            execution, until all outputs were on the UE. Connecting is not part of it.
        connect_s: Seconds spent on connecting before, if that was necessary.
        timeline: Every use of a resource, in the form that `simulate` gives. The server's uses are
            those that it has reported after the inference.
        failure: Why the UE could not use the server; None if it could.
        recovered: Layers that were placed at the edge, and executed on the UE because of a failure.
        resident: (L,) fractions of the layers' parameters at the server, as it last said.
        overhead_bytes: Bytes on the uplink that are neither parameters nor activations.
        overruns: Number of paced layers that were late, on both sides.
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
    """Seconds that each layer counts as on either side, however long it really takes.

    Attributes:
        ue_s: (L,) seconds on the UE.
        edge_s: (L,) seconds on the UE's share of the server; empty if a controller knows them.
    """

    ue_s: Sequence[float]
    edge_s: Sequence[float] = ()


class UserEquipment:
    """One UE with one network. It belongs to an event loop and does one inference at a time.

    Args:
        program: The network, with its parameters.
        executor: Executes its layers. Several UEs may share one.
        settings: How the UE behaves.
        pacing: Seconds that layers count as, so that the machine's noise has no effect. The
            slowdowns of the settings are then ignored.
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
        self.query: Query | None = None  # the inference in progress
        self._connection: Connection | None = None
        self._forgotten()
        self._turn = asyncio.Lock()

    def digests(self) -> list[bytes]:
        """Return (L,) SHA-256 of the layers' parameters as they are sent, empty without any."""
        return [b"" if image is None else image.digest() for image in self._images]

    @property
    def connected(self) -> bool:
        """Whether there is a connection that is not known to be lost."""
        return self._connection is not None and self._connection.lost is None

    async def connect(self) -> Connection:
        """Return the connection to the server, and open one if there is none.

        Raises:
            EdgeError: If there is no server, or it refuses the connection.
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
        """Close the connection. The server then deletes what it has of this UE."""
        if self._connection is not None:
            self._connection.close("closed by the UE")
            await self._connection.wait_closed()
            self._connection = None

    async def resident(self) -> NDArray[np.float64]:
        """Ask the server for the (L,) fractions of the layers' parameters that it has.

        If the server cannot be used, it counts as having none.
        """
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
        """Execute one inference. The outputs are right whatever happens to the server.

        Args:
            inputs: The network's input tensors.
            placement: (L,) 0 = UE, 1 = edge.
            upload: "parallel", "serial", "whole" or "preinstalled".
            prefetch: (L,) whether to upload the layer in addition, after the others.
            until_s: Seconds after the start until which the UE continues to upload when all outputs
                are here; by default it stops then.

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
        """Execute one inference like `infer`, with a plan that has been checked.

        Args:
            begin: The plan.
            inputs: The network's input tensors.
            until_s: As for `infer`.
            settings: Settings for this inference; by default the UE's.
            on_complete: Called when all outputs are here.

        Raises:
            ValueError: If the inputs do not fit the network.
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
            EdgeError: If the server fails, or has no memory for all of them.
            ValueError: If there is no such layer.
        """
        n = self.program.dnn.n_layers
        wanted = range(n) if layers is None else layers
        if unknown := sorted(set(wanted) - set(range(n))):
            raise ValueError(f"layers: {unknown} do not exist; the network has layers 0 to {n - 1}")
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
        """Run a query and end it; return the server's report, or None without one."""
        try:
            await query.run(until_s, on_complete)
            report = await self._end(query)
        except BaseException:  # abandoned: the server must end it too
            if query.connection is not None:
                query.connection.close("the query was abandoned")
            query.stop()
            query.forget()
            raise
        query.stop()
        return report

    async def _end(self, query: Query) -> QueryReport | None:
        """End a query at the server; return its report, or None without one."""
        query.stop_sending()
        if query.open_at_server and self._connection is not None:
            try:
                answer = await self._connection.ask(Kind.END, self.settings.stall_s)
                return self._checked(answer)
            except ProtocolError as error:
                self._connection.close(f"the server broke the protocol: {error}")
            except EdgeError:
                pass  # the outputs are here; the next query connects again
        if not self.connected:
            self._forgotten()
        return None

    def _checked(self, answer: Frame) -> QueryReport:
        """Return the report in a frame.

        Raises:
            ProtocolError: If the frame is not a report on this network.
        """
        self._received = self.program.resident_bytes(answer)
        report = answer.header
        if not isinstance(report, QueryReport):
            raise ProtocolError(f"{answer.kind.name} instead of REPORT")
        for layer, _start, _end in (*report.executed, *report.sent):
            within("REPORT: layer", layer, 0, self.program.dnn.n_layers - 1)
        return report

    def _forgotten(self) -> None:
        """Assume that the server has no parameters of this UE."""
        self._received = [0] * self.program.dnn.n_layers

    def _fractions(self) -> NDArray[np.float64]:
        """Return (L,) fractions of the parameters at the server, as `simulate` takes them."""
        return self.program.fractions(self._received)
