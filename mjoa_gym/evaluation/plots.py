"""How figures look: planners, axes, files. Agg canvases, no pyplot, no display."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

INK, GREY, GRID = "#1b1b1f", "#8a8a94", "#e4e4ea"
OURS = "#D55E00"
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7A4FA3", "#A6761D", "#4D4D4D")
MARKERS = "osD^vPX<>*"
KIND_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7")


class Look(NamedTuple):
    """How a planner is drawn."""

    colour: str
    marker: str
    size: float
    width: float
    style: str
    order: int


def planner_looks(names: Iterable[str], ours: str, reference: str) -> dict[str, Look]:
    """Ours is wide and beneath all, the reference dotted, `names` have colour and marker each.

    Lines get thinner one after the other, so that those that coincide are all seen.
    """
    look = {reference: Look(INK, "", 0.0, 1.2, ":", 4)}
    others = [name for name in names if name != reference]
    for k, name in enumerate(others):
        thick = 1 - k / max(1, len(others) - 1)
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        style = "-" if k < len(COLOURS) else "--"
        look[name] = Look(colour, marker, 4 + 3 * thick, 0.9 + 1.8 * thick, style, 3)
    look[ours] = Look(OURS, "o", 11.0, 6.0, "-", 2)
    return look


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, title: str, x: str, y: str, grid: str = "y") -> None:
    """Title, labels, and a grid along "x", "y", "both" or nothing ("")."""
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, color=GREY, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, lw=0.8)  # type: ignore[arg-type]


def plain_log(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, written plainly."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def encoded(figure: Figure, kind: str) -> bytes:
    """The figure as a file: "png" or "svg", the same bytes for the same figure."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "mjoa-gym"}):
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    return buffer.getvalue()
