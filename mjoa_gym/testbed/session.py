"""The server's side of one connection: a UE, its parameters, and one query at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from mjoa_gym.kernel import UPLOAD_MODES
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.codec import Incoming, image_of_bundle
from mjoa_gym.testbed.executor import Execution, Executor, Work
from mjoa_gym.testbed.frames import (
    FROM_UE,
    MOST_SLOWDOWN,
    VERSION,
    Frame,
    FrameLimits,
    FrameReader,
    FrameWriter,
    Kind,
    ProtocolError,
)
from mjoa_gym.testbed.link import UNSENT_BYTES, Link, Transfer
from mjoa_gym.testbed.program import Program
from mjoa_gym.testbed.store import ParameterStore

HEARTBEAT_S = 0.25
MOST_UNSENT_BYTES = 2 * UNSENT_BYTES
GOODBYE_S = 0.5
"""How long a connection that is closed with a reason may take to hear it."""


@dataclass(frozen=True)
class SessionLimits:
    """What one UE may ask for.

    Attributes:
        frame: Sizes of frames.
        model_bytes: Parameters of its network.
        activation_bytes: Tensors of one query that are at the server at a time.
        hello_s: Seconds to authenticate.
        idle_s: Seconds without a frame until its session is freed.
    """

    frame: FrameLimits = field(default_factory=FrameLimits)
    model_bytes: int = 2 << 30
    activation_bytes: int = 1 << 30
    hello_s: float = 5.0
    idle_s: float = 60.0


@dataclass
class _Query:
    """An inference at the server.

    Attributes:
        uploads: The layers whose parameters it needs.
        serial: Whether the UE wants to hear of each finished layer.
        marked: Layers that it may upload in addition.
        downs: Tensors to send back.
        incoming: Tensors that have to come.
        work: What the executor does.
        link: The downlink.
        task: The task that sends.
        reserved: What is held in the store.
        full: Layers that did not fit; their chunks are ignored.
    """

    uploads: frozenset[int]
    serial: bool
    marked: frozenset[int]
    downs: frozenset[int]
    incoming: dict[int, Incoming]
    work: Work
    link: Link
    task: asyncio.Task[None]
    reserved: set[int]
    full: set[int] = field(default_factory=set)


LoadProgram = Callable[[str], Awaitable[Program]]
"""The program of a model's name; a ProtocolError if there is none."""


class Session:
    """Serves one connection until it ends; see `serve`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        token: str,
        load_program: LoadProgram,
        store: ParameterStore,
        executor: Executor,
        limits: SessionLimits,
    ) -> None:
        self.reader = FrameReader(reader, limits.frame, FROM_UE)
        self.frames = FrameWriter(writer)
        self.token = token
        self.load_program = load_program
        self.store = store
        self.executor = executor
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self.program: Program
        self.here: dict[int, Mapping[str, Tensor]] = {}
        self.query: _Query | None = None

    async def serve(self) -> str:
        """Answer frames until the connection ends; returns why it did."""
        heart = asyncio.create_task(self._beat())
        try:
            await self._authenticate()
            while (frame := await self._next(self.limits.idle_s)) is not None:
                self._answer(frame)
                await self._catch_up()
            return "closed by the UE"
        except ProtocolError as error:
            await self._goodbye(str(error))
            return str(error)
        except (ConnectionError, OSError) as error:
            return f"connection lost: {type(error).__name__}"
        finally:
            heart.cancel()
            self._end_query()
            self.store.forget(self)
            self.frames.writer.close()

    async def _next(self, patience_s: float) -> Frame | None:
        try:
            async with asyncio.timeout(patience_s):
                return await self.reader.read()
        except TimeoutError as error:
            raise ProtocolError(f"nothing heard for {patience_s:g} s") from error

    async def _catch_up(self) -> None:
        """Answer nothing more while the UE does not take in what was answered."""
        if self.frames.writer.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            try:
                async with asyncio.timeout(self.limits.idle_s):
                    await self.frames.drain()
            except TimeoutError as error:
                raise ProtocolError("the UE does not read") from error

    async def _authenticate(self) -> None:
        nonce = secrets.token_bytes(32)
        self.frames.write(Kind.GREETING, {"version": VERSION, "nonce": nonce})
        hello = await self._next(self.limits.hello_s)
        if hello is None:
            raise ConnectionResetError
        if hello.kind is not Kind.HELLO:
            raise ProtocolError(f"{hello.kind.name} before HELLO")
        proof = hmac.digest(self.token.encode(), nonce, "sha256")
        if not hmac.compare_digest(hello.data("proof", len(proof)), proof):
            raise ProtocolError("wrong token")
        hello.number("version", VERSION, VERSION)
        self.program = await self.load_program(hello.text("model"))
        if self.program.parameter_bytes > self.limits.model_bytes:
            raise ProtocolError(
                f"the model has {self.program.parameter_bytes} bytes of parameters; at most "
                f"{self.limits.model_bytes} are allowed"
            )
        if hello.text("fingerprint") != self.program.fingerprint:
            raise ProtocolError("the UE's network of this name is another one")
        self.frames.write(Kind.READY)

    def _answer(self, frame: Frame) -> None:
        if frame.kind is Kind.PARAMETERS:
            self._take_parameters(frame)
        elif frame.kind is Kind.TENSOR:
            self._take_tensor(frame)
        elif frame.kind is Kind.BEGIN:
            self._begin(frame)
        elif frame.kind is Kind.END:
            self._report()
        elif frame.kind is Kind.STATE:
            self.frames.write(Kind.RESIDENT, {"bytes": self._resident()})
        elif frame.kind is not Kind.PING:
            raise ProtocolError(f"{frame.kind.name} at the wrong time")

    def _begin(self, frame: Frame) -> None:
        if self.query is not None:
            raise ProtocolError("BEGIN within a query")
        program, n = self.program, self.program.dnn.n_layers
        placement, marks = frame.data("placement", n), frame.data("prefetch", n)
        if max(placement) > 1 or max(marks) > 1:
            raise ProtocolError("BEGIN: placement and prefetch must be 0 or 1")
        mode = UPLOAD_MODES[frame.number("upload", 0, len(UPLOAD_MODES) - 1)]
        slowdown = frame.real("slowdown", 1.0, MOST_SLOWDOWN)
        downlink_bps = frame.real("downlink_bps", 1e3, float("inf"))
        ups, downs = program.crossing(placement)
        layers = [layer for layer in range(n) if placement[layer]]
        size = sum(program.tensors[t].total_bytes for t in {*ups, *layers})
        if size > self.limits.activation_bytes:
            self._refuse(f"tensors of {size} bytes; {self.limits.activation_bytes} are allowed")
            return
        uploads = list(program.to_upload(placement))
        wanted = [(u, layout) for u in uploads if (layout := program.parameters[u]) is not None]
        if not self.store.reserve(self, wanted):
            self._refuse("no memory for these layers beside those that others are using")
            return
        self._recall(uploads)
        work = self._work(layers, uploads if mode == "whole" else [], slowdown)
        link = Link(self.frames, downlink_bps)
        self.query = _Query(
            frozenset(uploads),
            mode == "serial",
            frozenset(layer for layer in range(n) if marks[layer]),
            frozenset(downs),
            {tensor: Incoming(f"tensor {tensor}", program.tensors[tensor]) for tensor in ups},
            work,
            link,
            asyncio.create_task(self._send(link)),
            set(uploads),
        )
        self.frames.write(Kind.STARTED, {"bytes": self._resident(), "now": now()})
        self.executor.submit(work)

    def _work(self, layers: list[int], gate: list[int], slowdown: float) -> Work:
        here, owners = self.here, self.program.owners

        def parameters(layer: int) -> Mapping[str, Tensor] | None:
            needed = owners[layer]
            if not all(owner in here for owner in (*needed, *gate)):
                return None
            if len(needed) == 1:
                return here[needed[0]]
            return {name: t for owner in needed for name, t in here[owner].items()}

        network, dnn = self.program.network, self.program.dnn
        return Work(network, layers, dnn.predecessors, parameters, slowdown, self._executed)

    def _recall(self, uploads: list[int]) -> None:
        """Begin with those of the layers that are complete already."""
        self.here = {
            layer: incoming.tensors()
            for layer in uploads
            if (incoming := self.store.get(self, layer)) is not None and incoming.complete
        }

    def _take_parameters(self, frame: Frame) -> None:
        query, layer = self._running(frame), frame.number("layer", 0, self.program.dnn.n_layers - 1)
        layout = self.program.parameters[layer]
        if layout is None or (layer not in query.reserved and layer not in query.marked):
            raise ProtocolError(f"PARAMETERS: layer {layer} has none that this query uploads")
        if layer in query.full:
            return
        if layer not in query.reserved:
            if not self.store.reserve(self, [(layer, layout)]):
                query.full.add(layer)
                self.frames.write(Kind.FULL, {"layer": layer})
                return
            query.reserved.add(layer)
        incoming = self.store.get(self, layer)
        assert incoming is not None, "reserved layers stay"
        incoming.write(frame.number("offset", 0, layout.total_bytes), frame.payload)
        if incoming.complete and layer in query.uploads:
            with self.executor.lock:
                self.here[layer] = incoming.tensors()
            self.executor.look_again()

    def _take_tensor(self, frame: Frame) -> None:
        query = self._running(frame)
        tensor = frame.number("layer", -1, self.program.dnn.n_layers - 1)
        incoming = query.incoming.get(tensor)
        if incoming is None:
            raise ProtocolError(f"TENSOR: {tensor} is not one that this query sends")
        size = incoming.layout.total_bytes
        incoming.write(frame.number("offset", 0, size), frame.payload)
        if incoming.complete:
            self.executor.put(query.work, tensor, incoming.bundle())

    def _running(self, frame: Frame) -> _Query:
        if self.query is None:
            raise ProtocolError(f"{frame.kind.name} without a query")
        return self.query

    def _executed(self, work: Work, execution: Execution | None) -> None:
        """In the executor's thread: something for the event loop, if anything follows."""
        query = self.query
        if query is None or query.work is not work:
            return
        if execution is None or query.serial or execution.layer in query.downs:
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                self.loop.call_soon_threadsafe(self._follow_up, query, execution)

    def _follow_up(self, query: _Query, execution: Execution | None) -> None:
        if query is not self.query:
            return
        if execution is None:
            reason = f"executing a layer failed: {type(query.work.error).__name__}"
            self.frames.write(Kind.ERROR, {"reason": reason})
            self.frames.writer.close()
            return
        if query.serial:
            self.frames.write(Kind.FINISHED, {"layer": execution.layer})
        if execution.layer in query.downs:
            image = image_of_bundle(query.work.bundles[execution.layer])
            query.link.send(Transfer(Kind.TENSOR, execution.layer, image))

    def _report(self) -> None:
        if self.query is None:
            raise ProtocolError("END without a query")
        executed = [[e.layer, e.start, e.end] for e in self.query.work.executions]
        sent = [[piece.layer, piece.start, piece.end] for piece in self.query.link.pieces]
        self._end_query()
        self.frames.write(
            Kind.REPORT, {"executed": executed, "sent": sent, "bytes": self._resident()}
        )

    def _end_query(self) -> None:
        if self.query is None:
            return
        query, self.query, self.here = self.query, None, {}
        self.executor.cancel(query.work)
        query.task.cancel()
        self.store.release(self, query.reserved)

    def _resident(self) -> list[int]:
        return [self.store.received(self, layer) for layer in range(self.program.dnn.n_layers)]

    def _refuse(self, reason: str) -> None:
        self.frames.write(Kind.REFUSED, {"reason": reason})

    async def _send(self, link: Link) -> None:
        try:
            await link.run()
        except (ConnectionError, OSError):
            self.frames.writer.close()

    async def _beat(self) -> None:
        """While a query runs, say how much has arrived, so that the UE notices a stall."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self.query is not None:
                done = self.query.work.position
                self.frames.write(Kind.HEARTBEAT, {"got": self.reader.payload_bytes, "done": done})

    async def _goodbye(self, reason: str) -> None:
        """Say why, and read on for a moment, since unread data would reset the connection."""
        with contextlib.suppress(ConnectionError, OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                self._end_query()
                self.frames.write(Kind.ERROR, {"reason": reason})
                await self.frames.drain()
                self.frames.writer.write_eof()
                while await self.reader.reader.read(1 << 16):
                    pass
