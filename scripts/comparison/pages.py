"""What the reports of comparisons have in common: aims, sentences, figures, files."""

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
"""The largest median and 90th percentile of errors that are aimed at; paced, on any machine."""
SIMULATED = (("predicted", "simulated"), ("measured", "measured"))


def percent(part: float, sign: str = "-") -> str:
    """A part as a text."""
    return f"{100 * part:{sign}.1f} %"


def errors_against(aims: tuple[float, float], signed: np.ndarray) -> str:
    """Median, 90th percentile and bias of relative errors (n,), beside what was aimed at."""
    middle, p90 = np.quantile(np.abs(signed), (0.5, 0.9))
    return (
        f"{percent(middle)} (aim: at most {100 * aims[0]:.0f} %), 90th percentile "
        f"{percent(p90)} (aim: {100 * aims[1]:.0f} %), bias {percent(signed.mean(), '+')}"
    )


def late_layers(late: int, layers: int) -> str:
    """How many paced layers were late."""
    part = percent(late / max(layers, 1))
    return f"{late:,} of {layers:,} layers ({part}) took longer than their slot and were late."


def equality(axes: Axes, seconds: Iterable[float]) -> np.ndarray:
    """Draw where simulated and measured seconds are equal; returns the ends of both axes."""
    both = list(seconds)
    line = np.array([min(both) * 0.8, max(both) * 1.25])
    axes.plot(line, line, color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=line, ylim=line,
             xlabel="measured latency (s)", ylabel="simulated latency (s)")  # fmt: skip
    return line


def timelines_figure(inferences: Sequence[Note], heads: Sequence[str]) -> Figure:
    """The measured timelines of some inferences, each under the simulated one."""
    timelines, titles = [], []
    for inference, head in zip(inferences, heads, strict=True):
        for part, what in SIMULATED:
            latency_s, rows = inference[part]["latency_s"], inference[part]["intervals"]
            intervals = tuple(Interval(*row) for row in rows)
            timelines.append(Timeline(latency_s, intervals, np.zeros(0), latency_s))
            titles.append(f"{head}: {what}")
    return gantt_figure(timelines, titles)


def machine_table(machine: Mapping[str, str]) -> str:
    """What it was run on, as Markdown."""
    return "\n".join(
        ["| | |\n|---|---|", *(f"| {key} | {value} |" for key, value in machine.items())]
    )


def publish(
    results: Any, out: Path, figures: Mapping[str, Figure | None], report: str,
    into: Sequence[Path], parts: Callable[[str], Mapping[str, str]],
) -> Path:  # fmt: skip
    """Write results, figures and the report, and return the report's path; fill in parts of pages.

    `parts` makes the parts `into` a page from the path of the folder `out` as seen from the page.
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
