"""Two real processes: a whole inference, kills and stops at any time, and a long soak."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from torch import Tensor, nn  # noqa: E402

from mjoa_gym.execution.layered_model import Bundle  # noqa: E402
from mjoa_gym.testbed import clock  # noqa: E402
from mjoa_gym.testbed.commands import main  # noqa: E402
from mjoa_gym.testbed.executor import Executor  # noqa: E402
from mjoa_gym.testbed.frames import Begin, Chunk, Kind  # noqa: E402
from mjoa_gym.testbed.models import program_of, seed_values  # noqa: E402
from mjoa_gym.testbed.namespace import shaped_namespace  # noqa: E402
from mjoa_gym.testbed.processes import ServerProcess, server_process  # noqa: E402
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402
from mjoa_gym.testbed.server import EdgeServer  # noqa: E402
from mjoa_gym.testbed.settings import ServerSettings, UESettings  # noqa: E402
from mjoa_gym.testbed.ue import UserEquipment  # noqa: E402

from .testbed_helpers import TOKEN, Proxy, run, stranger, until  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")


class Tiny(nn.Module):
    """Convolutions with batch normalisation, a branch, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.third = nn.Conv2d(16, 32, 3, stride=4)
        self.head = nn.Linear(32 * 16, 200)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        x = torch.relu(x + self.second(x))
        return self.head(self.third(x).flatten(1))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an exported program."""
    module = Tiny()
    seed_values(module)
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("programs") / "tiny.pt2"
    torch.export.save(torch.export.export(module.eval(), (image,)), path)
    return path


def arguments_for(file: Path, *more: str) -> list[str]:
    return ["--models", "--program", f"tiny={file}", *more]


@pytest.fixture(scope="module")
def started(tiny: Path) -> Iterator[Callable[[], ServerProcess]]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(server_process(*arguments_for(tiny)))


RUNNING: list[ServerProcess] = []


@pytest.fixture
def server(started: Callable[[], ServerProcess]) -> ServerProcess:
    """A server of which nobody is left; another one if a test has killed the last."""
    if not RUNNING or RUNNING[-1].process.poll() is not None:
        RUNNING.append(started())
    return RUNNING[-1]


@contextlib.asynccontextmanager
async def server_here(program: LayeredProgram, token: str) -> AsyncIterator[EdgeServer]:
    """A server in this process."""
    async with EdgeServer(ServerSettings(token), {"tiny": lambda: program}) as running:
        yield running


@pytest.fixture(scope="module")
def program_and_inputs(tiny: Path) -> tuple[LayeredProgram, Bundle]:
    return program_of("tiny", {"tiny": tiny})


def settings_for(token: str, port: int, **changes: Any) -> UESettings:
    return UESettings(token, port, model="tiny", **changes)


def result_of(program: LayeredProgram, inputs: tuple[Tensor, ...]) -> Tensor:
    bundles = {-1: inputs}
    network: Any = program.network
    for layer in range(program.dnn.n_layers):
        bundles[layer] = network.run(layer, bundles, network.needed_parameters(layer))
    result = network.outputs(bundles)
    assert isinstance(result, Tensor)
    return result


Sizes = tuple[int, float, int, float]
"""Descriptors and resident megabytes, of the server's process and of this one."""


async def lives_of_four(
    server: ServerProcess,
    ue_life: Callable[[Proxy, str, Executor], Coroutine[Any, Any, None]],
    sizes: list[Sizes],
) -> None:
    """Let four UEs live at once, each behind a proxy; notes the processes' sizes meanwhile."""
    executor = Executor()
    proxies = [Proxy(server.port) for _ in range(4)]
    for proxy in proxies:
        await proxy.__aenter__()
    lives = [asyncio.create_task(ue_life(p, server.token, executor)) for p in proxies]
    while not all(life.done() for life in lives):
        await asyncio.sleep(0.25)
        there, here = server.process.pid, os.getpid()
        sizes.append((descriptors(there), resident_mb(there), descriptors(here), resident_mb(here)))
    for life in lives:
        await life
    for proxy in proxies:
        await proxy.__aexit__()
    executor.close()


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def test_two_processes_execute_a_plan(
    server: ServerProcess,
    tiny: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The two commands that a person would type; that of the UE in this process."""
    command = [
        "ue", "--program", f"tiny={tiny}", "--model", "tiny", "--planner", "edge-only",
        "--uplink-mbps", "50", "--queries", "2", "--port", str(server.port), "--ue-slowdown", "100",
    ]  # fmt: skip
    monkeypatch.setenv("MJOA_TESTBED_TOKEN", server.token)
    threads = torch.get_num_threads()
    try:
        assert main(command) == 0
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3, lines
    on_ue, at_edge = map(float, re.findall(r"([\d.]+) s (?:on|at)", lines[0]))
    assert on_ue > 3 * at_edge  # a hundred times, but for what else the machine does
    assert all("outputs as locally" in line for line in lines[1:])
    assert all("then 100% of the parameters there" in line for line in lines[1:])


def test_a_killed_and_a_stopped_server(
    server: ServerProcess, program_and_inputs: tuple[LayeredProgram, Bundle]
) -> None:
    """Mid-upload; the UE finishes, and finds the next server by itself."""
    program, inputs = program_and_inputs
    expected = result_of(program, inputs)
    placement = np.ones(program.dnn.n_layers)

    async def main() -> None:
        executor = Executor()
        proxy = Proxy(server.port)
        patience = {"connect_s": 0.3, "stall_s": 0.3}
        async with proxy:
            settings = settings_for(server.token, proxy.own_port, uplink_bps=8e6, **patience)
            ue = UserEquipment(program, executor, settings)
            for number in (signal.SIGSTOP, signal.SIGKILL):
                before = proxy.passed["up"]
                running = asyncio.create_task(ue.infer(inputs, placement))
                await until(lambda: proxy.passed["up"] > before + 50_000, 30)  # noqa: B023
                server.process.send_signal(number)
                got = await running
                assert got.failure is not None
                assert len(got.recovered) == program.dnn.n_layers
                assert torch.allclose(got.outputs, expected)
                server.process.send_signal(signal.SIGCONT)
            alone = await ue.infer(inputs, placement)
            assert alone.failure is not None
            assert torch.allclose(alone.outputs, expected)
            async with server_here(program, server.token) as second:
                proxy.port = second.port
                again = await ue.infer(inputs, placement)
                assert again.failure is None
                assert torch.allclose(again.outputs, expected)
                await ue.close()
        executor.close()

    run(main())


def test_a_killed_ue_leaves_nothing(program_and_inputs: tuple[LayeredProgram, Bundle]) -> None:
    """In the middle of an upload."""
    program, inputs = program_and_inputs
    n = program.dnn.n_layers
    layer = next(k for k, layout in enumerate(program.parameters) if layout is not None)
    layout = program.parameters[layer]
    assert layout is not None

    async def main() -> None:
        executor = Executor()
        async with server_here(program, TOKEN) as server:
            ue = UserEquipment(program, executor, settings_for(TOKEN, server.port))
            await ue.connect()
            before = descriptors(os.getpid())
            async with stranger(server.port, program, TOKEN, "tiny") as (_, frames):
                frames.write(Kind.BEGIN, Begin(bytes([1] * n), bytes(n), 0, 1.0, 1e6))
                frames.write(Kind.PARAMETERS, Chunk(layer, 0), layout.header)
                await until(lambda: server.store.used_bytes > 0)
                connection = frames.writer.get_extra_info("socket").fileno()
                doomed = subprocess.Popen(["sleep", "600"], pass_fds=[connection])
            with doomed:  # it alone has the connection now
                await until(lambda: descriptors(os.getpid()) == before + 1)  # the server's end
                await asyncio.sleep(0.05)
                assert descriptors(os.getpid()) == before + 1
                assert len(server.sessions) == 2
                doomed.kill()
            await until(lambda: descriptors(os.getpid()) == before)
            assert server.store.used_bytes == 0
            got = await ue.infer(inputs, np.ones(n))
            assert got.failure is None
            await ue.close()
        executor.close()

    run(main())


@pytest.mark.slow
def test_links_that_the_operating_system_shapes(
    tiny: Path, program_and_inputs: tuple[LayeredProgram, Bundle]
) -> None:
    program, inputs = program_and_inputs
    expected = result_of(program, inputs)
    rate = 5e6

    async def main(server: ServerProcess) -> None:
        executor = Executor()
        settings = UESettings(
            server.token,
            server.port,
            server.host,
            "tiny",
            uplink_bps=rate,
            downlink_bps=rate,
            shaped_below=True,
            certificate=server.certificate,
        )
        ue = UserEquipment(program, executor, settings)
        got = await ue.infer(inputs, np.ones(program.dnn.n_layers))
        assert got.failure is None
        assert torch.allclose(got.outputs, expected)
        assert got.latency_s > 0.9 * 8 * program.parameter_bytes / rate
        await ue.close()
        executor.close()

    try:
        with shaped_namespace() as namespace:
            namespace.shape(rate, rate)
            with server_process(*arguments_for(tiny), namespace=namespace) as server:
                run(main(server))
    except OSError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_thousand_queries_from_four_ues_with_random_kills(
    tiny: Path, program_and_inputs: tuple[LayeredProgram, Bundle]
) -> None:
    """Right answers throughout; descriptors and memory of both processes stay flat."""
    program, inputs = program_and_inputs
    expected = result_of(program, inputs)
    n = program.dnn.n_layers
    generator = random.Random(0)
    counts = {"queries": 0, "failures": 0}
    sizes: list[Sizes] = []

    async def ue_life(proxy: Proxy, token: str, executor: Executor) -> None:
        settings = UESettings(
            token, proxy.own_port, model="tiny", uplink_bps=400e6, downlink_bps=400e6,
            edge_slowdown=4.0, connect_s=5.0, stall_s=5.0,
        )  # fmt: skip
        ue = UserEquipment(program, executor, settings)
        for _ in range(250):
            fails = generator.random() < 0.15
            proxy.heal()
            if fails:
                proxy.direction = generator.choice(["up", "down"])
                most = 450_000 if proxy.direction == "up" else 5000
                proxy.after = proxy.passed[proxy.direction] + generator.randrange(most)
            placement = [generator.randrange(2) for _ in range(n)]
            marks = [generator.randrange(2) for _ in range(n)]
            mode = generator.choice(["parallel", "serial", "whole"])
            got = await ue.infer(inputs, placement, mode, marks)
            assert torch.allclose(got.outputs, expected)
            counts["queries"] += 1
            counts["failures"] += got.failure is not None
            if generator.random() < 0.05:
                await ue.close()
        await ue.close()

    memory = ["--memory-mib", "1"]  # less than four UEs want
    with server_process(*arguments_for(tiny, *memory)) as server:
        idle = descriptors(server.process.pid)
        clock.run(asyncio.wait_for(lives_of_four(server, ue_life, sizes), 300))
        time.sleep(0.5)
        assert descriptors(server.process.pid) == idle
    assert counts["queries"] == 1000
    assert counts["failures"] > 50
    middle, last = sizes[len(sizes) // 2], sizes[-1]  # at first, everybody warms up
    assert max(row[0] for row in sizes) <= idle + 8
    assert last[1] < middle[1] + 10
    assert last[3] < middle[3] + 10
