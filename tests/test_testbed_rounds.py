"""A real server that plans, and real UE processes: one is killed, one comes late; and a soak."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from mjoa_gym.testbed import clock  # noqa: E402
from mjoa_gym.testbed.executor import Executor  # noqa: E402
from mjoa_gym.testbed.frames import Kind  # noqa: E402
from mjoa_gym.testbed.models import program_of  # noqa: E402
from mjoa_gym.testbed.participant import Participant  # noqa: E402
from mjoa_gym.testbed.processes import TOKEN_VARIABLE, ServerProcess, server_process  # noqa: E402
from mjoa_gym.testbed.ue import Pacing, UserEquipment  # noqa: E402

from .test_testbed_processes import (  # noqa: E402
    Sizes,
    arguments_for,
    descriptors,
    lives_of_four,
    result_of,
    settings_for,
    tiny,  # noqa: F401
)
from .testbed_helpers import Proxy, stranger  # noqa: E402
from .testbed_rounds import profile  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")

PLANNER = """
import numpy as np
from mjoa_gym import Plan

def everything_at_the_edge(instance):
    share = np.full(instance.n_ues, 1 / instance.n_ues)
    return Plan([np.ones(ue.dnn.n_layers) for ue in instance.ues], share, share)
"""


@contextlib.contextmanager
def ue_process(server: ServerProcess, file: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A UE that takes part; killed in the end if it has not ended."""
    command = [
        sys.executable, "-m", "mjoa_gym.testbed", "ue", "--port", str(server.port), "--controlled",
        "--program", f"tiny={file}", "--paced", "--ue-slowdown", "30", "--busy", "0.1", *more,
    ]  # fmt: skip
    environment = os.environ | {TOKEN_VARIABLE: server.token}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def events(journal: Path) -> list[dict[str, Any]]:
    """What has happened so far."""
    lines = journal.read_text("utf-8").splitlines() if journal.exists() else []
    found = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):  # the last one is being written
            found.append(json.loads(line))
    return found


def rounds_over(journal: Path, *ues: int) -> list[dict[str, Any]]:
    """The rounds so far that have ended, and in which these UEs took part."""
    ended = [event for event in events(journal) if "round_s" in event and "planned" not in event]
    return [event for event in ended if set(ues) <= set(event["ues"])]


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_three_ue_processes_one_is_killed_and_one_comes_late(
    tiny: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    planner, journal = tmp_path / "mine.py", tmp_path / "journal.jsonl"
    planner.write_text(PLANNER)
    options = [
        "--controller", f"{planner}:everything_at_the_edge", "--cell-mbps", "8",
        "--cell-downlink-mbps", "8", "--first", "2", "--period-s", "0.2", "--slowdown", "3",
        "--journal", str(journal),
    ]  # fmt: skip

    def planned() -> list[dict[str, Any]]:
        return [event for event in events(journal) if "planned" in event]

    with server_process(*arguments_for(tiny, *options)) as server:
        idle = descriptors(server.process.pid)
        with (
            ue_process(server, tiny, "--queries", "10000") as a,
            ue_process(server, tiny, "--queries", "10000") as b,
        ):
            wait_for(lambda: bool(planned()))
            time.sleep(0.15)  # in the middle of its upload, which takes a second
            b.send_signal(signal.SIGKILL)
            with ue_process(server, tiny, "--queries", "4") as c:
                late = c.communicate(timeout=60)[0]
            wait_for(lambda: len(rounds_over(journal, 3)) == 4)
            a.kill()
            first = a.communicate(timeout=60)[0]
        assert c.returncode == 0
        wait_for(lambda: descriptors(server.process.pid) == idle, 5.0)
    assert late.count("outputs as locally") == 4
    assert first.count("outputs as locally") > 4
    assert "NOT AS" not in first + late
    assert "layers executed here" not in first + late
    rounds = rounds_over(journal)
    assert [len(event["ues"]) for event in rounds][:2] == [2, 1]
    (survivor,) = rounds[1]["ues"]
    assert [event["ues"] for event in rounds_over(journal, 3)] == [[survivor, 3]] * 4
    assert all(event["planned_by"].endswith("everything_at_the_edge") for event in rounds)
    # who is left is faster than promised, and all later rounds are as planned
    seconds = dict(zip(rounds[0]["ues"], rounds[0]["measured_s"], strict=True))
    assert seconds[survivor] < 0.9 * max(rounds[0]["predicted_s"])
    late_s = [
        measured - predicted
        for event in rounds[1:]
        for measured, predicted in zip(event["measured_s"], event["predicted_s"], strict=True)
        if measured is not None
    ]
    assert np.median(np.abs(late_s)) < 0.05


LIGHT = """
import numpy as np
from mjoa_gym import Plan

def light_layers_at_the_edge(instance):
    share = np.full(instance.n_ues, 1 / instance.n_ues)
    return Plan([ue.dnn.parameter_bytes < 1e5 for ue in instance.ues], share, share)
"""


@pytest.mark.slow
def test_however_a_third_ue_fails_the_others_take_what_is_planned_without_it(
    tiny: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """It floods, is killed in its upload, or stops there: medians within 20 % of the plan."""
    planner, journal = tmp_path / "light.py", tmp_path / "journal.jsonl"
    planner.write_text(LIGHT)
    options = [
        "--controller", f"{planner}:light_layers_at_the_edge", "--cell-mbps", "0.4",
        "--cell-downlink-mbps", "0.4", "--first", "2", "--slowdown", "3", "--gather-s", "0.5",
        "--journal", str(journal),
    ]  # fmt: skip
    program, _ = program_of("tiny", {"tiny": tiny})
    rounds = 12  # after each fault

    def of_two(since: int) -> list[dict[str, Any]]:
        return [e for e in rounds_over(journal) if e["round"] > since and e["ues"] == [1, 2]]

    def takes_part(number: int) -> bool:
        return any(number in event.get("ues", ()) for event in events(journal))

    def check(what: str, since: int) -> None:
        wait_for(lambda: len(of_two(since)) >= rounds, 120)
        found = of_two(since)[:rounds]
        assert not any(any(event["failed"]) for event in found), what
        took, planned = (
            np.array([event[key] for event in found]) for key in ("measured_s", "predicted_s")
        )
        assert planned.min() > 0.1  # so that 20 % are more than a busy machine's noise
        ratios = np.median(took / planned, axis=0)
        assert np.all((ratios > 0.8) & (ratios < 1.2)), (what, ratios, planned[0])

    async def flood(port: int, token: str, since: int) -> None:
        """Ask what is there, as fast as the server takes it in."""
        async with stranger(port, program, token, "tiny") as (reader, frames):
            frames.write(Kind.REGISTER, profile(ue_s=[0.1] * n, edge_s=[0.01] * n))
            reading = asyncio.create_task(reader.reader.read(-1))
            while len(of_two(since)) < rounds + 2:
                for _ in range(200):
                    frames.write(Kind.STATE)
                await asyncio.sleep(0.02)
            reading.cancel()

    n = program.dnn.n_layers
    with server_process(*arguments_for(tiny, *options)) as server, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(ue_process(server, tiny, "--queries", "100000"))
        wait_for(lambda: len(rounds_over(journal)) > 2, 180)  # they begin slowly on a busy machine
        since = rounds_over(journal)[-1]["round"]
        clock.run(asyncio.wait_for(flood(server.port, server.token, since), 60))
        check("floods", since)
        for number, how in ((4, signal.SIGKILL), (5, signal.SIGSTOP)):
            with ue_process(server, tiny, "--queries", "100000") as third:
                wait_for(partial(takes_part, number), 120)
                time.sleep(0.4)  # in the middle of its upload
                third.send_signal(how)
                (its,) = [e["round"] for e in events(journal) if number in e.get("ues", ())][:1]
                check(how.name, its)


@pytest.mark.slow
def test_two_thousand_queries_of_four_ues_with_random_kills_and_joins(
    tiny: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Right answers throughout; descriptors and memory of both processes stay flat."""
    program, inputs = program_of("tiny", {"tiny": tiny})
    expected = result_of(program, inputs)
    n = program.dnn.n_layers
    generator = random.Random(0)
    counts = {"queries": 0, "failures": 0, "granted": 0}
    sizes: list[Sizes] = []

    async def ue_life(proxy: Proxy, token: str, executor: Executor) -> None:
        settings = settings_for(token, proxy.own_port, connect_s=5.0, stall_s=5.0)
        ue = UserEquipment(program, executor, settings, Pacing([2e-3] * n))
        said = profile(ue_s=[2e-3] * n, edge_s=[2e-4] * n, digests=ue.digests())
        participant = Participant(ue, said)
        for _ in range(500):
            proxy.heal()
            if generator.random() < 0.15:
                proxy.direction = generator.choice(["up", "down"])
                most = 10_000 if proxy.direction == "up" else 1000
                proxy.after = proxy.passed[proxy.direction] + generator.randrange(most)
            taken = await participant.round(inputs)
            assert torch.allclose(taken.inference.outputs, expected)
            counts["queries"] += 1
            counts["failures"] += taken.inference.failure is not None
            counts["granted"] += taken.grant is not None
            if generator.random() < 0.05:
                await ue.close()
                await asyncio.sleep(generator.random() / 20)
        await ue.close()

    options = [
        "--controller", "mjoa-mu-prefetch", "--cell-mbps", "400", "--cell-downlink-mbps", "400",
        "--memory-mib", "1", "--gather-s", "0.1", "--share",
    ]  # fmt: skip
    with server_process(*arguments_for(tiny, *options)) as server:
        idle = descriptors(server.process.pid)
        clock.run(asyncio.wait_for(lives_of_four(server, ue_life, sizes), 500))
        wait_for(lambda: descriptors(server.process.pid) == idle, 5.0)
    assert counts["queries"] == 2000
    assert counts["failures"] > 50
    assert counts["granted"] > 1500
    assert max(row[0] for row in sizes) <= idle + 12
    for megabytes in ([row[1] for row in sizes], [row[3] for row in sizes]):
        assert megabytes[-1] < megabytes[len(megabytes) // 2] + 20  # at first, everybody warms up
