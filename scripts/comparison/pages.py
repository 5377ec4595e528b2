"""What the reports of comparisons have in common: aims, sentences, figures and files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from comparison.kept import Note
from mjoa_gym.evaluation.page import update_pages
from mjoa_gym.evaluation.plots import encoded
from mjoa_gym.files import write
from mjoa_gym.model.simulator import Interval, Timeline
from mjoa_gym.rendering import gantt_figure

FREE, PACED = (0.05, 0.12), (0.02, 0.05)
"""The aims for errors, median and 90th percentile. Those for paced layers hold on any machine."""
SIMULATED = (("predicted", "simulated"), ("measured", "measured"))


def percent(part: float, sign: str = "-") -> str:
    """Return a fraction as a percentage."""
    return f"{100 * part:{sign}.1f} %"


def errors_against(aims: tuple[float, float], signed: np.ndarray) -> str:
    """Return median, 90th percentile and bias of (n,) relative errors, with the aims, as a text."""
    middle, p90 = np.quantile(np.abs(signed), (0.5, 0.9))
    return (
        f"{percent(middle)} (aim: at most {100 * aims[0]:.0f} %), 90th percentile "
        f"{percent(p90)} (aim: {100 * aims[1]:.0f} %), bias {percent(signed.mean(), '+')}"
    )


def late_layers(late: int, layers: int) -> str:
    """Return a sentence on how many paced layers were late."""
    part = percent(late / max(layers, 1))
    return f"{late:,} of {layers:,} layers ({part}) took longer than their slot and were late."


def equality(axes: Axes, seconds: Iterable[float]) -> np.ndarray:
    """Draw the line of equal simulated and measured seconds; return both ends of the axes."""
    both = list(seconds)
    line = np.array([min(both) * 0.8, max(both) * 1.25])
    axes.plot(line, line, color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=line, ylim=line,
             xlabel="measured latency (s)", ylabel="simulated latency (s)")  # fmt: skip
    return line


def timelines_figure(inferences: Sequence[Note], heads: Sequence[str]) -> Figure:
    """Draw the measured timelines of inferences, each below the simulated one."""
    timelines, titles = [], []
    for inference, head in zip(inferences, heads, strict=True):
        for part, what in SIMULATED:
            latency_s, rows = inference[part]["latency_s"], inference[part]["intervals"]
            intervals = tuple(Interval(*row) for row in rows)
            timelines.append(Timeline(latency_s, intervals, np.zeros(0), latency_s))
            titles.append(f"{head}: {what}")
    return gantt_figure(timelines, titles)


def machine_table(machine: Mapping[str, str]) -> str:
    """Return the description of a machine as a Markdown table."""
    return "\n".join(
        ["| | |\n|---|---|", *(f"| {key} | {value} |" for key, value in machine.items())]
    )


def publish(
    results: Any, out: Path, figures: Mapping[str, Figure | None], report: str,
    into: Sequence[Path], parts: Callable[[str], Mapping[str, str]],
) -> Path:  # fmt: skip
    """Write results, figures and the report, update pages, and return the report's path.

    Args:
        results: The results, which have a method `save`.
        out: The folder of the results.
        figures: The figures by file name; None for a figure that does not exist.
        report: The report in Markdown.
        into: The pages to update.
        parts: Returns the generated parts of a page, given the path from the page to `out`.
    """
    results.save(out)
    for name, figure in figures.items():
        if figure is not None:
            write(out / name, encoded(figure, "png"))
    path = out / "report.md"
    write(path, report)
    for page in into:
        update_pages([page], parts(Path(os.path.relpath(out, page.parent)).as_posix()))
    return path
