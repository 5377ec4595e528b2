"""Learning curves of trained agents, from their logs: means and intervals over seeds."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray
from scipy.stats import sem
from scipy.stats import t as student

from mjoa_gym.evaluation.comparison import SEED
from mjoa_gym.evaluation.plots import COLOURS, GREY, dress, new_figure
from mjoa_gym.evaluation.statistics import LEVEL

LOG = "log.csv"
AGAINST = "against_mjoa_mu"
"""Column with the latency relative to MJOA-MU's, as a fraction."""
LEAST_REWARD = -0.5
"""The lowest reward in a figure. Showing lower ones would squeeze the other curves together."""


def curves(
    folder: Path, runs: str = "*", column: str = AGAINST
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (steps,) timesteps and (seeds, steps) a column of the logs, by family of runs.

    The steps are those at which every seed was validated.
    """
    logs: dict[str, list[dict[int, float]]] = {}
    for file in sorted(folder.glob(f"{runs}/{LOG}")):
        rows = csv.DictReader(file.read_text("utf-8").splitlines())
        log = {int(r["timesteps"]): float(r[column]) for r in rows}
        logs.setdefault(SEED.sub("", file.parent.name), []).append(log)
    found = {}
    for family, several in logs.items():
        steps = sorted(set.intersection(*(set(log) for log in several)))
        values = np.array([[log[step] for step in steps] for log in several])
        found[family] = np.array(steps, dtype=np.float64), values
    return found


def half_width(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half of Student's interval of the mean (steps,) of (seeds, steps); 0 for one seed."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    return student.ppf(0.5 + LEVEL / 2, len(values) - 1) * sem(values)


def curves_figure(folder: Path) -> Figure | None:
    """Draw the latency of all families against MJOA-MU's; None if the folder has no log."""
    found = curves(folder)
    if not found:
        return None
    percent = {family: (steps, 100 * values) for family, (steps, values) in found.items()}
    return _figure(percent, {"": 0.0}, "latency against MJOA-MU (%)")


def reward_figure(folder: Path, runs: str, planned: Mapping[str, float]) -> Figure | None:
    """Draw the rewards of the families of `runs`, and planners'; None if there is no log.

    The axis begins at `LEAST_REWARD` if curves or intervals go below, and no reward exceeds 1.
    """
    found = curves(folder, runs, "reward")
    if not found:
        return None
    figure = _figure(found, planned, "reward of a round")
    (axes,) = figure.axes
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, LEAST_REWARD), min(top, 1.0))
    return figure


def _figure(
    found: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    levels: Mapping[str, float],
    label: str,
) -> Figure:
    """Draw means and intervals over seeds, and lines with names at some levels."""
    figure = new_figure(7.6, 4.0)
    axes = figure.subplots()
    for k, (family, (steps, values)) in enumerate(found.items()):
        mean, half = values.mean(axis=0), half_width(values)
        colour = COLOURS[k % len(COLOURS)]
        name = f"{family} ({len(values)} seed{'s' * (len(values) > 1)})"
        style = ("-", "--", ":")[k // len(COLOURS) % 3]
        axes.plot(steps, mean, style, color=colour, marker="o", ms=3, lw=1.6, label=name)
        axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
    for k, (name, level) in enumerate(levels.items()):
        style = (":", "--", "-.")[k % 3]
        axes.axhline(level, color=GREY, lw=1.0, ls=style, label=name or None)
    axes.xaxis.set_major_formatter(EngFormatter())
    dress(axes, "", "steps", label)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5)
    return figure
