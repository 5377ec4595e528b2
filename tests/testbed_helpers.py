"""What the testbed's tests share: a server with a toy network, UEs, a proxy that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import torch

from mjoa_gym.testbed import clock
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import FROM_SERVER, VERSION, FrameReader, FrameWriter, Kind
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.server import EdgeServer
from mjoa_gym.testbed.settings import ServerSettings, UESettings
from mjoa_gym.testbed.ue import UserEquipment

from .testbed_network import ToyNetwork, diamond

TOKEN = "a secret"


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, with one torch thread and a limit on its time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        clock.run(asyncio.wait_for(main, 60))
    finally:
        torch.set_num_threads(before)


@contextlib.asynccontextmanager
async def toy_server(
    network: ToyNetwork | None = None, **settings: Any
) -> AsyncIterator[EdgeServer]:
    """A server in this process that offers "toy"."""
    served = diamond() if network is None else network
    async with EdgeServer(
        ServerSettings(TOKEN, **settings), {"toy": lambda: LayeredProgram(served)}
    ) as s:
        yield s


@contextlib.asynccontextmanager
async def toy_ue(
    port: int, network: ToyNetwork | None = None, **settings: Any
) -> AsyncIterator[UserEquipment]:
    """A UE in this process with the same network."""
    executor = Executor()
    program = LayeredProgram(diamond() if network is None else network)
    settled = UESettings(TOKEN, port, model="toy", **settings)
    try:
        async with UserEquipment(program, executor, settled) as ue:
            yield ue
    finally:
        await asyncio.to_thread(executor.close)


async def until(condition: Callable[[], bool], patience_s: float = 5.0) -> None:
    """Wait for something that will be so in a moment."""
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.005)


class Proxy:
    """Stands between a UE and a server, and fails after a number of bytes in one direction.

    Args:
        port: The server's.
        direction: "up" or "down": whose bytes are counted.
        after: How many pass; None for all.
        how: "cut" closes both sides, "stall" forwards nothing more in either direction, "deaf"
            nothing more upwards.
        upwards_bps: A link of this rate upwards.
    """

    def __init__(self, port: int, direction: str = "up", after: int | None = None,
                 how: str = "cut", upwards_bps: float = float("inf")) -> None:  # fmt: skip
        self.port = port
        self.direction = direction
        self.after = after
        self.how = how
        self.upwards_bps = upwards_bps
        self.passed = {"up": 0, "down": 0}
        self.failed = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.own_port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def heal(self) -> None:
        """New connections are forwarded for ever."""
        self.after = None
        self.failed = False

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            above, upwards = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:  # the server is gone
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy("up", reader, upwards))
                group.create_task(self._copy("down", above, writer))
        except* (ConnectionError, OSError):
            pass
        finally:
            writer.transport.abort()
            upwards.transport.abort()

    async def _copy(
        self, direction: str, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(1 << 14):
            if self.after is not None and direction == self.direction:
                room = self.after - self.passed[direction]
                if len(data) > room:
                    target.write(data[: max(room, 0)])
                    self.failed = True
            self.passed[direction] += len(data)
            if self.failed:
                if self.how == "cut":
                    await asyncio.sleep(0.01)
                    raise ConnectionResetError
                if self.how == "stall" or direction == "up":
                    await asyncio.sleep(3600)
            if direction == "up":
                await asyncio.sleep(8 * len(data) / self.upwards_bps)
            target.write(data)
            await target.drain()
        raise ConnectionResetError


@contextlib.asynccontextmanager
async def stranger(
    port: int, program: LayeredProgram | None = None, token: str = TOKEN, model: str = "toy"
) -> AsyncIterator[tuple[FrameReader, FrameWriter]]:
    """A raw connection; with a program, authenticated and ready."""
    stream, writer = await asyncio.open_connection("127.0.0.1", port)
    reader, frames = FrameReader(stream, FROM_SERVER), FrameWriter(writer)
    try:
        if program is not None:
            await introduce(reader, frames, program, token, model=model)
            ready = await reader.read()
            assert ready is not None
            assert ready.kind is Kind.READY
        yield reader, frames
    finally:
        writer.transport.abort()


async def introduce(
    reader: FrameReader,
    frames: FrameWriter,
    program: LayeredProgram,
    token: str = TOKEN,
    **changes: Any,
) -> None:
    """Answer the greeting."""
    greeting = await reader.read()
    assert greeting is not None
    hello = {
        "version": VERSION,
        "proof": hmac.digest(token.encode(), greeting.header.nonce, "sha256"),
        "model": "toy",
        "fingerprint": program.fingerprint,
    }
    frames.write(Kind.HELLO, hello | changes)


async def refusal(reader: FrameReader) -> str:
    """The reason with which the server closes; other frames before it are skipped."""
    while (frame := await reader.read()) is not None:
        if frame.kind is Kind.ERROR:
            reason = str(frame.header.reason)
            assert await reader.reader.read() == b""
            return reason
    return "closed without a reason"


def placements(n: int, some: int, seed: int) -> Iterator[list[int]]:
    """All on the UE, all at the edge, and some at random."""
    generator = torch.Generator().manual_seed(seed)
    yield [0] * n
    yield [1] * n
    for _ in range(some):
        yield torch.randint(0, 2, (n,), generator=generator).tolist()
