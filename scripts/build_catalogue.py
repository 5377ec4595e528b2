#!/usr/bin/env python3
"""Generates the packaged catalogue from real architectures: python scripts/build_catalogue.py."""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mjoa_gym.cli.ending import run
from mjoa_gym.dnn import DNN, file
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.profiles.fuse import as_columns, fuse

if TYPE_CHECKING:
    from catalogue.zoo import Model

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ROOT / "mjoa_gym" / "dnn" / "catalogue"
COUNTED = (
    "flops: 2 x MACs for layers with convolutions, linear layers or attention (what is fused into"
    " them is free), else 1 per element (batch norm 2, layer norm and softmax 5, pooling 1 per"
    " element read, data movement 0); parameters without buffers, shared ones charged to the"
    " user with most MACs; outputs once per producer"
)
PAGE = """# Networks

`DNN.load(name)` loads one at layer granularity, `DNN.load(name, granularity="block")` as the
chain of blocks between its cut layers. `scripts/build_catalogue.py` traces the architectures with
torch and writes the files in `mjoa_gym/dnn/catalogue/` and this page. A layer fuses what follows a
heavy operator; how FLOPs and bytes are counted is in every file's `provenance`. Parameters and
tensors are float32. A weight that two layers share is charged to the one that computes most with
it.

| Name | Architecture | Input | Layers | Graph | GMAC | Parameters (M) | Upload (MB) |
|---|---|---|--:|---|--:|--:|--:|
"""


def describe(name: str, model: Model) -> tuple[DNN, dict[str, Any]]:
    """Return the model's profile, and its provenance."""
    from mjoa_gym.profiles.torch_export import trace

    module, (example,) = model.example("meta")
    traced = trace(module, (example,))
    graph = traced.graph
    sizes = {key: parameter.numel() for key, parameter in module.named_parameters()}
    provenance = {
        "architecture": model.architecture,
        **{package: version(package).split("+")[0] for package in ("torch", "torchvision")},
        "input": f"{'x'.join(map(str, example.shape))} {str(example.dtype).removeprefix('torch.')}",
        "counted": COUNTED,
        "macs": sum(operator.macs for operator in graph.operators),
        "parameters": sum(sizes[key] for keys in traced.charged for key in keys),
        "fused_from_operators": len(graph.operators),
    }
    return DNN(**as_columns(name, fuse(graph), graph.input_bytes)), provenance


def networks_page(folder: Path) -> str:
    """Return the documentation page of all files in a catalogue folder, as Markdown."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        layers, origin = content["layers"], content["provenance"]
        chain = all(layer["predecessors"] == [i - 1] for i, layer in enumerate(layers))
        megabytes = sum(layer["parameter_bytes"] for layer in layers) / 1e6
        rows.append(
            f"| `{content['name']}` | {content['title']} | {origin['input']} | {len(layers)} | "
            f"{'chain' if chain else 'DAG'} | {origin['macs'] / 1e9:.3f} | "
            f"{origin['parameters'] / 1e6:.2f} | {megabytes:.1f} |"
        )
    return PAGE + "\n".join(rows) + "\n"


def main() -> int:
    """Build the requested entries, or all of them."""
    import torch
    from catalogue.zoo import MODELS

    parser = argparse.ArgumentParser(
        description="Trace each model without weights, count its operators, fuse them into layers"
        " and write one JSON file per model. Needs torch and torchvision."
    )
    add = parser.add_argument
    add("--only", action="append", choices=sorted(MODELS), metavar="NAME",
        help=f"build only this model (repeatable); one of {', '.join(MODELS)}")  # fmt: skip
    add("--output", type=Path, default=PACKAGED, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in bar(arguments.only or list(MODELS), unit="model", leave=False):
        start = time.perf_counter()
        dnn, found = describe(name, MODELS[name])
        profile = dnn.to_dict(MODELS[name].title, found)
        file.write(arguments.output / f"{name}.json", profile)
        print(
            f"{name:<16}{dnn.n_layers:4d} layers of {found['fused_from_operators']:4d} operators"
            f" {found['macs'] / 1e9:8.4f} GMAC {found['parameters']:12,d} parameters"
            f" {time.perf_counter() - start:6.1f} s",
            flush=True,
        )
    if arguments.output == PACKAGED:
        (ROOT / "docs" / "networks.md").write_text(networks_page(PACKAGED), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
