"""Writes what the comparison has found: report, figures, the README's section."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from comparison import figures
from comparison.analysis import (
    AIM_MEDIAN,
    AIM_P90,
    AIM_REGRET,
    AIM_SHARE,
    PlannerChoice,
    by_model_and_mode,
    choices,
    drift,
    errors,
    measured,
)
from comparison.cells import COLD, Grid, Measurement
from comparison.results import Measurements, Note
from mjoa_gym.evaluation.journal import write_atomically
from mjoa_gym.evaluation.page import update_readme
from mjoa_gym.evaluation.plots import encoded
from mjoa_gym.evaluation.table import Table

ORDER = ("on the UE", "serial", "parallel", "whole", "preinstalled", "with residency", "all")
LINKS = {
    False: "loopback",
    True: "links of a network namespace by the operating system",
}
README_PART = "testbed"
PREDICTED = ("predicted_s", "bytes_only_s", "own_times_s")


def publish(results: Measurements, out: Path, command: str, readme: Path | None) -> Path:
    """Write everything; returns the report's path."""
    rows, grid = results.rows, results.grid
    results.save(out)
    write_atomically(out / "scatter.png", encoded(figures.scatter(rows), "png"))
    if results.timeline is not None:
        drawn = figures.timeline(results.timeline)
        write_atomically(out / "timeline.png", encoded(drawn, "png"))
    report = out / "report.md"
    write_atomically(report, _report(results, command))
    if readme is not None:
        update_readme(readme, _readme(rows, grid, out, readme.parent, command), README_PART)
    return report


def error_table(rows: Sequence[Measurement], whole: bool = True) -> Table:
    """The errors per model and mode, or per model only."""
    groups = by_model_and_mode(rows)
    models = list(dict.fromkeys(model for model, _ in groups if model != "all"))
    lines = [
        (model, mode, *_error_cells(groups[model, mode]))
        for model in (*models, "all")
        for mode in ORDER
        if (model, mode) in groups and (whole or mode == "all" or model == "all")
    ]
    header = (
        "Model", "Mode", "Inferences", "Median", "90 %", "Worst", "Bias", "Median, bytes only",
        "90 %, bytes only", "Median, own times", "90 %, own times",
    )  # fmt: skip
    return Table("Errors", header, lines)


def _error_cells(group: Sequence[Measurement]) -> tuple[str, ...]:
    e, *others = (errors(group, predicted) for predicted in PREDICTED)
    sizes = [e.median, e.p90, e.worst, *(x for other in others for x in (other.median, other.p90))]
    texts = [f"{100 * size:.1f} %" for size in sizes]
    return str(e.n), *texts[:3], f"{100 * e.bias:+.1f} %", *texts[3:]


def verdict(rows: Sequence[Measurement], grid: Grid) -> list[str]:
    """What was found, in sentences, against the aims."""
    e, bytes_only, own = (errors(measured(rows), predicted) for predicted in PREDICTED)
    found = choices(rows, grid.uploads)
    good = [c.regret <= AIM_REGRET for c in found]
    differ = [not math.isnan(c.tau) for c in found]
    good_there = [g for g, d in zip(good, differ, strict=True) if d]
    taus = [c.tau for c in found if not math.isnan(c.tau)]
    wrong = sum(not row.correct for row in measured(rows))
    failed = sum(bool(row.failure) for row in rows)
    return [
        f"Median absolute error {100 * e.median:.1f} % (aim: at most {100 * AIM_MEDIAN:.0f} %), "
        f"90th percentile {100 * e.p90:.1f} % (aim: {100 * AIM_P90:.0f} %), bias "
        f"{100 * e.bias:+.1f} %, over {e.n} different inferences.",
        f"Without the measured cost of a message, charging tensors for their bytes only: median "
        f"{100 * bytes_only.median:.1f} %, 90th percentile {100 * bytes_only.p90:.1f} %.",
        f"With the layer times that each inference itself had, the median error is "
        f"{100 * own.median:.1f} %: the rest is layers that did not take what they took before.",
        f"The simulator's best planner is the best in reality or within {100 * AIM_REGRET:.0f} % of"
        f" it in {_share(good)} (aim: {100 * AIM_SHARE:.0f} %); of those in which the planners' "
        f"plans differ, in {_share(good_there)}. Trusting it costs "
        f"{100 * max(c.regret for c in found):.1f} % at most.",
        f"Rank correlation of the planners' latencies (Kendall's tau, where plans differ): "
        f"{np.mean(taus) if taus else math.nan:.2f} on average.",
        f"Results that differ from local execution: {wrong}. Inferences in which the server "
        f"failed, not counted: {failed}.",
    ]


def _share(good: Sequence[bool]) -> str:
    if not good:
        return "none of 0 cases"
    return f"{100 * sum(good) / len(good):.0f} % of {len(good)} cases"


def choice_table(found: Sequence[PlannerChoice]) -> Table:
    """Rank correlation and regret per case."""
    header = ("Model", "Mbit/s", "Mode", "Planners", "Tau", "Simulator's best", "Regret")
    lines = [
        (c.model, f"{c.rate_mbps:g}", c.upload, str(c.planners),
         "-" if math.isnan(c.tau) else f"{c.tau:.2f}", c.best, f"{100 * c.regret:.1f} %")
        for c in found
    ]  # fmt: skip
    return Table("Choices", header, lines)


def drift_table(layer_times: Mapping[str, Sequence[Note]]) -> Table:
    """Layer times at first and at last in each model's part of the grid."""
    lines = []
    for model, note in layer_times.items():
        sides = [drift(note, side) for side in ("ue_s", "edge_s")]
        cells = [
            text
            for d in sides
            for text in (f"{d.first_s:.3f}", f"{100 * d.last:+.1f} %", f"{100 * d.spread:.1f} %")
        ]
        message_s = np.median([measurement["message_s"] for measurement in note])
        lines.append((model, *cells, f"{1e3 * message_s:.2f}"))
    header = ("Model", "On the UE, s", "At last", "Spread", "At the edge, s", "At last", "Spread",
              "Per message, ms")  # fmt: skip
    return Table("Layer times", header, lines)


def latency_table(rows: Sequence[Measurement]) -> Table:
    """Every cold cell: measured and simulated milliseconds."""
    lines = []
    for row in rows:
        if row.scenario != COLD:
            continue
        got = f"{1e3 * row.measured_s:.0f}" if row.was_run else "not run"
        error = f"{100 * errors([row]).bias:+.1f} %" if row.was_run else ""
        lines.append(
            (row.model, f"{row.rate_mbps:g}", row.upload, row.planner,
             f"{row.placement.count('1')}/{len(row.placement)}", f"{1e3 * row.predicted_s:.0f}",
             got, error, row.same_as)
        )  # fmt: skip
    header = ("Model", "Mbit/s", "Mode", "Planner", "At the edge", "Simulated, ms", "Measured, ms",
              "Error", "Measured as")  # fmt: skip
    return Table("Cells", header, lines)


def _report(results: Measurements, command: str) -> str:
    rows, grid, where = results.rows, results.grid, results.machine
    skipped = [row for row in rows if not row.was_run]
    sections = [
        "# Simulated against measured",
        "\n".join(f"* {sentence}" for sentence in verdict(rows, grid)),
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
        f"Not run, because the simulator says more than {grid.cap_s:g} s: {len(skipped)} of "
        f"{len(rows)} (the table of all cells names them).",
        "| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in where.items()),
        f"Repeat it with `{command}`.",
        "## Errors per model and mode",
        "Relative to the measured latency; bias below 0: the simulator promises too much. Each "
        "tensor that changes sides is charged what one took beside its bytes when the layer times "
        "were measured (last column of the table of layer times); planners know it. *Bytes only*: "
        "the same plans simulated without it. *Own times*: simulated with the layer times of the "
        "very inference, which leaves what the timing model itself gets wrong.",
        error_table(rows).markdown(),
        "## The order of the planners",
        choice_table(choices(rows, grid.uploads)).markdown(),
        "## Layer times and their drift",
        drift_table(results.layer_times).markdown(),
    ]
    if results.timeline is not None:
        sections += ["## One inference", "![Simulated and measured timeline](timeline.png)"]
    sections += ["## All cold cells", latency_table(rows).markdown()]
    return "\n\n".join(sections) + "\n"


def _readme(rows: Sequence[Measurement], grid: Grid, out: Path, root: Path, command: str) -> str:
    folder = out.resolve().relative_to(root.resolve()).as_posix()
    sentences = "\n".join(f"* {sentence}" for sentence in verdict(rows, grid))
    return (
        f"{sentences}\n\n![Simulated against measured latency]({folder}/scatter.png)\n\n"
        f"{error_table(rows, whole=False).markdown()}\n\n"
        "Two processes on one machine, real layers, real uploads over shaped loopback; simulated "
        "with layer times and the cost of a message that were measured just before. Repeat it "
        f"with `{command}`. [The report]({folder}/report.md) has every cell."
    )
