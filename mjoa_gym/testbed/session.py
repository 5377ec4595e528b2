"""The server's side of one connection: a UE, its parameters, and one query at a time."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.edge_query import EdgeQuery, Refusal, Request
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import (
    FROM_UE,
    VERSION,
    Frame,
    FrameLimits,
    FrameReader,
    FrameWriter,
    Kind,
    ProtocolError,
)
from mjoa_gym.testbed.link import UNSENT_BYTES
from mjoa_gym.testbed.program import Program
from mjoa_gym.testbed.store import ParameterStore, TensorMemory
from mjoa_gym.validation import count, positive

HEARTBEAT_S = 0.25
MOST_UNSENT_BYTES = 2 * UNSENT_BYTES
GOODBYE_S = 0.5
"""How long a connection that is closed with a reason may take to hear it."""
TURN_S = 1e-3
"""How long one UE's frames may be answered while others wait."""


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

    def __post_init__(self) -> None:
        for name in ("model_bytes", "activation_bytes"):
            count(name, getattr(self, name))
        for name in ("hello_s", "idle_s"):
            positive(name, getattr(self, name))


LoadProgram = Callable[[str], Awaitable[Program]]
"""The program of a model's name; a ProtocolError if there is none."""


class Session:
    """Serves one connection until it ends; see `serve`.

    Attributes:
        authenticated: Whether the UE knows the token, and has a place.
        query: What it has asked for.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        token: str,
        load_program: LoadProgram,
        store: ParameterStore,
        memory: TensorMemory,
        executor: Executor,
        limits: SessionLimits,
    ) -> None:
        self.reader = FrameReader(reader, limits.frame, FROM_UE)
        self.frames = FrameWriter(writer)
        self.token = token
        self.load_program = load_program
        self.store = store
        self.memory = memory
        self.executor = executor
        self.limits = limits
        self.program: Program
        self.authenticated = False
        self.query: EdgeQuery | None = None
        self._turn_began = now()

    async def serve(self) -> str:
        """Answer frames until the connection ends, or is to be closed; returns why."""
        heart = asyncio.create_task(self._beat())
        try:
            await self._authenticate()
            while (frame := await self._next(self.limits.idle_s)) is not None:
                self._answer(frame)
                await self._catch_up()
                await self._let_others()
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
        if self.frames.writer.transport.is_closing():
            raise ConnectionResetError

    async def _let_others(self) -> None:
        """Frames that are here already are read without a pause; others must not wait for all."""
        if now() - self._turn_began > TURN_S:
            await asyncio.sleep(0)
            self._turn_began = now()

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
        self.authenticated = True
        hello.number("version", VERSION, VERSION)
        try:
            self.program = await self.load_program(hello.text("model"))
        except ProtocolError:
            self.authenticated = False  # it takes no place any more
            raise
        if self.program.parameter_bytes > self.limits.model_bytes:
            raise ProtocolError(
                f"the model has {self.program.parameter_bytes} bytes of parameters; at most "
                f"{self.limits.model_bytes} are allowed"
            )
        if hello.text("fingerprint") != self.program.fingerprint:
            raise ProtocolError(
                f"the UE's network {hello.text('model')!r} is another one than the server's: "
                "operators, shapes, types and buffers must be equal"
            )
        self.frames.write(Kind.READY, {"payload": self.limits.frame.payload_bytes})

    def _answer(self, frame: Frame) -> None:
        if frame.kind is Kind.PARAMETERS:
            self._running(frame).take_parameters(frame)
        elif frame.kind is Kind.TENSOR:
            self._running(frame).take_tensor(frame)
        elif frame.kind is Kind.BEGIN:
            self._begin(frame)
        elif frame.kind is Kind.END:
            report = self._running(frame).report()
            self._end_query()
            self.frames.write(Kind.REPORT, report | {"bytes": self._resident()})
        elif frame.kind is Kind.STATE:
            self.frames.write(Kind.RESIDENT, {"bytes": self._resident()})
        elif frame.kind is not Kind.PING:
            raise ProtocolError(f"{frame.kind.name} at the wrong time")

    def _begin(self, frame: Frame) -> None:
        if self.query is not None:
            raise ProtocolError("BEGIN within a query")
        request = Request.of(frame, self.program.dnn.n_layers)
        most = self.limits.activation_bytes
        try:
            self.query = EdgeQuery(
                request,
                self.program,
                self,
                self.store,
                self.memory,
                self.executor,
                self.frames,
                most,
            )
        except Refusal as error:
            self.frames.write(Kind.REFUSED, {"reason": str(error)})
            return
        self.frames.write(Kind.STARTED, {"bytes": self._resident(), "now": now()})
        self.query.start()

    def _running(self, frame: Frame) -> EdgeQuery:
        if self.query is None:
            raise ProtocolError(f"{frame.kind.name} without a query")
        return self.query

    def _end_query(self) -> None:
        if self.query is not None:
            self.query.close()
            self.query = None

    def _resident(self) -> list[int]:
        return [self.store.received(self, layer) for layer in range(self.program.dnn.n_layers)]

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
