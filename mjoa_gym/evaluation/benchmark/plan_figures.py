"""The figures of plans: what they look like, and how long they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark.planning_time import Timing
from mjoa_gym.evaluation.benchmark.results import OUR_WORLD, SuiteResults
from mjoa_gym.evaluation.benchmark.suite import Sweep
from mjoa_gym.evaluation.episodes import KINDS
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.plots import (
    COLOURS,
    GREY,
    INK,
    KIND_COLOURS,
    MARKERS,
    OURS,
    dress,
    new_figure,
    plain_log,
)


def placement_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Histograms of the share of layers at the edge, per network, for our planner."""
    shares: dict[str, list[float]] = {}
    for row in _rounds(results, sweep, results.suite.ours):
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


def diversity_figure(results: SuiteResults, sweep: Sweep) -> Figure:
    """Which kinds of placements each planner chooses, and how many different ones."""
    planners = [p for p in results.planners(sweep, [OUR_WORLD]) if p != LOWER_BOUND]
    figure = new_figure(8.4, 1.2 + 0.3 * len(planners))
    axes = figure.subplots()
    for y, planner in enumerate(reversed(planners)):
        kinds: Counter[int] = Counter()
        distinct: set[tuple[str, int]] = set()
        for row in _rounds(results, sweep, planner):
            kinds.update(row["kind"])
            distinct.update(zip(row["dnn"], row["placement"], strict=True))
        left = 0.0
        for kind, colour in enumerate(KIND_COLOURS):
            width = 100 * kinds[kind] / max(1, kinds.total())
            label = KINDS[kind] if y == 0 else None
            axes.barh(planner, width, left=left, color=colour, ec="white", label=label)
            left += width
        axes.annotate(
            f"{len(distinct)} different", (1.01, y), xycoords=("axes fraction", "data"),
            va="center", fontsize=8.5, color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, 100)
    dress(axes, "", "inferences (%)", "", grid="")
    figure.legend(loc="outside upper center", frameon=False, fontsize=8.5, ncols=4)
    return figure


def _rounds(results: SuiteResults, sweep: Sweep, planner: str) -> list[Row]:
    """A planner's rounds at all points of a sweep, in our world."""
    points = [(sweep.name, p.label, OUR_WORLD, planner) for p in sweep.points]
    return [row for key in points for rows in results.rows.get(key, ()) for row in rows]


def runtime_figure(layers: Sequence[Timing], ues: Sequence[Timing]) -> Figure:
    """Planning time: PBT-DP against layers, whole plans against UEs."""
    figure = new_figure(9.6, 3.8)
    left, right = figure.subplots(1, 2)
    for chain, colour, marker in ((True, "#0072B2", "o"), (False, OURS, "D")):
        some = [t for t in layers if t.chain == chain]
        label = "chains" if chain else "other graphs"
        seconds = [1e3 * t.seconds for t in some]
        left.plot([t.layers for t in some], seconds, marker, color=colour, label=label)
    _name_points(left, layers)
    dress(left, "PBT-DP, one UE", "layers", "planning time (ms)", grid="both")
    for k, planner in enumerate(dict.fromkeys(t.what for t in ues)):
        some = [t for t in ues if t.what == planner]
        right.plot(
            [t.ues for t in some], [1e3 * t.seconds for t in some], marker=MARKERS[k],
            color=OURS if k == 0 else COLOURS[k - 1], label=planner,
        )  # fmt: skip
    dress(right, "whole plans, default scenario", "UEs", "planning time (ms)", grid="both")
    right.set_xticks(sorted({t.ues for t in ues}))
    left.set_xscale("log")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8.5)
    for axis in (left.xaxis, left.yaxis, right.yaxis):
        plain_log(axis)
    return figure


def _name_points(axes: Axes, timings: Sequence[Timing]) -> None:
    """Write the networks' names, but for points that lie next to one that has its name."""
    named: list[tuple[float, float]] = []
    for t in sorted(timings, key=lambda t: (t.layers, t.seconds)):
        place = np.log(t.layers), np.log(t.seconds)
        if all(abs(place[0] - x) > 0.35 or abs(place[1] - y) > 0.3 for x, y in named):
            named.append(place)
            axes.annotate(
                t.label, (t.layers, 1e3 * t.seconds), (5, -9), textcoords="offset points",
                fontsize=7, color=GREY,
            )  # fmt: skip
