"""Fits find the coefficients that made the times, and measuring a network gives a usable table."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from mjoa_gym import DNN, UE
from mjoa_gym.devices import Device, FlopsDevice, RooflineDevice, load_device
from mjoa_gym.devices.fit import FORMS, Measured, fit_device, leave_one_out

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("alexnet", "resnet18", "googlenet", "mobilenet_v2", "bert_base", "squeezenet1_1")
KINDS = {
    "conv": 50e9,
    "depthwise_conv": 9e9,
    "linear": 20e9,
    "matmul": 40e9,
    "pool": 3e9,
    "elementwise": 7e9,
    "norm": 5e9,
    "other": 4e9,
}


def measured_on(device: Device, noise: float = 0.0) -> list[Measured]:
    rng = np.random.default_rng(0)
    networks = [DNN.load(name) for name in NAMES]
    return [
        Measured(dnn, device.seconds(dnn) * np.exp(noise * rng.standard_normal(dnn.n_layers)))
        for dnn in networks
    ]


def test_the_sum_per_kind_is_found_again() -> None:
    true = RooflineDevice("true", KINDS, 12e9, 30e-6, "sum")
    found = fit_device("found", measured_on(true), "sum")
    assert isinstance(found, RooflineDevice)
    assert found.memory_bytes_per_s == pytest.approx(12e9, rel=1e-3)
    assert found.overhead_s == pytest.approx(30e-6, rel=1e-3)
    for kind in ("conv", "depthwise_conv", "linear", "matmul", "pool"):
        assert found.throughput_flops_per_s[kind] == pytest.approx(KINDS[kind], rel=1e-2)
    for dnn, seconds in measured_on(true):
        np.testing.assert_allclose(found.seconds(dnn), seconds, rtol=1e-3)


def test_the_roofline_is_found_again() -> None:
    true = RooflineDevice("true", {"other": 60e9}, 8e9, 20e-6, "max")
    found = fit_device("found", measured_on(true), "max")
    assert isinstance(found, RooflineDevice)
    assert found.combine == "max"
    assert found.throughput_flops_per_s["other"] == pytest.approx(60e9, rel=1e-3)
    assert found.memory_bytes_per_s == pytest.approx(8e9, rel=1e-3)
    assert found.overhead_s == pytest.approx(20e-6, rel=1e-3)


def test_speed_and_overhead_are_found_again() -> None:
    found = fit_device("found", measured_on(FlopsDevice("true", 5e9, 1e-4)), "flops")
    assert isinstance(found, FlopsDevice)
    assert found.flops_per_s == pytest.approx(5e9, rel=1e-6)
    assert found.overhead_s == pytest.approx(1e-4, rel=1e-6)


def test_a_network_left_out_is_predicted_as_well_as_the_model_fits() -> None:
    measured = measured_on(RooflineDevice("true", KINDS, 12e9, 30e-6, "sum"), noise=0.05)
    errors = {form: np.abs(list(leave_one_out(measured, form).values())) for form in FORMS}
    assert list(leave_one_out(measured)) == list(NAMES)
    # BERT alone has matrix products: left out, they are taken to run like convolutions.
    assert np.median(errors["sum"]) < 0.05
    assert errors["sum"].mean() < errors["flops"].mean()


def test_a_kind_that_was_not_measured_runs_like_a_dense_one() -> None:
    true = RooflineDevice("true", KINDS, 12e9, 30e-6, "sum")
    found = fit_device("found", [m for m in measured_on(true) if m.dnn.name == "resnet18"])
    speeds = found.throughput_flops_per_s  # type: ignore[attr-defined]
    assert speeds["matmul"] == speeds["conv"] == pytest.approx(50e9, rel=0.02)
    assert speeds["depthwise_conv"] == speeds["conv"] / 4


def test_what_costs_nothing_gets_no_infinite_speed() -> None:
    found = fit_device("found", measured_on(FlopsDevice("true", 1e30, 1e-4)), "sum")
    assert all(np.isfinite(found.seconds(dnn)).all() for dnn, _ in measured_on(found))


@pytest.mark.parametrize(
    ("measured", "form", "message"),
    [
        ([], "sum", "measured is empty"),
        ([Measured(DNN.load("alexnet"), np.ones(3))], "sum", r"shape \(3,\); \(12,\) is needed"),
        ([Measured(DNN.load("alexnet"), np.zeros(12))], "max", "must not be all 0"),
        ([Measured(DNN.load("alexnet"), np.ones(12))], "cubic", "form='cubic': allowed are"),
    ],
)
def test_wrong_measurements_are_refused(measured, form, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_device("x", measured, form)


def test_one_network_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="has 1 networks; at least 2"):
        leave_one_out([Measured(DNN.load("alexnet"), np.ones(12))])


def test_measuring_writes_a_table_that_scenarios_and_ues_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_nets.py").write_text(
        "from torch import nn\n"
        "def first():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))\n"
        "def second():\n"
        "    return nn.Sequential(nn.Conv2d(3, 64, 3), nn.MaxPool2d(2), nn.Conv2d(64, 64, 3))\n"
    )
    script = importlib.import_module("measure_device")
    options = ["--input-shape", "1,3,8,8", "--repeats", "3", "--label", "test bench"]
    threads = torch.get_num_threads()
    models = ["tiny_nets:first", "tiny_nets:second"]
    assert script.main([*models, *options, "--output", "out/bench.json"]) == 0
    assert torch.get_num_threads() == threads
    content = json.loads(Path("out/bench.json").read_text())
    assert content["device"] == "test bench"
    assert content["runtime"].startswith(f"torch {torch.__version__.split('+')[0]}")
    assert content["threads"] == 1
    assert len(content["date"]) == 10
    printed = capsys.readouterr().out
    assert "mean error" in printed
    import tiny_nets

    dnn = DNN.from_torch(tiny_nets.first(), torch.zeros(1, 3, 8, 8), name="first")
    device = load_device("out/bench.json")
    seconds = device.seconds(dnn)
    assert (seconds > 0).all()
    assert UE(dnn, device.seconds(dnn), seconds / 10, snr_up=10, snr_down=10).dnn == dnn
    for wrong in (["no_such:model"], ["resnet17"], ["tiny_nets:first", "--device", "meta"]):
        with pytest.raises(ValueError, match=r"model=|device"):
            script.main([*wrong, *options])


@pytest.mark.parametrize("heavy", [0, 2, 4])
def test_onnxruntimes_time_goes_to_the_layer_that_takes_it(heavy: int) -> None:
    torch = pytest.importorskip("torch")
    for package in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(package)
    from mjoa_gym.execution.measure_onnxruntime import onnxruntime_layer_seconds

    torch.manual_seed(0)
    widths = [300 if layer == heavy else 1 for layer in range(5)]

    class Net(torch.nn.Module):
        """Five residual convolutions, one of them wide; each pair is a layer and a sum."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.ModuleList(
                torch.nn.Sequential(
                    torch.nn.Conv2d(4 * w, 4, 3, padding=1), torch.nn.BatchNorm2d(4)
                )
                for w in widths
            )

        def forward(self, x):
            for width, part in zip(widths, self.inner, strict=True):
                x = torch.relu(x + part(x.repeat(1, width, 1, 1)))
            return x

    image = torch.randn(1, 4, 24, 24)
    dnn, seconds = onnxruntime_layer_seconds(Net().eval(), (image,), "net", repeats=5)
    assert dnn == DNN.from_torch(Net().eval(), image, name="net")
    assert seconds.shape == (dnn.n_layers,)
    assert (seconds >= 0).all()
    assert dnn.layer_names[int(np.argmax(seconds))] == f"inner.{heavy}.0"
