"""Notices that a server is lost although its connection still is there."""

from __future__ import annotations

import asyncio

from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.connection import Connection
from mjoa_gym.testbed.executor import Work
from mjoa_gym.testbed.headers import Heartbeat, within


class Watch:
    """Closes the connection of a server that is silent, takes nothing in, or makes no progress.

    Attributes:
        received: Bytes of payload that the server has taken in, as it last said.

    Args:
        connection: To be watched.
        work: What the UE itself executes; while it does, the server may be waiting for it.
        stall_s: Patience with silence, and with bytes that do not arrive.
        hang_s: Patience with a server that has all that it needs.
    """

    def __init__(self, connection: Connection, work: Work, stall_s: float, hang_s: float) -> None:
        self._connection = connection
        self._work = work
        self._stall_s = stall_s
        self._hang_s = hang_s
        self.received = 0
        self._executed = 0
        self._received_at = self._progress_at = now()
        self._task: asyncio.Task[None] | None = None

    def heartbeat(self, said: Heartbeat, n_layers: int) -> None:
        """The server says how much it has received and executed."""
        sent = self._connection.frames.payload_bytes
        received = within("HEARTBEAT: got", said.got, self.received, sent)
        executed = within("HEARTBEAT: done", said.done, self._executed, n_layers)
        if received > self.received:
            self.received = received
            self._received_at = self._progress_at = now()
        if executed > self._executed:
            self._executed, self._progress_at = executed, now()

    def progress(self) -> None:
        """A tensor comes down."""
        self._progress_at = now()

    def start(self) -> None:
        """Watch until `stop`."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None  # its traceback refers to us

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._stall_s / 4)
            time = now()
            if self._connection.frames.payload_bytes == self.received:
                self._received_at = time
            if self._work.running is not None:
                self._progress_at = time
            if time - self._connection.heard_at > self._stall_s:
                self._connection.close(f"nothing heard for {self._stall_s:g} s")
            elif time - self._received_at > self._stall_s:
                self._connection.close(f"the server has taken nothing in for {self._stall_s:g} s")
            elif time - self._progress_at > self._hang_s:
                self._connection.close(f"no progress for {self._hang_s:g} s")
