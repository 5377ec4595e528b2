"""The edge server: accepts UEs, bounds what they may take, and executes their layers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import FrameWriter, Kind, ProtocolError
from mjoa_gym.testbed.program import Program
from mjoa_gym.testbed.session import Session, SessionLimits
from mjoa_gym.testbed.store import ParameterStore

log = logging.getLogger(__name__)
MOST_SESSIONS = 500
"""Beyond, descriptors would not fit into what the event loop can watch."""
READ_AHEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class ServerSettings:
    """How a server is run.

    Attributes:
        token: What UEs must know.
        host: Address to listen on; anything but loopback is the operator's decision.
        port: 0 for any free one.
        core: The core that executes layers, or None for any.
        memory_bytes: Parameters of all UEs that are kept.
        sessions: UEs at a time.
        limits: Of one UE.
    """

    token: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    core: int | None = None
    memory_bytes: int = 4 << 30
    sessions: int = 64
    limits: SessionLimits = field(default_factory=SessionLimits)

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError("token is empty: UEs and the server share a secret")
        if not 1 <= self.sessions <= MOST_SESSIONS:
            raise ValueError(f"sessions={self.sessions}: allowed are 1 to {MOST_SESSIONS}")
        if self.memory_bytes < 1:
            raise ValueError(f"memory_bytes={self.memory_bytes}: must be at least 1")


class EdgeServer:
    """An asyncio server. Use as `async with EdgeServer(...) as server`.

    Args:
        settings: How to run.
        builders: What makes the program of each model that UEs may name. Called once, in a thread.
    """

    def __init__(
        self, settings: ServerSettings, builders: Mapping[str, Callable[[], Program]]
    ) -> None:
        self.settings = settings
        self.builders = builders
        self.store = ParameterStore(settings.memory_bytes)
        self.executor = Executor(settings.core, "edge layers")
        self._programs: dict[str, Program | None] = {}
        self._building = asyncio.Lock()
        self.sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        assert self._server is not None, "the server is not open"
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def n_sessions(self) -> int:
        """UEs that are connected."""
        return len(self._tasks)

    async def __aenter__(self) -> EdgeServer:
        self._server = await asyncio.start_server(
            self._accept, self.settings.host, self.settings.port, limit=READ_AHEAD_BYTES
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.executor.close)

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        assert self._server is not None, "the server is not open"
        await self._server.serve_forever()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.n_sessions >= self.settings.sessions:
            with contextlib.suppress(ConnectionError, OSError):
                FrameWriter(writer).write(Kind.ERROR, {"reason": "too many sessions"})
                writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(
            reader,
            writer,
            self.settings.token,
            self._load_program,
            self.store,
            self.executor,
            self.settings.limits,
        )
        self.sessions.add(session)
        try:
            log.info("a UE's session has ended: %s", await session.serve())
        except Exception:  # a fault of ours ends one session, not the server
            log.exception("a session has failed")
        finally:
            self.sessions.discard(session)

    async def _load_program(self, model: str) -> Program:
        if model not in self.builders:
            raise ProtocolError(f"model {model!r} is unknown; there are {sorted(self.builders)}")
        async with self._building:
            if model not in self._programs:
                try:
                    self._programs[model] = await asyncio.to_thread(self.builders[model])
                except Exception:
                    log.exception("the network %r cannot be built", model)
                    self._programs[model] = None
        program = self._programs[model]
        if program is None:
            raise ProtocolError(f"model {model!r} cannot be built at the server")
        return program
