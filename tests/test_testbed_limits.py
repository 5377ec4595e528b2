"""One UE takes nothing from another: memory, turns, descriptors, places; and limits are checked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from mjoa_gym.testbed import clock  # noqa: E402
from mjoa_gym.testbed.connection import EdgeError, Watch  # noqa: E402
from mjoa_gym.testbed.executor import Executor  # noqa: E402
from mjoa_gym.testbed.frames import Heartbeat, Kind, ProtocolError, encode  # noqa: E402
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402
from mjoa_gym.testbed.server import (  # noqa: E402
    MOST_STRANGERS,
    MOST_UNSENT_BYTES,
    EdgeServer,
)
from mjoa_gym.testbed.settings import ServerSettings, UESettings  # noqa: E402

from .testbed_frames import N, begin  # noqa: E402
from .testbed_helpers import (  # noqa: E402
    TOKEN,
    Proxy,
    introduce,
    refusal,
    run,
    stranger,
    toy_server,
    toy_ue,
    until,
)
from .testbed_network import ToyNetwork, diamond  # noqa: E402

EVERYTHING = [1] * N


def same(outputs: list[Any], network: ToyNetwork, value: Any) -> bool:
    return all(map(torch.equal, outputs, network.expected(value)))


def test_nothing_remains_of_a_ue_that_does_not_read() -> None:
    layers = 500
    network = ToyNetwork([[-1]] * layers, parameterless=range(layers), width=1)
    frames_to_fill = 2 * MOST_UNSENT_BYTES // layers  # each is answered with a byte per layer

    async def main() -> None:
        async with (
            toy_server(network) as server,
            stranger(server.port, LayeredProgram(network)) as (_, frames),
        ):
            frames.writer.transport.pause_reading()  # type: ignore[attr-defined]
            (session,) = server.sessions
            transport = session.frames.writer.transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            waiting = transport.get_write_buffer_size
            for _ in range(frames_to_fill):
                frames.write(Kind.STATE)
            await until(lambda: waiting() > MOST_UNSENT_BYTES, patience_s=20)
            await asyncio.sleep(0.05)
            assert waiting() < MOST_UNSENT_BYTES + 2 * layers
            assert session.reader.sequence < frames_to_fill  # it has not read everything
            frames.write(Kind.HELLO)  # at the wrong time: the session ends
            session.reader.reader.feed_eof()
            await until(lambda: len(server.sessions) == 0)
            assert transport.is_closing()
            assert waiting() == 0

    run(main())


@pytest.mark.parametrize("kind", ["PING", "BEGIN"])
def test_a_flood_of_small_frames_does_not_stop_others(kind: str) -> None:
    network = diamond()
    program = LayeredProgram(network)
    value = torch.randn(1, network.width)

    def flood(first: int) -> bytes:
        if kind == "PING":
            return b"".join(encode(Kind.PING, first + n, {}) for n in range(20_000))
        pairs = range(first, first + 2000, 2)
        return b"".join(encode(Kind.BEGIN, n, begin()) + encode(Kind.END, n + 1, {}) for n in pairs)

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as good:
            assert (await good.infer((value,), EVERYTHING)).failure is None
            async with stranger(server.port, program) as a, stranger(server.port, program) as b:
                for _, frames in (a, b):
                    frames.writer.write(flood(1))
                (_, bad, _) = server.sessions
                await until(lambda: bad.reader.sequence > 1)
                got = await good.infer((value,), EVERYTHING)
                assert got.failure is None
                assert same(got.outputs, network, value)
                total = 20_001 if kind == "PING" else 2001
                assert bad.reader.sequence < total, "the flood was over before"

    run(main())


def test_an_upload_waits_for_a_link_that_is_slower_than_was_said() -> None:
    network = ToyNetwork([[-1], [0]], width=400)  # 1.3 MB
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with (
            toy_server(network) as server,
            Proxy(server.port, upwards_bps=8e6) as proxy,
            toy_ue(proxy.own_port, network, stall_s=0.6) as ue,
        ):
            await ue.install()
            got = await ue.infer((value,), [1, 1], "preinstalled")
            assert got.failure is None
            assert same(got.outputs, network, value)

    run(main())


def test_a_network_that_is_ready_does_not_wait_for_one_that_is_being_built() -> None:
    network = diamond()
    go = threading.Event()

    def slowly() -> LayeredProgram:
        go.wait(20)
        return LayeredProgram(network)

    async def main() -> None:
        builders: dict[str, Callable[[], LayeredProgram]] = {
            "toy": lambda: LayeredProgram(network), "slow": slowly,
        }  # fmt: skip
        async with EdgeServer(ServerSettings(TOKEN), builders) as server:
            async with stranger(server.port, LayeredProgram(network)):
                pass
            async with stranger(server.port) as (reader, frames):
                await introduce(reader, frames, LayeredProgram(network), model="slow")
                await until(server._building.locked)
                async with stranger(server.port, LayeredProgram(network)):  # is told READY
                    go.set()

    run(main())


def test_a_network_that_could_not_be_built_is_tried_again() -> None:
    network = diamond()
    outcomes = [MemoryError("none left"), LayeredProgram(network)]

    def build() -> LayeredProgram:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def main() -> None:
        async with EdgeServer(ServerSettings(TOKEN), {"toy": build}) as server:
            async with stranger(server.port) as (reader, frames):
                await introduce(reader, frames, LayeredProgram(network))
                assert "cannot be built" in await refusal(reader)
            async with stranger(server.port, LayeredProgram(network)):
                pass

    run(main())


def test_queries_share_the_memory_for_tensors() -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    size = sum(layout.total_bytes for layout in LayeredProgram(network).tensors.values())

    async def main() -> None:
        async with (
            toy_server(network, activation_bytes=int(1.5 * size)) as server,
            toy_ue(server.port, network, edge_slowdown=1e3) as slow,
            toy_ue(server.port, network) as other,
        ):
            first = asyncio.create_task(slow.infer((value,), EVERYTHING))
            await until(lambda: server.memory.used_bytes > 0)
            got = await other.infer((value,), EVERYTHING)
            assert (
                got.failure
                == "the server refuses: no memory for its tensors beside those of others"
            )
            assert same(got.outputs, network, value)
            assert same((await first).outputs, network, value)
            assert server.memory.used_bytes == 0
            assert (await other.infer((value,), EVERYTHING)).failure is None

    run(main())


def test_what_is_here_of_a_prefetched_layer_stays_during_a_query() -> None:
    network = ToyNetwork([[-1], [0], [1], [2]], width=256)
    value = torch.randn(1, network.width)
    layout = LayeredProgram(network).parameters[0]
    assert layout is not None

    async def main() -> None:
        async with (
            toy_server(network, memory_bytes=int(2.5 * layout.total_bytes)) as server,
            toy_ue(server.port, network, uplink_bps=8e6) as ue,
            toy_ue(server.port, network) as other,
        ):
            there = 0.0
            while there == 0:  # the machine may be busy
                got = await ue.infer((value,), [0] * 4, prefetch=[0, 0, 0, 1], until_s=0.03)
                there = got.resident[3]
            assert there < 1
            running = asyncio.create_task(
                ue.infer((value,), [1, 0, 0, 0], prefetch=[0, 0, 0, 1], until_s=5.0)
            )
            await until(lambda: any(session.query for session in server.sessions))
            refused = await other.infer((value,), [0, 1, 0, 0])
            assert refused.failure is not None
            assert "no memory" in refused.failure
            done = await running
            assert done.failure is None
            assert done.resident.tolist() == [1, 0, 0, 1]
            assert same(done.outputs, network, value)

    run(main())


def test_who_does_not_know_the_token_takes_nobodys_place() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network, sessions=1) as server:
            others = await asyncio.gather(
                *(
                    asyncio.open_connection("127.0.0.1", server.port)
                    for _ in range(2 * MOST_STRANGERS)
                )
            )
            await until(lambda: len(server.sessions) == MOST_STRANGERS)
            async with toy_ue(server.port, network) as ue:
                assert (await ue.infer((value,), EVERYTHING)).failure is None
            for _, writer in others:
                writer.close()

    run(main())


def test_who_is_refused_takes_no_place() -> None:
    network = diamond()

    async def main() -> None:
        async with (
            toy_server(network, sessions=1) as server,
            stranger(server.port, LayeredProgram(network)),
            stranger(server.port) as (reader, frames),
        ):
            await introduce(reader, frames, LayeredProgram(network))
            assert (await reader.read()) is not None  # refused, and does not hang up
            (first, *_) = server.sessions
            first.frames.writer.transport.abort()
            await until(lambda: first not in server.sessions)
            async with stranger(server.port, LayeredProgram(network)):
                pass

    run(main())


def test_chunks_are_as_long_as_the_server_accepts() -> None:
    network = ToyNetwork([[-1], [0]], width=256)

    async def main() -> None:
        async with (
            toy_server(network, payload_bytes=3000) as server,
            toy_ue(server.port, network, uplink_bps=1e9) as ue,
        ):
            await ue.install()
            assert (await ue.infer((torch.randn(1, 256),), [1, 1])).failure is None

    run(main())


def test_nothing_is_uploaded_after_a_query_has_failed_at_its_beginning() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with (
            toy_server(network) as server,
            toy_ue(server.port, network, ue_slowdown=50.0) as ue,
        ):
            got = await ue.infer((value,), EVERYTHING, "preinstalled")
            assert got.failure is not None
            assert "not at the server" in got.failure
            assert {interval.resource for interval in got.timeline} == {"ue"}
            assert got.resident[3] == 1  # has no parameters
            assert got.resident.sum() == 1

    run(main())


def test_a_slowed_down_layer_can_be_abandoned() -> None:
    network = diamond()
    started, executed = threading.Event(), []
    plain = network.run

    def slowly(layer: int, *rest: Any) -> Any:
        executed.append(layer)
        started.set()
        threading.Event().wait(0.01)
        return plain(layer, *rest)

    network.run = slowly  # type: ignore[method-assign]

    async def main() -> None:
        async with toy_server() as server, toy_ue(server.port, network, ue_slowdown=1e4) as ue:
            query = asyncio.create_task(ue.infer((torch.randn(1, network.width),), [0] * N))
            await asyncio.to_thread(started.wait)
            query.cancel()
            await asyncio.gather(query, return_exceptions=True)
        assert len(executed) < 100  # instead of 5,000 times

    run(main())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UESettings("t", 70001), "port=70001"),
        (lambda: UESettings("t", 1, uplink_bps=999.0), "uplink_bps=999"),
        (lambda: UESettings("t", 1, downlink_bps=float("nan")), "downlink_bps=nan"),
        (lambda: UESettings("t", 1, payload_bytes=1000), "payload_bytes=1000"),
        (lambda: ServerSettings("t", port=-1), "port=-1"),
        (lambda: ServerSettings("t", activation_bytes=0), "activation_bytes=0"),
        (lambda: ServerSettings("t", idle_s=float("nan")), "idle_s=nan"),
        (lambda: ServerSettings("t", model_bytes=0), "model_bytes=0"),
        (lambda: ServerSettings("t", payload_bytes=0), "payload_bytes=0"),
        (lambda: ServerSettings("t", payload_bytes=2**32), "payload_bytes=4294967296"),
        (lambda: Executor(-1), "core=-1"),
    ],
)
def test_settings_are_checked(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_core_that_is_not_there_is_any_core() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network, core=10**10) as server, toy_ue(server.port, network) as ue:
            assert (await ue.infer((value,), EVERYTHING)).failure is None

    run(main())


@pytest.mark.parametrize("host", ["a" * 70, "x..y", "a\0b"])
def test_a_host_that_cannot_be_one_is_a_server_that_is_not_there(host: str) -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_ue(1, network, host=host) as ue:
            got = await ue.infer((value,), EVERYTHING)
            assert got.failure is not None
            assert "no connection" in got.failure
            assert same(got.outputs, network, value)

    run(main())


@pytest.mark.parametrize("said", [{"got": 11, "done": 0}, {"got": 0, "done": 8}])
def test_a_server_cannot_have_taken_in_more_than_was_sent(said: dict[str, int]) -> None:
    async def main() -> None:
        to: Any = SimpleNamespace(frames=SimpleNamespace(payload_bytes=10), taken_in=0)
        watch = Watch(to, SimpleNamespace(), 1.0, 1.0)  # type: ignore[arg-type]
        watch.heartbeat(Heartbeat(got=10, done=7), N)
        assert to.taken_in == 10
        with pytest.raises(ProtocolError, match="a whole number from"):
            watch.heartbeat(Heartbeat(**said), N)
        watch.stop()

    run(main())


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """New descriptors have numbers that `select` cannot watch."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1500:
        pytest.skip("this process may not have so many descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1500), hard))
    taken = [os.dup(0) for _ in range(1100)]
    try:
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("first", ["the loop", "the descriptors"])
def test_the_event_loop_watches_any_number_of_descriptors(first: str) -> None:
    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert writer.get_extra_info("socket").fileno() > 1023
            assert await reader.read() == b"x"
            await clock.sleep_until(clock.now() + 1e-4)
            writer.close()
            await writer.wait_closed()

    async def main() -> None:
        with many_descriptors():
            await serve()

    if first == "the loop":
        run(main())
    else:
        with many_descriptors():
            run(serve())


def test_the_event_loop_sleeps_less_than_a_millisecond() -> None:
    async def main() -> None:
        best = float("inf")
        for _ in range(50):  # the best of them, since the machine does something else, too
            before = clock.now()
            await clock.sleep_until(before + 1e-4)
            best = min(best, clock.now() - before)
        assert 1e-4 <= best < 9e-4

    run(main())


def test_only_layers_of_the_network_are_installed() -> None:
    async def main() -> None:
        async with toy_server() as server, toy_ue(server.port) as ue:
            with pytest.raises(ValueError, match=r"\[7\] do not exist"):
                await ue.install([1, 7])
            assert server.store.used_bytes == 0
            with pytest.raises(EdgeError):
                async with toy_ue(1) as alone:
                    await alone.install()

    run(main())
