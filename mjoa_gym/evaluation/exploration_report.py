"""The report on one UE: a page with timelines, table and figures, and the same numbers as files."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mjoa_gym.evaluation.exploration import EDGE, LOCAL, OURS, Answer, placement_text
from mjoa_gym.evaluation.journal import write_atomically
from mjoa_gym.evaluation.page import figure_html
from mjoa_gym.evaluation.plots import (
    GREY,
    draw_line,
    dress,
    encoded,
    new_figure,
    plain_log,
    planner_looks,
)
from mjoa_gym.evaluation.table import Table
from mjoa_gym.model.instance import timelines
from mjoa_gym.model.simulator import Timeline
from mjoa_gym.rendering.interactive import Choice, timeline_html
from mjoa_gym.rendering.style import amount, duration

RANGES_SHOWN = 4
"""Ranges of layers of a placement in tables that people read."""
PLANS_ANEW = (
    "Every planner plans anew for every way of uploading; the last of the list keeps the best plan."
)


class Curves(NamedTuple):
    """How latencies depend on one quantity.

    Attributes:
        name: Of the files.
        title: Of the figure.
        label: Of the quantity, with its unit.
        values: (V,) of the quantity.
        seconds: (V,) latencies of every planner.
        here: The quantity's value in the comparison.
    """

    name: str
    title: str
    label: str
    values: NDArray[np.float64]
    seconds: Mapping[str, NDArray[np.float64]]
    here: float


class Exploration(NamedTuple):
    """Everything that was found out about one UE.

    Attributes:
        title: Whose network it is.
        subtitle: The devices and rates.
        upload: The upload mode that the table and the figures are about.
        uplink_bps: Bits per second.
        answers: By upload mode and planner.
        curves: What the latency depends on.
    """

    title: str
    subtitle: str
    upload: str
    uplink_bps: float
    answers: Mapping[tuple[str, str], Answer]
    curves: Sequence[Curves]

    @property
    def chosen(self) -> list[Answer]:
        """The answers in the upload mode that was asked about."""
        return [a for a in self.answers.values() if a.upload == self.upload]

    @property
    def best(self) -> Answer:
        """The fastest of them, ours if it is among the fastest."""
        fastest = min(a.latency_s for a in self.chosen)
        tied = [a for a in self.chosen if a.latency_s <= fastest * (1 + 1e-9)]
        return next((a for a in tied if a.planner == OURS), tied[0])


def comparison_table(found: Exploration) -> Table:
    """The planners, the references first and the others by latency, for people."""
    answers = sorted(
        found.chosen,
        key=lambda a: (a.planner != LOCAL, a.planner != EDGE, a.latency_s, a.planner != OURS),
    )
    header = ("planner", "latency", "gain", "gain, s", "at the edge", "uploaded", "placement")
    rows = [
        (
            answer.planner,
            duration(answer.latency_s),
            _percent(answer.gain),
            f"{answer.gain_s:+.3g}" if answer.gain_s else "0",
            f"{int(answer.placement.sum())}/{len(answer.placement)}",
            amount(answer.uploaded_bytes),
            placement_text(answer.placement, RANGES_SHOWN),
        )
        for answer in answers
    ]
    caption = (
        f"What every plan takes with {found.upload} uploading; gains are against everything on "
        "the UE. Placements are ranges of layers."
    )
    return Table(caption, header, rows)


def verdict(found: Exploration) -> str:
    """The answer in a sentence."""
    best = found.best
    local = duration(best.instance.ues[0].local_s)
    if best.gain <= 0:
        return f"No plan is faster than everything on the UE: {local}."
    return (
        f"{best.planner} takes {duration(best.latency_s)} where the UE alone takes {local}: "
        f"{100 * best.gain:.1f} % or {duration(best.gain_s)} less."
    )


def write_exploration(found: Exploration, out: Path) -> Path:
    """Write page, figures and CSV files into a folder; returns the page's path.

    Raises:
        ImportError: If plotly is not installed.
        OSError: If the folder cannot be written.
    """
    figures = []
    for curves in found.curves:
        png = encoded(curves_figure(found, curves), "png")
        write_atomically(out / f"{curves.name}.png", png)
        write_atomically(out / f"{curves.name}.csv", _curves_table(curves).csv())
        figures.append((curves.title, png))
    write_atomically(out / "planners.csv", _answers_table(found).csv())
    write_atomically(out / "placements.csv", _placements_table(found).csv())
    write_atomically(out / "explore.html", _page(found, figures))
    return out / "explore.html"


def curves_figure(found: Exploration, curves: Curves) -> Figure:
    """Latency against the quantity, both logarithmic; what is far worse than local is cut off."""
    figure = new_figure(8.6, 4.2)
    axes = figure.subplots()
    look = planner_looks([name for name in curves.seconds if name != OURS], OURS, LOCAL)
    for name, seconds in curves.seconds.items():
        draw_line(axes, curves.values, seconds, name, look[name])
    dress(axes, f"{curves.title}, {found.upload} uploading", curves.label, "latency (s)", "both")
    axes.set(xscale="log", yscale="log")
    plain_log(axes.xaxis)
    plain_log(axes.yaxis)
    lowest = min(float(seconds.min()) for seconds in curves.seconds.values())
    local_s = found.best.instance.ues[0].local_s
    if 0 < lowest < np.inf and local_s > 0:
        axes.set_ylim(0.85 * lowest, 2.5 * max(local_s, lowest))
    axes.axvline(curves.here, color=GREY, lw=1, ls="--", zorder=1)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5, title="planner")
    return figure


def same_plan(found: Exploration) -> dict[Choice, Timeline]:
    """What the best plan takes with every way of uploading, though made for one of them."""
    best = found.best
    name = f"{best.planner}, plan for {best.upload}"
    worlds = {upload: a.instance for (upload, _), a in found.answers.items()}
    return {(mode, name): timelines(world, best.plan)[0] for mode, world in worlds.items()}


def _page(found: Exploration, figures: Sequence[tuple[str, bytes]]) -> str:
    below = [
        "<h2>What every planner would do</h2>",
        f"<p>{html.escape(verdict(found))} {PLANS_ANEW}</p>",
        comparison_table(found).html(found.best.planner),
        "<h2>What it depends on</h2>",
    ]
    for title, png in figures:
        caption = f"{title}. Dashed: the value above. Every planner plans anew."
        below.append(figure_html(caption, png))
    best = (found.upload, found.best.planner)
    ordered = sorted(found.answers, key=lambda key: (key != best, key[0] != found.upload))
    other = "serial" if found.upload == "parallel" else "parallel"
    compared = (other, found.best.planner)
    shown: dict[Choice, Timeline] = {key: found.answers[key].timeline for key in ordered}
    return timeline_html(
        found.best.instance.ues[0].dnn,
        shown | same_plan(found),
        found.uplink_bps,
        title=found.title,
        subtitle=found.subtitle,
        compare_with=compared if compared in found.answers else None,
        below="\n".join(below),
    )


def _answers_table(found: Exploration) -> Table:
    header = (
        "upload", "planner", "latency_s", "gain_s", "gain", "edge_layers", "uploaded_bytes",
        "placement",
    )  # fmt: skip
    rows = [
        (
            *key,
            repr(a.latency_s),
            repr(a.gain_s),
            repr(a.gain),
            str(int(a.placement.sum())),
            repr(a.uploaded_bytes),
            placement_text(a.placement),
        )
        for key, a in found.answers.items()
    ]
    return Table("", header, rows)


def _placements_table(found: Exploration) -> Table:
    dnn = found.best.instance.ues[0].dnn
    answers = found.chosen
    rows = [
        (
            str(layer),
            dnn.layer_names[layer],
            dnn.kinds[layer],
            *("edge" if a.placement[layer] else "ue" for a in answers),
        )
        for layer in range(dnn.n_layers)
    ]
    return Table("", ("layer", "name", "kind", *(a.planner for a in answers)), rows)


def _curves_table(curves: Curves) -> Table:
    columns = [curves.values, *curves.seconds.values()]
    rows = [tuple(repr(float(column[k])) for column in columns) for k in range(len(curves.values))]
    return Table("", (curves.label, *(f"{name} (s)" for name in curves.seconds)), rows)


def _percent(fraction: float) -> str:
    if fraction == 0:
        return "0 %"
    return f"{100 * fraction:+.1f} %" if abs(fraction) < 10 else f"{100 * fraction:+.0f} %"
