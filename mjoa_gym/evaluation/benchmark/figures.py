"""The figures of sweeps, ablations and distances to the optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark.results import (
    OUR_WORLD,
    Overview,
    SuiteResults,
    against_strongest,
)
from mjoa_gym.evaluation.benchmark.suite import Sweep
from mjoa_gym.evaluation.plots import (
    COLOURS,
    GREY,
    INK,
    OURS,
    Look,
    dress,
    new_figure,
    plain_log,
    planner_looks,
)
from mjoa_gym.evaluation.statistics import Estimate, gap


def looks(results: SuiteResults, sweep: Sweep) -> dict[str, Look]:
    """How a suite's planners are drawn; those of its other sweeps count, to look the same there."""
    suite = results.suite
    names = dict.fromkeys(p for s in suite.sweeps if s.kind == "sweep" for p in s.planners)
    look = planner_looks([n for n in names if n != suite.ours], sweep.ours, suite.reference)
    look.setdefault(suite.ours, Look("#F0A878", "o", 9.0, 4.5, "-", 2))
    return look


def sweep_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Mean latency against the swept quantity, a panel per world; and what ours reduces it by."""
    found = {world: against_strongest(results, [sweep], world) for world in sweep.worlds}
    n_panels = len(sweep.worlds) + any(found.values())
    figure = new_figure(4.3 * n_panels + 1.7, 4.0)
    panels = figure.subplots(1, n_panels, squeeze=False)[0]
    for axes, world in zip(panels, sweep.worlds, strict=False):
        _latency_panel(axes, results, sweep, world)
    _limit_y(panels[: len(sweep.worlds)], results, sweep)
    if any(found.values()):
        _reduction_panel(panels[-1], sweep, found)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside right center", frameon=False, fontsize=8.5, title="planner"
    )
    return figure


def _latency_panel(axes: Axes, results: SuiteResults, sweep: Sweep, world: str) -> None:
    """A line per planner; ours is wide and beneath, so that those that coincide are seen."""
    look, numeric, xs = looks(results, sweep), _is_numeric(sweep), _xs(sweep)
    for planner in results.planners(sweep, [world]):
        means = [results.column(sweep.name, p.label, world, planner).mean() for p in sweep.points]
        line = look[planner]
        axes.plot(
            xs, 1e3 * np.array(means), color=line.colour, marker=line.marker, ms=line.size,
            lw=line.width, label=planner, mec="white", mew=0.5, zorder=line.order,
            ls=line.style if numeric or not line.marker else "none",
        )  # fmt: skip
    dress(axes, f"{world} uploading", sweep.label, "mean latency (ms)")
    _set_x(axes, sweep)


def _reduction_panel(axes: Axes, sweep: Sweep, found: Mapping[str, Overview | None]) -> None:
    """How much lower ours is than the strongest earlier system of each point, in either world."""
    for k, (world, overview) in enumerate(sorted(found.items(), reverse=True)):
        if overview is None:
            continue
        estimates = 100 * np.array([c.reduction.mean for c in overview.comparisons])
        colour, marker = (OURS, COLOURS[0])[k], "os"[k]
        xs = np.array(_xs(sweep)) + (0 if _is_numeric(sweep) else 0.12 * k)
        axes.errorbar(
            xs, estimates[:, 0], np.abs(estimates[:, 1:].T - estimates[:, 0]), color=colour,
            marker=marker, ms=5, lw=1.5, capsize=2.5, label=f"earlier systems {world}",
            ls="-" if _is_numeric(sweep) else "none",
        )  # fmt: skip
    axes.axhline(0, color=GREY, lw=1)
    axes.legend(frameon=False, fontsize=8)
    title = f"{sweep.ours} (parallel) against the strongest"
    dress(axes, title, sweep.label, "latency reduction (%), 95 % interval")
    _set_x(axes, sweep)


def rounds_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Streaming: mean latency in every round of the episode, at the middle point."""
    point = sweep.points[len(sweep.points) // 2].label
    figure = new_figure(7.6, 4.0)
    axes = figure.subplots()
    look = looks(results, sweep)
    for planner in results.planners(sweep, [OUR_WORLD]):
        latency = results.column(sweep.name, point, OUR_WORLD, planner)
        line = look[planner]
        axes.plot(
            np.arange(1, latency.shape[1] + 1), 1e3 * latency.mean(axis=0), color=line.colour,
            marker=line.marker, ms=0.8 * line.size, lw=line.width, ls=line.style, label=planner,
            mec="white", mew=0.5, zorder=line.order,
        )  # fmt: skip
    dress(axes, f"{sweep.label} {point}", "round", "mean latency (ms)")
    _limit_y([axes], results, sweep)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5, title="planner")
    return figure


def bars_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """An ablation: mean latency of each variant; the interval is that of its ratio to ours."""
    point, world, ours = sweep.points[0].label, sweep.worlds[0], results.suite.ours
    base = float(results.column(sweep.name, point, world, ours).mean())
    bars = {}
    for planner in results.planners(sweep):
        change = results.reduction(sweep, point, world, ours, world, planner).mean
        seconds = [base / (1 - fraction) for fraction in change]
        excess = f"  (+{100 * (seconds[0] / base - 1):.1f} %)" if planner != ours else ""
        bars[planner] = Estimate(*(1e3 * s for s in seconds)), f"{1e3 * seconds[0]:.0f}{excess}"
    figure = _bars(results, bars, "mean latency (ms); interval of the ratio to ours")
    figure.axes[0].set_title(f"{world} uploading", fontsize=10, loc="left", color=INK)
    return figure


def gap_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Mean excess over the certified lower bound, per planner, all points together."""
    bars = {}
    left_out = (LOWER_BOUND, results.suite.reference)
    for planner in (p for p in results.planners(sweep) if p not in left_out):
        latency, bound = (
            np.concatenate(
                [results.column(sweep.name, p.label, OUR_WORLD, name).ravel() for p in sweep.points]
            )
            for name in (planner, LOWER_BOUND)
        )
        excess = Estimate(*(100 * x for x in gap(latency, bound)))
        digits = 0 if excess.value >= 100 else 1
        bars[planner] = excess, f"{excess.value:.{digits}f} %"
    return _bars(results, bars, "mean latency above the certified lower bound (%)")


def _bars(results: SuiteResults, bars: dict[str, tuple[Estimate, str]], label: str) -> Figure:
    """Horizontal bars with intervals and texts, the smallest on top."""
    names = sorted(bars, key=lambda name: -bars[name][0].value)
    figure = new_figure(8.2, 0.9 + 0.32 * len(names))
    axes = figure.subplots()
    values = np.array([bars[name][0] for name in names])
    special = {results.suite.ours: OURS, results.suite.reference: GREY}
    colours = [special.get(name, "#56B4E9") for name in names]
    errors = np.abs(values[:, 1:].T - values[:, 0])
    axes.barh(names, values[:, 0], xerr=errors, color=colours, ecolor=INK, error_kw={"lw": 1})
    limit = min(values.max(), 4 * float(np.median(values[:, 0])))  # longer bars leave the axes
    for y, name in enumerate(names):
        axes.annotate(
            bars[name][1], (min(values[y].max(), limit), y), (5, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.set_xlim(min(0, values.min()), 1.22 * limit)
    dress(axes, "", label, "", grid="x")
    return figure


def _is_numeric(sweep: Sweep) -> bool:
    return all(p.label.replace(".", "", 1).replace("e+", "").isdigit() for p in sweep.points)


def _xs(sweep: Sweep) -> list[float]:
    return [p.x if _is_numeric(sweep) else float(k) for k, p in enumerate(sweep.points)]


def _set_x(axes: Axes, sweep: Sweep) -> None:
    xs = _xs(sweep)
    if _is_numeric(sweep) and max(xs) > 8 * min(xs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(xs, [p.label for p in sweep.points])
    if not _is_numeric(sweep):
        axes.margins(x=0.12)
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right")


def _limit_y(panels: Sequence[Axes], results: SuiteResults, sweep: Sweep) -> None:
    """Logarithmic axes, all the same, that leave out what is much worse than all-local."""
    local = [
        results.column(sweep.name, p.label, world, results.suite.reference).mean()
        for p in sweep.points
        for world in sweep.worlds
    ]
    low = min(axes.dataLim.y0 for axes in panels)
    for axes in panels:
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.set_ylim(0.85 * low, 1.6e3 * max(local))
