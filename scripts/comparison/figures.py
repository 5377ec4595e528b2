"""The figures of the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from comparison.analysis import AIM_P90, measured, mode_of
from comparison.cells import Measurement
from mjoa_gym.evaluation.plots import COLOURS, new_figure
from mjoa_gym.model.simulator import Interval, Timeline
from mjoa_gym.rendering import gantt_figure

MODE_MARKERS = {
    "on the UE": "s", "serial": "v", "parallel": "o", "whole": "D", "preinstalled": "^",
    "with residency": "x",
}  # fmt: skip


def scatter(rows: Sequence[Measurement]) -> Figure:
    """Predicted against measured seconds, every inference once."""
    shown = measured(rows)
    figure = new_figure(7.2, 6.2)
    axes = figure.add_subplot()
    models = list(dict.fromkeys(row.model for row in shown))
    for model, colour in zip(models, cycle(COLOURS), strict=False):
        for mode, marker in MODE_MARKERS.items():
            points = [r for r in shown if r.model == model and mode_of(r) == mode]
            if points:
                axes.scatter(
                    [r.measured_s for r in points], [r.predicted_s for r in points], s=22,
                    color=colour, marker=marker, linewidths=0.9, alpha=0.75,
                )  # fmt: skip
    both = [s for row in shown for s in (row.measured_s, row.predicted_s)]
    line = np.array([min(both) * 0.8, max(both) * 1.25])
    axes.fill_between(line, line * (1 - AIM_P90), line * (1 + AIM_P90), color="#dddddd", zorder=0,
                      label=f"within {AIM_P90:.0%}", linewidth=0)  # fmt: skip
    axes.plot(line, line, color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=line, ylim=line,
             xlabel="measured latency (s)", ylabel="simulated latency (s)")  # fmt: skip
    for model, colour in zip(models, cycle(COLOURS), strict=False):
        axes.scatter([], [], color=colour, label=model, s=22)
    for mode, marker in MODE_MARKERS.items():
        if any(mode_of(row) == mode for row in shown):
            axes.scatter([], [], color="#666666", marker=marker, label=mode, s=22)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def timeline(content: dict[str, Any]) -> Figure:
    """A measured timeline under the predicted one."""
    timelines = [_timeline(content[which]) for which in ("predicted", "measured")]
    head = f"{content['model']}, {content['rate_mbps']:g} Mbit/s"
    return gantt_figure(timelines, [f"{head}: simulated", f"{head}: measured"])


def _timeline(part: dict[str, Any]) -> Timeline:
    intervals = tuple(Interval(*row) for row in part["intervals"])
    return Timeline(part["latency_s"], intervals, np.zeros(0), part["latency_s"])
