"""The UE's end of a connection to the server.

It authenticates the UE, passes the server's frames on, and detects a server that has stalled.
"""

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
    """The server cannot be used, or can no longer be used; the message says why."""


class Listener(Protocol):
    """The interface of an object that receives the server's frames."""

    def heard(self, frame: Frame) -> None:
        """Handle a frame that has arrived."""

    def lost(self, reason: str) -> None:
        """Handle the loss of the connection; `reason` says why no more frames arrive."""


class Connection:
    """An authenticated connection to the server, made by `open_connection`."""

    def __init__(self, reader: FrameReader, frames: FrameWriter, payload_bytes: int) -> None:
        self.reader = reader
        self.frames = frames
        self.payload_bytes = payload_bytes  # size of the longest payload that the server accepts
        self.listener: Listener | None = None  # the query that receives the frames
        self.lost: str | None = None  # why the connection was closed
        self.heard_at = now()  # when the last frame arrived
        self.taken_in = 0  # bytes of payload that the server has received, as it last said
        self.watched = asyncio.Event()  # set while somebody watches the server
        self._asked: asyncio.Future[Frame] | None = None
        self._tasks = [asyncio.create_task(job) for job in (self._listen(), self._keep_alive())]

    async def ask(
        self,
        kind: Kind,
        patience_s: float,
        most_s: float | None = None,
        header: Header | None = None,
    ) -> Frame:
        """Send a frame and return its answer, a frame whose kind is in `ANSWERS`.

        The wait has periods of `patience_s` seconds. If a period ends without an answer, the wait
        continues if the server has received more payload during it. Until `most_s` seconds after
        the start it also continues if any frame has arrived during the period. Otherwise the
        connection is closed.

        Raises:
            EdgeError: If the connection is lost, or no answer arrives in time.
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
                    asked.exception()  # retrieved, because nobody awaits it
                    raise EdgeError(f"no answer within {patience_s:g} s")
        finally:
            self._asked = None

    def close(self, reason: str) -> None:
        """Close at once; the listener and a waiting `ask` get the reason."""
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
        """Wait until a closed connection has ended its tasks and released its socket."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionError, OSError):
            await self.frames.writer.wait_closed()
        self._tasks.clear()  # their tracebacks keep this object alive

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
            reason = f"the server broke the protocol: {error}"
        except (ConnectionError, OSError) as error:
            reason = f"connection lost: {type(error).__name__}"
        self.close(reason)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            self.frames.write(Kind.PING)


@dataclass(eq=False)
class Watch:
    """Closes the connection if the server is silent, receives nothing or makes no progress.

    It is a task of the event loop, from its construction until `stop`.

    Attributes:
        connection: The connection to the server.
        work: The layers that the UE executes. While it executes one, the server may be waiting
            for the output, so this time counts as progress.
        stall_s: Longest time without a frame from the server, or without news that it has
            received more of the bytes sent to it.
        hang_s: Longest time without progress: received bytes, executed layers, tensors that come
            down.
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
        """Note how many bytes the server has received and how many layers it has executed.

        Raises:
            ProtocolError: If these numbers are impossible.
        """
        before, sent = self.connection.taken_in, self.connection.frames.payload_bytes
        taken_in = frames.within("HEARTBEAT: got", said.got, before, sent)
        executed = frames.within("HEARTBEAT: done", said.done, self._executed, n_layers)
        if taken_in > before:
            self.connection.taken_in = taken_in
            self._taken_in_at = self._progress_at = now()
        if executed > self._executed:
            self._executed, self._progress_at = executed, now()

    def progress(self) -> None:
        """Note that a piece of a tensor has come down."""
        self._progress_at = now()

    def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its traceback keeps this object alive

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
                self.connection.close(f"the server has received nothing for {self.stall_s:g} s")
            elif time - self._progress_at > self.hang_s:
                self.connection.close(f"no progress for {self.hang_s:g} s")


async def open_connection(settings: UESettings, fingerprint: str | None) -> Connection:
    """Connect to the server and authenticate.

    Args:
        settings: The server's address, the token, and the certificate to accept.
        fingerprint: The fingerprint of the UE's program; None for a connection that only watches.

    Raises:
        EdgeError: If there is no server, it is not the expected one, or it refuses the connection.
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
    except (OSError, TimeoutError, ValueError) as error:  # a ValueError: the host is malformed
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
    """Return why a connection cannot be trusted, or None if it can."""
    if settings.certificate is not None:
        return None if tls.is_pinned(writer, settings.certificate) else "unknown certificate"
    peer = writer.get_extra_info("peername")
    return None if peer and tls.is_loopback(peer[0]) else tls.REMEDY


async def _expect(reader: FrameReader, kind: Kind) -> Any:
    """Return the header of the next frame, which must be of this kind."""
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
