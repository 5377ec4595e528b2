"""The figures of a report, drawn on Agg canvases, without pyplot and without a display."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from agents.benchmark.comparison import OUR_WORLD
from agents.benchmark.episode import KINDS
from agents.benchmark.runtime import Timing
from agents.benchmark.statistics import Results, gap
from agents.benchmark.suite import LOWER_BOUND, Sweep

INK, GREY, GRID = "#1b1b1f", "#8a8a94", "#e4e4ea"
OURS = "#D55E00"
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#7A4FA3", "#A6761D", "#4D4D4D")
MARKERS = "osD^vPX<>*"
KIND_COLOURS = ("#0072B2", "#009E73", "#E69F00", "#CC79A7")


class Look(NamedTuple):
    """How a planner is drawn."""

    colour: str
    marker: str
    width: float
    style: str


def looks(results: Results) -> dict[str, Look]:
    """Ours stands out, the reference is dotted, the others have a colour and marker each."""
    suite = results.suite
    names = dict.fromkeys(p for s in suite.sweeps if s.kind == "sweep" for p in s.planners)
    names |= dict.fromkeys(p for s in suite.sweeps for p in s.planners)
    look = {suite.ours: Look(OURS, "o", 2.6, "-"), suite.reference: Look(INK, "", 1.2, ":")}
    others = [name for name in names if name not in look]
    for k, name in enumerate(others):
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        look[name] = Look(colour, marker, 1.3, "-" if k < len(COLOURS) else "--")
    return look


def sweep_figure(results: Results, sweep: Sweep) -> Figure:
    """Mean latency against the swept quantity: a panel per world, a line per planner."""
    figure = _figure(5.1 * len(sweep.worlds) + 1.9, 4.0)
    panels = figure.subplots(1, len(sweep.worlds), sharey=True, squeeze=False)[0]
    look = looks(results)
    numeric = _is_numeric(sweep)
    xs = [p.x for p in sweep.points] if numeric else list(range(len(sweep.points)))
    for axes, world in zip(panels, sweep.worlds, strict=True):
        for planner in sweep.planners:
            means = _means(results, sweep, world, planner)
            if means is None:
                continue
            colour, marker, width, style = look[planner]
            low, high = (1e3 * means[:, k] for k in (1, 2))
            axes.plot(
                xs, 1e3 * means[:, 0], color=colour, marker=marker, ms=5, lw=width, label=planner,
                ls=style if numeric else "none" if marker else style, mec="white", mew=0.6,
                zorder=4 if planner == results.suite.ours else 3,
            )  # fmt: skip
            if numeric:
                axes.fill_between(xs, low, high, color=colour, alpha=0.12, lw=0)
        _dress(axes, f"{world} uploading", sweep.label, "mean latency (ms)")
        _set_x(axes, sweep, xs, numeric)
    _limit_y(panels, results, sweep)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", frameon=False, fontsize=8.5, title="planner"
    )
    return figure


def rounds_figure(results: Results, sweep: Sweep) -> Figure:
    """Streaming: mean latency in every round of the episode, at the middle point."""
    point = sweep.points[len(sweep.points) // 2].label
    figure = _figure(7.6, 4.0)
    axes = figure.subplots()
    look = looks(results)
    for planner in sweep.planners:
        if (sweep.name, point, OUR_WORLD, planner) not in results.rows:
            continue
        latency = results.column(sweep.name, point, OUR_WORLD, planner)
        colour, marker, width, style = look[planner]
        axes.plot(
            np.arange(1, latency.shape[1] + 1), 1e3 * latency.mean(axis=0), color=colour,
            marker=marker, ms=4, lw=width, ls=style, label=planner, mec="white", mew=0.5,
        )  # fmt: skip
    _dress(axes, f"{sweep.label} {point}", "round", "mean latency (ms)")
    _limit_y([axes], results, sweep)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5, title="planner")
    return figure


def bars_figure(results: Results, sweep: Sweep) -> Figure:
    """An ablation: mean latency of each variant with its interval, best last."""
    point = sweep.points[0].label
    world = sweep.worlds[0]
    found = {p: results.summary(sweep, point, world, p).mean for p in sweep.planners}
    names = sorted(found, key=lambda p: -found[p].value)
    figure = _figure(7.6, 0.9 + 0.32 * len(names))
    axes = figure.subplots()
    values = np.array([found[name] for name in names]) * 1e3
    colours = [_bar_colour(results, name) for name in names]
    errors = np.abs(values[:, 1:].T - values[:, 0])
    axes.barh(names, values[:, 0], xerr=errors, color=colours, ecolor=INK, error_kw={"lw": 1})
    for y, value in enumerate(values):
        axes.annotate(
            f"{value[0]:.0f}", (value[2], y), (5, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.margins(x=0.1)
    _dress(axes, f"{world} uploading", "mean latency (ms), 95 % interval", "", grid="x")
    return figure


def gap_figure(results: Results, sweep: Sweep) -> Figure:
    """Mean excess over the certified lower bound, per planner, all points together."""
    names, values = [], []
    for planner in (p for p in sweep.planners if p not in (LOWER_BOUND, results.suite.reference)):
        pairs = [
            [results.column(sweep.name, p.label, OUR_WORLD, name) for p in sweep.points]
            for name in (planner, LOWER_BOUND)
        ]
        names.append(planner)
        values.append(gap(*(np.concatenate([c.ravel() for c in columns]) for columns in pairs)))
    order = np.argsort([-value.value for value in values])
    shown = 100 * np.array(values)[order]
    names = [names[k] for k in order]
    figure = _figure(7.6, 0.9 + 0.32 * len(names))
    axes = figure.subplots()
    colours = [_bar_colour(results, name) for name in names]
    errors = np.abs(shown[:, 1:].T - shown[:, 0])
    axes.barh(names, shown[:, 0], xerr=errors, color=colours, ecolor=INK, error_kw={"lw": 1})
    for y, value in enumerate(shown):
        axes.annotate(
            f"{value[0]:.2g} %", (value[2], y), (5, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.margins(x=0.1)
    _dress(axes, "", "mean latency above the certified lower bound (%)", "", grid="x")
    return figure


def placement_figure(results: Results, sweep: Sweep) -> Figure:
    """Histograms of the share of layers at the edge, per network, for our planner."""
    shares: dict[str, list[float]] = {}
    for key, rows in results.rows.items():
        if key[0] == sweep.name and key[2:] == (OUR_WORLD, results.suite.ours):
            for _, row in rows:
                for dnn, share in zip(row["dnn"], row["edge_share"], strict=True):
                    shares.setdefault(dnn, []).append(100 * share)
    figure = _figure(2.1 * len(shares) + 0.6, 2.7)
    panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for axes, (dnn, values) in zip(panels, sorted(shares.items()), strict=True):
        weights = np.full(len(values), 100 / len(values))
        axes.hist(
            values, bins=np.linspace(0, 100, 11), weights=weights, color="#0072B2", ec="white"
        )
        _dress(axes, dnn, "layers at the edge (%)", "inferences (%)" if axes is panels[0] else "")
        axes.set_xlim(0, 100)
    return figure


def diversity_figure(results: Results, sweep: Sweep) -> Figure:
    """Which kinds of placements each planner chooses, and how many different ones."""
    planners = [p for p in sweep.planners if p != LOWER_BOUND]
    figure = _figure(8.4, 1.2 + 0.3 * len(planners))
    axes = figure.subplots()
    for y, planner in enumerate(reversed(planners)):
        kinds: Counter[int] = Counter()
        distinct: set[tuple[str, int]] = set()
        for key, rows in results.rows.items():
            if key[0] == sweep.name and key[2:] == (OUR_WORLD, planner):
                for _, row in rows:
                    kinds.update(row["kind"])
                    distinct.update(zip(row["dnn"], row["placement"], strict=True))
        left = 0.0
        for kind, colour in enumerate(KIND_COLOURS):
            width = 100 * kinds[kind] / max(1, kinds.total())
            axes.barh(
                planner,
                width,
                left=left,
                color=colour,
                ec="white",
                label=KINDS[kind] if y == 0 else None,
            )
            left += width
        axes.annotate(f"{len(distinct)}", (101, y), va="center", fontsize=8.5, color=INK)
    axes.annotate("different", (101, len(planners) - 0.35), fontsize=8, color=GREY)
    axes.set_xlim(0, 100)
    _dress(axes, "", "inferences (%)", "", grid="")
    figure.legend(loc="outside upper center", frameon=False, fontsize=8.5, ncols=4)
    return figure


def runtime_figure(layers: Sequence[Timing], ues: Sequence[Timing]) -> Figure:
    """Planning time: PBT-DP against layers, whole plans against UEs."""
    figure = _figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    for chain, colour, marker in ((True, "#0072B2", "o"), (False, OURS, "D")):
        some = [t for t in layers if t.chain == chain]
        label = "chains" if chain else "other graphs"
        left.plot(
            [t.layers for t in some],
            [1e3 * t.seconds for t in some],
            marker,
            color=colour,
            label=label,
        )
    for t in layers:
        left.annotate(
            t.label,
            (t.layers, 1e3 * t.seconds),
            (4, 3),
            textcoords="offset points",
            fontsize=6.5,
            color=GREY,
        )
    _dress(left, "PBT-DP, one UE", "layers", "planning time (ms)", grid="both")
    for k, planner in enumerate(dict.fromkeys(t.what for t in ues)):
        some = [t for t in ues if t.what == planner]
        right.plot(
            [t.ues for t in some], [1e3 * t.seconds for t in some], marker=MARKERS[k],
            color=OURS if k == 0 else COLOURS[k - 1], label=planner,
        )  # fmt: skip
    _dress(right, "whole plans, default scenario", "UEs", "planning time (ms)", grid="both")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8.5)
    left.set_xscale("log")
    return figure


def encoded(figure: Figure, kind: str) -> bytes:
    """The figure as a file: "png" or "svg", the same bytes for the same figure."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "mjoa-gym"}):
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    return buffer.getvalue()


def _bar_colour(results: Results, name: str) -> str:
    special = {results.suite.ours: OURS, results.suite.reference: GREY}
    return special.get(name, "#56B4E9")


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes, title: str, x: str, y: str, grid: str = "y") -> None:
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, color=GREY, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, lw=0.8)  # type: ignore[arg-type]


def _means(results: Results, sweep: Sweep, world: str, planner: str) -> Any:
    """(points, 3) mean, low and high; None where the planner did not run."""
    keys = [(sweep.name, p.label, world, planner) for p in sweep.points]
    if not all(key in results.rows for key in keys):
        return None
    return np.array([results.summary(sweep, key[1], world, planner).mean for key in keys])


def _is_numeric(sweep: Sweep) -> bool:
    return all(p.label.replace(".", "", 1).replace("e+", "").isdigit() for p in sweep.points)


def _set_x(axes: Axes, sweep: Sweep, xs: Sequence[float], numeric: bool) -> None:
    if numeric and max(xs) > 8 * min(xs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(xs, [p.label for p in sweep.points])
    if not numeric:
        axes.margins(x=0.12)
        for label in axes.get_xticklabels():
            label.set(rotation=20, ha="right")


def _limit_y(panels: Sequence[Axes], results: Results, sweep: Sweep) -> None:
    """A logarithmic axis that leaves out what is much worse than all-local."""
    local = [
        results.column(sweep.name, p.label, world, results.suite.reference).mean()
        for p in sweep.points
        for world in sweep.worlds
    ]
    for axes in panels:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low = min(axes.dataLim.y0 for axes in panels)
    panels[0].set_ylim(0.85 * low, 1.6e3 * max(local))
