"""What is in a model: its layers with FLOPs and bytes, as a table, a file and a picture.

    mjoa-gym profile resnet18
    mjoa-gym profile torchvision.models:shufflenet_v2_x1_0 --input-shape 1,3,224,224
    mjoa-gym profile mypackage.nets:encoder --input-shape 1,128 --dtype int64

MODEL is a name of the catalogue, `package.module:function` or `file.py:function` (the function
makes a torch module; needs the extra `torch`), an `.onnx` file (extra `onnx`) or a `.json` profile.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mjoa_gym.cli.model import add_input_options, profile_of
from mjoa_gym.dnn import DNN
from mjoa_gym.rendering.style import amount


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="name, package.module:function, or file")
    add_input_options(parser)
    add("--name", help="name of the profile (default: the model's)")
    add("--blocks", action="store_true", help="blocks between cut layers instead")
    add("--output", type=Path, default=Path(), help="folder for the files (default: this one)")
    add("--picture", choices=("png", "svg", "none"), default="png", help="(default: %(default)s)")
    add("--no-files", action="store_true", help="print the table only")


def execute(args: argparse.Namespace) -> int:
    """Print the table, and write the files."""
    dnn = profile_of(args.model, args.input_shape or (), args.dtype or ())
    if args.name:
        dnn = _renamed(dnn, args.name)
    dnn = dnn.blocks() if args.blocks else dnn
    print(table(dnn))
    if not args.no_files:
        for path in write(dnn, args.output, args.picture):
            print(f"wrote {path}")
    return 0


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
