"""Who watches a server with a controller: what it is told, what it is not, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from mjoa_gym import Instance, Plan  # noqa: E402
from mjoa_gym.testbed import clock, live, watcher  # noqa: E402
from mjoa_gym.testbed.connection import EdgeError, open_connection  # noqa: E402
from mjoa_gym.testbed.event_log import EventLog  # noqa: E402
from mjoa_gym.testbed.frames import (  # noqa: E402
    ALL_USES,
    FROM_UE,
    OWN_USES,
    VERSION,
    Kind,
    Look,
    Used,
    encode,
)
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402
from mjoa_gym.testbed.settings import UESettings  # noqa: E402
from mjoa_gym.testbed.watcher import Watcher  # noqa: E402

from .testbed_frames import HEADERS  # noqa: E402
from .testbed_helpers import TOKEN, introduce, refusal, run, stranger, toy_server, until  # noqa: E402
from .testbed_network import diamond  # noqa: E402
from .testbed_rounds import controlled, participant, profile, rounds_of, take_part  # noqa: E402

N = 7
PLACEMENT = [1, 0, 1, 1, 1, 0, 1]
TOLD = {
    "at", "joined", "model", "layers", "parameter_bytes", "weight", "local_s", "left", "why",
    "planned", "round", "date", "ues", "placements", "prefetch", "retain", "bandwidth_share",
    "compute_share", "predicted_s", "planned_by", "problem", "planning_s", "over", "measured_s",
    "failed", "overruns", "round_s", "ue", "uses", "began",
}  # fmt: skip
"""Everything that events may have: nothing of it is a tensor, a parameter or a secret."""


def some_at_the_edge(instance: Instance) -> Plan:
    n = instance.n_ues
    share = np.full(n, 1 / n)
    return Plan([PLACEMENT] * n, share, share, [[0, 1, 0, 0, 0, 0, 0]] * n)


@contextlib.asynccontextmanager
async def watching(port: int, **settings: Any) -> AsyncIterator[Watcher]:
    """A watcher that has seen the server."""
    async with Watcher(UESettings(TOKEN, port, **settings)) as one:
        task = asyncio.create_task(one.run())
        await until(lambda: "state" in news(one))
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def news(one: Watcher, since: int = 0) -> dict[str, Any]:
    """What a page would be told that has seen so many events."""
    return json.loads(one.news(one._connections, since))


def got(address: str) -> tuple[int, str]:
    """The status and the text of a page."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_two_ues_are_seen_live() -> None:
    """Lanes of both sides, shares, memory, and what was planned and measured."""
    network = diamond(width=128)
    program = LayeredProgram(network)
    there = [p for layer, p in enumerate(program.parameters) if layer != 5 and p is not None]
    size = sum(layout.total_bytes for layout in there)

    async def main() -> None:
        settings = {"first": 2, "period_s": 0.3, "uplink_bps": 8e6}
        async with controlled(some_at_the_edge, network, **settings) as (server, log):  # noqa: SIM117
            async with (
                watching(server.port) as one,
                participant(server.port, network, weight=2.0) as a,
                participant(server.port, network) as b,
            ):
                lives = [asyncio.create_task(take_part(m, network, 3)) for m in (a, b)]
                await until(lambda: any("uses" in event for event in news(one)["events"]), 20)
                assert not any(life.done() for life in lives)  # while it happens
                shares = news(one)["state"]["ues"]
                assert {tuple(row[1:3]) for row in shares} == {(0.5, 0.5)}
                await asyncio.gather(*lives)
                await until(lambda: sum("over" in event for event in news(one)["events"]) == 3)
                await until(lambda: news(one)["memory"]["used_bytes"] == 2 * size)
                status, text = await asyncio.to_thread(got, f"{one.address}news?since=0")
                assert status == 200
                told = json.loads(text)
        assert set(told) == {
            "now", "lost", "state", "memory", "connection", "problem", "next", "events"
        }  # fmt: skip
        assert {key for event in told["events"] for key in event} <= TOLD
        assert told["memory"]["ues"] == {"1": [size, "###-#.#"], "2": [size, "###-#.#"]}
        joined = [event for event in told["events"] if "joined" in event]
        assert sorted(event["weight"] for event in joined) == [1.0, 2.0]
        for event, said in zip(rounds_of(log), [e for e in told["events"] if "over" in e],
                               strict=True):  # fmt: skip
            assert said["measured_s"] == event["measured_s"]
        planned = {e["round"]: e for e in told["events"] if "planned" in e}
        assert planned[1]["placements"] == ["".join(map(str, PLACEMENT))] * 2
        for ue in (1, 2):
            uses = latest(told["events"], ue, 1)
            by_use: dict[Any, list[int]] = {}
            for kind, layer, start, end in uses:
                by_use.setdefault(ALL_USES[kind], []).append(layer)
                assert 0 <= start - planned[1]["at"] < 10
                assert end > start
            assert sorted(by_use["ue", "execute"]) == [1, 5]
            assert sorted(by_use["edge", "execute"]) == [0, 2, 3, 4, 6]
            assert set(by_use["uplink", "activation"]) == {-1, 1, 5}
            assert set(by_use["uplink", "parameters"]) == {0, 2, 4, 6}
            assert set(by_use["uplink", "prefetch"]) == {1}
            assert set(by_use["downlink", "activation"]) == {0, 4, 6}

    run(main())


def latest(events: list[dict[str, Any]], ue: int, number: int) -> list[list[Any]]:
    """A UE's uses in a round, as they were last told."""
    found = {}
    for event in events:
        if event.get("ue") == ue and event["round"] == number:
            found.update((tuple(use[:3]), use) for use in event["uses"])
    return list(found.values())


def test_what_a_ue_says_comes_to_what_it_has_measured() -> None:
    """Its lanes end when its outputs are there."""
    network = diamond()

    async def main() -> None:
        async with (
            controlled(network=network) as (server, _log),
            watching(server.port) as one,
            participant(server.port, network) as a,
        ):
            (taken,) = await take_part(a, network, 1)
            await until(lambda: any("over" in event for event in news(one)["events"]))
            await until(lambda: len(latest(news(one)["events"], 1, 1)) > N)
            events = news(one)["events"]
            began = next(event["at"] for event in events if "planned" in event)
            end = max(use[3] for use in latest(events, 1, 1)) - began
            assert end == pytest.approx(taken.inference.latency_s, abs=0.1)
            timeline = taken.inference.timeline
            own = [i for i in timeline if (i.resource, i.what) in OWN_USES]
            assert len(own) == sum(use[0] < len(OWN_USES) for use in latest(events, 1, 1))

    run(main())


def test_ues_say_nothing_while_nobody_watches() -> None:
    network = diamond()

    async def main() -> None:
        async with controlled(network=network) as (server, _log):  # noqa: SIM117
            async with participant(server.port, network) as a:
                await take_part(a, network, 2)
                assert server.live is not None
                assert not server.live.observers
                assert not any('"uses"' in text for text in server.live.log.since(0).texts)
                async with watching(server.port):
                    await take_part(a, network, 1)
                await until(lambda: not server.live.observers)
                seen = server.live.log.next
                await take_part(a, network, 1)
                texts = server.live.log.since(seen).texts
                assert not any('"uses"' in text for text in texts)
                assert any('"planned"' in text for text in texts)

    run(main())


def test_a_ue_that_talks_nonsense_is_not_believed() -> None:
    """Times that cannot be, layers that are not there, and more than there is room for."""
    network = diamond()
    program = LayeredProgram(network)
    many = [(0, 0, k * 1e-6, k * 1e-6 + 1e-7) for k in range(live.USES_PER_LAYER * N + 1)]
    nonsense = [
        Used(7, [(0, 0, 0.0, 0.1)]),  # of another round
        Used(1, [(0, 7, 0.0, 0.1), (0, 0, 0.0, 1e9), (0, 0, 0.2, 0.1)]),
        Used(1, many),
    ]  # fmt: skip

    async def main() -> None:
        async with (
            controlled(network=network) as (server, _log),
            watching(server.port) as one,
            stranger(server.port, program) as (reader, frames),
        ):
            frames.write(Kind.REGISTER, profile())
            frames.write(Kind.ASK)
            while (await reader.read()).kind is not Kind.GRANT:
                pass
            for said in (*nonsense, Used(1, [(0, 3, 0.0, 0.1)])):
                frames.write(Kind.USED, said)
            await until(lambda: bool(latest(news(one)["events"], 1, 1)))
            assert [use[:2] for use in latest(news(one)["events"], 1, 1)] == [[0, 3]]

    run(main())


@pytest.mark.parametrize(
    ("settings", "controller", "reason"),
    [
        ({"token": "another"}, {}, "wrong token"),
        ({}, {"watched": False}, "no controller that may be watched"),
        ({}, None, "no controller that may be watched"),
    ],
)
def test_who_may_not_watch_is_told_why(
    settings: dict[str, Any], controller: dict[str, Any] | None, reason: str
) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if controller is None:
                server = await stack.enter_async_context(toy_server())
            else:
                server, _ = await stack.enter_async_context(controlled(**controller))
            where = UESettings(**{"token": TOKEN, "port": server.port} | settings)
            one = await stack.enter_async_context(Watcher(where))
            with pytest.raises(EdgeError, match=reason):
                await one.run()
            await until(lambda: not server.sessions)

    run(main())


def test_who_only_watches_can_do_nothing_else() -> None:
    async def main() -> None:
        async with controlled() as (server, _log):
            for kind in (Kind.STATE, Kind.REGISTER, Kind.ASK, Kind.BEGIN):
                where = UESettings(TOKEN, server.port)
                connection = await open_connection(where, None)
                header = profile() if kind is Kind.REGISTER else None
                if kind is not Kind.BEGIN:
                    connection.frames.write(kind, header)
                    await until(lambda: connection.lost is not None)  # noqa: B023
                    assert f"{kind.name} from a client that only watches" in connection.lost
                connection.close("")
                await connection.wait_closed()
            async with stranger(server.port, LayeredProgram(diamond())) as (reader, frames):
                frames.write(Kind.LOOK, Look(0))  # and a UE cannot watch
                assert "LOOK at the wrong time" in await refusal(reader)
            await until(lambda: not server.sessions)
            assert not server.live.observers

    run(main())


def test_fuzzed_observers_do_no_harm() -> None:
    """Frames in any order, some of them damaged."""
    network = diamond()
    generator = random.Random(5)
    kinds = sorted(FROM_UE - {Kind.HELLO})

    async def attack(port: int) -> None:
        connection = await open_connection(UESettings(TOKEN, port), None)
        writer = connection.frames.writer
        for sequence in range(1, generator.randrange(2, 8)):
            kind = generator.choice([Kind.LOOK, Kind.PING, *kinds])
            data = bytearray(encode(kind, sequence, HEADERS[kind]))
            if generator.random() < 0.3:
                data[generator.randrange(len(data))] = generator.randrange(256)
            writer.write(bytes(data))
            await asyncio.sleep(generator.choice([0, 0, 0.005]))
        connection.close("")
        await connection.wait_closed()

    async def main() -> None:
        async with controlled(network=network) as (server, _log):
            for _ in range(80):
                await attack(server.port)
            await until(lambda: not server.sessions)
            assert not server.live.observers
            async with watching(server.port), participant(server.port, network) as a:
                await take_part(a, network, 1)

    run(main())


def test_an_observer_takes_a_place_like_everybody() -> None:
    network = diamond()

    async def main() -> None:
        async with controlled(network=network, server={"sessions": 1}) as (server, _log):
            async with watching(server.port), stranger(server.port) as (reader, frames):
                await introduce(reader, frames, LayeredProgram(network))
                assert "too many sessions" in await refusal(reader)
            await until(lambda: not server.sessions)
            async with participant(server.port, network) as a:
                await take_part(a, network, 1)

    run(main())


def test_an_observer_that_asks_too_often_waits() -> None:
    async def main() -> None:
        async with controlled() as (server, _log):
            connection = await open_connection(UESettings(TOKEN, server.port), None)
            loop = asyncio.get_running_loop()
            start, looks = loop.time(), 6
            for _ in range(looks):
                answer = await connection.ask(Kind.LOOK, 3.0, header=Look(0))
                assert json.loads(answer.payload)["state"]["rounds"] == 0
            assert loop.time() - start > 0.9 * (looks - 1) * live.LOOK_S
            connection.close("")
            await connection.wait_closed()

    run(main())


def test_the_page_is_for_those_who_know_its_address(tmp_path: Path) -> None:
    async def main() -> None:
        async with controlled() as (server, _log), watching(server.port) as one:
            root = one.address.removesuffix(f"{one.key}/")
            assert root.startswith("http://127.0.0.1:")
            for path, status in (
                ("", 403), ("news?since=0", 403), (f"{one.key[:-1]}x/", 403), (f"{one.key}/", 200),
                (f"{one.key}/news?since=x", 400), (f"{one.key}/other", 404),
                (f"{one.key}/news?since=99999999999999999999", 200), (f"{one.key}/news", 200),
            ):  # fmt: skip
                found = await asyncio.to_thread(got, root + path)
                assert found[0] == status, path
            _, page = await asyncio.to_thread(got, one.address)
            assert "Testbed on 127.0.0.1" in page
            assert TOKEN not in page
            assert "://" not in page.replace("http://www.w3.org/2000/svg", "")  # loads nothing

    run(main())


def test_a_server_that_is_lost_is_said_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "RETRY_S", 0.05)
    network = diamond()

    async def main() -> None:
        async with controlled(network=network) as (server, _log):
            port = server.port
            watched = watching(port)
            one = await watched.__aenter__()
            async with participant(port, network) as a:
                await take_part(a, network, 1)
                await until(lambda: any("joined" in event for event in news(one)["events"]))
        await until(lambda: bool(news(one)["problem"]))
        assert "no connection" in news(one)["problem"] or "closed" in news(one)["problem"]
        assert any("joined" in event for event in news(one)["events"])  # what was known stays
        async with controlled(network=network, server={"port": port}):
            await until(lambda: not news(one)["problem"])
            assert json.loads(one.news(1, 10**6))["connection"] == 2
            assert not news(one)["events"]
            await watched.__aexit__(None, None, None)

    run(main())


def test_a_log_keeps_the_newest_and_what_stands() -> None:
    log = EventLog(most_bytes=200)
    log.add({"who": 1}, key=1)
    for number in range(100):
        log.add({"number": number})
    texts, following, lost = log.since(0)
    assert json.loads(texts[0]) == {"who": 1}
    assert json.loads(texts[-1]) == {"number": 99}
    assert sum(map(len, texts)) < 220
    assert following == 101
    assert lost == 101 - len(texts) + 1
    assert log.since(101) == ([], 101, 0)
    assert [json.loads(text) for text in log.since(99).texts] == [{"number": 98}, {"number": 99}]
    some = log.since(0, most_bytes=40)
    rest = log.since(some.next, most_bytes=1000)
    assert some.texts + rest.texts == texts
    log.drop(1)
    assert log.since(0).texts == texts[1:]


def test_memory_and_answers_are_bounded() -> None:
    """However long nobody looks, and however many UEs come and go."""
    network = diamond()

    async def main() -> None:
        async with controlled(network=network) as (server, _log):  # noqa: SIM117
            async with participant(server.port, network) as a:
                await take_part(a, network, 1)
                assert server.live is not None
                event = {"planned": 1, "round": 1, "ues": [1], "placements": ["1" * 5000]}
                for _ in range(500):
                    server.live.said(event)
                log = server.live.log
                assert sum(len(text) for text in log.since(0, 10**9).texts) < 1.1e6
                answer = server.live.look(0)
                assert len(answer) < 3e5
                told = json.loads(answer)
                assert told["lost"] > 0
                assert "joined" in told["events"][0]

    run(main())


@pytest.mark.parametrize("token", [TOKEN, "another"])
def test_the_command_serves_a_page_and_ends(token: str) -> None:
    async def main() -> None:
        async with controlled() as (server, _log):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mjoa_gym.testbed", "watch", "--port", str(server.port),
                "--page-port", "0", "--token", token, stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            assert process.stdout is not None
            try:
                line = (await process.stdout.readline()).decode()
                if token == TOKEN:
                    address = line.removeprefix("open ").strip()
                    assert (await asyncio.to_thread(got, address))[0] == 200
                    await until(lambda: bool(server.live.observers), 20)
                    process.send_signal(signal.SIGINT)
                    assert await process.wait() == 0
                else:
                    assert not line
                    assert b"wrong token" in (await process.communicate())[1]
                    assert process.returncode == 1
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    clock.run(asyncio.wait_for(main(), 180))  # on a busy machine it takes a while to begin


def test_the_versions_of_greetings_are_checked() -> None:
    async def main() -> None:
        async with controlled() as (server, _log), stranger(server.port) as (reader, frames):
            await reader.read()
            frames.write(Kind.OBSERVE, {"version": VERSION + 1, "proof": bytes(32)})
            assert "OBSERVE: a header cannot be read" in await refusal(reader)

    run(main())
