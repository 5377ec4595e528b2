#!/usr/bin/env python3
"""What is in a model: its layers with FLOPs and bytes, as a table, a file and a picture.

MODEL is a name of the catalogue, `package.module:function` (the function makes a torch module;
needs the extra `torch`), an `.onnx` file (extra `onnx`) or a `.json` profile. Examples:

    python scripts/profile_dnn.py resnet18
    python scripts/profile_dnn.py torchvision.models:shufflenet_v2_x1_0 --input-shape 1,3,224,224
    python scripts/profile_dnn.py mypackage.nets:encoder --input-shape 1,128 --dtype int64
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from catalogue.source import add_input_options, profile_of

from mjoa_gym import DNN
from mjoa_gym.rendering.style import amount


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="name, package.module:function, or file")
    add_input_options(parser)
    parser.add_argument("--name", help="name of the profile (default: the model's)")
    parser.add_argument("--blocks", action="store_true", help="blocks between cut layers instead")
    parser.add_argument(
        "--output", type=Path, default=Path(), help="folder for the files (default: this one)"
    )
    parser.add_argument(
        "--picture", choices=("png", "svg", "none"), default="png", help="(default: %(default)s)"
    )
    parser.add_argument("--no-files", action="store_true", help="print the table only")
    return parser.parse_args(argv)


def table(dnn: DNN) -> str:
    """The layers, one a line, and the totals."""
    width = max(len(name) for name in (*dnn.layer_names, "in total"))
    head = f"{'':>4} {'layer':<{width}} {'kind':<14} {'MFLOP':>11} {'parameters':>11}"
    lines = [f"{head} {'output':>9}  reads", f"{'in':>4} {'':<{width + 15}} {'':>11} {'':>11}"]
    lines[1] += f" {amount(dnn.input_bytes):>9}"
    for layer in range(dnn.n_layers):
        read = ", ".join("in" if p < 0 else str(p) for p in dnn.predecessors[layer])
        lines.append(
            f"{layer:>4} {dnn.layer_names[layer]:<{width}} {dnn.kinds[layer]:<14}"
            f" {dnn.flops[layer] / 1e6:>11.3f} {amount(dnn.parameter_bytes[layer]):>11}"
            f" {amount(dnn.output_bytes[layer]):>9}  {read}"
        )
    lines.append(
        f"{'':>4} {'in total':<{width}} {'':<14} {dnn.flops.sum() / 1e6:>11.3f}"
        f" {amount(dnn.parameter_bytes.sum()):>11}"
    )
    shape = "a chain" if dnn.is_chain else f"{dnn.blocks().n_layers} blocks between cut layers"
    return "\n".join([*lines, f"{dnn.name}: {dnn.n_layers} layers, {shape}"])


def main(argv: list[str] | None = None) -> int:
    """Profiles the model; returns 0, 2 if there is no such model, 3 if a file cannot be written."""
    options = arguments(argv)
    sys.path.insert(0, os.getcwd())  # the user's own packages
    try:
        dnn = profile_of(options.model, options.input_shape or (), options.dtype or ())
    except (ValueError, OSError, ImportError) as error:
        print(f"profile_dnn: {error}", file=sys.stderr)
        return 2
    if options.name:
        dnn = _renamed(dnn, options.name)
    dnn = dnn.blocks() if options.blocks else dnn
    print(table(dnn))
    if options.no_files:
        return 0
    try:
        for path in write(dnn, options.output, options.picture):
            print(f"wrote {path}")
    except (OSError, ImportError) as error:
        print(f"profile_dnn: {error}", file=sys.stderr)
        return 3
    return 0


def write(dnn: DNN, folder: Path, picture: str) -> list[Path]:
    """Writes the profile and its picture; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in dnn.name) or "network"
    paths = [folder / f"{stem}.json"]
    dnn.save(paths[0])
    if picture != "none":
        from mjoa_gym.rendering.network import network_figure

        paths.append(folder / f"{stem}.{picture}")
        network_figure(dnn).savefig(paths[1], dpi=110)
    return paths


def _renamed(dnn: DNN, name: str) -> DNN:
    return DNN(
        name=name,
        flops=dnn.flops,
        parameter_bytes=dnn.parameter_bytes,
        output_bytes=dnn.output_bytes,
        predecessors=dnn.predecessors,
        input_bytes=dnn.input_bytes,
        kinds=dnn.kinds,
        layer_names=dnn.layer_names,
    )


if __name__ == "__main__":
    sys.exit(main())
