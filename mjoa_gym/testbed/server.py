"""The edge server: accepts UEs, bounds what they may take, and executes their layers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from mjoa_gym.testbed.edge_query import EdgeResources
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import READ_AHEAD_BYTES
from mjoa_gym.testbed.headers import ProtocolError
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.session import Session
from mjoa_gym.testbed.settings import ServerSettings
from mjoa_gym.testbed.store import ParameterStore, TensorMemory

log = logging.getLogger(__name__)
MOST_STRANGERS = 64
"""Connections that have not proved to know the token; of more, the oldest is closed."""


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
    def n_sessions(self) -> int:
        """Connections that are open."""
        return len(self._sessions)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Of all connections."""
        return tuple(self._sessions.values())

    async def __aenter__(self) -> EdgeServer:
        self._server = await asyncio.start_server(
            self._accept, self.settings.host, self.settings.port, limit=READ_AHEAD_BYTES
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await asyncio.to_thread(self.executor.close)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        strangers = [task for task, s in self._sessions.items() if not s.authenticated]
        for oldest in strangers[: max(0, len(strangers) + 1 - MOST_STRANGERS)]:
            oldest.cancel()
        shared = EdgeResources(self.store, self.memory, self.executor)
        session = Session(reader, writer, self.settings, self._load_program, shared)
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

    async def _load_program(self, model: str) -> LayeredProgram:
        """For a session that has just authenticated itself."""
        if sum(s.authenticated for s in self._sessions.values()) > self.settings.sessions:
            raise ProtocolError("too many sessions")
        if model not in self.builders:
            raise ProtocolError(f"model {model!r} is unknown; there are {sorted(self.builders)}")
        if model not in self._programs:  # those of networks that are ready need not wait
            async with self._building:
                if model not in self._programs:
                    self._programs[model] = await self._build(model)
        return self._programs[model]

    async def _build(self, model: str) -> LayeredProgram:
        try:
            return await asyncio.to_thread(self.builders[model])
        except Exception as error:
            log.exception("the network %r cannot be built", model)
            raise ProtocolError(f"model {model!r} cannot be built at the server") from error
