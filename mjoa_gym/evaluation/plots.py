"""The style of figures: planners, axes, files. It needs no pyplot and no display."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mjoa_gym.evaluation.statistics import Estimate
from mjoa_gym.files import write

INK, GREY, GRID = "#1b1b1f", "#8a8a94", "#e4e4ea"
HIGHLIGHT = "#D55E00"
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7A4FA3", "#A6761D", "#4D4D4D")
MARKERS = "osD^vPX<>*"
LEGEND: dict[str, Any] = {"loc": "outside right center", "frameon": False, "fontsize": 8.5}

Look = dict[str, Any]
"""Matplotlib options for a planner's line."""


def line_look(
    colour: str, marker: str, size: float, width: float, style: str = "-", order: int = 3
) -> Look:
    """Return the look of a line with markers, drawn above lines of a lower order."""
    look = {"color": colour, "marker": marker, "ms": size, "lw": width, "ls": style}
    return {**look, "mec": "white", "mew": 0.5, "zorder": order}


def planner_looks(names: Iterable[str], ours: str, reference: str) -> dict[str, Look]:
    """Return the look of each planner's line.

    Our line is wide and below the others, the reference is dotted, and each of `names` has its own
    colour and marker. Each line is thinner than the one before, so that coinciding lines stay
    visible.
    """
    looks = {reference: line_look(INK, "", 0.0, 1.2, ":", 4)}
    others = [name for name in names if name != reference]
    for k, name in enumerate(others):
        thick = 1 - k / max(1, len(others) - 1)
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        style = "-" if k < len(COLOURS) else "--"
        looks[name] = line_look(colour, marker, 4 + 3 * thick, 0.9 + 1.8 * thick, style)
    looks[ours] = line_look(HIGHLIGHT, "o", 11.0, 6.0, order=2)
    return looks


def lines_figure(
    xs: Any,
    lines: Mapping[str, Any],
    looks: Mapping[str, Look],
    labels: tuple[str, str, str],
    grid: str = "y",
) -> Figure:
    """Draw a line for each name over a logarithmic axis; `labels` are title, x and y labels."""
    figure = new_figure(7.6, 4.0)
    axes = figure.subplots()
    for name, ys in lines.items():
        axes.plot(xs, ys, label=name, **looks[name])
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    dress(axes, *labels, grid=grid)
    figure.legend(**LEGEND)
    return figure


def bars_figure(
    bars: Mapping[str, tuple[Estimate, str]], label: str, colours: Mapping[str, str]
) -> Figure:
    """Draw horizontal bars with an interval and a text next to each, the smallest on top."""
    names = sorted(bars, key=lambda name: -bars[name][0].value)
    figure = new_figure(8.2, 0.9 + 0.32 * len(names))
    axes = figure.subplots()
    values = np.array([bars[name][0] for name in names])
    errors = np.abs(values[:, 1:].T - values[:, 0])
    drawn = [colours.get(name, COLOURS[4]) for name in names]
    axes.barh(names, values[:, 0], xerr=errors, color=drawn, ecolor=INK, error_kw={"lw": 1})
    limit = min(values.max(), 4 * float(np.median(values[:, 0])))  # longer bars are cut off
    for y, name in enumerate(names):
        axes.annotate(
            bars[name][1], (min(values[y].max(), limit), y), (5, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.set_xlim(min(0, values.min()), 1.22 * limit)
    dress(axes, "", label, "", grid="x")
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; width and height are in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def dress(axes: Axes, title: str, x: str, y: str, grid: str = "y") -> None:
    """Add title, labels, and a grid along "x", "y", "both" or none ("")."""
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
    """Put ticks with plain numbers at 1, 2 and 5 times powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def encoded(figure: Figure, kind: str) -> bytes:
    """Return the figure as a "png" or "svg" file: the same bytes for the same figure."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "mjoa-gym"}):
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    return buffer.getvalue()


def write_figure(figure: Figure, stem: Path) -> bytes:
    """Write the figure as `stem`.svg and `stem`.png; return the content of the PNG."""
    for kind in ("svg", "png"):
        content = encoded(figure, kind)
        write(stem.with_name(f"{stem.name}.{kind}"), content)
    return content
