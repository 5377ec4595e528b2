"""The edge server: it accepts UEs, limits what they may use, and executes their layers."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.testbed import frames, tls
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.controller import (
    FAIR,
    LEAST_SHARE,
    Controller,
    ControllerSettings,
    Member,
    slowdown_of,
)
from mjoa_gym.testbed.edge_query import EdgeQuery
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import Begin, Frame, FrameReader, FrameWriter, Kind, ProtocolError
from mjoa_gym.testbed.live import LOOK_S, Live
from mjoa_gym.testbed.planning import PlannerProcess
from mjoa_gym.testbed.police import Police
from mjoa_gym.testbed.program import MEASUREMENTS, LayeredProgram, measured_seconds
from mjoa_gym.testbed.settings import ServerSettings
from mjoa_gym.testbed.store import ParameterStore, Refusal, TensorMemory
from mjoa_gym.testbed.transmitter import UNSENT_BYTES

log = logging.getLogger(__name__)
MOST_STRANGERS = 64
"""Connections allowed without a proof that they know the token; the oldest is closed first."""
HEARTBEAT_S = 0.25
MOST_UNSENT_BYTES = 2 * UNSENT_BYTES
GOODBYE_S = 0.5
"""Seconds that a connection which is closed with a reason has to read it."""
TURN_S = 1e-3
"""Seconds for which one UE's frames may be answered while others wait."""


class EdgeServer:
    """An asyncio server, used as `async with EdgeServer(...) as server`.

    Args:
        settings: How the server runs.
        builders: For each model that UEs may name, the function that builds its program. It is
            called in a thread, until it has succeeded once.
        control: How the controller plans for all UEs. With None there is no controller, and UEs
            choose their shares themselves.
        listener: Called with every event of the controller's rounds. Events can be written as
            JSON.

    Raises:
        ValueError: On entering, if there is no such planner, or if the server would listen on
            anything but loopback without TLS.
    """

    def __init__(
        self,
        settings: ServerSettings,
        builders: Mapping[str, Callable[[], LayeredProgram]],
        control: ControllerSettings | None = None,
        listener: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.builders = builders
        self.control = control
        self.listener = listener
        self.controller: Controller | None = None
        self.live: Live | None = None  # None unless a controller may be watched
        self.store = ParameterStore(settings.memory_bytes, owner_bytes=settings.ue_memory_bytes)
        self.memory = TensorMemory(settings.activation_bytes, settings.query_bytes)
        fair = control is not None and control.compute == FAIR
        self.executor = Executor(settings.core, "edge layers", fair)
        self._programs: dict[str, LayeredProgram] = {}
        self._seconds: dict[str, list[float]] = {}  # per model, (L,) for UEs that do not know
        self._building = asyncio.Lock()
        self._sessions: dict[asyncio.Task[None], Session] = {}  # oldest first
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        assert self._server is not None, "the server is not open"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions of all open connections."""
        return tuple(self._sessions.values())

    async def __aenter__(self) -> EdgeServer:
        s = self.settings
        encrypted: dict[str, Any] = {}
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self.executor.close)
            await tls.check_exposure(s.host, s.certificate is not None)
            if s.certificate is not None and s.key is not None:
                context = tls.server_context(s.certificate, s.key)
                encrypted = {"ssl": context, "ssl_handshake_timeout": s.hello_s}
            if self.control is not None:
                started = PlannerProcess(self.control.planner, self.control.share)
                planner = await stack.enter_async_context(started)
                self.controller = Controller(self.control, planner, s.memory_bytes, self._said)
                if self.control.watched:
                    self.live = Live(self.controller, self.store)
                rounds = asyncio.create_task(self.controller.run())
                stack.push_async_callback(_cancel, rounds)
            self._server = await asyncio.start_server(
                self._accept, s.host, s.port, limit=frames.READ_AHEAD_BYTES, **encrypted
            )
            stack.push_async_callback(self._end)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def _said(self, event: dict[str, Any]) -> None:
        """Pass on an event of the controller."""
        self.listener(event)
        if self.live is not None:
            self.live.said(event)

    async def load_program(self, model: str) -> LayeredProgram:
        """Return the program of a model, which is built on its first use.

        Raises:
            ProtocolError: If the model is unknown, or cannot be built.
        """
        if model not in self.builders:
            raise ProtocolError(f"model {model!r} is unknown; there are {sorted(self.builders)}")
        if model not in self._programs:  # built models need not wait for the lock
            async with self._building:
                try:
                    if model not in self._programs:
                        self._programs[model] = await asyncio.to_thread(self.builders[model])
                except Exception as error:
                    log.exception("the network %r cannot be built", model)
                    raise ProtocolError(f"model {model!r} cannot be built at the server") from error
        return self._programs[model]

    async def layer_seconds(self, model: str, wanted: bool) -> list[float]:
        """Return (L,) seconds of a network's layers on the whole server, measured once.

        If they are not `wanted` and not known, the layers are only executed, once for all UEs, so
        that no layer runs for the first time in a round. The list is then empty.
        """
        async with self._building:
            if model not in self._seconds or (wanted and not self._seconds[model]):
                program, slowdown = self._programs[model], self.settings.slowdown
                times = MEASUREMENTS if wanted else 0
                seconds = await measured_seconds(program, self.executor, slowdown, times)
                self._seconds[model] = seconds
        return self._seconds[model]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strangers = [task for task, s in self._sessions.items() if not s.authenticated]
        for oldest in strangers[: max(0, len(strangers) + 1 - MOST_STRANGERS)]:
            oldest.cancel()
        session = Session(self, reader, writer)
        task = session.task = asyncio.create_task(self._serve(session))
        self._sessions[task] = session
        task.add_done_callback(self._close)

    def _close(self, task: asyncio.Task[None]) -> None:
        """Close the connection of a session that has ended or never began, without waiting."""
        self._sessions.pop(task).frames.writer.transport.abort()

    async def _serve(self, session: Session) -> None:
        try:
            log.info("a UE's session has ended: %s", await session.serve())
        except Exception:  # a bug ends one session, not the server
            log.exception("a session has failed")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Session:
    """One connection to the server, of a UE with at most one query at a time, or of an observer.

    With a controller, a UE that has registered is one of the controller's members, and the server
    reads what it sends at the granted rate (see `police`).
    """

    def __init__(
        self, server: EdgeServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.settings = server.settings
        self.reader = FrameReader(reader, frames.FROM_UE, self.settings.payload_bytes)
        self.frames = FrameWriter(writer)
        self.program: LayeredProgram
        self.authenticated = False  # whether it knows the token and counts as a session
        self.looked_at: float | None = None  # an observer's last request; None for a UE
        self.query: EdgeQuery | None = None  # the query that is open
        self.task: asyncio.Task[None]
        self.registering = False
        self.member: Member | None = None  # of the controller
        self.table: list[float] | None = None  # (L,) seconds that its layers count as, if paced
        self.police: Police | None = None if server.controller is None else Police()

    async def serve(self) -> str:
        """Answer frames until the connection ends or must be closed, and return the reason."""
        heart, turn_began = asyncio.create_task(self._beat()), now()
        why = "ended by the server"
        try:
            await self._authenticate()
            while (frame := await self._next(self.settings.idle_s)) is not None:
                if self.looked_at is not None:
                    await self._watch(frame)
                elif frame.kind is Kind.REGISTER:
                    await self._register(frame.header)
                else:
                    self._answer(frame)
                await self._catch_up()
                if self.police is not None:
                    await self.police.take(self.reader.all_bytes)
                if now() - turn_began > TURN_S:  # reading buffered frames does not yield
                    await asyncio.sleep(0)
                    turn_began = now()
            why = "closed by the UE"
        except ProtocolError as error:
            why = str(error)
            self._leave(why)  # first, so that the controller sends nothing after the reason
            await self._goodbye(why)
        except (ConnectionError, OSError) as error:
            why = f"connection lost: {type(error).__name__}"
        finally:
            heart.cancel()
            self._leave(why)
            self.server.store.forget(self)
        return why

    def _leave(self, why: str) -> None:
        """End everything that the session does at the server; further calls do nothing."""
        if self.looked_at is not None and self.server.live is not None:
            self.server.live.observe(self, on=False)
        self._end_query()
        if self.member is not None and self.server.controller is not None:
            self.server.controller.leave(self.member, why)
            self.member = None

    async def _next(self, patience_s: float) -> Frame | None:
        try:
            async with asyncio.timeout(patience_s):
                return await self.reader.read()
        except TimeoutError as error:
            raise ProtocolError(f"nothing heard for {patience_s:g} s") from error

    async def _catch_up(self) -> None:
        """Wait while the UE does not read the answers that it has been sent."""
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
        if frame.kind not in (Kind.HELLO, Kind.OBSERVE):
            raise ProtocolError(f"{frame.kind.name} before HELLO")
        hello: frames.Hello | frames.Observe = frame.header
        proof = hmac.digest(self.settings.token.encode(), nonce, "sha256")
        if not hmac.compare_digest(hello.proof, proof):
            raise ProtocolError("wrong token")
        if sum(s.authenticated for s in self.server.sessions) >= self.settings.sessions:
            raise ProtocolError("too many sessions")
        self.authenticated = True
        try:
            if isinstance(hello, frames.Hello):
                await self._introduced(hello)
            else:
                self._observes()
        except ProtocolError:
            self.authenticated = False  # it no longer counts as a session
            raise
        self.frames.write(Kind.READY, frames.Ready(self.settings.payload_bytes))

    def _observes(self) -> None:
        if self.server.live is None:
            raise ProtocolError("this server has no controller that may be watched")
        self.looked_at = -LOOK_S
        self.server.live.observe(self, on=True)

    async def _watch(self, frame: Frame) -> None:
        """Answer an observer, at most once in `LOOK_S` seconds."""
        assert self.looked_at is not None, "else it is a UE's"
        assert self.server.live is not None, "else it would have been refused"
        if frame.kind is Kind.LOOK:
            await asyncio.sleep(self.looked_at + LOOK_S - now())
            self.looked_at = now()
            self.frames.write(Kind.SEEN, payload=self.server.live.look(frame.header.since))
        elif frame.kind is not Kind.PING:
            raise ProtocolError(f"{frame.kind.name} from a client that only watches")

    def tell_watched(self, on: bool) -> None:
        """Tell the UE whether somebody watches."""
        self.frames.write(Kind.WATCHED, frames.Watched(int(on)))

    async def _introduced(self, hello: frames.Hello) -> None:
        self.program = await self.server.load_program(hello.model)
        if self.program.parameter_bytes > self.settings.model_bytes:
            raise ProtocolError(
                f"the model has {self.program.parameter_bytes} bytes of parameters; at most "
                f"{self.settings.model_bytes} are allowed"
            )
        if hello.fingerprint != self.program.fingerprint:
            raise ProtocolError(
                f"the UE's network {hello.model!r} differs from the server's: "
                "operators, shapes, types and buffers must be equal"
            )
        self.model = hello.model

    async def _register(self, profile: frames.Profile) -> None:
        """Make the UE a member of the controller."""
        controller, n = self.server.controller, self.program.dnn.n_layers
        if controller is None:
            raise ProtocolError("REGISTER: this server has no controller")
        if self.member is not None:
            raise ProtocolError("REGISTER: the UE has registered already")
        profile.check(n)
        controller.check(profile)
        self.registering = True
        seconds = await self.server.layer_seconds(self.model, wanted=not profile.edge_s)
        self.registering = False
        if not profile.edge_s:
            profile = msgspec.structs.replace(profile, edge_s=seconds)
        self.table = profile.edge_s if profile.paced else None
        store = self.server.store
        if controller.settings.share and profile.digests:
            store.share(self, profile.digests)
        self.member = controller.join(
            name=self.model, dnn=self.program.dnn, profile=profile, resident=self._fractions,
            retain=partial(store.retain, self), tell=self._tell,
            serving=lambda: self.query is not None, expel=self._expel,
        )  # fmt: skip
        if self.server.live is not None:
            self.server.live.joined(self, self.member)

    def _tell(self, message: frames.Grant | float | None) -> None:
        """Send what the controller decides: a grant, a new rate, or (None) the round's end."""
        if message is None:
            self.frames.write(Kind.OVER)
            return
        if isinstance(message, frames.Grant):
            self.frames.write(Kind.GRANT, message)
            up_bps = message.uplink_bps
        else:
            self.frames.write(Kind.SHARES, frames.Shares(message))
            up_bps = message
        assert self.police is not None
        self.police.set_rate(up_bps, self.reader.all_bytes)
        if self.query is not None and self.query.link is not None:
            down_bps, self.query.work.slowdown, self.query.work.share = self._emulated()
            self.query.link.set_rate(down_bps)

    def _expel(self, reason: str) -> None:
        """Close the connection at once, and send the reason."""
        self._leave(reason)
        self.frames.write(Kind.ERROR, frames.Reason(reason))
        self.task.cancel()

    def _emulated(self) -> tuple[float, float, float]:
        """Return a member's downlink in bits per second, its layers' slowdown, and its share."""
        controller, member = self.server.controller, self.member
        assert controller is not None
        assert member is not None
        slower = 1.0 if self.table is not None else self.settings.slowdown
        share = max(LEAST_SHARE, member.compute_share)
        stretch = 1.0 if self.server.executor.fair else slowdown_of(member.compute_share)
        return controller.rates(member)[1], slower * stretch, share

    def _answer(self, frame: Frame) -> None:
        if frame.kind is Kind.PARAMETERS:
            self._running(frame).take_parameters(frame)
        elif frame.kind is Kind.TENSOR:
            self._running(frame).take_tensor(frame)
        elif frame.kind is Kind.BEGIN:
            self._begin(frame.header)
        elif frame.kind is Kind.END:
            query = self._running(frame)
            uses, overruns = query.uses(), len(query.work.overruns)
            self._end_query()
            report = frames.QueryReport(self._resident(), *uses, overruns)
            self.frames.write(Kind.REPORT, report)
        elif frame.kind is Kind.STATE:
            self.frames.write(Kind.RESIDENT, frames.ResidentBytes(self._resident()))
        elif frame.kind is Kind.PACE:
            self._pace(frame.header)
        elif frame.kind is Kind.ASK:
            controller, member = self._controlled(frame)
            controller.ask(member)
        elif frame.kind is Kind.DONE:
            controller, member = self._controlled(frame)
            controller.finished(member, frame.header)
        elif frame.kind is Kind.USED:
            _, member = self._controlled(frame)
            if self.server.live is not None:
                self.server.live.told(member, frame.header)
        elif frame.kind is not Kind.PING:
            raise ProtocolError(f"{frame.kind.name} at the wrong time")

    def _controlled(self, frame: Frame) -> tuple[Controller, Member]:
        if self.server.controller is None or self.member is None:
            raise ProtocolError(f"{frame.kind.name} before REGISTER")
        return self.server.controller, self.member

    def _pace(self, pace: frames.Pace) -> None:
        n = self.program.dnn.n_layers
        if self.member is not None or self.query is not None:
            raise ProtocolError("PACE at the wrong time")
        if len(pace.edge_s) not in (0, n):
            raise ProtocolError(f"PACE: edge_s: {n} entries are needed, or none")
        self.table = pace.edge_s or None

    def _begin(self, begin: Begin) -> None:
        if self.query is not None:
            raise ProtocolError("BEGIN within a query")
        controller, share = self.server.controller, 1.0
        if controller is not None:
            if self.member is None or not controller.allows(self.member, begin):
                reason = "the controller has not granted this"
                self.frames.write(Kind.REFUSED, frames.Reason(reason))
                return
            rate, slowdown, share = self._emulated()
            begin = msgspec.structs.replace(begin, downlink_bps=rate, slowdown=slowdown)
        try:
            s = self.server
            self.query = EdgeQuery(
                begin, self.program, self, s.store, s.memory, s.executor, self.frames,
                self.table, self.settings.shaped_below,
            )  # fmt: skip
        except Refusal as error:
            self.frames.write(Kind.REFUSED, frames.Reason(str(error)))
            return
        if self.member is not None and s.live is not None:
            s.live.began(self.member)
        self.frames.write(Kind.STARTED, frames.Started(self._resident(), now()))
        self.query.work.share = share
        s.executor.submit(self.query.work)

    def _running(self, frame: Frame) -> EdgeQuery:
        if self.query is None:
            raise ProtocolError(f"{frame.kind.name} without a query")
        return self.query

    def _end_query(self) -> None:
        if self.query is not None:
            if self.server.live is not None:
                self.server.live.note(self)
            self.query.close()
            self.query = None
            if self.police is not None:
                self.police.set_rate(0.0, self.reader.all_bytes)

    def _resident(self) -> list[int]:
        layers = range(self.program.dnn.n_layers)
        return [self.server.store.received(self, layer) for layer in layers]

    def _fractions(self) -> NDArray[np.float64]:
        return self.program.fractions(self._resident())

    async def _beat(self) -> None:
        """Report to a waiting UE how much has arrived, so that the UE can detect a stall."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            waits = self.registering or (self.member is not None and self.member.asked)
            if self.query is not None or waits:
                done = 0 if self.query is None else self.query.work.position
                said = frames.Heartbeat(self.reader.payload_bytes, done)
                self.frames.write(Kind.HEARTBEAT, said)

    async def _goodbye(self, reason: str) -> None:
        """Send the reason, and read on for a moment, because unread data resets the connection."""
        with contextlib.suppress(ConnectionError, OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                self.frames.write(Kind.ERROR, frames.Reason(reason))
                await self.frames.writer.drain()
                if self.frames.writer.can_write_eof():  # TLS cannot close one direction
                    self.frames.writer.write_eof()
                while await self.reader.reader.read(1 << 16):
                    pass
