"""Several UEs on one server: rounds, shares, faults, limits, and layers that are shared."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from mjoa_gym import UE, Instance, Plan, evaluate  # noqa: E402
from mjoa_gym.testbed.clock import now  # noqa: E402
from mjoa_gym.testbed.controller import ControllerSettings  # noqa: E402
from mjoa_gym.testbed.frames import FROM_UE, Begin, Chunk, Done, Kind, Pace, encode  # noqa: E402
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402

from .testbed_frames import HEADERS, begin  # noqa: E402
from .testbed_helpers import Proxy, refusal, run, stranger, toy_server, until  # noqa: E402
from .testbed_network import diamond  # noqa: E402
from .testbed_rounds import (  # noqa: E402
    EDGE_S,
    RATE,
    UE_S,
    N,
    controlled,
    everything_at_the_edge,
    participant,
    profile,
    rounds_of,
    take_part,
)


def test_rounds_are_planned_for_everybody_and_are_what_the_simulator_says() -> None:
    network = diamond()

    def planner(instance: Instance) -> Plan:
        n = instance.n_ues
        share = np.arange(1, n + 1) / (n * (n + 1) / 2)
        return Plan([[1, 0, 1, 1, 1, 0, 1]] * n, share, share, [[0, 1, 0, 0, 0, 0, 0]] * n)

    async def main() -> None:
        async with controlled(planner, first=3, period_s=0.3) as (server, log):
            async with (
                participant(server.port, network, weight=2.0) as a,
                participant(server.port, network) as b,
                participant(server.port, network) as c,
            ):
                lives = await asyncio.gather(*(take_part(m, network, 3) for m in (a, b, c)))
            await until(lambda: not server.sessions)
        assert [taken.grant.round for taken in lives[0]] == [1, 2, 3]
        joined = {event["joined"]: event for event in log if "joined" in event}
        assert sorted(event["weight"] for event in joined.values()) == [1.0, 1.0, 2.0]
        for event in rounds_of(log):
            ues = [
                UE(
                    network.dnn, joined[n]["ue_s"], joined[n]["edge_s"], resident=resident,
                    uplink_bps=RATE, downlink_bps=RATE, weight=joined[n]["weight"],
                    message_s=joined[n]["message_s"],
                )
                for n, resident in zip(event["ues"], event["resident"], strict=True)
            ]  # fmt: skip
            plan = Plan(
                [list(map(int, text)) for text in event["placements"]],
                event["bandwidth_share"],
                event["compute_share"],
            )
            expected = evaluate(Instance(ues), plan)  # an ordinary instance
            assert np.allclose(event["predicted_s"], expected, rtol=1e-4)
            errors = np.array(event["measured_s"]) / expected - 1
            assert np.all(errors > -0.1), errors
            assert np.median(np.abs(errors)) < 0.3, errors  # paced, on a busy machine
            assert event["round_s"] > 0.29
        second = rounds_of(log)[1]["resident"]
        assert all(row[0] == row[1] == 1.0 for row in second)  # uploaded, and prefetched

    run(main())


def test_the_rates_of_all_links_together_are_the_cells() -> None:
    """Whatever the shares: bytes that arrive in a round fit into it."""
    network = diamond(width=256)
    rate = 16e6

    async def main() -> None:
        settings = {"uplink_bps": rate, "downlink_bps": rate, "first": 3}
        async with controlled(network=network, **settings) as (server, log):
            members = [participant(server.port, network) for _ in range(3)]
            a, b, c = [await m.__aenter__() for m in members]
            await asyncio.gather(*(take_part(m, network, 1) for m in (a, b, c)))
            event = rounds_of(log)[0]
            total = sum(8 * s.reader.all_bytes for s in server.sessions)
            assert total < 1.1 * rate * event["round_s"]
            assert total > 3 * 8 * LayeredProgram(network).parameter_bytes  # all of it was sent
            for m in members:
                await m.__aexit__(None, None, None)

    run(main())


def test_a_ue_that_sends_more_than_its_share_waits() -> None:
    network = diamond(width=512)  # a megabyte per layer
    program = LayeredProgram(network)
    rate = 4e6

    async def main() -> None:
        async with (
            controlled(network=network, uplink_bps=rate) as (server, _log),
            stranger(server.port, program) as (reader, frames),
        ):
            frames.write(Kind.REGISTER, profile())
            frames.write(Kind.ASK)
            grant = None
            while grant is None or grant.kind is not Kind.GRANT:
                grant = await reader.read()
            frames.write(Kind.BEGIN, grant.header.begin)
            start, session = now(), server.sessions[0]
            for layer, layout in enumerate(program.parameters):
                if layout is None:
                    continue
                image = layout.header + bytes(layout.total_bytes - len(layout.header))
                for offset in range(0, len(image), 1 << 16):
                    piece = image[offset : offset + (1 << 16)]
                    frames.write(Kind.PARAMETERS, Chunk(layer, offset), piece)
            while now() < start + 2.0:
                await asyncio.sleep(0.05)
                allowed = rate / 8 * (now() - start + 0.4) + (1 << 18)
                assert session.reader.all_bytes < allowed

    run(main())


def test_who_comes_takes_part_in_the_next_round_and_who_leaves_leaves_its_shares() -> None:
    network = diamond(width=256)

    async def main() -> None:
        async with controlled(network=network, uplink_bps=1e7, first=2) as (server, log):
            async with (
                participant(server.port, network) as a,
                participant(server.port, network) as c,
            ):
                async with participant(server.port, network) as b:
                    lives = (a, 2), (b, 1)
                    first = [asyncio.create_task(take_part(m, network, k, True)) for m, k in lives]
                    await until(lambda: any("planned" in event for event in log))
                    late = asyncio.create_task(take_part(c, network, 1, True))
                    await until(lambda: len(server.sessions) == 3)
                    await asyncio.sleep(0.1)
                    connection = b.ue._connection
                    assert connection is not None
                    connection.close("killed")  # in the middle of its upload
                    await first[1]
                taken = await first[0]
                await late
            first_round, second = rounds_of(log)[:2]
            assert len(first_round["ues"]) == 2
            assert first_round["failed"].count(True) == 1
            alone = first_round["predicted_s"][0] / 2
            # with what the other one left it was faster than promised
            assert alone < taken[0].inference.latency_s < 0.95 * first_round["predicted_s"][0]
            assert first_round["ues"][0] in second["ues"]
            assert len(second["ues"]) == 2

    run(main())


@pytest.mark.parametrize("when", ["before it begins", "while it uploads"])
def test_nobody_waits_long_for_a_ue_that_stalls(when: str) -> None:
    network = diamond()
    program = LayeredProgram(network)

    async def main() -> None:
        settings = {"patience": 1.0, "patience_s": 1.0, "gather_s": 0.2, "first": 2}
        async with (
            controlled(network=network, **settings) as (server, log),
            stranger(server.port, program) as (reader, frames),
            participant(server.port, network) as a,
        ):
            frames.write(Kind.REGISTER, profile())
            frames.write(Kind.ASK)
            others = asyncio.create_task(take_part(a, network, 3))
            grant = None
            while grant is None or grant.kind is not Kind.GRANT:
                grant = await reader.read()
            if when == "while it uploads":
                frames.write(Kind.BEGIN, grant.header.begin)
                assert "not done after" in await refusal(reader)
            await others
            planned = rounds_of(log)
            assert planned[0]["failed"].count(True) == 1
            assert [len(event["ues"]) for event in planned] == [2, 1, 1]
            assert planned[0]["round_s"] < 3.0
            if when == "before it begins":  # the round is over
                frames.write(Kind.BEGIN, grant.header.begin)
                while grant.kind is not Kind.REFUSED:
                    grant = await reader.read()
                assert "has not granted" in grant.header.reason

    run(main())


def test_wherever_a_ue_is_cut_off_everybody_is_right() -> None:
    """In uploads, in execution, in downloads; it comes back by itself."""
    network = diamond()
    generator = random.Random(0)

    async def main() -> None:
        async with controlled(network=network, gather_s=0.05) as (server, log):
            async with (
                Proxy(server.port) as proxy,
                participant(proxy.own_port, network) as doomed,
                participant(server.port, network) as a,
                participant(server.port, network) as b,
            ):
                others = [asyncio.create_task(take_part(m, network, 25)) for m in (a, b)]
                cut = 0
                for _ in range(25):
                    proxy.heal()
                    proxy.direction = generator.choice(["up", "down"])
                    most = 100_000 if proxy.direction == "up" else 2000
                    proxy.after = proxy.passed[proxy.direction] + generator.randrange(most)
                    (taken,) = await take_part(doomed, network, 1, failures=True)
                    cut += taken.inference.failure is not None
                await asyncio.gather(*others)
                assert cut > 5
            await until(lambda: not server.sessions)
            assert server.store.used_bytes == server.memory.used_bytes == 0
            assert server.controller is not None
            assert not server.controller.members
            assert sum(len(event["ues"]) > 2 for event in rounds_of(log)) > 3

    run(main())


def test_a_planner_that_fails_costs_its_round_the_last_plan() -> None:
    network = diamond()
    calls = itertools.count(1)

    def planner(instance: Instance) -> Plan:
        call = next(calls)
        if call == 1:
            raise ArithmeticError("not yet")
        if call in (3, 4):
            raise ArithmeticError("no more")
        return everything_at_the_edge(instance)

    async def main() -> None:
        async with controlled(planner, network, gather_s=0.2) as (server, log):  # noqa: SIM117
            async with participant(server.port, network) as a:
                await take_part(a, network, 3)
                async with participant(server.port, network) as b:
                    await until(lambda: server.controller.members[-1].asked is False)
                    later = asyncio.create_task(take_part(b, network, 1))
                    await until(lambda: len(server.controller.members) == 2)
                    await take_part(a, network, 1)
                    await later
        found = [(e["planned_by"], e["problem"], e["placements"]) for e in rounds_of(log)]
        ones, zeros = "1" * N, "0" * N
        assert found[:3] == [
            ("all on the UEs", "not yet", [zeros]),
            ("mjoa-mu", "", [ones]),
            ("the last plan", "no more", [ones]),
        ]
        assert found[3] == ("the last plan", "no more", [ones, zeros])  # the newcomer is local

    run(main())


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ([(Kind.ASK, None)], "ASK before REGISTER"),
        ([(Kind.DONE, Done(1, 0.1, 0, 0))], "DONE before REGISTER"),
        ([(Kind.REGISTER, profile())] * 2, "REGISTER: the UE has registered already"),
        ([(Kind.REGISTER, profile(ue_s=[0.1]))], "ue_s: 7 entries"),
        ([(Kind.REGISTER, profile(edge_s=[0.1]))], "edge_s: 7 entries"),
        ([(Kind.REGISTER, profile(digests=[b""]))], "digests: 7 entries"),
        ([(Kind.REGISTER, profile(ue_s=[0.0] * N))], "at least one layer"),
        ([(Kind.REGISTER, profile(weight=1e9))], "at most 10 is allowed"),
        ([(Kind.REGISTER, profile()), (Kind.PACE, Pace(EDGE_S))], "PACE at the wrong time"),
        ([(Kind.REGISTER, profile()), (Kind.DONE, Done(3, 0.1, 0, 0))], "DONE: round=3"),
        ([(Kind.PACE, Pace([0.1]))], "edge_s: 7 entries are needed, or none"),
    ],
)
def test_what_a_ue_may_not_say_ends_its_connection(kinds: Any, reason: str) -> None:
    async def main() -> None:
        async with (
            controlled() as (server, _log),
            stranger(server.port, LayeredProgram(diamond())) as (reader, frames),
        ):
            for kind, header in kinds:
                frames.write(kind, header)
            assert reason in await refusal(reader)

    run(main())


def test_nothing_is_done_that_was_not_granted() -> None:
    network = diamond()
    program = LayeredProgram(network)
    other = Begin(bytes([0] * 6 + [1]), bytes(N), 0, 1.0, 1e9)

    async def main() -> None:
        async with (
            controlled(network=network) as (server, _log),
            stranger(server.port, program) as (reader, frames),
        ):

            async def said(kind: Kind) -> Any:
                while (frame := await reader.read()).kind is not kind:
                    assert frame.kind is Kind.HEARTBEAT
                return frame.header

            frames.write(Kind.BEGIN, begin())
            assert "has not granted" in (await said(Kind.REFUSED)).reason
            frames.write(Kind.REGISTER, profile())
            frames.write(Kind.ASK)
            grant = await said(Kind.GRANT)
            frames.write(Kind.BEGIN, other)
            assert "has not granted" in (await said(Kind.REFUSED)).reason
            frames.write(Kind.BEGIN, Begin(grant.placement, grant.prefetch, 0, 1.0, 1e12))
            await said(Kind.STARTED)
            query = server.sessions[0].query
            assert query is not None
            assert query.link is not None
            assert query.link.rate_bps == RATE  # whatever it has asked for
            assert query.work.slowdown == 1.0

    run(main())


def test_a_server_without_a_controller_says_so() -> None:
    async def main() -> None:
        async with (
            toy_server() as server,
            stranger(server.port, LayeredProgram(diamond())) as (reader, frames),
        ):
            frames.write(Kind.REGISTER, profile())
            assert "this server has no controller" in await refusal(reader)

    run(main())


def test_a_server_measures_layers_of_which_a_ue_says_nothing() -> None:
    network = diamond()

    async def main() -> None:
        async with controlled(network=network) as (server, log):
            async with participant(server.port, network, paced=False, edge_s=[]) as a:
                await take_part(a, network, 1)
            (joined,) = (event for event in log if "joined" in event)
            assert len(joined["edge_s"]) == N
            assert all(0 < seconds < 0.1 for seconds in joined["edge_s"])

    run(main())


def test_layers_are_shared_by_content() -> None:
    """The second UE with the same network uploads nothing, and memory holds it once."""
    network = diamond()
    size = sum(p.total_bytes for p in LayeredProgram(network).parameters if p is not None)

    async def main() -> None:
        async with controlled(network=network, share=True, first=2) as (server, log):
            async with (
                participant(server.port, network, share=True) as a,
                participant(server.port, network, share=True) as b,
            ):
                await asyncio.gather(*(take_part(m, network, 1) for m in (a, b)))  # both upload
                assert server.store.used_bytes == size
            assert server.store.used_bytes == size  # whoever leaves
            server.controller.settings = replace(server.controller.settings, first=1)
            async with participant(server.port, network, share=True) as c:
                await take_part(c, network, 1)
                session = server.sessions[0]
                assert session.reader.payload_bytes < size / 10
            async with participant(server.port, network) as d:  # has said no digests
                await take_part(d, network, 1)
                assert server.store.used_bytes == 2 * size
            assert rounds_of(log)[1]["resident"] == [[1.0] * N]
            assert rounds_of(log)[2]["resident"][0].count(1.0) == 1  # that without parameters

    run(main())


def test_what_is_not_what_its_digest_says_is_of_no_use_to_anybody() -> None:
    right, wrong = diamond(), diamond(seed=5)

    async def main() -> None:
        async with controlled(network=right, share=True, gather_s=0.2) as (server, _log):  # noqa: SIM117
            async with (
                participant(server.port, right, share=True) as a,
                participant(server.port, wrong, digests=a.profile.digests) as liar,
            ):
                # buffers are part of the program; let only the parameters differ
                wrong.offset = right.offset
                liar.ue.program.__dict__.pop("fingerprint", None)
                (got,) = await take_part(liar, wrong, 1, failures=True)
                assert "do not have the registered digest" in got.inference.failure
                await take_part(a, right, 2)

    run(main())


def test_one_ue_cannot_fill_the_memory() -> None:
    network = diamond()
    layouts = [p for p in LayeredProgram(network).parameters if p is not None]
    limit = 2 * layouts[0].total_bytes + 100

    async def main() -> None:
        async with controlled(network=network, server={"ue_memory_bytes": limit}) as (server, _log):
            async with participant(server.port, network) as a:
                (got,) = await take_part(a, network, 1, failures=True)
                assert "no memory for these layers" in got.inference.failure

            def some(instance: Instance) -> Plan:
                return Plan([[1, 0, 0, 0, 0, 0, 0]], [1.0], [1.0], [[0, 1, 1, 0, 0, 0, 0]])

            server.controller.planner.planner = some
            async with participant(server.port, network) as b:
                await take_part(b, network, 1)
                assert server.store.used_bytes <= limit

    run(main())


def test_what_is_to_be_retained_is_dropped_last() -> None:
    network = diamond()
    layer = next(p for p in LayeredProgram(network).parameters if p is not None).total_bytes
    calls = itertools.count()

    def planner(instance: Instance) -> Plan:
        sides = np.zeros(N)
        sides[(0, 1, 2, 4)[next(calls)]] = 1
        retain = np.eye(N)[0]
        return Plan([sides], [1.0], [1.0], None, [retain])

    async def main() -> None:
        memory = {"memory_bytes": 2 * layer + 10}
        async with controlled(planner, network, memory) as (server, log):  # noqa: SIM117
            async with participant(server.port, network) as a:
                await take_part(a, network, 4)
        there = [event["resident"][0] for event in rounds_of(log)]
        assert [row[0] for row in there] == [0, 1, 1, 1]  # the oldest, and still there
        assert there[3][1] == 0.0

    run(main())


def test_largest_shares() -> None:
    def planner(instance: Instance) -> Plan:
        return Plan([[1] * N, [1] * N, [0] * N], [0.9, 0.1, 0], [0.8, 0.1, 0])

    network = diamond()

    async def main() -> None:
        async with controlled(planner, network, most_share=0.6, first=3) as (server, log):  # noqa: SIM117
            async with (
                participant(server.port, network) as a,
                participant(server.port, network) as b,
                participant(server.port, network) as c,
            ):
                await asyncio.gather(*(take_part(m, network, 1) for m in (a, b, c)))
        (event,) = rounds_of(log)
        assert np.allclose(event["bandwidth_share"], [0.6, 0.4, 0])
        assert np.allclose(event["compute_share"], [0.6, 0.3, 0])

    run(main())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uplink_bps": 10.0}, "uplink_bps=10.0: must be at least 1000"),
        ({"budget_s": 0.0}, "budget_s=0.0"),
        ({"most_share": 0.2}, r"most_share=0.2: must be in \[0.5, 1\]"),
        ({"upload": "preinstalled"}, "upload='preinstalled': allowed are"),
        ({"first": 0}, "first=0"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ControllerSettings(**changes)


def test_fuzzed_sessions_of_a_controller_do_no_harm() -> None:
    network = diamond()
    program = LayeredProgram(network)
    generator = random.Random(3)
    kinds = sorted(FROM_UE - {Kind.HELLO})

    def frame(kind: Kind, sequence: int) -> bytes:
        header = HEADERS[kind]
        payload = generator.randbytes(generator.randrange(200)) if kind is Kind.TENSOR else b""
        data = bytearray(encode(kind, sequence, header, payload) + payload)
        if generator.random() < 0.3:
            data[generator.randrange(len(data))] = generator.randrange(256)
        return bytes(data)

    async def attack(port: int) -> None:
        async with stranger(port, program) as (_reader, frames):
            first = [Kind.REGISTER, Kind.ASK] if generator.random() < 0.7 else []
            several = [*first, *(generator.choice(kinds) for _ in range(generator.randrange(8)))]
            for sequence, kind in enumerate(several, 1):
                frames.writer.write(frame(kind, sequence))
                await asyncio.sleep(generator.choice([0, 0, 0.01]))

    async def main() -> None:
        settings = {"gather_s": 0.02, "patience_s": 0.05, "patience": 1.0, "share": True}
        async with controlled(network=network, **settings) as (server, _log):
            for _ in range(150):
                await attack(server.port)
            await until(lambda: not server.sessions)
            assert server.memory.used_bytes == 0
            async with participant(server.port, network) as a:
                await take_part(a, network, 2, failures=True)
            await until(lambda: not server.sessions)
            assert not server.controller.members

    run(main())


@pytest.mark.parametrize("changes", [{"placement": bytes(3)}, {"prefetch": bytes([2] * N)}])
def test_a_grant_that_is_none_is_not_followed(changes: dict[str, Any]) -> None:
    network = diamond()

    async def main() -> None:
        async with controlled(network=network) as (server, _log):
            tell = server.controller._granted

            def nonsense(*arguments: Any) -> Any:
                import msgspec

                return msgspec.structs.replace(tell(*arguments), **changes)

            server.controller._granted = nonsense  # type: ignore[method-assign]
            async with participant(server.port, network) as a:
                (got,) = await take_part(a, network, 1, failures=True)
                assert got.grant is None
                assert "the server broke the protocol: BEGIN" in got.inference.failure

    run(main())


def test_without_a_grant_a_ue_goes_on_by_itself() -> None:
    network = diamond()

    async def main() -> None:
        patience = {"stall_s": 0.3, "hang_s": 0.6}
        async with (
            controlled(network=network, first=2) as (server, _log),
            participant(server.port, network, patience=patience) as a,
        ):
            start = now()
            (got,) = await take_part(a, network, 1, failures=True)
            assert "no answer" in got.inference.failure
            assert got.inference.latency_s < 1.5 * sum(UE_S)
            assert now() - start < 3.0

    run(main())


def test_a_controller_that_is_gone_costs_no_answer() -> None:
    """In the middle of an upload; and the UE finds the next one by itself."""
    network = diamond(width=256)

    async def main() -> None:
        async with Proxy(1) as proxy:  # noqa: SIM117
            async with participant(proxy.own_port, network) as a:
                async with controlled(network=network, uplink_bps=8e6) as (server, _log):
                    proxy.port = server.port
                    running = asyncio.create_task(take_part(a, network, 1, failures=True))
                    await until(lambda: proxy.passed["up"] > 100_000)
                (got,) = await running
                assert len(got.inference.recovered) == N
                (alone,) = await take_part(a, network, 1, failures=True)
                assert alone.grant is None
                async with controlled(network=network) as (server, _log):
                    proxy.port = server.port
                    await take_part(a, network, 1)

    run(main())


@pytest.mark.parametrize("layers", [0, 2])
def test_memory_for_less_than_one_network(layers: int) -> None:
    """What does not fit is executed by the UEs, and what is prefetched stays away."""
    network = diamond()
    size = next(p for p in LayeredProgram(network).parameters if p is not None).total_bytes

    def planner(instance: Instance) -> Plan:
        n = instance.n_ues
        one, marks = [1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1]
        share = [1 / n] * n
        return Plan([one if layers else [1] * N] * n, share, share, [marks] * n)

    async def main() -> None:
        memory = {"memory_bytes": layers * size + 100}
        settings = {"first": 2, "period_s": 0.1}
        async with (
            controlled(planner, network, memory, **settings) as (server, _log),
            participant(server.port, network) as a,
            participant(server.port, network) as b,
        ):
            await asyncio.gather(*(take_part(m, network, 3, not layers) for m in (a, b)))
            assert server.store.used_bytes <= layers * size

    run(main())
