"""Learning curves of trained agents, from the logs beside them: means and intervals over seeds."""

from __future__ import annotations

import csv
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


def curves(folder: Path) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """By family: (steps,) timesteps and (seeds, steps) latency against MJOA-MU's, as a fraction.

    Steps are those that every seed has validated.
    """
    logs: dict[str, list[dict[int, float]]] = {}
    for file in sorted(folder.glob(f"*/{LOG}")):
        rows = csv.DictReader(file.read_text("utf-8").splitlines())
        log = {int(r["timesteps"]): float(r["against_mjoa_mu"]) for r in rows}
        logs.setdefault(SEED.sub("", file.parent.name), []).append(log)
    found = {}
    for family, several in logs.items():
        steps = sorted(set.intersection(*(set(log) for log in several)))
        values = np.array([[log[step] for step in steps] for log in several])
        found[family] = np.array(steps, dtype=np.float64), values
    return found


def half_width(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(steps,) of (seeds, steps): half of Student's interval of the mean; 0 for one seed."""
    if len(values) < 2:
        return np.zeros(values.shape[1])
    return student.ppf(0.5 + LEVEL / 2, len(values) - 1) * sem(values)


def curves_figure(folder: Path) -> Figure | None:
    """All families; None if the folder has no log."""
    found = curves(folder)
    if not found:
        return None
    figure = new_figure(7.6, 4.0)
    axes = figure.subplots()
    for k, (family, (steps, values)) in enumerate(found.items()):
        mean, half = 100 * values.mean(axis=0), 100 * half_width(values)
        colour = COLOURS[k % len(COLOURS)]
        label = f"{family} ({len(values)} seeds)"
        axes.plot(steps, mean, color=colour, marker="o", ms=3, lw=1.6, label=label)
        axes.fill_between(steps, mean - half, mean + half, color=colour, alpha=0.2, lw=0)
    axes.axhline(0.0, color=GREY, lw=1.0, ls=":")
    axes.xaxis.set_major_formatter(EngFormatter())
    dress(axes, "", "steps", "latency against MJOA-MU (%)")
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5)
    return figure
