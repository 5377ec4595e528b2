"""Server, connection or UE fail at any time: the results are right, and nothing is left over."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from torch import Tensor  # noqa: E402

from mjoa_gym.testbed import connection  # noqa: E402
from mjoa_gym.testbed import server as edge  # noqa: E402
from mjoa_gym.testbed.clock import now  # noqa: E402
from mjoa_gym.testbed.connection import EdgeError  # noqa: E402

from .test_testbed_runtime import same  # noqa: E402
from .testbed_helpers import Proxy, run, toy_server, toy_ue, until  # noqa: E402
from .testbed_network import Bundle, ToyNetwork, diamond  # noqa: E402

N = 7
MODES = ("parallel", "serial", "whole")
PLACEMENT = [1, 0, 1, 1, 0, 1, 1]


class SlowAtTheEdge(ToyNetwork):
    """Takes a moment for a layer, so that something can happen meanwhile."""

    def __init__(self, moment_s: float = 0.02) -> None:
        toy = diamond()
        self.__dict__.update(toy.__dict__)
        self.moment_s = moment_s
        self.begun = threading.Event()

    def run(
        self, layer: int, bundles: Mapping[int, Bundle], parameters: Mapping[str, Tensor]
    ) -> Bundle:
        self.begun.set()
        threading.Event().wait(self.moment_s)
        return super().run(layer, bundles, parameters)


@pytest.mark.parametrize("how", ["cut", "stall", "deaf"])
def test_wherever_the_connection_fails_the_ue_has_the_right_answer(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut or stalled after any number of bytes: in uploads, in execution, in downloads."""
    monkeypatch.setattr(edge, "HEARTBEAT_S", 0.02)  # well below stall_s
    expected_reason = {"cut": "connection", "stall": "nothing heard", "deaf": "received nothing"}
    network = diamond()
    value = torch.randn(1, network.width)
    expected = network.expected(value)
    generator = random.Random(how)

    async def main() -> None:
        outcomes, reasons = set(), []
        async with toy_server(network, core=None) as server:
            for number in range(24 if how == "cut" else 6):
                direction = "up" if how == "deaf" else generator.choice(["up", "down"])
                most = 90_000 if direction == "up" else 1500
                after = generator.randrange(60, most)
                async with Proxy(server.port, direction, after, how) as proxy:
                    rates = {"uplink_bps": 200e6, "downlink_bps": 50e6}
                    patience = {"stall_s": 0.15, "connect_s": 0.3, "ready_s": 0.3}
                    async with toy_ue(proxy.own_port, network, **rates, **patience) as ue:
                        mode = MODES[number % 3]
                        got = await ue.infer((value,), PLACEMENT, mode)
                        assert same(got.outputs, expected)
                        if not proxy.failed:
                            assert got.failure is None
                        if got.failure is not None:
                            reasons.append(got.failure)
                            assert set(got.recovered) <= set(np.flatnonzero(PLACEMENT))
                            assert not ue.connected
                        outcomes.add((got.failure is None, len(got.recovered)))
                        proxy.heal()
                        again = await ue.infer((value,), PLACEMENT, mode)
                        assert same(again.outputs, expected)
                        assert again.failure is None
            await until(lambda: len(server.sessions) == 0)
            assert server.store.used_bytes == 0
        assert len(outcomes) > 2
        assert any(expected_reason[how] in reason for reason in reasons), reasons

    run(main())


def test_tensors_that_have_come_are_not_computed_again() -> None:
    network, slow = (ToyNetwork([[-1], [0], [1], [2]]) for _ in range(2))
    value = torch.randn(1, network.width)
    begun, plain = threading.Event(), slow.run

    def run_slowly(layer: int, *rest: Any) -> Bundle:
        begun.set()
        return plain(layer, *rest)

    slow.run = run_slowly  # type: ignore[method-assign]

    async def main() -> None:
        async with (
            toy_server(network) as server,
            Proxy(server.port, "up") as proxy,
            toy_ue(proxy.own_port, slow, uplink_bps=2e6, ue_slowdown=500.0) as ue,
        ):
            running = asyncio.create_task(ue.infer((value,), [1, 0, 1, 1]))
            # layer 0 has come back, layer 1 runs here, layer 2 is being uploaded
            await until(begun.is_set)
            proxy.after, proxy.failed = 0, True
            got = await running
            assert got.failure is not None
            assert got.recovered == (2, 3)
            executed = [i.layer for i in got.timeline if i.resource == "ue"]
            assert executed == [1, 2, 3]
            assert same(got.outputs, network.expected(value))

    run(main())


def test_without_a_server_everything_is_local() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network) as server:
            port = server.port
        async with toy_ue(port, network, connect_s=0.2) as ue:
            got = await ue.infer((value,), PLACEMENT)
            assert got.failure is not None
            assert "no connection" in got.failure
            assert got.recovered == tuple(np.flatnonzero(PLACEMENT))
            assert same(got.outputs, network.expected(value))
            assert (await ue.resident() == [0, 0, 0, 1, 0, 0, 0]).all()
            with pytest.raises(EdgeError, match="no connection"):
                await ue.install()
            assert (await ue.infer((value,), [0] * N)).failure is None  # needs none

    run(main())


def test_a_wrong_token_is_said_and_costs_no_answer() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as ue:
            object.__setattr__(ue.settings, "token", "another")
            got = await ue.infer((value,), PLACEMENT)
            assert got.failure == "the server says: wrong token"
            assert same(got.outputs, network.expected(value))

    run(main())


def test_a_ue_that_has_nothing_to_ask_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE_S", 0.02)
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network, idle_s=0.2) as server, toy_ue(server.port, network) as ue:
            assert (await ue.infer((value,), [1] * N)).failure is None
            await asyncio.sleep(0.5)
            assert ue.connected
            assert (await ue.infer((value,), [1] * N)).resident.all()

    run(main())


def test_a_server_that_hangs_is_given_up() -> None:
    """Its connection lives and it has all that it needs, but it executes nothing."""
    network, stuck = diamond(), SlowAtTheEdge(moment_s=1.0)
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with (
            toy_server(stuck) as server,
            toy_ue(server.port, network, hang_s=0.3, stall_s=0.4) as ue,
        ):
            start = now()
            got = await ue.infer((value,), [1] * N)
            assert got.failure == "no progress for 0.3 s"
            assert got.recovered == tuple(range(N))
            assert same(got.outputs, network.expected(value))
            assert now() - start < 30

    run(main())


def test_a_layer_that_fails_at_the_server_is_executed_here() -> None:
    class Failing(ToyNetwork):
        def run(self, layer: int, bundles: Mapping[int, Bundle],
                parameters: Mapping[str, Tensor]) -> Bundle:  # fmt: skip
            if layer == 2:
                raise MemoryError
            return super().run(layer, bundles, parameters)

    network, failing = diamond(), Failing(diamond().dnn.predecessors, parameterless=[3])
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(failing) as server, toy_ue(server.port, network) as ue:
            got = await ue.infer((value,), [1] * N)
            assert got.failure == "the server says: executing a layer failed: MemoryError"
            assert same(got.outputs, network.expected(value))
            good = await ue.infer((value,), [1, 1, 0, 1, 0, 0, 0])
            assert good.failure is None

    run(main())


def test_a_layer_that_fails_here_is_an_error_and_not_a_hang() -> None:
    network = diamond()

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as ue:

            def fails(*_: object) -> Bundle:
                raise ZeroDivisionError

            network.run = fails  # type: ignore[method-assign]
            with pytest.raises(ZeroDivisionError):
                await ue.infer((torch.randn(1, network.width),), [0] * N)

    run(main())


def test_an_abandoned_query_does_not_disturb_the_next_one() -> None:
    """Given up by whoever asked, or asked for while another one runs."""
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with (
            toy_server(network) as server,
            toy_ue(server.port, network, uplink_bps=1e6) as ue,
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await ue.infer((value,), [1] * N)
            object.__setattr__(ue.settings, "uplink_bps", 100e6)
            both = await asyncio.gather(
                ue.infer((value,), PLACEMENT), ue.infer((value,), [1] * N), ue.resident()
            )
            for got in both[:2]:
                assert got.failure is None
                assert same(got.outputs, network.expected(value))
            assert len(server.sessions) == 1

    run(main())


def test_queries_leave_no_tensors_to_the_garbage_collector() -> None:
    """It runs rarely in a process with so many objects, and a network's parameters are large."""
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as ue:
            await ue.infer((value,), PLACEMENT)
            gc.collect()
            gc.disable()
            for number in range(20):
                await ue.infer((value,), PLACEMENT, MODES[number % 3], prefetch=[1] * N)
                if number % 4 == 0:
                    await ue.close()
            await asyncio.sleep(0.05)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kinds = {type(found).__name__ for found in gc.garbage}
        assert not kinds & {"Tensor", "Incoming", "Query", "EdgeQuery", "Work", "Session"}

    try:
        run(main())
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_a_ue_that_dies_leaves_nothing_and_others_go_on() -> None:
    """In the middle of an upload, or of the execution of a layer."""
    slow = SlowAtTheEdge()
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(slow) as server, toy_ue(server.port, network) as good:
            for moment in ("upload", "execution"):
                async with (
                    Proxy(server.port) as proxy,
                    toy_ue(proxy.own_port, network, uplink_bps=20e6) as dying,
                ):
                    slow.begun.clear()
                    running = asyncio.create_task(dying.infer((value,), [1] * N))
                    if moment == "execution":
                        await until(slow.begun.is_set)
                    else:
                        await until(lambda: proxy.passed["up"] > 5000)
                    assert len(server.sessions) >= 1
                    dying._connection.frames.writer.transport.abort()  # type: ignore[union-attr]
                    await until(lambda: len(server.sessions) <= (1 if good.connected else 0))
                    got = await good.infer((value,), PLACEMENT)
                    assert got.failure is None
                    assert same(got.outputs, network.expected(value))
                    assert same((await running).outputs, network.expected(value))
            await good.close()
            await until(lambda: len(server.sessions) == 0)
            assert server.store.used_bytes == 0

    run(main())
