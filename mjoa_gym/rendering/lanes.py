"""A UE's four lanes on a sheet: what processor, uplink, edge share and downlink do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mjoa_gym.model.simulator import Interval, Timeline
from mjoa_gym.rendering.sheet import GREY, GRID, INK, STRIP, Sheet, text_width
from mjoa_gym.rendering.style import LANES, STYLES, layer_label, unit_for

LEAST_LABELLED_PX = 11.0  # lower lanes have no names
TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class LaneBlock(NamedTuple):
    """The position of a UE's lanes: from time 0 to `span_s`, from the top of the first one down."""

    left: float
    right: float
    top: float
    lane_px: float
    span_s: float

    def x(self, seconds: float) -> float:
        """Return the pixel of a time, within the lanes."""
        return self.left + min(seconds / self.span_s, 1.0) * (self.right - self.left)

    @property
    def height(self) -> float:
        """Height of all lanes in pixels."""
        return len(LANES) * self.lane_px


def draw_lanes(sheet: Sheet, block: LaneBlock, end_s: float, size: float) -> None:
    """Draw the strips behind the bars, until the round ends, with names if they are legible."""
    gap = _gap(block)
    for lane, label in enumerate(LANES.values()):
        y = block.top + lane * block.lane_px
        sheet.box(block.left, y, block.x(end_s) - block.left, block.lane_px - gap, STRIP)
        if block.lane_px >= LEAST_LABELLED_PX and block.left > 60:
            baseline = y + (block.lane_px - gap) / 2 + 0.36 * size
            sheet.write(block.left - 7, baseline, label, size, align=1.0)


def draw_ticks(sheet: Sheet, blocks: Sequence[LaneBlock], bottom: float, size: float) -> None:
    """Draw the common time axis below the blocks, with a line through them at each tick."""
    first = blocks[0]
    scale, name = unit_for(first.span_s)
    sheet.box(first.left, bottom, first.right - first.left, 1, GREY)
    most = int((first.right - first.left) / (5.5 * size))
    ticks = _ticks(first.span_s * scale, most=min(8, max(2, most)))
    for tick in ticks:
        x = first.x(tick / scale)
        sheet.box(x, bottom, 1, 4, GREY)
        text = f"{tick:g} {name}" if tick == ticks[-1] else f"{tick:g}"
        outer = x + text_width(text, size) / 2 > first.right + 6
        baseline = bottom + 5 + 1.1 * size
        sheet.write(first.right + 6 if outer else x, baseline, text, size, align=0.5 + 0.5 * outer)
        for block in blocks:
            sheet.box(x, block.top, 1, block.height - _gap(block), GRID)


def draw_bars(sheet: Sheet, block: LaneBlock, timeline: Timeline, size: float) -> None:
    """Draw what the UE's resources do, and a dashed line where its inference ends."""
    for lane, resource in enumerate(LANES):
        for interval in timeline.by_resource[resource]:
            if interval.start < block.span_s and interval.end > interval.start:
                _draw_bar(sheet, block, block.top + lane * block.lane_px, interval, size)
    if timeline.latency <= block.span_s * (1 + 1e-9):
        x = block.x(timeline.latency)
        sheet.dashes(x, block.top - 3, block.top + block.height + 1, INK)


def _draw_bar(sheet: Sheet, block: LaneBlock, y: float, interval: Interval, size: float) -> None:
    """Draw an interval, at least a pixel wide so that it is visible, with its number if it fits."""
    style = STYLES[interval.resource, interval.what]
    height = block.lane_px - _gap(block)
    left = block.x(interval.start)
    width = max(1.0, block.x(interval.end) - left)
    apart = 1 if width > 4 else 0
    sheet.box(left, y, width - apart, height, style.face)
    text = layer_label(interval)
    if height >= size + 1 and width > 5 + text_width(text, size):
        baseline = y + height / 2 + 0.36 * size
        sheet.write(left + width / 2, baseline, text, size, style.ink, align=0.5)


def _gap(block: LaneBlock) -> int:
    """Return the pixels between two lanes."""
    return 2 if block.lane_px >= 14 else 1 if block.lane_px >= 4 else 0


def _ticks(span: float, most: int) -> list[float]:
    """Return 0 and at most `most` round numbers above 0."""
    magnitude = 10.0 ** np.floor(np.log10(span / most))
    step = next(s for s in TICK_STEPS if span / (magnitude * s) <= most * (1 + 1e-9)) * magnitude
    return [float(round(k * step, 12)) for k in range(int(span / step * (1 + 1e-9)) + 1)]
