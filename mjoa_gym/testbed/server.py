"""The edge server: accepts UEs, bounds what they may take, and executes their layers."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping

from mjoa_gym.testbed import frames
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.edge_query import EdgeQuery
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import Begin, Frame, FrameReader, FrameWriter, Kind, ProtocolError
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.settings import ServerSettings
from mjoa_gym.testbed.store import ParameterStore, Refusal, TensorMemory
from mjoa_gym.testbed.transmitter import UNSENT_BYTES

log = logging.getLogger(__name__)
MOST_STRANGERS = 64
"""Connections that have not proved to know the token; of more, the oldest is closed."""
HEARTBEAT_S = 0.25
MOST_UNSENT_BYTES = 2 * UNSENT_BYTES
GOODBYE_S = 0.5
"""How long a connection that is closed with a reason may take to hear it."""
TURN_S = 1e-3
"""How long one UE's frames may be answered while others wait."""


class EdgeServer:
    """An asyncio server. Use as `async with EdgeServer(...) as server`.

    Args:
        settings: How to run.
        builders: What makes the program of each model that UEs may name. Called in a thread, until
            it has succeeded once.
    """

    def __init__(
        self, settings: ServerSettings, builders: Mapping[str, Callable[[], LayeredProgram]]
    ) -> None:
        self.settings = settings
        self.builders = builders
        self.store = ParameterStore(settings.memory_bytes)
        self.memory = TensorMemory(settings.activation_bytes, settings.query_bytes)
        self.executor = Executor(settings.core, "edge layers")
        self._programs: dict[str, LayeredProgram] = {}
        self._building = asyncio.Lock()
        self._sessions: dict[asyncio.Task[None], Session] = {}  # in the order in which they came
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None, "the server is not open"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Of all connections that are open."""
        return tuple(self._sessions.values())

    async def __aenter__(self) -> EdgeServer:
        self._server = await asyncio.start_server(
            self._accept, self.settings.host, self.settings.port, limit=frames.READ_AHEAD_BYTES
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await asyncio.to_thread(self.executor.close)

    async def load_program(self, model: str) -> LayeredProgram:
        """The program of a model, for a session that has just authenticated itself.

        A ProtocolError if there is none, or no place for the session.
        """
        if sum(s.authenticated for s in self.sessions) > self.settings.sessions:
            raise ProtocolError("too many sessions")
        if model not in self.builders:
            raise ProtocolError(f"model {model!r} is unknown; there are {sorted(self.builders)}")
        if model not in self._programs:  # those of networks that are ready need not wait
            async with self._building:
                try:
                    if model not in self._programs:
                        self._programs[model] = await asyncio.to_thread(self.builders[model])
                except Exception as error:
                    log.exception("the network %r cannot be built", model)
                    raise ProtocolError(f"model {model!r} cannot be built at the server") from error
        return self._programs[model]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strangers = [task for task, s in self._sessions.items() if not s.authenticated]
        for oldest in strangers[: max(0, len(strangers) + 1 - MOST_STRANGERS)]:
            oldest.cancel()
        session = Session(self, reader, writer)
        task = asyncio.create_task(self._serve(session))
        self._sessions[task] = session
        task.add_done_callback(self._close)

    def _close(self, task: asyncio.Task[None]) -> None:
        """At once, also if it never began: nothing waits for a UE that does not read."""
        self._sessions.pop(task).frames.writer.transport.abort()

    async def _serve(self, session: Session) -> None:
        try:
            log.info("a UE's session has ended: %s", await session.serve())
        except Exception:  # a fault of ours ends one session, not the server
            log.exception("a session has failed")


class Session:
    """One connection at the server: a UE, its parameters, and one query at a time; see `serve`."""

    def __init__(
        self, server: EdgeServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.settings = server.settings
        self.reader = FrameReader(reader, frames.FROM_UE, self.settings.payload_bytes)
        self.frames = FrameWriter(writer)
        self.program: LayeredProgram
        self.authenticated = False  # whether the UE knows the token, and has a place
        self.query: EdgeQuery | None = None  # what it has asked for

    async def serve(self) -> str:
        """Answer frames until the connection ends, or is to be closed; returns why."""
        heart, turn_began = asyncio.create_task(self._beat()), now()
        try:
            await self._authenticate()
            while (frame := await self._next(self.settings.idle_s)) is not None:
                self._answer(frame)
                await self._catch_up()
                if now() - turn_began > TURN_S:  # frames that are here are read without a pause
                    await asyncio.sleep(0)
                    turn_began = now()
            return "closed by the UE"
        except ProtocolError as error:
            await self._goodbye(str(error))
            return str(error)
        except (ConnectionError, OSError) as error:
            return f"connection lost: {type(error).__name__}"
        finally:
            heart.cancel()
            self._end_query()
            self.server.store.forget(self)

    async def _next(self, patience_s: float) -> Frame | None:
        try:
            async with asyncio.timeout(patience_s):
                return await self.reader.read()
        except TimeoutError as error:
            raise ProtocolError(f"nothing heard for {patience_s:g} s") from error

    async def _catch_up(self) -> None:
        """Answer nothing more while the UE does not take in what was answered."""
        writer = self.frames.writer
        if writer.transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            try:
                async with asyncio.timeout(self.settings.idle_s):
                    await writer.drain()
            except TimeoutError as error:
                raise ProtocolError("the UE does not read") from error
        if writer.transport.is_closing():
            raise ConnectionResetError

    async def _authenticate(self) -> None:
        nonce = secrets.token_bytes(32)
        self.frames.write(Kind.GREETING, frames.Greeting(frames.VERSION, nonce))
        frame = await self._next(self.settings.hello_s)
        if frame is None:
            raise ConnectionResetError
        if frame.kind is not Kind.HELLO:
            raise ProtocolError(f"{frame.kind.name} before HELLO")
        hello: frames.Hello = frame.header
        proof = hmac.digest(self.settings.token.encode(), nonce, "sha256")
        if not hmac.compare_digest(hello.proof, proof):
            raise ProtocolError("wrong token")
        self.authenticated = True
        try:
            self.program = await self.server.load_program(hello.model)
        except ProtocolError:
            self.authenticated = False  # it takes no place any more
            raise
        if self.program.parameter_bytes > self.settings.model_bytes:
            raise ProtocolError(
                f"the model has {self.program.parameter_bytes} bytes of parameters; at most "
                f"{self.settings.model_bytes} are allowed"
            )
        if hello.fingerprint != self.program.fingerprint:
            raise ProtocolError(
                f"the UE's network {hello.model!r} is another one than the server's: "
                "operators, shapes, types and buffers must be equal"
            )
        self.frames.write(Kind.READY, frames.Ready(self.settings.payload_bytes))

    def _answer(self, frame: Frame) -> None:
        if frame.kind is Kind.PARAMETERS:
            self._running(frame).take_parameters(frame)
        elif frame.kind is Kind.TENSOR:
            self._running(frame).take_tensor(frame)
        elif frame.kind is Kind.BEGIN:
            self._begin(frame.header)
        elif frame.kind is Kind.END:
            executed, sent = self._running(frame).uses()
            self._end_query()
            self.frames.write(Kind.REPORT, frames.QueryReport(self._resident(), executed, sent))
        elif frame.kind is Kind.STATE:
            self.frames.write(Kind.RESIDENT, frames.ResidentBytes(self._resident()))
        elif frame.kind is not Kind.PING:
            raise ProtocolError(f"{frame.kind.name} at the wrong time")

    def _begin(self, begin: Begin) -> None:
        if self.query is not None:
            raise ProtocolError("BEGIN within a query")
        try:
            s = self.server
            self.query = EdgeQuery(
                begin, self.program, self, s.store, s.memory, s.executor, self.frames
            )
        except Refusal as error:
            self.frames.write(Kind.REFUSED, frames.Reason(str(error)))
            return
        self.frames.write(Kind.STARTED, frames.Started(self._resident(), now()))
        s.executor.submit(self.query.work)

    def _running(self, frame: Frame) -> EdgeQuery:
        if self.query is None:
            raise ProtocolError(f"{frame.kind.name} without a query")
        return self.query

    def _end_query(self) -> None:
        if self.query is not None:
            self.query.close()
            self.query = None

    def _resident(self) -> list[int]:
        layers = range(self.program.dnn.n_layers)
        return [self.server.store.received(self, layer) for layer in layers]

    async def _beat(self) -> None:
        """While a query runs, say how much has arrived, so that the UE notices a stall."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            if self.query is not None:
                said = frames.Heartbeat(self.reader.payload_bytes, self.query.work.position)
                self.frames.write(Kind.HEARTBEAT, said)

    async def _goodbye(self, reason: str) -> None:
        """Say why, and read on for a moment, since unread data would reset the connection."""
        with contextlib.suppress(ConnectionError, OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                self._end_query()
                self.frames.write(Kind.ERROR, frames.Reason(reason))
                await self.frames.writer.drain()
                self.frames.writer.write_eof()
                while await self.reader.reader.read(1 << 16):
                    pass
