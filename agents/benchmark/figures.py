"""The figures of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from agents.benchmark.comparison import OUR_WORLD
from agents.benchmark.episode import KINDS
from agents.benchmark.plots import (
    COLOURS,
    GREY,
    INK,
    KIND_COLOURS,
    MARKERS,
    OURS,
    dress,
    looks,
    new_figure,
)  # fmt: skip
from agents.benchmark.runtime import Timing
from agents.benchmark.statistics import Estimate, Results, gap
from agents.benchmark.suite import LOWER_BOUND, Sweep


def sweep_figure(results: Results, sweep: Sweep) -> Figure:
    """Mean latency against the swept quantity: a panel per world, a line per planner."""
    figure = new_figure(5.1 * len(sweep.worlds) + 1.9, 4.0)
    panels = figure.subplots(1, len(sweep.worlds), sharey=True, squeeze=False)[0]
    look = looks(results)
    numeric = _is_numeric(sweep)
    xs = [p.x for p in sweep.points] if numeric else list(range(len(sweep.points)))
    for axes, world in zip(panels, sweep.worlds, strict=True):
        for planner in sweep.planners:
            means = _means(results, sweep, world, planner)
            if means is None:
                continue
            line = look[planner]
            axes.plot(
                xs, 1e3 * means, color=line.colour, marker=line.marker, ms=line.size,
                lw=line.width, label=planner, mec="white", mew=0.6,
                ls=line.style if numeric or not line.marker else "none",
                zorder=4 if planner == results.suite.ours else 3,
            )  # fmt: skip
        dress(axes, f"{world} uploading", sweep.label, "mean latency (ms)")
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
    figure = new_figure(7.6, 4.0)
    axes = figure.subplots()
    look = looks(results)
    for planner in sweep.planners:
        if (sweep.name, point, OUR_WORLD, planner) not in results.rows:
            continue
        latency = results.column(sweep.name, point, OUR_WORLD, planner)
        line = look[planner]
        axes.plot(
            np.arange(1, latency.shape[1] + 1), 1e3 * latency.mean(axis=0), color=line.colour,
            marker=line.marker, ms=0.8 * line.size, lw=line.width, ls=line.style, label=planner,
            mec="white", mew=0.5,
        )  # fmt: skip
    dress(axes, f"{sweep.label} {point}", "round", "mean latency (ms)")
    _limit_y([axes], results, sweep)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5, title="planner")
    return figure


def bars_figure(results: Results, sweep: Sweep) -> Figure:
    """An ablation: mean latency of each variant; the interval is that of its ratio to ours."""
    point, world, ours = sweep.points[0].label, sweep.worlds[0], results.suite.ours
    base = float(results.column(sweep.name, point, world, ours).mean())
    bars = {}
    for planner in sweep.planners:
        change = results.reduction(sweep, point, world, ours, world, planner).mean
        seconds = [base / (1 - fraction) for fraction in change]
        excess = f"  (+{100 * (seconds[0] / base - 1):.1f} %)" if planner != ours else ""
        bars[planner] = Estimate(*(1e3 * s for s in seconds)), f"{1e3 * seconds[0]:.0f}{excess}"
    figure = _bars(results, bars, "mean latency (ms); interval of the ratio to ours")
    figure.axes[0].set_title(f"{world} uploading", fontsize=10, loc="left", color=INK)
    return figure


def gap_figure(results: Results, sweep: Sweep) -> Figure:
    """Mean excess over the certified lower bound, per planner, all points together."""
    bars = {}
    for planner in (p for p in sweep.planners if p not in (LOWER_BOUND, results.suite.reference)):
        latency, bound = (
            np.concatenate(
                [results.column(sweep.name, p.label, OUR_WORLD, name).ravel() for p in sweep.points]
            )
            for name in (planner, LOWER_BOUND)
        )
        excess = Estimate(*(100 * x for x in gap(latency, bound)))
        bars[planner] = excess, f"{excess.value:.3g} %"
    return _bars(results, bars, "mean latency above the certified lower bound (%)")


def _bars(results: Results, bars: dict[str, tuple[Estimate, str]], label: str) -> Figure:
    """Horizontal bars with intervals and texts, the smallest on top."""
    names = sorted(bars, key=lambda name: -bars[name][0].value)
    figure = new_figure(8.2, 0.9 + 0.32 * len(names))
    axes = figure.subplots()
    values = np.array([bars[name][0] for name in names])
    special = {results.suite.ours: OURS, results.suite.reference: GREY}
    colours = [special.get(name, "#56B4E9") for name in names]
    errors = np.abs(values[:, 1:].T - values[:, 0])
    axes.barh(names, values[:, 0], xerr=errors, color=colours, ecolor=INK, error_kw={"lw": 1})
    for y, name in enumerate(names):
        axes.annotate(
            bars[name][1], (values[y].max(), y), (5, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.set_xlim(min(0, values.min()), 1.22 * values.max())
    dress(axes, "", label, "", grid="x")
    return figure


def placement_figure(results: Results, sweep: Sweep) -> Figure:
    """Histograms of the share of layers at the edge, per network, for our planner."""
    shares: dict[str, list[float]] = {}
    for key, rows in results.rows.items():
        if key[0] == sweep.name and key[2:] == (OUR_WORLD, results.suite.ours):
            for _, row in rows:
                for dnn, share in zip(row["dnn"], row["edge_share"], strict=True):
                    shares.setdefault(dnn, []).append(100 * share)
    figure = new_figure(2.1 * len(shares) + 0.6, 2.7)
    panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for axes, (dnn, values) in zip(panels, sorted(shares.items()), strict=True):
        weights = np.full(len(values), 100 / len(values))
        axes.hist(
            values, bins=np.linspace(0, 100, 11), weights=weights, color="#0072B2", ec="white"
        )
        dress(axes, dnn, "layers at the edge (%)", "inferences (%)" if axes is panels[0] else "")
        axes.set_xlim(0, 100)
    return figure


def diversity_figure(results: Results, sweep: Sweep) -> Figure:
    """Which kinds of placements each planner chooses, and how many different ones."""
    planners = [p for p in sweep.planners if p != LOWER_BOUND]
    figure = new_figure(8.4, 1.2 + 0.3 * len(planners))
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
        axes.annotate(
            f"{len(distinct)} different", (1.01, y), xycoords=("axes fraction", "data"),
            va="center", fontsize=8.5, color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, 100)
    dress(axes, "", "inferences (%)", "", grid="")
    figure.legend(loc="outside upper center", frameon=False, fontsize=8.5, ncols=4)
    return figure


def runtime_figure(layers: Sequence[Timing], ues: Sequence[Timing]) -> Figure:
    """Planning time: PBT-DP against layers, whole plans against UEs."""
    figure = new_figure(9.6, 3.8)
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
    dress(left, "PBT-DP, one UE", "layers", "planning time (ms)", grid="both")
    for k, planner in enumerate(dict.fromkeys(t.what for t in ues)):
        some = [t for t in ues if t.what == planner]
        right.plot(
            [t.ues for t in some], [1e3 * t.seconds for t in some], marker=MARKERS[k],
            color=OURS if k == 0 else COLOURS[k - 1], label=planner,
        )  # fmt: skip
    dress(right, "whole plans, default scenario", "UEs", "planning time (ms)", grid="both")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8.5)
    left.set_xscale("log")
    return figure


def _means(results: Results, sweep: Sweep, world: str, planner: str) -> Any:
    """(points,) mean latencies in seconds; None where the planner did not run."""
    keys = [(sweep.name, p.label, world, planner) for p in sweep.points]
    if not all(key in results.rows for key in keys):
        return None
    return np.array([results.column(*key).mean() for key in keys])


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
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    low = min(axes.dataLim.y0 for axes in panels)
    panels[0].set_ylim(0.85 * low, 1.6e3 * max(local))
