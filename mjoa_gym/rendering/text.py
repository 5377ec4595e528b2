"""The Gantt chart as text, for terminals and `render_mode="ansi"`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mjoa_gym.model.simulator import Interval, Timeline
from mjoa_gym.rendering.style import (
    LANES,
    STYLES,
    checked_titles,
    layer_label,
    span_of,
    unit_for,
    written,
)

LABEL = max(map(len, LANES.values()))


def gantt_text(
    timelines: Sequence[Timeline], titles: Sequence[str] | None = None, width: int = 80
) -> str:
    """The chart of `gantt_figure` as lines of at most `width` characters.

    A character shows what its lane does for most of that time; numbers are layers, where they fit.

    Args:
        timelines: One per UE.
        titles: One per timeline; default "UE 0", "UE 1", ...; the latency is added to each.
        width: Characters, at least 40.

    Raises:
        ValueError: If there are no timelines, not one title for each, or too little width.
    """
    if width < 40:
        raise ValueError(f"width={width!r}: must be at least 40")
    names = checked_titles(timelines, titles)
    span = span_of(timelines)
    scale, unit = unit_for(span)
    cells = width - LABEL - 3
    lines = []
    for timeline, name in zip(timelines, names, strict=True):
        lines.append(f"{name}: {written(timeline.latency, scale, unit)}"[:width])
        for resource, lane in LANES.items():
            row = lane_row(timeline.by_resource[resource], span, cells)
            lines.append(f"{lane:>{LABEL}} │{row}│")
    lines.append(time_row(span, cells))
    lines.append("█ executes  ▒ parameters  ░ prefetch  ▓ activation  17 layer"[:width])
    return "\n".join(lines)


def time_row(span: float, cells: int) -> str:
    """The two ends of the time axis below lanes of `cells` characters."""
    return f"{'0':>{LABEL + 3}}{written(span, *unit_for(span)):>{cells - 1}}"


def lane_row(intervals: Sequence[Interval], span: float, cells: int) -> str:
    """One lane as `cells` characters: layer numbers where they fit on what it does."""
    cell = span / cells
    busy = np.zeros(cells)
    row = [" "] * cells
    numbers = []
    for interval in intervals:
        start, end = interval.start, min(interval.end, span)
        first, last = int(start / cell), min(int(np.ceil(end / cell - 1e-9)), cells)
        for c in range(first, last):
            here = min(end, (c + 1) * cell) - max(start, c * cell)
            if here > busy[c]:
                busy[c], row[c] = here, STYLES[interval.resource, interval.what].glyph
        numbers.append((first, last, layer_label(interval)))
    for first, last, text in numbers:
        if last - first >= len(text) + 3:
            row[first + 1 : first + 1 + len(text)] = text
    return "".join(row)
