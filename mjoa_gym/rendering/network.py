"""A network as a picture: its layers with FLOPs and parameters, and its tensors with their bytes.

It takes about 1 s for 200 layers and needs matplotlib.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mjoa_gym.dnn import DNN
from mjoa_gym.layers import INPUT
from mjoa_gym.rendering.network_layout import NetworkLayout, layout
from mjoa_gym.rendering.sheet import DPI, INK, new_figure
from mjoa_gym.rendering.style import amount

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOX_INCHES, ROW_INCHES = 2.3, 0.52
BOX_WIDTH, BOX_HEIGHT = 0.86, 0.62
COLOURS = {
    "conv": "#0072B2",
    "depthwise_conv": "#56B4E9",
    "linear": "#D55E00",
    "matmul": "#E69F00",
    "pool": "#009E73",
    "norm": "#CC79A7",
    "elementwise": "#8a8a94",
    "embedding": "#F0E442",
    "other": "#b9b9c4",
}
"""Colour per kind of layer."""


def network_figure(dnn: DNN) -> Figure:
    """Draw the graph from top to bottom; `figure.savefig(path)` writes any format.

    A box has the layer's number, name, FLOPs and parameter bytes; the number under it is the bytes
    that its readers receive. Long networks continue at the top of the next column.
    """
    plan = layout(dnn.predecessors)
    width, height = max(plan.width * BOX_INCHES, 7.0), (plan.height + 1.2) * ROW_INCHES
    figure = new_figure(DPI * width, DPI * height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    margin = (width / BOX_INCHES - plan.width) / 2
    axes.set(xlim=(-margin, plan.width + margin), ylim=(plan.height - 0.3, -1.5))
    _draw_tensors(axes, plan)
    _draw_layers(axes, dnn, plan)
    _draw_head(axes, dnn, plan)
    return figure


def _draw_tensors(axes: Axes, plan: NetworkLayout) -> None:
    from matplotlib.collections import LineCollection

    half = BOX_HEIGHT / 2
    lines = []
    for source, reader, between in plan.routes:
        (first, x0, y0), (last, x1, y1) = plan.boxes[source], plan.boxes[reader]
        points = [(first, x0, y0 + half), *between, (last, x1, y1 - half)]
        for column in sorted({point[0] for point in points}):  # a line ends with its column
            part = [point[1:] for point in points if point[0] == column]
            if column < last:
                part.append((part[-1][0], part[-1][1] + 0.4))
            if column > first:
                part.insert(0, (part[0][0], part[0][1] - 0.4))
            lines.append(part)
    axes.add_collection(LineCollection(lines, colors="#9a9aa6", linewidths=0.8, zorder=1))


def _draw_layers(axes: Axes, dnn: DNN, plan: NetworkLayout) -> None:
    from matplotlib.patches import FancyBboxPatch

    names = {INPUT: "input"} | {n: f"{n}  {name}" for n, name in enumerate(dnn.layer_names)}
    sizes = np.append(dnn.output_bytes, dnn.input_bytes)
    write = partial(axes.text, va="center", zorder=3)
    label = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.85}
    for tensor, (_, x, y) in plan.boxes.items():
        colour = INK if tensor == INPUT else COLOURS[dnn.kinds[tensor]]
        corner = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
        shape = FancyBboxPatch(
            corner, BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.06",
            facecolor="white", edgecolor=colour, linewidth=1.6, zorder=2,
        )  # fmt: skip
        axes.add_patch(shape)
        write(x, y - 0.12, _cut(names[tensor]), ha="center", fontsize=6.5)
        if tensor != INPUT:
            text = f"{_flops(dnn.flops[tensor])} · {amount(dnn.parameter_bytes[tensor])}"
            write(x, y + 0.14, text, ha="center", fontsize=5.5, color="#55555f")
        write(x + 0.03, y + 0.5, amount(sizes[tensor]), fontsize=5.5, color=INK, bbox=label)


def _draw_head(axes: Axes, dnn: DNN, plan: NetworkLayout) -> None:
    text = (
        f"{dnn.name}: {dnn.n_layers} layers, {_flops(dnn.flops.sum())}, "
        f"{amount(dnn.parameter_bytes.sum())} of parameters"
    )
    axes.text(0.1, -1.25, text, fontsize=9, fontweight="bold", va="center")
    left = 0.1
    for kind in dict.fromkeys(dnn.kinds):
        axes.text(left, -0.85, f"■ {kind}", fontsize=7, color=COLOURS[kind], va="center")
        left += 0.1 + 0.036 * (len(kind) + 2)


def _cut(text: str, most: int = 30) -> str:
    return text if len(text) <= most else text[:6] + "…" + text[-(most - 7) :]


def _flops(flops: float) -> str:
    units = ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP"))
    scale, unit = next((each for each in units if flops >= each[0]), (1.0, "FLOP"))
    return f"{flops / scale:.3g} {unit}"
