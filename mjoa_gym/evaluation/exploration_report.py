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
from mjoa_gym.evaluation.page import figure_html
from mjoa_gym.evaluation.plots import GREY, encoded, lines_figure, plain_log, planner_looks
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write
from mjoa_gym.model.instance import timelines
from mjoa_gym.model.simulator import Timeline
from mjoa_gym.rendering.interactive import Choice, timeline_html
from mjoa_gym.rendering.style import amount, duration

RANGES_SHOWN = 4
"""Maximum number of a placement's ranges of layers in tables for readers."""
PLANS_ANEW = "Every planner plans again for every upload mode; the last entry keeps the best plan."


class Curves(NamedTuple):
    """Latencies as a function of one quantity, whose value in the comparison is `here`.

    The fields are the figure's title, the quantity's label with its unit, its values (V,), and
    seconds (V,) by planner. Files are named after `name`.
    """

    name: str
    title: str
    label: str
    values: NDArray[np.float64]
    seconds: Mapping[str, NDArray[np.float64]]
    here: float


class Exploration(NamedTuple):
    """All results for one UE; answers are by upload mode and planner.

    Table and figures show one upload mode.
    """

    title: str
    subtitle: str
    upload: str
    uplink_bps: float
    answers: Mapping[tuple[str, str], Answer]
    curves: Sequence[Curves]

    @property
    def chosen(self) -> list[Answer]:
        """The answers in the requested upload mode."""
        return [a for a in self.answers.values() if a.upload == self.upload]

    @property
    def best(self) -> Answer:
        """The fastest of the chosen answers; our planner's if it is among the fastest."""
        fastest = min(a.latency_s for a in self.chosen)
        tied = [a for a in self.chosen if a.latency_s <= fastest * (1 + 1e-9)]
        return next((a for a in tied if a.planner == OURS), tied[0])


def comparison_table(found: Exploration) -> Table:
    """Return a table of the planners for readers: the references first, the others by latency."""
    answers = sorted(
        found.chosen,
        key=lambda a: (a.planner != LOCAL, a.planner != EDGE, a.latency_s, a.planner != OURS),
    )
    header = ("planner", "latency", "gain", "gain, s", "at the edge", "uploaded", "placement")
    rows = [
        (
            a.planner, duration(a.latency_s), _percent(a.gain),
            f"{a.gain_s:+.3g}" if a.gain_s else "0",
            f"{a.placement.sum()}/{len(a.placement)}", amount(a.uploaded_bytes),
            placement_text(a.placement, RANGES_SHOWN),
        )
        for a in answers
    ]  # fmt: skip
    caption = (
        f"What every plan takes with {found.upload} uploading; gains are against everything on "
        "the UE. Placements are ranges of layers."
    )
    return Table(caption, header, rows)


def verdict(found: Exploration) -> str:
    """Return the answer in a sentence."""
    best = found.best
    local = duration(best.instance.ues[0].local_s)
    if best.gain <= 0:
        return f"No plan is faster than everything on the UE: {local}."
    return (
        f"{best.planner} takes {duration(best.latency_s)} where the UE alone takes {local}: "
        f"{100 * best.gain:.1f} % or {duration(best.gain_s)} less."
    )


def write_exploration(found: Exploration, out: Path) -> Path:
    """Write page, figures and CSV files into a folder; return the page's path. Needs plotly."""
    figures = {c.name: encoded(curves_figure(found, c), "png") for c in found.curves}
    files: dict[str, str | bytes] = {f"{name}.png": png for name, png in figures.items()}
    files |= {f"{curves.name}.csv": _curves_table(curves).csv() for curves in found.curves}
    files["planners.csv"] = _answers_table(found).csv()
    files["placements.csv"] = _placements_table(found).csv()
    files["explore.html"] = _page(found, figures)
    for name, content in files.items():
        write(out / name, content)
    return out / "explore.html"


def curves_figure(found: Exploration, curves: Curves) -> Figure:
    """Draw latency against the quantity, both logarithmic; cut off latencies far above local."""
    look = planner_looks([name for name in curves.seconds if name != OURS], OURS, LOCAL)
    labels = f"{curves.title}, {found.upload} uploading", curves.label, "latency (s)"
    figure = lines_figure(curves.values, curves.seconds, look, labels, "both")
    axes = figure.axes[0]
    axes.set_xscale("log")
    plain_log(axes.xaxis)
    lowest = min(float(seconds.min()) for seconds in curves.seconds.values())
    local_s = found.best.instance.ues[0].local_s
    if 0 < lowest < np.inf and local_s > 0:
        axes.set_ylim(0.85 * lowest, 2.5 * max(local_s, lowest))
    axes.axvline(curves.here, color=GREY, lw=1, ls="--", zorder=1)
    return figure


def _page(found: Exploration, figures: Mapping[str, bytes]) -> str:
    best, dashed = found.best, "Dashed: the value above. Every planner plans again at each point."
    below = [
        "<h2>What every planner would do</h2>",
        f"<p>{html.escape(verdict(found))} {PLANS_ANEW}</p>",
        comparison_table(found).html(best.planner),
        "<h2>What it depends on</h2>",
        *(figure_html(f"{c.title}. {dashed}", figures[c.name]) for c in found.curves),
    ]
    first = (found.upload, best.planner)
    ordered = sorted(found.answers, key=lambda key: (key != first, key[0] != found.upload))
    shown: dict[Choice, Timeline] = {key: found.answers[key].timeline for key in ordered}
    worlds = {answer.upload: answer.instance for answer in found.answers.values()}
    for mode, world in worlds.items():  # the best plan, which was made for one of them, in all
        shown[mode, f"{best.planner}, plan for {best.upload}"] = timelines(world, best.plan)[0]
    compared = ("serial" if found.upload == "parallel" else "parallel", best.planner)
    return timeline_html(
        best.instance.ues[0].dnn,
        shown,
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
            *key, repr(a.latency_s), repr(a.gain_s), repr(a.gain), str(a.placement.sum()),
            repr(a.uploaded_bytes), placement_text(a.placement),
        )
        for key, a in found.answers.items()
    ]  # fmt: skip
    return Table("", header, rows)


def _placements_table(found: Exploration) -> Table:
    dnn = found.best.instance.ues[0].dnn
    sides = ([("ue", "edge")[side] for side in answer.placement] for answer in found.chosen)
    rows = zip(map(str, range(dnn.n_layers)), dnn.layer_names, dnn.kinds, *sides, strict=True)
    header = ("layer", "name", "kind", *(answer.planner for answer in found.chosen))
    return Table("", header, list(rows))


def _curves_table(curves: Curves) -> Table:
    columns = (map(repr, c.tolist()) for c in (curves.values, *curves.seconds.values()))
    header = (curves.label, *(f"{name} (s)" for name in curves.seconds))
    return Table("", header, list(zip(*columns, strict=True)))


def _percent(fraction: float) -> str:
    if fraction == 0:
        return "0 %"
    return f"{100 * fraction:+.1f} %" if abs(fraction) < 10 else f"{100 * fraction:+.0f} %"
