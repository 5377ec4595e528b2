"""The UE's end of a connection: introduces itself, hands on what the server says, watches it."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from dataclasses import dataclass
from typing import Any, Protocol

from mjoa_gym.testbed import frames, tls
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.executor import Work
from mjoa_gym.testbed.frames import Frame, FrameReader, FrameWriter, Header, Kind, ProtocolError
from mjoa_gym.testbed.settings import UESettings

KEEP_ALIVE_S = 5.0
ANSWERS = (Kind.RESIDENT, Kind.REPORT, Kind.GRANT, Kind.SEEN)


class EdgeError(Exception):
    """The server cannot be used (any more); the message says why."""


class Listener(Protocol):
    """What a query does with the server's frames."""

    def heard(self, frame: Frame) -> None:
        """A frame has arrived."""

    def lost(self, reason: str) -> None:
        """Nothing will arrive any more."""


class Connection:
    """An authenticated connection; see `open_connection`."""

    def __init__(self, reader: FrameReader, frames: FrameWriter, payload_bytes: int) -> None:
        self.reader = reader
        self.frames = frames
        self.payload_bytes = payload_bytes  # of the longest payload that the server accepts
        self.listener: Listener | None = None  # who is told what the server says
        self.lost: str | None = None  # why the connection is closed
        self.heard_at = now()  # when the last frame arrived
        self.taken_in = 0  # bytes of payload that the server has taken in, as it last said
        self.watched = asyncio.Event()  # set while somebody watches
        self._asked: asyncio.Future[Frame] | None = None
        self._tasks = [asyncio.create_task(job) for job in (self._listen(), self._keep_alive())]

    async def ask(
        self,
        kind: Kind,
        patience_s: float,
        most_s: float | None = None,
        header: Header | None = None,
    ) -> Frame:
        """Send a frame and return its answer, one of `ANSWERS`; an EdgeError without one.

        Waits so long, again and again while the server takes in what is ahead, or, if there is a
        limit `most_s`, as long as it says anything.
        """
        if self.lost is not None:
            raise EdgeError(self.lost)
        asked = self._asked = asyncio.get_running_loop().create_future()
        self.frames.write(kind, header)
        try:
            end = now() + (most_s or 0.0)
            while True:
                before = self.taken_in
                if (await asyncio.wait([asked], timeout=patience_s))[0]:
                    return await asked
                alive = self.heard_at > now() - patience_s and now() < end
                if self.taken_in == before and not alive:
                    self.close("no answer")
                    asked.exception()  # nobody waits for it
                    raise EdgeError(f"no answer within {patience_s:g} s")
        finally:
            self._asked = None

    def close(self, reason: str) -> None:
        """Close at once; whoever waits for something hears the reason."""
        if self.lost is not None:
            return
        self.lost = reason
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        self.frames.writer.transport.abort()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(EdgeError(reason))
        if self.listener is not None:
            self.listener.lost(reason)

    async def wait_closed(self) -> None:
        """Let what was closed finish."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionError, OSError):
            await self.frames.writer.wait_closed()
        self._tasks.clear()  # their tracebacks refer to us

    async def _listen(self) -> None:
        reason = "the server has closed the connection"
        try:
            while (frame := await self.reader.read()) is not None:
                self.heard_at = now()
                if frame.kind is Kind.ERROR:
                    reason = f"the server says: {frame.header.reason}"
                    break
                if frame.kind in ANSWERS:
                    if self._asked is not None and not self._asked.done():
                        self._asked.set_result(frame)
                elif frame.kind is Kind.WATCHED:
                    (self.watched.set if frame.header.on else self.watched.clear)()
                elif self.listener is not None:
                    self.listener.heard(frame)
        except ProtocolError as error:
            reason = f"what the server sends is wrong: {error}"
        except (ConnectionError, OSError) as error:
            reason = f"connection lost: {type(error).__name__}"
        self.close(reason)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            self.frames.write(Kind.PING)


@dataclass(eq=False)
class Watch:
    """Closes the connection of a server that is silent, takes nothing in, or makes no progress.

    A task of the event loop, from its making to `stop`. `stall_s` is the patience with silence, and
    with bytes that do not arrive; `hang_s` that with a server that has all that it needs. While the
    UE itself executes a layer of `work`, the server may be waiting for it.
    """

    connection: Connection
    work: Work
    stall_s: float
    hang_s: float

    def __post_init__(self) -> None:
        self._executed = 0
        self._taken_in_at = self._progress_at = now()
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._run())

    def heartbeat(self, said: frames.Heartbeat, n_layers: int) -> None:
        """The server says how much it has taken in and executed."""
        before, sent = self.connection.taken_in, self.connection.frames.payload_bytes
        taken_in = frames.within("HEARTBEAT: got", said.got, before, sent)
        executed = frames.within("HEARTBEAT: done", said.done, self._executed, n_layers)
        if taken_in > before:
            self.connection.taken_in = taken_in
            self._taken_in_at = self._progress_at = now()
        if executed > self._executed:
            self._executed, self._progress_at = executed, now()

    def progress(self) -> None:
        """A tensor comes down."""
        self._progress_at = now()

    def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its traceback refers to us

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.stall_s / 4)
            time = now()
            if self.connection.frames.payload_bytes == self.connection.taken_in:
                self._taken_in_at = time
            if self.work.running is not None:
                self._progress_at = time
            if time - self.connection.heard_at > self.stall_s:
                self.connection.close(f"nothing heard for {self.stall_s:g} s")
            elif time - self._taken_in_at > self.stall_s:
                self.connection.close(f"the server has taken nothing in for {self.stall_s:g} s")
            elif time - self._progress_at > self.hang_s:
                self.connection.close(f"no progress for {self.hang_s:g} s")


async def open_connection(settings: UESettings, fingerprint: str | None) -> Connection:
    """Connect and introduce oneself, or an EdgeError.

    With the fingerprint of one's program, or without one to watch only.
    """
    s = settings
    try:
        context = None if s.certificate is None else tls.client_context(s.certificate)
        async with asyncio.timeout(s.connect_s):
            stream, writer = await asyncio.open_connection(
                s.host,
                s.port,
                limit=frames.READ_AHEAD_BYTES,
                ssl=context,
                local_addr=None if s.own_host is None else (s.own_host, 0),
            )
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: no name of a host
        raise EdgeError(f"no connection to {s.host}:{s.port}: {_why(error)}") from error
    if (refusal := _distrust(writer, s)) is not None:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError, OSError):
            await writer.wait_closed()
        raise EdgeError(f"no connection to {s.host}:{s.port}: {refusal}")
    reader = FrameReader(stream, frames.FROM_SERVER, s.payload_bytes)
    outgoing = FrameWriter(writer)
    try:
        async with asyncio.timeout(s.connect_s):
            greeting = await _expect(reader, Kind.GREETING)
        proof = hmac.digest(s.token.encode(), greeting.nonce, "sha256")
        if fingerprint is None:
            outgoing.write(Kind.OBSERVE, frames.Observe(frames.VERSION, proof))
        else:
            outgoing.write(Kind.HELLO, frames.Hello(frames.VERSION, proof, s.model, fingerprint))
        async with asyncio.timeout(s.ready_s):
            ready = await _expect(reader, Kind.READY)
    except (ProtocolError, OSError, TimeoutError, EdgeError) as error:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError, OSError):
            await writer.wait_closed()
        raise EdgeError(_why(error)) from error
    except BaseException:
        writer.transport.abort()
        raise
    return Connection(reader, outgoing, ready.payload)


def _distrust(writer: asyncio.StreamWriter, settings: UESettings) -> str | None:
    """Why nothing may be said over a connection; None if it may."""
    if settings.certificate is not None:
        return None if tls.is_pinned(writer, settings.certificate) else "another certificate"
    peer = writer.get_extra_info("peername")
    return None if peer and tls.is_loopback(peer[0]) else tls.REMEDY


async def _expect(reader: FrameReader, kind: Kind) -> Any:
    """The header of the next frame, which must be of this kind."""
    frame = await reader.read()
    if frame is None:
        raise EdgeError("the server has closed the connection")
    if frame.kind is Kind.ERROR:
        raise EdgeError(f"the server says: {frame.header.reason}")
    if frame.kind is not kind:
        raise ProtocolError(f"{frame.kind.name} instead of {kind.name}")
    return frame.header


def _why(error: BaseException) -> str:
    name = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return str(error) or name
