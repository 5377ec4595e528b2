"""The Gantt chart of given timelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mjoa_gym.model.simulator import Timeline
from mjoa_gym.rendering.sheet import GREY, GRID, INK, STRIP, new_figure, points, text_width
from mjoa_gym.rendering.style import (
    LANES,
    STYLES,
    checked_titles,
    duration,
    layer_label,
    overlap,
    span_of,
    unit_for,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LANES_PX, GAP_PX = 72, 30
"""Heights of a timeline's lanes, and of the gap between timelines, which has the next title."""
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 84, 24, 52, 50
SMALL, NORMAL, BIG = 9.5, 11.0, 12.5
"""Font sizes in pixels."""


def gantt_figure(
    timelines: Sequence[Timeline], titles: Sequence[str] | None = None, width: int = 960
) -> Figure:
    """Draw a Gantt chart of the four resources of every UE, with one block per timeline.

    Args:
        timelines: One per UE, or several of one UE to compare them.
        titles: One per timeline; default "UE 0", "UE 1", ...; the latency is added to each.
        width: Width in pixels.

    Returns:
        A matplotlib figure on an Agg canvas; `figure.savefig(path)` writes it in any format.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
        ValueError: If there are no timelines, or the number of titles differs.
    """
    names, n = checked_titles(timelines, titles), len(timelines)
    height = TOP_PX + n * LANES_PX + (n - 1) * GAP_PX + BOTTOM_PX
    figure = new_figure(width, height)
    from matplotlib.patches import Patch

    figure.subplots_adjust(
        left=LEFT_PX / width, right=1 - RIGHT_PX / width,
        top=1 - TOP_PX / height, bottom=BOTTOM_PX / height, hspace=GAP_PX / LANES_PX,
    )  # fmt: skip
    kinds = {style.label: Patch(color=style.face) for style in STYLES.values()}
    figure.legend(
        list(kinds.values()), list(kinds), loc="upper left", bbox_to_anchor=(0, 1),
        ncols=len(kinds), frameon=False, fontsize=points(NORMAL), handlelength=1,
        handleheight=1, borderaxespad=0.2,
    )  # fmt: skip
    span, room = span_of(timelines), width - LEFT_PX - RIGHT_PX
    charts = figure.subplots(n, sharex=True, squeeze=False)[:, 0]
    for axes, timeline, name in zip(charts, timelines, names, strict=True):
        _draw_timeline(axes, timeline, span, room)
        _write_title(axes, timeline, name, span, room)
    charts[-1].set_xlabel(f"time ({unit_for(span)[1]})", fontsize=points(NORMAL))
    return figure


def _draw_timeline(axes: Axes, timeline: Timeline, span: float, room: int) -> None:
    """Draw the lanes, with bars at least a pixel wide, so that all are visible."""
    scale, pixel = unit_for(span)[0], span / room
    axes.set(xlim=(0, span * scale), ylim=(len(LANES) - 0.5, -0.5))
    axes.set_yticks(range(len(LANES)), list(LANES.values()))
    axes.tick_params(labelsize=points(NORMAL), color=GREY)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    axes.barh(range(len(LANES)), span * scale, 0.9, color=STRIP, zorder=0)
    axes.grid(axis="x", color=GRID, zorder=1)
    for lane, resource in enumerate(LANES):
        some = [i for i in timeline.by_resource[resource] if i.end > i.start]
        styles = [STYLES[i.resource, i.what] for i in some]
        widths = [min(i.end, span) - i.start for i in some]
        widths = [max(w, pixel) if w < 4 * pixel else w - pixel for w in widths]
        axes.broken_barh(
            [(i.start * scale, w * scale) for i, w in zip(some, widths, strict=True)],
            (lane - 0.45, 0.9), facecolors=[style.face for style in styles], zorder=2,
        )  # fmt: skip
        for interval, style, width in zip(some, styles, widths, strict=True):
            text, middle = layer_label(interval), (interval.start + width / 2) * scale
            if width > (4 + text_width(text, SMALL)) * pixel:
                axes.text(
                    middle, lane, text, color=style.ink, fontsize=points(SMALL), ha="center",
                    va="center_baseline",
                )  # fmt: skip
    if timeline.latency <= span:
        axes.axvline(timeline.latency * scale, color=INK, lw=1, ls="--", clip_on=False, zorder=3)


def _write_title(axes: Axes, timeline: Timeline, name: str, span: float, room: int) -> None:
    """Write a timeline's name, its latency, and how much of its upload overlaps execution."""
    title = f"{name}   {duration(timeline.latency, span)}"
    axes.set_title(title, loc="left", fontsize=points(BIG), fontweight="bold", pad=3)
    share = overlap(timeline)
    hint = f"{100 * share:.0f} % of the upload runs beside execution"
    if share >= 0.005 and text_width(title, BIG, True) + text_width(hint, SMALL) + 20 < room:
        axes.set_title(hint, loc="right", fontsize=points(SMALL), color=GREY, pad=3)
