"""The report of the comparison with one UE: errors, the order of planners, figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kendalltau

from comparison import pages
from comparison.kept import COLD, ROWS, Note
from comparison.measurements import JOINS, Grid, Measurement, Measurements
from comparison.pages import FREE, PACED, percent
from mjoa_gym.evaluation.page import items
from mjoa_gym.evaluation.plots import COLOURS, new_figure
from mjoa_gym.evaluation.table import Table

AIM_REGRET, AIM_SHARE = 0.03, 0.95
MODE_MARKERS = {
    "on the UE": "s", "serial": "v", "parallel": "o", "whole": "D", "preinstalled": "^",
    JOINS: "P", "with residency": "x",
}  # fmt: skip
"""All modes, in the order of tables and legends."""
LINKS = {False: "loopback", True: "links of a network namespace by the operating system"}
PREDICTED = ("predicted_s", "bytes_only_s", "own_times_s")
MESSAGES = ("predicted_s", "in_turn_s", "bytes_only_s")


class Errors(NamedTuple):
    """Relative errors of n inferences, predicted against measured."""

    n: int
    median: float  # of the absolute errors, like the next two
    p90: float
    worst: float
    bias: float  # the mean of the signed errors: below 0 if the simulator promises too much


def measured(rows: Sequence[Measurement]) -> list[Measurement]:
    """Return every inference that was run, once."""
    return [row for row in rows if row.was_run and not row.same_as and not row.failure]


def errors(rows: Sequence[Measurement], predicted: str = "predicted_s") -> Errors:
    """Return the errors of one of the predictions, for rows that were run."""
    signed = np.array([getattr(row, predicted) / row.measured_s - 1.0 for row in rows])
    size = np.abs(signed)
    numbers = np.median(size), np.quantile(size, 0.9), size.max(), signed.mean()
    return Errors(len(rows), *map(float, numbers))


def by_model_and_mode(rows: Sequence[Measurement]) -> dict[tuple[str, str], list[Measurement]]:
    """Return measured rows in groups; "all" has all rows of a model or of a mode."""
    groups: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for row in measured(rows):
        for key in product((row.model, "all"), (row.mode, "all")):
            groups[key].append(row)
    return dict(groups)


class PlannerChoice(NamedTuple):
    """The result of trusting the simulator, among the planners of a model, rate and upload mode."""

    model: str
    rate_mbps: float
    upload: str
    planners: int  # number of planners that were run
    tau: float  # Kendall's rank correlation of predicted and measured; NaN for equal plans
    best: str  # the planner that the simulator prefers
    regret: float  # how much longer it took than the best in reality
    noise: float  # how much repeats of these inferences differ; 0 if not known

    @property
    def good(self) -> bool:
        """Whether it is as good as the best, within the machine's noise."""
        return self.regret <= max(AIM_REGRET, self.noise)


def choices(rows: Sequence[Measurement], uploads: Sequence[str]) -> list[PlannerChoice]:
    """Return one choice per model, rate and upload mode."""
    groups: dict[tuple[str, float, str], list[Measurement]] = defaultdict(list)
    for row in rows:
        if row.scenario == COLD and row.upload in uploads and row.was_run and not row.failure:
            groups[row.model, row.rate_mbps, row.upload].append(row)
    return [_choice(key, group) for key, group in groups.items()]


def _choice(key: tuple[str, float, str], rows: list[Measurement]) -> PlannerChoice:
    best = min(rows, key=lambda row: row.predicted_s)
    plans = {row.placement: (row.predicted_s, row.measured_s) for row in rows}
    tau = float("nan")
    if len(plans) > 1:
        tau = float(kendalltau(*zip(*plans.values(), strict=True)).statistic)
    fastest = min(rows, key=lambda row: row.measured_s)
    noise = sum(0.0 if math.isnan(row.noise) else row.noise for row in (best, fastest))
    regret = best.measured_s / fastest.measured_s - 1.0
    return PlannerChoice(*key, len(rows), tau, best.planner, regret, noise)


def scatter_figure(rows: Sequence[Measurement]) -> Figure:
    """Draw predicted against measured seconds, every inference once."""
    groups = by_model_and_mode(rows)
    models = (model for model, mode in groups if mode == "all" and model != "all")
    colours = dict(zip(models, cycle(COLOURS), strict=False))
    markers = {mode: marker for mode, marker in MODE_MARKERS.items() if ("all", mode) in groups}
    figure = new_figure(7.2, 6.2)
    axes = figure.add_subplot()
    for (model, mode), group in groups.items():
        if "all" not in (model, mode):
            points = zip(*((row.measured_s, row.predicted_s) for row in group), strict=True)
            axes.scatter(*points, s=22, color=colours[model], marker=markers[mode], linewidths=0.9,
                         alpha=0.75)  # fmt: skip
    both = [s for row in groups["all", "all"] for s in (row.measured_s, row.predicted_s)]
    line, part = pages.equality(axes, both), FREE[1]
    axes.fill_between(line, line * (1 - part), line * (1 + part), color="#dddddd", zorder=0,
                      label=f"within {part:.0%}", linewidth=0)  # fmt: skip
    for model, colour in colours.items():
        axes.scatter([], [], color=colour, label=model, s=22)
    for mode, marker in markers.items():
        axes.scatter([], [], color="#666666", marker=marker, label=mode, s=22)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def timeline_figure(content: Note) -> Figure:
    """Draw a measured timeline below the predicted one."""
    head = f"{content['model']}, {content['rate_mbps']:g} Mbit/s"
    return pages.timelines_figure([content], [head])


def publish(results: Measurements, out: Path, command: str, into: Sequence[Path] = ()) -> Path:
    """Write results, figures and the report, update the pages, and return the report's path.

    Raises:
        ValueError: If nothing was measured.
    """
    if not measured(results.rows):
        raise ValueError(f"nothing was measured; {out / ROWS} would be empty")
    shown = results.timeline
    figures = {
        "scatter.png": scatter_figure(results.rows),
        "timeline.png": None if shown is None else timeline_figure(shown),
    }

    def parts(folder: str) -> dict[str, str]:
        return {
            "testbed": items(summary(results.rows, results.grid)),
            "testbed-results": _page_part(results, folder, command),
        }

    return pages.publish(results, out, figures, _report(results, command), into, parts)


def summary(rows: Sequence[Measurement], grid: Grid) -> list[str]:
    """Return the two most important sentences."""
    error, found = errors(measured(rows), PREDICTED[0]), choices(rows, grid.uploads)
    differ = [choice for choice in found if not math.isnan(choice.tau)]
    return [
        f"Over {error.n} real inferences on two processes, the simulated latency is off by "
        f"{percent(error.median)} in the median and by {percent(error.p90)} in the 90th "
        "percentile.",
        f"The simulator's best planner is the best in reality, or within {100 * AIM_REGRET:.0f} % "
        f"of it, in {_good(found)}; where the planners' plans differ, in {_good(differ)}.",
    ]


def verdict(rows: Sequence[Measurement], grid: Grid) -> str:
    """Return the findings as a list of sentences, compared with the aims."""
    run = measured(rows)
    bytes_only, own = (errors(run, predicted) for predicted in PREDICTED[1:])
    signed = np.array([row.predicted_s / row.measured_s - 1.0 for row in run])
    found = choices(rows, grid.uploads)
    differ = [c for c in found if not math.isnan(c.tau)]
    tau = np.mean([c.tau for c in differ]) if differ else math.nan
    wrong = sum(not row.correct for row in measured(rows))
    failed = sum(bool(row.failure) for row in rows)
    against = pages.errors_against(PACED if grid.paced else FREE, signed)
    sentences = [
        *_on_noise(rows, grid),
        f"Median absolute error {against}, over {len(run)} different inferences.",
        f"Without the measured cost of a message, charging tensors for their bytes only: median "
        f"{percent(bytes_only.median)}, 90th percentile {percent(bytes_only.p90)}.",
        *_on_messages(rows),
        f"With the layer times that each inference itself had, the median error is "
        f"{percent(own.median)}: the rest is layers that did not take what they took before.",
        f"The simulator's best planner is the best in reality or within {100 * AIM_REGRET:.0f} % of"
        f" it in {_good(found)} (aim: {100 * AIM_SHARE:.0f} %); of those in which the planners' "
        f"plans differ, in {_good(differ)}. Trusting it costs "
        f"{percent(max(c.regret for c in found))} at most.",
        f"Rank correlation of the planners' latencies (Kendall's tau, where plans differ): "
        f"{tau:.2f} on average.",
        f"Results that differ from local execution: {wrong}. Inferences in which the server "
        f"failed, not counted: {failed}.",
    ]
    return items(sentences)


def _on_noise(rows: Sequence[Measurement], grid: Grid) -> list[str]:
    """Return whether layers were paced, and the effect of the machine's noise."""
    run = measured(rows)
    if grid.paced:
        layers = sum(row.runs * len(row.placement) for row in run)
        late = sum(row.overruns for row in run)
        return [
            "Paced: each layer is executed for real and counts as finished when its table says, so "
            f"the machine's noise does not count. {pages.late_layers(late, layers)}"
        ]
    noise = [row.noise for row in run if not math.isnan(row.noise)]
    if not noise:
        return []
    middle, most = map(percent, np.quantile(noise, (0.5, 0.9)))
    return [
        "Free: layers take what they take. Repeats of the same inference, taken in turn, differ "
        f"from their median by {middle} (90th percentile {most}); planners that differ by less "
        "count as equal."
    ]


def _on_messages(rows: Sequence[Measurement]) -> list[str]:
    """Return what plans with many successive messages show about the cost of a message."""
    many = [row for row in measured(rows) if row.mode == JOINS]
    if not many:
        return []
    e, in_turn, bytes_only = (errors(many, predicted) for predicted in MESSAGES)
    return [
        f"Where many small tensors follow each other ({JOINS}, all else at the edge), messages do "
        f"overlap: the bias is {percent(e.bias, '+')} (worst error {percent(e.worst)}). If each "
        f"kept its link busy, it would be {percent(in_turn.bias, '+')} "
        f"({percent(in_turn.worst)}), and with bytes only {percent(bytes_only.bias, '+')} "
        f"({percent(bytes_only.worst)})."
    ]


def _good(found: Sequence[PlannerChoice]) -> str:
    """Return in how many of the cases trusting the simulator is good enough."""
    if not found:
        return "none of 0 cases"
    good = sum(c.good for c in found)
    return f"{100 * good / len(found):.0f} % of {len(found)} cases"


def error_table(rows: Sequence[Measurement], whole: bool = True) -> Table:
    """Return the errors per model and mode, or only per model and per mode."""
    groups = by_model_and_mode(rows)
    models = dict.fromkeys(model for model, _ in groups if model != "all")
    lines = [
        (model, mode, *_error_cells(groups[model, mode]))
        for model in (*models, "all")
        for mode in (*MODE_MARKERS, "all")
        if (model, mode) in groups and (whole or "all" in (model, mode))
    ]
    header = (
        "Model", "Mode", "Inferences", "Median", "90 %", "Worst", "Bias", "Median, bytes only",
        "90 %, bytes only", "Median, own times", "90 %, own times",
    )  # fmt: skip
    return Table("Errors", header, lines)


def _error_cells(group: Sequence[Measurement]) -> list[str]:
    e, *others = (errors(group, predicted) for predicted in PREDICTED)
    cells = [str(e.n), *map(percent, (e.median, e.p90, e.worst)), percent(e.bias, "+")]
    return cells + [percent(size) for other in others for size in (other.median, other.p90)]


def message_table(rows: Sequence[Measurement]) -> Table:
    """Return every plan with many successive messages, and three ways to charge them."""
    lines = [
        (row.model, f"{row.rate_mbps:g}", f"{1e3 * row.measured_s:.0f}",
         *(percent(errors([row], predicted).bias, "+") for predicted in MESSAGES))
        for row in measured(rows)
        if row.mode == JOINS
    ]  # fmt: skip
    header = ("Model", "Mbit/s", "Measured, ms", "Error", "Error, in turn", "Error, bytes only")
    return Table("Messages", header, lines)


def choice_table(found: Sequence[PlannerChoice]) -> Table:
    """Return rank correlation and regret per case."""
    header = ("Model", "Mbit/s", "Mode", "Planners", "Tau", "Simulator's best", "Regret")
    lines = [
        (c.model, f"{c.rate_mbps:g}", c.upload, str(c.planners),
         "-" if math.isnan(c.tau) else f"{c.tau:.2f}", c.best, percent(c.regret))
        for c in found
    ]  # fmt: skip
    return Table("Choices", header, lines)


def drift_table(layer_times: dict[str, list[Note]]) -> Table:
    """Return the first and last layer times in each model's part of the grid, and their spread."""
    lines = []
    for model, notes in layer_times.items():
        cells = [model]
        for side in ("ue_s", "edge_s"):
            sums = np.array([np.sum(note[side]) for note in notes])
            last, spread = sums[-1] / sums[0] - 1.0, sums.max() / sums.min() - 1.0
            cells += [f"{sums[0]:.3f}", percent(last, "+"), percent(spread)]
        message_s = np.median([note["message_s"] for note in notes])
        lines.append((*cells, f"{1e3 * message_s:.2f}"))
    header = ("Model", "On the UE, s", "At last", "Spread", "At the edge, s", "At last", "Spread",
              "Per message, ms")  # fmt: skip
    return Table("Layer times", header, lines)


def latency_table(rows: Sequence[Measurement]) -> Table:
    """Return measured and simulated milliseconds of every cold cell."""
    lines = [
        (row.model, f"{row.rate_mbps:g}", row.upload, row.planner,
         f"{row.placement.count('1')}/{len(row.placement)}", f"{1e3 * row.predicted_s:.0f}",
         f"{1e3 * row.measured_s:.0f}" if row.was_run else "not run",
         percent(errors([row]).bias, "+") if row.was_run else "", row.same_as)
        for row in rows
        if row.scenario == COLD
    ]  # fmt: skip
    header = ("Model", "Mbit/s", "Mode", "Planner", "At the edge", "Simulated, ms", "Measured, ms",
              "Error", "Measured as")  # fmt: skip
    return Table("Cells", header, lines)


def _report(results: Measurements, command: str) -> str:
    rows, grid = results.rows, results.grid
    skipped = sum(not row.was_run for row in rows)
    sections = [
        "# Simulated against measured",
        verdict(rows, grid),
        "![Simulated against measured latency](scatter.png)",
        "## How it was measured",
        "Two processes on one machine, one torch thread each, pinned to a core each; "
        f"{LINKS[grid.shaped_below]}, both directions shaped to the given rate. The UE is this "
        f"machine slowed down {grid.ue_slowdown:g} times, the server {grid.edge_slowdown:g} times. "
        f"Layer times are medians of {grid.profile_repeats} inferences just before a model's cold "
        "cells of one rate and again before its rows of queries, and once more after its last. "
        f"Inferences are repeated until they took {grid.repeat_s:g} s together, up to "
        f"{grid.repeats} times, all plans of a rate in turn; the median counts. Equal plans are "
        "measured once.",
        f"Not run, because the simulator says more than {grid.cap_s:g} s: {skipped} of {len(rows)} "
        "(the table of all cells names them).",
        pages.machine_table(results.machine),
        f"Repeat it with `{command}`.",
        "## Errors per model and mode",
        "Relative to the measured latency; bias below 0: the simulator promises too much. Each "
        "tensor that changes sides is charged what one took beside its bytes when the layer times "
        "were measured (last column of the table of layer times); planners know it. *Bytes only*: "
        "the same plans simulated without it. *Own times*: simulated with the layer times of the "
        "very inference, which leaves what the timing model itself gets wrong.",
        error_table(rows).markdown(),
        "## Many messages in a row",
        "Layers with several inputs on the UE, all others and their parameters at the edge: "
        "the branches' tensors come down one right after the other. *Error*: as the model has it, "
        "a message is usable some time after its last byte has left, and the link is free for the "
        "next one meanwhile. *In turn*: a message keeps its link busy for that time.",
        message_table(rows).markdown(),
        "## The order of the planners",
        choice_table(choices(rows, grid.uploads)).markdown(),
        "## Layer times and their drift",
        drift_table(results.layer_times).markdown(),
    ]
    if results.timeline is not None:
        sections += ["## One inference", "![Simulated and measured timeline](timeline.png)"]
    sections += ["## All cold cells", latency_table(rows).markdown()]
    return "\n\n".join(sections) + "\n"


def _page_part(results: Measurements, folder: str, command: str) -> str:
    return (
        f"{verdict(results.rows, results.grid)}\n\n"
        f"![Simulated against measured latency]({folder}/scatter.png)\n\n"
        f"{error_table(results.rows, whole=False).markdown()}\n\n"
        "Two processes on one machine, real layers, real uploads over shaped loopback; simulated "
        "with layer times and the cost of a message that were measured just before. Repeat it "
        f"with `{command}`. [The report]({folder}/report.md) has every cell."
    )
