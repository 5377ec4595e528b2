"""Real torch modules through the testbed, the wire format, and the pieces by themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from torch import Tensor, nn  # noqa: E402

from mjoa_gym.execution.layered_model import LayeredModel, TensorSpec  # noqa: E402
from mjoa_gym.testbed.codec import Image, Incoming, TensorLayout, image_of_bundle  # noqa: E402
from mjoa_gym.testbed.commands import close  # noqa: E402
from mjoa_gym.testbed.executor import Executor, Work  # noqa: E402
from mjoa_gym.testbed.frames import ProtocolError  # noqa: E402
from mjoa_gym.testbed.models import load, program_of, seed_values, server_program  # noqa: E402
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402
from mjoa_gym.testbed.server import EdgeServer  # noqa: E402
from mjoa_gym.testbed.settings import ServerSettings, UESettings  # noqa: E402
from mjoa_gym.testbed.store import ParameterStore  # noqa: E402
from mjoa_gym.testbed.ue import UserEquipment  # noqa: E402

from .testbed_helpers import TOKEN, placements, run  # noqa: E402
from .testbed_network import ToyNetwork  # noqa: E402

MODES = ("parallel", "serial", "whole")


class Tied(nn.Module):
    """A language model in miniature: the look-up and the head share a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.head(x)


class ManyOutputs(nn.Module):
    """Two inputs, batch normalisation, a dict of outputs of several types."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.right = nn.Linear(5, 4)
        self.last = nn.Linear(4, 6)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Tensor]:
        x = self.left(image).mean((2, 3)) + self.right(vector)
        y = self.last(x)
        return {"scores": y, "positive": y > 0, "best": y.argmax(-1), "inner": x}


def cases() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, 8, 8, generator=generator)
    return {
        "tied": (Tied(), (torch.arange(9).reshape(1, 9),)),
        "many outputs": (ManyOutputs(), (image, torch.randn(1, 5, generator=generator))),
        "recurrent": (
            nn.LSTM(6, 7, batch_first=True),
            (torch.randn(1, 4, 6, generator=generator),),
        ),
    }


@pytest.mark.parametrize("case", list(cases()))
def test_real_modules_give_their_own_result_for_every_plan(case: str) -> None:
    module, inputs = cases()[case]
    seed_values(module)
    module.eval()
    with torch.no_grad():
        expected = module(*inputs)
    here = LayeredProgram(LayeredModel.from_torch(module, inputs))
    there = LayeredProgram(LayeredModel.from_torch(module, inputs, keep_parameters=False))
    n = here.dnn.n_layers

    async def main() -> None:
        executor = Executor()
        settings = ServerSettings(TOKEN)
        async with EdgeServer(settings, {"case": lambda: there}) as server:
            ue = UserEquipment(here, executor, UESettings(TOKEN, server.port, model="case"))
            model: Any = here.network
            for number, placement in enumerate(placements(n, 6, seed=1)):
                await ue.close()
                got = await ue.infer(model.inputs(inputs), placement, MODES[number % 3])
                assert got.failure is None
                assert close(got.outputs, expected)
            await ue.close()
        await asyncio.to_thread(executor.close)

    run(main())


def test_both_sides_must_have_the_same_network() -> None:
    module, inputs = cases()["many outputs"]
    model = LayeredModel.from_torch(module, inputs)  # refers to parameters and buffers
    first = LayeredProgram(model).fingerprint
    assert first == LayeredProgram(LayeredModel.from_torch(module, inputs)).fingerprint
    with torch.no_grad():
        module.right.weight.zero_()  # type: ignore[union-attr, operator]
    assert first == LayeredProgram(model).fingerprint
    with torch.no_grad():
        module.left[1].running_mean.fill_(3.0)  # type: ignore[index, union-attr]
    assert first != LayeredProgram(model).fingerprint


def test_a_torchvision_classifier_by_name() -> None:
    """Seeded values are the same wherever they are made, and keep activations moderate."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    program, inputs = program_of("resnet18", {})
    twin = server_program("resnet18", {})
    assert twin.fingerprint == program.fingerprint
    assert all(not t.untyped_storage().size() or t.is_meta for t in parameters_of(twin))
    network: Any = program.network
    bundles = {-1: inputs}
    with torch.inference_mode():
        for layer in range(program.dnn.n_layers):
            bundles[layer] = network.run(layer, bundles, network.needed_parameters(layer))
            assert all(torch.isfinite(t).all() for t in bundles[layer])
    result = network.outputs(bundles)
    assert result.shape == (1, 1000)
    assert 1e-3 < result.abs().max() < 1e4
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        program_of("resnet_18", {})


def parameters_of(program: LayeredProgram) -> list[Tensor]:
    return [
        tensor
        for layer in range(program.dnn.n_layers)
        for tensor in program.network.parameters(layer).values()
    ]


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bad.pt2"
    file.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(ValueError, match="is not an exported program"):
        load(file)


TENSORS = {
    "weights": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "flags": torch.tensor([True, False, True]),
    "scalar": torch.tensor(3, dtype=torch.int64),
    "half": torch.ones(5, dtype=torch.bfloat16),
    "empty": torch.empty(0, 4),
    "transposed": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
}


def image_bytes(tensors: dict[str, Tensor], most: int) -> list[tuple[int, bytes]]:
    layout = TensorLayout({name: TensorSpec.of(tensor) for name, tensor in tensors.items()})
    image, offset, pieces = Image(layout, tensors), 0, []
    while offset < layout.total_bytes:
        piece = bytes(image.slices(offset, most))
        pieces.append((offset, piece))
        offset += len(piece)
    return pieces


@pytest.mark.parametrize("most", [1, 7, 64, 10_000])
def test_tensors_arrive_as_they_were_whatever_the_pieces(most: int) -> None:
    layout = TensorLayout({name: TensorSpec.of(tensor) for name, tensor in TENSORS.items()})
    incoming = Incoming("test", layout)
    for offset, piece in image_bytes(TENSORS, most):
        assert not incoming.complete
        incoming.write(offset, piece)
    assert incoming.complete
    for name, tensor in incoming.tensors().items():
        assert torch.equal(tensor, TENSORS[name])
        assert tensor.dtype == TENSORS[name].dtype


def test_what_is_sent_is_safetensors() -> None:
    library = pytest.importorskip("safetensors.torch")
    sent = b"".join(piece for _, piece in image_bytes(TENSORS, 50))
    read = library.load(sent)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], TENSORS[name]) for name in TENSORS)


def test_types_without_a_name_and_other_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="safetensors has no type"):
        TensorLayout({"z": TensorSpec((1,), torch.complex64)})
    layout = TensorLayout({"x": TensorSpec((2,), torch.float32)})
    with pytest.raises(ValueError, match="x: "):
        Image(layout, {"x": torch.ones(3)})
    with pytest.raises(ProtocolError, match="come next"):
        Incoming("x", layout).write(0, bytes(layout.total_bytes + 1))
    assert image_of_bundle((torch.ones(2), torch.zeros(1))).layout.specs.keys() == {"0", "1"}


def test_the_store_keeps_what_is_reserved_and_drops_the_oldest() -> None:
    layout = TensorLayout({"x": TensorSpec((100,), torch.uint8)})
    size = layout.total_bytes
    store = ParameterStore(3 * size)
    assert store.reserve("a", [(0, layout), (1, layout)])
    assert store.reserve("b", [(0, layout)])
    assert not store.reserve("c", [(0, layout)])  # all three are in use
    assert store.used_bytes == 3 * size
    for owner, layer in (("a", 0), ("a", 1)):
        incoming = store.get(owner, layer)
        assert incoming is not None
        incoming.write(0, layout.header)
    store.release("a", [1])
    store.release("a", [0])
    assert store.reserve("c", [(0, layout)])  # in place of a's layer 1, which is older
    assert store.received("a", 0) == len(layout.header)
    assert store.received("a", 1) == 0
    assert store.dropped == 1
    store.release("c", [0])  # of which nothing has come
    assert store.used_bytes == 2 * size
    assert not store.reserve("c", [(n, layout) for n in range(4)])
    assert store.used_bytes == 2 * size  # all or none
    for owner in "abc":
        store.forget(owner)
    assert store.used_bytes == 0


class Counting:
    """Executes nothing, and counts how many layers are executed at a time."""

    def __init__(self, predecessors: list[list[int]]) -> None:
        self.dnn = SimpleNamespace(predecessors=predecessors)
        self.order: list[int] = []
        self.thread: set[int] = set()

    def run(self, layer: int, bundles: Any, parameters: Any) -> tuple[Tensor, ...]:
        self.order.append(layer)
        self.thread.add(threading.get_ident())
        return (torch.full((1,), float(layer)),)


def test_the_executor_runs_layers_in_order_and_stretches_them() -> None:
    class Busy(Counting):
        def run(self, layer: int, bundles: Any, parameters: Any) -> tuple[Tensor, ...]:
            torch.randn(200, 200) @ torch.randn(200, 200)
            return super().run(layer, bundles, parameters)

    done = threading.Semaphore(0)
    executor, runner = Executor(core=0), Busy([[-1], [0], [0], [1, 2]])
    works = [
        Work(runner, range(4), lambda _: {}, slowdown, lambda *_: done.release())
        for slowdown in (1.0, 40.0)
    ]
    for work in works:
        executor.submit(work)
        assert not done.acquire(timeout=0.02)  # the input is not there
    for work in works:
        executor.put(work.bundles, -1, (torch.ones(1),))
    for _ in range(8):
        assert done.acquire(timeout=10)
    executor.close()
    assert len(runner.thread) == 1
    for work in works:
        assert [e.layer for e in work.executions] == [0, 1, 2, 3]
        assert all(
            a.end <= b.start for a, b in zip(work.executions, work.executions[1:], strict=False)
        )
    fast, slow = (sum(e.end - e.start for e in work.executions) for work in works)
    assert slow > 2 * fast


def test_the_executor_counts_the_mean_of_repeats() -> None:
    class Sparing(Counting):
        """Computes in every fifth execution only."""

        def run(self, layer: int, bundles: Any, parameters: Any) -> tuple[Tensor, ...]:
            end = time.thread_time() + (0.05 if len(self.order) % 5 == 0 else 0.0)
            while time.thread_time() < end:
                pass
            return super().run(layer, bundles, parameters)

    done = threading.Semaphore(0)
    executor, runner = Executor(), Sparing([[-1], [0]])
    work = Work(runner, range(2), lambda _: {}, 10.0, lambda *_: done.release(), 5)
    executor.submit(work)
    executor.put(work.bundles, -1, (torch.ones(1),))
    assert done.acquire(timeout=10)
    assert done.acquire(timeout=10)
    executor.close()
    assert runner.order == [0] * 5 + [1] * 5
    assert [float(work.bundles[layer][0]) for layer in (0, 1)] == [0.0, 1.0]
    for execution in work.executions:  # a fifth of 50 ms, ten times; never shorter
        assert execution.end - execution.start >= 0.099


def test_a_work_that_is_redirected_goes_on_with_what_is_missing() -> None:
    done: list[int] = []
    reached = threading.Event()

    def on_done(work: Work, execution: Any) -> None:
        done.append(execution.layer)
        if work.done:
            reached.set()

    executor, runner = Executor(), Counting([[-1], [0], [1]])
    work = Work(runner, [0, 2], lambda _: {}, 1.0, on_done)
    executor.put(work.bundles, -1, (torch.ones(1),))
    executor.submit(work)
    while done != [0]:
        threading.Event().wait(0.001)
    new = executor.redirect(work, lambda there: [n for n in range(3) if n not in there])
    assert new == (1,)
    assert reached.wait(10)
    assert done == [0, 1, 2]
    executor.close()


class _Tuned(torch.nn.Module):
    """Its shapes and names say nothing about these numbers."""

    def __init__(self, slope: float = 0.1, eps: float = 1e-5, factor: float = 2.0) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.norm = torch.nn.LayerNorm(8, eps=eps)
        self.slope, self.factor = slope, factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.leaky_relu(self.norm(self.a(x)), self.slope)
        return self.b(y * self.factor)


def test_the_fingerprint_tells_operators_arguments_apart() -> None:
    def fingerprint(**arguments: float) -> str:
        module = _Tuned(**arguments).eval()
        return LayeredProgram(LayeredModel.from_torch(module, torch.zeros(2, 8))).fingerprint

    plain = fingerprint()
    assert fingerprint() == plain
    others = [fingerprint(slope=0.9), fingerprint(eps=1.0), fingerprint(factor=3.0)]
    assert len({plain, *others}) == 4


def test_layers_needed_for_the_outputs() -> None:
    program = LayeredProgram(ToyNetwork([[-1], [0], [0], [1, 2], [1]]))  # two outputs
    n = program.dnn.n_layers
    everything = program.missing_for_outputs({-1})
    assert everything == list(range(n))
    assert program.missing_for_outputs({-1, *range(n)}) == []
    last = int(np.flatnonzero(program.dnn.is_sink)[-1])
    assert program.missing_for_outputs({*range(n)} - {last}) == [last]
    assert program.missing_for_outputs({-1, 1, 4}) == [0, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["server"], 2, "--token"),
        (["server", "--token", "x", "--program", "name"], 1, "NAME=FILE is needed"),
        (["ue", "--token", "x", "--program", "name=/nowhere.pt2"], 1, "there is no file"),
        (["ue", "--token", "x", "--program", "m={bad}", "--model", "m"], 1, "not an exported"),
        (["server", "--token", "x", "--models", "--sessions", "0"], 1, "sessions=0"),
        (["server", "--token", "x", "--models", "--memory-mib", "0"], 1, "memory_bytes=0"),
        (
            ["server", "--token", "x", "--models", "--idle-s", "1"],
            1,
            "--idle-s 1.0: must be above 5",
        ),
        (["server", "--token", "x", "--models", "--frame-kib", "0"], 1, "payload_bytes=0"),
        (["server", "--token", "x", "--port", "70000"], 1, "port=70000"),
        (["server", "--token", "x", "--core", "-1"], 1, "--core -1: allowed are [0"),
        (["ue", "--token", "x", "--core", "4096"], 1, "--core 4096: allowed are [0"),
        (["ue", "--token", "x", "--queries", "0"], 1, "--queries=0"),
        (["ue", "--token", "x", "--controlled", "--weight", "0"], 1, "--weight=0.0"),
        (["ue", "--token", "x", "--controlled", "--deadline-s", "-1"], 1, "--deadline-s=-1.0"),
        (["server", "--token", "x", "--models", "--share"], 1, "--share: only with --controller"),
        (
            [
                "server",
                "--token",
                "x",
                "--models",
                "--controller",
                "local-only",
                "--cell-mbps",
                "0",
            ],
            1,
            "uplink_bps=0.0",
        ),
        (["ue", "--token", "x", "--until-s", "nan"], 1, "--until-s=nan"),
        (["ue", "--token", "x", "--program", "m={bad}"], 1, "not an exported"),
        (
            ["ue", "--token", "x", "--program", "m={bad}", "--model", "n"],
            1,
            "allowed are ['m', 'alex",
        ),
        (
            ["ue", "--token", "x", "--program", "m={bad}", "--program", "m=x"],
            1,
            "there is no file x",
        ),
        (
            ["ue", "--token", "x", "--program", "m={bad}", "--program", "m={bad}"],
            1,
            "m already stands for",
        ),
    ],
)
def test_commands_say_what_is_wrong(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mjoa_gym.cli.main import main

    monkeypatch.delenv("MJOA_TESTBED_TOKEN", raising=False)
    bad = tmp_path / "bad.pt2"
    bad.write_bytes(b"nonsense")
    threads = torch.get_num_threads()
    try:
        assert main(["testbed", *(argument.format(bad=bad) for argument in arguments)]) == status
    finally:
        torch.set_num_threads(threads)
    assert message in capsys.readouterr().err
