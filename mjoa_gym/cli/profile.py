"""Show the layers of a model with FLOPs and bytes, as a table, a file and a picture.

    mjoa-gym profile resnet18
    mjoa-gym profile torchvision.models:shufflenet_v2_x1_0 --input-shape 1,3,224,224
    mjoa-gym profile mypackage.nets:encoder --input-shape 1,128 --dtype int64

MODEL is a name of the catalogue, `package.module:function` or `file.py:function` (the function
makes a torch module; needs the extra `torch`), an `.onnx` file (extra `onnx`) or a `.json` profile.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mjoa_gym.cli.model import add_input_options, profile_of
from mjoa_gym.dnn import DNN
from mjoa_gym.evaluation.table import Table
from mjoa_gym.rendering.style import amount


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="name, package.module:function, or file")
    add_input_options(parser)
    add("--name", help="name of the profile (default: the model's)")
    add("--blocks", action="store_true", help="show blocks between cut layers instead of layers")
    add("--output", type=Path, default=Path(), help="folder for the files (default: current)")
    add("--picture", choices=("png", "svg", "none"), default="png", help="(default: %(default)s)")
    add("--no-files", action="store_true", help="print only the table")


def execute(args: argparse.Namespace) -> int:
    """Print the table, and write the files."""
    dnn = profile_of(args.model, args.input_shape or (), args.dtype or ())
    if args.name:
        dnn = replace(dnn, name=args.name)
    dnn = dnn.blocks() if args.blocks else dnn
    print(table(dnn))
    if not args.no_files:
        for path in write(dnn, args.output, args.picture):
            print(f"wrote {path}")
    return 0


def table(dnn: DNN) -> str:
    """Return the network's input, its layers, one per line, and the totals."""
    rows = [("", "in", "", "", "", amount(dnn.input_bytes), "")]
    for layer in range(dnn.n_layers):
        read = ", ".join("in" if p < 0 else str(p) for p in dnn.predecessors[layer])
        flops, size = dnn.flops[layer] / 1e6, amount(dnn.parameter_bytes[layer])
        own = dnn.layer_names[layer], dnn.kinds[layer], f"{flops:.3f}", size
        rows.append((str(layer), *own, amount(dnn.output_bytes[layer]), read))
    total = f"{dnn.flops.sum() / 1e6:.3f}", amount(dnn.parameter_bytes.sum())
    rows.append(("", "in total", "", *total, "", ""))
    header = ("", "layer", "kind", "MFLOP", "parameters", "output", "reads")
    shape = "a chain" if dnn.is_chain else f"{dnn.blocks().n_layers} blocks between cut layers"
    shown = Table("", header, rows).text(left=(1, 2, 6))
    return f"{shown}\n{dnn.name}: {dnn.n_layers} layers, {shape}"


def write(dnn: DNN, folder: Path, picture: str) -> list[Path]:
    """Write the profile and its picture; return the paths.

    Raises:
        ValueError: If the profile's file exists and has something else.
    """
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in dnn.name) or "network"
    paths = [folder / f"{stem}.json"]
    if paths[0].exists() and DNN.load(paths[0]) != dnn:
        raise ValueError(
            f"{paths[0]} exists with another profile: choose another --output or --name"
        )
    dnn.save(paths[0])
    if picture != "none":
        from mjoa_gym.rendering.network import network_figure

        paths.append(folder / f"{stem}.{picture}")
        network_figure(dnn).savefig(paths[1], dpi=110)
    return paths
