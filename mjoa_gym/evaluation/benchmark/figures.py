"""The figures of sweeps, ablations, distances to the optimum, plans, planning times, budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from mjoa_gym.evaluation import plots
from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark.budgets import NO_LIMIT, Gaps
from mjoa_gym.evaluation.benchmark.findings import changes
from mjoa_gym.evaluation.benchmark.results import (
    OUR_WORLD,
    THEIR_WORLD,
    Overview,
    SuiteResults,
    against,
)
from mjoa_gym.evaluation.benchmark.suite import LINES, Sweep
from mjoa_gym.evaluation.decision_time import Timing
from mjoa_gym.evaluation.episodes import KINDS
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.plots import (
    COLOURS,
    GREY,
    HIGHLIGHT,
    INK,
    LEGEND,
    dress,
    new_figure,
    plain_log,
)
from mjoa_gym.evaluation.statistics import Estimate, gap

HOW = {THEIR_WORLD: "serially", OUR_WORLD: "while layers execute"}
"""The worlds, in words."""
BUDGET_LOOKS: tuple[plots.Look, ...] = (
    {"marker": "o", "ms": 6.5, "lw": 3.0, "alpha": 0.55, "mec": "white", "mew": 0.5},
    {"marker": "s", "ms": 3.5, "lw": 1.2, "ls": "--"},
)
"""Looks of successive planners; each line is drawn over the previous ones, which may coincide."""
DOTTED: plots.Look = {"ls": ":", "lw": 1.2}
ALIKE = 0.03
"""Planners whose means differ by less than this fraction at every point share a line."""
FAR_WORSE = 1.6
"""Latencies above this multiple of the all-local latency are not shown."""
BELOW = LEGEND | {"loc": "outside lower center"}
WIDTH = 9.6
"""Width in inches of a figure as wide as the report."""


def looks(results: SuiteResults, sweep: Sweep) -> dict[str, plots.Look]:
    """Return the looks of a suite's planners, which are the same in all its sweeps."""
    suite = results.suite
    lines = (s for s in suite.sweeps if s.kind in LINES)
    names = dict.fromkeys(p for s in lines for p in s.planners)
    look = plots.planner_looks([n for n in names if n != suite.ours], sweep.ours, suite.reference)
    look.setdefault(suite.ours, plots.line_look("#F0A878", "o", 9.0, 4.5, order=2))
    return look


def one_line_each(
    lines: Mapping[str, NDArray[np.float64]], alone: Sequence[str]
) -> dict[str, list[str]]:
    """Return the planners to draw, each with the planners that its line stands for, itself first.

    Args:
        lines: Positive values to draw for each planner.
        alone: Planners that never share a line.
    """
    shared: dict[str, list[str]] = {}
    for name, values in lines.items():
        near = (
            first
            for first in shared
            if not {name, first} & set(alone) and np.allclose(values, lines[first], ALIKE, 0)
        )
        shared.setdefault(next(near, name), []).append(name)
    return shared


def _shown(
    results: SuiteResults, sweep: Sweep, means: Mapping[str, NDArray[np.float64]]
) -> dict[str, list[str]]:
    """Return the planners to draw, as `one_line_each` does, without those that are far worse."""
    alone = sweep.ours, results.suite.ours, results.suite.reference
    worst = FAR_WORSE * means[results.suite.reference].max()
    return one_line_each({p: s for p, s in means.items() if s.min() < worst}, alone)


def sweep_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw mean latency against the swept quantity, a panel per world, and our reductions."""
    compared = sweep.worlds if sweep.kind == "sweep" else ()
    found = {world: against(results, [sweep], world) for world in compared}
    n_panels = len(sweep.worlds) + any(found.values())
    figure = new_figure(min(WIDTH, 4.8 * n_panels), 4.6)
    panels = figure.subplots(1, n_panels, squeeze=False)[0]
    look, numeric = looks(results, sweep), _is_numeric(sweep)
    means = {
        planner: np.array([results.means(sweep, world, planner) for world in sweep.worlds])
        for planner in results.planners(sweep)
    }
    shared = _shown(results, sweep, means)
    for axes, world, row in zip(panels, sweep.worlds, range(n_panels), strict=False):
        for planner, names in shared.items():
            style = {} if numeric or not look[planner]["marker"] else {"ls": "none"}
            drawn = look[planner] | style
            axes.plot(_xs(sweep), 1e3 * means[planner][row], label=", ".join(names), **drawn)
        dress(axes, f"{world} uploading", sweep.label, "mean latency (ms)")
        _set_x(axes, sweep)
    _limit_y(panels[: len(sweep.worlds)], results, sweep)
    if any(found.values()):
        _draw_reductions(panels[-1], sweep, found)
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=4, **BELOW)
    return figure


def overview_figure(results: SuiteResults) -> Figure | None:
    """Draw our latency reduction in every sweep, and what changes our latency most."""
    sweeps, effects = [s for s in results.suite.sweeps if s.kind == "sweep"], changes(results)
    reductions = {w: [against(results, [s], w) for s in sweeps] for w in (THEIR_WORLD, OUR_WORLD)}
    if not effects or not all(all(found) for found in reductions.values()):
        return None
    figure = new_figure(WIDTH, 1.3 + 0.34 * max(len(sweeps), len(effects)))
    left, right = figure.subplots(1, 2)
    for k, (world, found) in enumerate(reductions.items()):
        means = [overview.mean for overview in found if overview]
        _draw_estimates(left, means, COLOURS[0] if k else HIGHLIGHT, "so"[k], 0.2 * k - 0.1,
                        label=f"earlier systems upload {HOW[world]}")  # fmt: skip
    names = [s.title.split(":")[0] + (f" ({s.ours})" if s.ours != results.suite.ours else "")
             for s in sweeps]  # fmt: skip
    left.set_yticks(range(len(sweeps)), names)
    _draw_estimates(right, [change.mean.negated for *_, change in effects], HIGHLIGHT, "o")
    right.set_yticks(range(len(effects)), [effect.what for _, effect, _ in effects])
    title = f"{results.suite.ours} against the strongest earlier system"
    dress(left, title, "latency reduction (%)", "", grid="x")
    dress(right, "what changes the latency of our plans", "latency (%)", "", grid="x")
    for axes in (left, right):
        axes.invert_yaxis()
        axes.axvline(0, color=GREY, lw=1)
    figure.legend(*left.get_legend_handles_labels(), ncols=2, **BELOW)
    return figure


def _draw_estimates(
    axes: Axes,
    estimates: Sequence[Estimate],
    colour: str,
    marker: str,
    shift: float = 0.0,
    label: str | None = None,
) -> None:
    """Draw fractions in per cent with their intervals, one below the other."""
    values = 100 * np.array(estimates)
    axes.errorbar(
        values[:, 0], np.arange(len(values)) + shift, xerr=np.abs(values[:, 1:].T - values[:, 0]),
        color=colour, marker=marker, ms=5, lw=1.5, capsize=2.5, ls="none", label=label,
    )  # fmt: skip


def _draw_reductions(axes: Axes, sweep: Sweep, found: dict[str, Overview | None]) -> None:
    """Draw our reduction against the strongest earlier system of each point, in either world."""
    numeric = _is_numeric(sweep)
    for k, (world, overview) in enumerate(sorted(found.items(), reverse=True)):
        if overview is not None:
            estimates = 100 * np.array([c.reduction.mean for c in overview.comparisons])
            axes.errorbar(
                np.array(_xs(sweep)) + (0 if numeric else 0.12 * k), estimates[:, 0],
                np.abs(estimates[:, 1:].T - estimates[:, 0]), color=(HIGHLIGHT, COLOURS[0])[k],
                marker="os"[k], ms=5, lw=1.5, capsize=2.5, label=f"they upload {HOW[world]}",
                ls="-" if numeric else "none",
            )  # fmt: skip
    axes.axhline(0, color=GREY, lw=1)
    axes.legend(framealpha=1, edgecolor="none", fontsize=8)
    title = f"{sweep.ours} against the strongest"
    dress(axes, title, sweep.label, "latency reduction (%), 95 % interval")
    _set_x(axes, sweep)


def energy_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw mean latency against mean energy of a UE, with a line per planner through all prices."""
    figure = new_figure(6.5, 4.2)
    axes, look = figure.subplots(), looks(results, sweep)
    for planner in results.planners(sweep, [OUR_WORLD]):
        joules, seconds = (
            results.means(sweep, OUR_WORLD, planner, name) for name in ("energy_j", "latency_s")
        )
        marker = look[planner].get("marker") or "D"  # filled: edges are white
        smaller: plots.Look = {"ms": 5.0, "lw": 1.5, "marker": marker}
        axes.plot(joules, 1e3 * seconds, label=planner, **(look[planner] | smaller))
        if planner == sweep.ours:
            for k in (0, -1):
                axes.annotate(
                    sweep.points[k].label, (joules[k], 1e3 * seconds[k]), xytext=(7, 3),
                    textcoords="offset points", fontsize=8, color=INK,
                )  # fmt: skip
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        plain_log(axis)
    title = f"numbers: least and greatest {sweep.label}, for {sweep.ours}"
    dress(axes, title, "mean energy of a UE (J)", "mean latency (ms)")
    figure.legend(*axes.get_legend_handles_labels(), **LEGEND)
    return figure


def deadline_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw the fraction of deadlines that are met, over the swept quantity."""
    lines = {
        planner: 100.0 * (1.0 - results.means(sweep, OUR_WORLD, planner, "missed"))
        for planner in results.planners(sweep, [OUR_WORLD])
    }
    labels = ("", sweep.label, "deadlines met (%)")
    figure = plots.lines_figure(np.array(_xs(sweep)), lines, looks(results, sweep), labels)
    figure.axes[0].set_yscale("linear")
    return figure


def rounds_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw, for streaming, mean latency in every round of the episode, at the middle point."""
    means = {
        planner: 1e3 * results.column(sweep, sweep.middle, OUR_WORLD, planner).mean(axis=0)
        for planner in results.planners(sweep, [OUR_WORLD])
    }
    look, shared = looks(results, sweep), _shown(results, sweep, means)
    lines = {", ".join(names): means[planner] for planner, names in shared.items()}
    looks_of = {", ".join(names): look[planner] for planner, names in shared.items()}
    labels = (sweep.at(sweep.middle), "round", "mean latency (ms)")
    rounds = np.arange(len(means[results.suite.reference])) + 1
    figure = plots.lines_figure(rounds, lines, looks_of, labels)
    _limit_y(figure.axes, results, sweep)
    return figure


def ablation_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw an ablation: mean latency of each variant; the interval is of its ratio to ours."""
    point, world, ours = sweep.points[0].label, sweep.worlds[0], results.suite.ours
    base = float(results.column(sweep, point, world, ours).mean())
    bars = {}
    for planner in results.planners(sweep):
        change = results.reduction(sweep, point, (world, ours), (world, planner)).mean
        seconds = [base / (1 - fraction) for fraction in change]
        excess = f"  (+{100 * (seconds[0] / base - 1):.1f} %)" if planner != ours else ""
        bars[planner] = Estimate(*(1e3 * s for s in seconds)), f"{1e3 * seconds[0]:.0f}{excess}"
    label = "mean latency (ms); interval of the ratio to ours"
    figure = plots.bars_figure(bars, label, _colours(results))
    figure.axes[0].set_title(f"{world} uploading", fontsize=10, loc="left", color=INK)
    return figure


def gap_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw the mean excess over the certified lower bound, per planner, over all points."""
    seconds = {
        planner: np.concatenate(
            [results.column(sweep, p.label, OUR_WORLD, planner).ravel() for p in sweep.points]
        )
        for planner in results.planners(sweep)
        if planner != results.suite.reference
    }
    bound = seconds.pop(LOWER_BOUND)
    bars = {}
    for planner, latency in seconds.items():
        excess = Estimate(*(100 * x for x in gap(latency, bound)))
        bars[planner] = excess, f"{excess.value:.{0 if excess.value >= 100 else 1}f} %"
    label = "mean latency above the certified lower bound (%)"
    return plots.bars_figure(bars, label, _colours(results))


def _colours(results: SuiteResults) -> dict[str, str]:
    return {results.suite.ours: HIGHLIGHT, results.suite.reference: GREY}


def _is_numeric(sweep: Sweep) -> bool:
    return all(p.label.replace(".", "", 1).replace("e+", "").isdigit() for p in sweep.points)


def _xs(sweep: Sweep) -> list[float]:
    return [p.x if _is_numeric(sweep) else float(k) for k, p in enumerate(sweep.points)]


def _set_x(axes: Axes, sweep: Sweep) -> None:
    xs = _xs(sweep)
    if _is_numeric(sweep) and max(xs) > 8 * min(xs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    turned: dict[str, Any] = {} if _is_numeric(sweep) else {"rotation": 35, "ha": "right"}
    axes.set_xticks(xs, [p.label for p in sweep.points], **turned)
    if turned:
        axes.margins(x=0.12)


def _limit_y(panels: Sequence[Axes], results: SuiteResults, sweep: Sweep) -> None:
    """Set equal logarithmic axes that leave out latencies far above all-local."""
    reference = results.suite.reference
    local_s = max(results.means(sweep, world, reference).max() for world in sweep.worlds)
    low = min(axes.dataLim.y0 for axes in panels)
    for axes in panels:
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.set_ylim(0.85 * low, 1e3 * FAR_WORSE * local_s)


def placement_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw histograms of the fraction of layers at the edge, per network, for our planner."""
    shares: dict[str, list[float]] = {}
    for row in _rounds(results, sweep, results.suite.ours):
        for dnn, share in zip(row["dnn"], row["edge_share"], strict=True):
            shares.setdefault(dnn, []).append(100 * share)
    figure = new_figure(WIDTH, 2.7)
    panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for axes, (dnn, values) in zip(panels, sorted(shares.items()), strict=True):
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, np.linspace(0, 100, 11), weights=weights, color=COLOURS[0], ec="white")
        dress(axes, dnn, "", "inferences (%)" if axes is panels[0] else "")
        axes.set_xlim(0, 100)
    figure.supxlabel("layers at the edge (%)", fontsize=9, color=INK)
    return figure


def diversity_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Draw the kinds of placements that each planner chooses, and the number of different ones."""
    planners = [p for p in results.planners(sweep, [OUR_WORLD]) if p != LOWER_BOUND]
    figure = new_figure(8.4, 1.2 + 0.3 * len(planners))
    axes = figure.subplots()
    for y, planner in enumerate(reversed(planners)):
        rows = _rounds(results, sweep, planner)
        kinds = Counter(kind for row in rows for kind in row["kind"])
        distinct = {pair for r in rows for pair in zip(r["dnn"], r["placement"], strict=True)}
        left = 0.0
        for kind, name in enumerate(KINDS):
            width = 100 * kinds[kind] / max(1, kinds.total())
            label = name if y == 0 else None
            axes.barh(planner, width, left=left, color=COLOURS[kind], ec="white", label=label)
            left += width
        axes.annotate(
            f"{len(distinct)} different", (1.01, y), xycoords=("axes fraction", "data"),
            va="center", fontsize=8.5, color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, 100)
    dress(axes, "", "inferences (%)", "", grid="")
    figure.legend(**LEGEND | {"loc": "outside upper center"}, ncols=4)
    return figure


def _rounds(results: SuiteResults, sweep: Sweep, planner: str) -> list[Row]:
    """Return a planner's rounds at all points of a sweep, in our world."""
    points = [(sweep.name, p.label, OUR_WORLD, planner) for p in sweep.points]
    return [row for key in points for rows in results.rows.get(key, ()) for row in rows]


def runtime_figure(timings: Sequence[Timing]) -> Figure:
    """Draw planning time: PBT-DP against layers, whole plans against UEs."""
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    layers, ues = ([t for t in timings if bool(t.label) == alone] for alone in (True, False))
    for chain, name, look in ((True, "chains", "o"), (False, "other graphs", "D")):
        some = [t for t in layers if t.chain == chain]
        colour = COLOURS[0] if chain else HIGHLIGHT
        seconds = [1e3 * t.seconds for t in some]
        left.plot([t.layers for t in some], seconds, look, color=colour, label=name)
    _name_points(left, layers)
    dress(left, "PBT-DP, one UE", "layers", "planning time (ms)", grid="both")
    for planner, colour, marker in zip(
        dict.fromkeys(t.what for t in ues), (HIGHLIGHT, *COLOURS), plots.MARKERS, strict=False
    ):
        some = [t for t in ues if t.what == planner]
        seconds = [1e3 * t.seconds for t in some]
        right.plot([t.ues for t in some], seconds, marker=marker, color=colour, label=planner)
    dress(right, "whole plans, default scenario", "UEs", "planning time (ms)", grid="both")
    right.set_xticks(sorted({t.ues for t in ues}))
    left.set_xscale("log")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8.5)
    for axis in (left.xaxis, left.yaxis, right.yaxis):
        plain_log(axis)
    return figure


def budget_figure(results: SuiteResults, sweep: Sweep, gaps: Gaps) -> Figure:
    """Draw the gap to the best known plan against the planning time, with a colour per point."""
    figure = new_figure(7.6, 4.4)
    axes = figure.subplots()
    reference, budgets = results.suite.reference, sweep.budgets_ms
    planners = [p for p in sweep.planners if (p, sweep.middle, budgets[0]) in gaps]
    styles = dict(zip(planners, cycle(BUDGET_LOOKS), strict=False)) | {reference: DOTTED}
    for colour, point in zip(cycle(COLOURS), (p.label for p in sweep.points), strict=False):
        for planner in planners:
            percents = [100 * gaps[planner, point, budget].gap for budget in budgets]
            axes.plot(budgets, percents, color=colour, **styles[planner])
        local = 100 * gaps[reference, point, NO_LIMIT].gap
        axes.axhline(local, color=colour, **styles[reference])
        axes.plot([], [], color=colour, lw=3, label=f"{point} {sweep.label}")
    for name, look in styles.items():
        axes.plot([], [], label=name, color=GREY, **look)
    axes.set_xscale("log")
    axes.set_xticks(budgets, [f"{budget:,g}" for budget in budgets])
    axes.set_yscale("symlog", linthresh=0.1, linscale=0.4)
    axes.set_yticks(ticks := [0, 0.1, 1, 10, 100], [f"{tick:g}" for tick in ticks])
    axes.set_ylim(-0.02, 1.5 * axes.dataLim.y1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    dress(axes, "", "time for planning (ms)", "excess over the best known plan (%)", grid="both")
    figure.legend(**LEGEND)
    return figure


def _name_points(axes: Axes, timings: Sequence[Timing]) -> None:
    """Write the networks' names, except at points that lie next to a point with a name."""
    named: list[tuple[float, float]] = []
    for t in sorted(timings, key=lambda t: (t.layers, t.seconds)):
        place = np.log(t.layers), np.log(t.seconds)
        if all(abs(place[0] - x) > 0.35 or abs(place[1] - y) > 0.3 for x, y in named):
            named.append(place)
            axes.annotate(
                t.label, (t.layers, 1e3 * t.seconds), (5, -9), textcoords="offset points",
                fontsize=7, color=GREY,
            )  # fmt: skip
