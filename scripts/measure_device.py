#!/usr/bin/env python3
"""How long this machine takes for each layer of some models: a table for scenarios and UEs.

Each MODEL is a name of the catalogue or `package.module:function`, run on one input with random
weights: by torch, layer after layer, or as a whole by ONNX Runtime. Then the device models of
docs/devices.md are fitted, and each model's total is predicted from the others' measurements.

Examples:
    python scripts/measure_device.py alexnet resnet18 mobilenet_v2 --output laptop.json
    python scripts/measure_device.py resnet50 vgg16 --device cuda --output gpu.json
    python scripts/measure_device.py resnet50 vgg16 --runtime onnxruntime --threads 4
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mjoa_gym.cli.ending import run
from mjoa_gym.cli.model import add_input_options
from mjoa_gym.devices import RooflineDevice, load_device
from mjoa_gym.devices.fit import FORMS, Measured, fit_device, leave_one_out
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.validation import count

if TYPE_CHECKING:
    from mjoa_gym.devices import Device

NAMES = {"flops": "FLOPs / speed", "max": "one-peak roofline", "sum": "per kind, summed"}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL")
    add_input_options(parser)
    parser.add_argument("--output", type=Path, default=Path("device.json"), help="table to write")
    parser.add_argument(
        "--runtime",
        choices=("torch", "onnxruntime"),
        default="torch",
        help="torch: layer by layer; onnxruntime: the optimised network, by its profiler, on the"
        " CPU (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--repeats", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--label", help="the device's name in the table (default: as found)")
    return parser.parse_args(argv)


def measure(options: argparse.Namespace) -> list[Measured]:
    """Measures all models, with a progress bar."""
    from catalogue.source import build

    from mjoa_gym.execution.layered_model import LayeredModel
    from mjoa_gym.execution.measure import layer_seconds
    from mjoa_gym.execution.measure_onnxruntime import onnxruntime_layer_seconds

    if options.runtime == "onnxruntime" and options.device != "cpu":
        raise ValueError(f"device={options.device!r}: --runtime onnxruntime measures the cpu")
    measured = []
    inferences = len(options.models) * (options.repeats + options.warm_up)
    with bar(total=inferences, unit="inference") as shown:
        for name in options.models:
            shown.set_postfix_str(name)
            shapes, dtypes = options.input_shape or (), options.dtype or ()
            module, inputs, name = build(name, shapes, dtypes, options.device)
            counts = {"repeats": options.repeats, "warm_up": options.warm_up}

            def step() -> None:
                shown.update()

            if options.runtime == "onnxruntime":
                dnn, seconds = onnxruntime_layer_seconds(
                    module, inputs, name, threads=options.threads, on_repeat=step, **counts
                )
            else:
                model = LayeredModel.from_torch(module, inputs, name=name)
                dnn, seconds = model.dnn, layer_seconds(model, inputs, on_repeat=step, **counts)
            measured.append(Measured(dnn, seconds))
    return measured


def table(measured: list[Measured], options: argparse.Namespace) -> dict[str, Any]:
    """The content of the file, in the format of docs/devices.md."""
    from mjoa_gym.execution.measure import device_label

    if options.runtime == "onnxruntime":
        runtime = f"onnxruntime {version('onnxruntime')}, optimised"
    else:
        runtime = f"torch {version('torch').split('+')[0]}, layer by layer, {options.device}"
    return {
        "device": options.label or device_label(options.device),
        "runtime": runtime,
        "threads": options.threads,
        "date": datetime.date.today().isoformat(),
        "tables": {
            m.dnn.name: dict(zip(m.dnn.layer_names, m.seconds.tolist(), strict=True))
            for m in measured
        },
    }


def report(measured: list[Measured], name: str) -> str:
    """Totals, the fitted models, and how well each predicts a model it has not seen."""
    lines = [f"{'model':<20} {'layers':>6} {'ms':>9}"]
    for dnn, seconds in measured:
        lines.append(f"{dnn.name:<20} {dnn.n_layers:>6} {1e3 * seconds.sum():>9.3f}")
    for form in FORMS:
        lines += ["", f"{NAMES[form]}: {described(fit_device(name, measured, form))}"]
        if len(measured) > 1:
            errors = leave_one_out(measured, form)
            each = ", ".join(f"{dnn} {error:+.0%}" for dnn, error in errors.items())
            mean = np.mean(np.abs(list(errors.values())))
            lines.append(f"  each model from the others: mean error {mean:.0%} ({each})")
    return "\n".join(lines)


def described(device: Device) -> str:
    """The figures of a fitted device, as Python that makes it."""
    if not isinstance(device, RooflineDevice):
        return repr(device)
    speeds = {kind: float(f"{v:.3g}") for kind, v in device.throughput_flops_per_s.items()}
    return (
        f"RooflineDevice({device.name!r}, {speeds}, memory_bytes_per_s="
        f"{device.memory_bytes_per_s:.3g}, overhead_s={device.overhead_s:.3g}, "
        f"combine={device.combine!r})"
    )


def main(argv: list[str] | None = None) -> int:
    """Measures, writes and reports; returns the exit status."""
    options = arguments(argv)
    import torch

    count("threads", options.threads)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        measured = measure(options)
    except (RuntimeError, AssertionError) as error:  # torch asserts that there is CUDA
        raise ValueError(str(error)) from error
    finally:
        torch.set_num_threads(threads)
    content = table(measured, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    device = load_device(options.output)  # what was written is what others will read
    for m in measured:
        np.testing.assert_array_equal(device.seconds(m.dnn), m.seconds)
    print(f"{content['device']}, {content['runtime']}, {options.threads} thread(s)")
    print(report(measured, options.output.stem))
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
