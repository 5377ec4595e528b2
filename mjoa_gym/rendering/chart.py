"""The Gantt chart of given timelines, as a figure and as an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.simulator import Timeline
from mjoa_gym.rendering.lanes import LaneBlock, draw_bars, draw_lanes, draw_ticks
from mjoa_gym.rendering.sheet import GREY, Sheet, text_width
from mjoa_gym.rendering.style import (
    LANES,
    STYLES,
    checked_titles,
    overlap,
    span_of,
    unit_for,
    written,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANE_PX, TITLE_PX, GAP_PX = 18, 20, 10
BLOCK_PX = TITLE_PX + len(LANES) * LANE_PX + GAP_PX
"""Height of one timeline: its title, its lanes and a gap."""
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 84, 24, 32, 40
SMALL, NORMAL, BIG = 9.5, 11.0, 12.5
"""Font sizes in pixels."""


def gantt_figure(
    timelines: Sequence[Timeline],
    titles: Sequence[str] | None = None,
    width: int = 960,
    height: int | None = None,
    span_s: float | None = None,
) -> Figure:
    """A Gantt chart of what every UE's four resources do, one block per timeline.

    Args:
        timelines: One per UE, or several of one UE to compare them.
        titles: One per timeline; default "UE 0", "UE 1", ...; the latency is added to each.
        width: Pixels.
        height: Pixels; default as many as make the lanes comfortable (`gantt_height`).
        span_s: Where the time axis ends; default the last end in any timeline.

    Returns:
        A matplotlib figure on an Agg canvas; `figure.savefig(path)` writes it in any format.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
        ValueError: If there are no timelines, or not one title for each.
    """
    return _gantt(timelines, titles, width, height, span_s).figure()


def gantt_rgb(
    timelines: Sequence[Timeline],
    titles: Sequence[str] | None = None,
    width: int = 960,
    height: int | None = None,
    span_s: float | None = None,
) -> NDArray[np.uint8]:
    """The chart of `gantt_figure` as an image (height, width, 3).

    The shape depends on `width`, `height` and the number of timelines only.
    """
    return _gantt(timelines, titles, width, height, span_s).pixels()


def gantt_height(n_timelines: int) -> int:
    """The default height of a chart in pixels."""
    return TOP_PX + n_timelines * BLOCK_PX + BOTTOM_PX


def _gantt(
    timelines: Sequence[Timeline],
    titles: Sequence[str] | None,
    width: int,
    height: int | None,
    span_s: float | None,
) -> Sheet:
    """The chart as a sheet."""
    names = checked_titles(timelines, titles)
    sheet = Sheet(int(width), gantt_height(len(timelines)) if height is None else int(height))
    span = span_of(timelines) if span_s is None else float(span_s)
    block_px = (sheet.height - TOP_PX - BOTTOM_PX) / len(timelines)
    lane_px = max(1.0, (block_px - TITLE_PX - GAP_PX) / len(LANES))
    right = sheet.width - RIGHT_PX
    _add_legend(sheet)
    blocks = []
    for i, (timeline, name) in enumerate(zip(timelines, names, strict=True)):
        top = TOP_PX + i * block_px + TITLE_PX
        block = LaneBlock(LEFT_PX, right, top, lane_px, span)
        blocks.append(block)
        draw_lanes(sheet, block, span, NORMAL)
        _add_title(sheet, block, timeline, name)
    bottom = TOP_PX + len(timelines) * block_px
    draw_ticks(sheet, blocks, bottom, NORMAL)
    sheet.write(
        (LEFT_PX + right) / 2, bottom + 33, f"time ({unit_for(span)[1]})", NORMAL, align=0.5
    )
    for block, timeline in zip(blocks, timelines, strict=True):
        draw_bars(sheet, block, timeline, SMALL)
    return sheet


def _add_legend(sheet: Sheet) -> None:
    """What the colours mean."""
    x = 8.0
    for label, face in {style.label: style.face for style in STYLES.values()}.items():
        sheet.box(x, 9, 12, 12, face)
        x = sheet.write(x + 17, 19, label, NORMAL) + 18


def _add_title(sheet: Sheet, block: LaneBlock, timeline: Timeline, name: str) -> None:
    """A timeline's name, latency and how much of its upload runs beside execution."""
    baseline = block.top - 6
    end = sheet.write(block.left, baseline, name, BIG, bold=True)
    latency = written(timeline.latency, *unit_for(block.span_s))
    end = sheet.write(end + 10, baseline, latency, BIG)
    share = overlap(timeline)
    hint = f"{100 * share:.0f} % of the upload runs beside execution"
    if share >= 0.005 and end + 20 < block.right - text_width(hint, SMALL):
        sheet.write(block.right, baseline, hint, SMALL, GREY, align=1.0)
