#!/usr/bin/env python3
"""Measure how long this machine takes for each layer of some models: a table for scenarios and UEs.

Each MODEL is a name of the catalogue or `package.module:function`. It runs on one input with random
weights, either layer by layer in torch, or as a whole in ONNX Runtime. Then the device models of
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.cli.model import add_input_options, built
from mjoa_gym.devices import Device, RooflineDevice, load_device
from mjoa_gym.devices.fit import FORMS, Measured, fit_device, leave_one_out
from mjoa_gym.evaluation.machine import processor
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.files import write
from mjoa_gym.validation import count

NAMES = {"flops": "FLOPs / speed", "max": "one-peak roofline", "sum": "per kind, summed"}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL")
    add_input_options(parser)
    add("--output", type=Path, default=Path("device.json"), help="table to write")
    add("--runtime", choices=("torch", "onnxruntime"), default="torch",
        help="torch: layer by layer; onnxruntime: the optimised network on the CPU, with its"
        " profiler (default: %(default)s)")  # fmt: skip
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add("--threads", type=int, default=1, help="torch threads (default: 1)")
    add("--repeats", type=int, default=20, help="(default: %(default)s)")
    add("--warm-up", type=int, default=3, help="(default: %(default)s)")
    add("--label", help="the device's name in the table (default: detected)")
    return parser.parse_args(argv)


def network(model: str, options: argparse.Namespace) -> tuple[Any, Any, str]:
    """Return a catalogue's or function's module, its inputs, and its name; else a ValueError."""
    from catalogue.zoo import MODELS

    if ":" in model:
        return built(model, options.input_shape or (), options.dtype or (), options.device)
    if model not in MODELS:
        raise ValueError(
            f"model={model!r}: allowed are package.module:function or one of {list(MODELS)}"
        )
    return *MODELS[model].example(options.device), model


def measure(options: argparse.Namespace) -> list[Measured]:
    """Measure all models, with a progress bar."""
    from mjoa_gym.execution.layered_model import LayeredModel
    from mjoa_gym.execution.measure import layer_seconds
    from mjoa_gym.execution.measure_onnxruntime import onnxruntime_layer_seconds

    if options.runtime == "onnxruntime" and options.device != "cpu":
        raise ValueError(f"device={options.device!r}: --runtime onnxruntime measures the cpu")
    measured = []
    inferences = len(options.models) * (options.repeats + options.warm_up)
    with bar(total=inferences, unit="inference") as shown:
        how = {"repeats": options.repeats, "warm_up": options.warm_up, "on_repeat": shown.update}
        for model in options.models:
            shown.set_postfix_str(model)
            module, inputs, name = network(model, options)
            if options.runtime == "onnxruntime":
                threads = options.threads
                found = onnxruntime_layer_seconds(module, inputs, name, threads=threads, **how)
            else:
                layered = LayeredModel.from_torch(module, inputs, name=name)
                found = layered.dnn, layer_seconds(layered, inputs, **how)
            measured.append(Measured(*found))
    return measured


def table(measured: list[Measured], options: argparse.Namespace) -> dict[str, Any]:
    """Return the content of the file, in the format of docs/devices.md."""
    import torch

    on_card = options.device.startswith("cuda")
    found = torch.cuda.get_device_name(options.device) if on_card else processor()
    if options.runtime == "onnxruntime":
        runtime = f"onnxruntime {version('onnxruntime')}, optimised"
    else:
        runtime = f"torch {version('torch').split('+')[0]}, layer by layer, {options.device}"
    return {
        "device": options.label or found,
        "runtime": runtime,
        "threads": options.threads,
        "date": datetime.date.today().isoformat(),
        "tables": {
            dnn.name: dict(zip(dnn.layer_names, seconds.tolist(), strict=True))
            for dnn, seconds in measured
        },
    }


def report(measured: list[Measured], name: str) -> str:
    """Return totals, the fitted models, and the error of each for models not in its fit."""
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
    """Return the figures of a fitted device, as Python that makes it."""
    if not isinstance(device, RooflineDevice):
        return repr(device)
    speeds = {kind: float(f"{v:.3g}") for kind, v in device.throughput_flops_per_s.items()}
    return (
        f"RooflineDevice({device.name!r}, {speeds}, memory_bytes_per_s="
        f"{device.memory_bytes_per_s:.3g}, overhead_s={device.overhead_s:.3g}, "
        f"combine={device.combine!r})"
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, write and report; return the exit status."""
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
    write(options.output, json.dumps(content, indent=1) + "\n")
    load_device(options.output)  # check that the file can be read
    print(f"{content['device']}, {content['runtime']}, {options.threads} thread(s)")
    print(report(measured, options.output.stem))
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
