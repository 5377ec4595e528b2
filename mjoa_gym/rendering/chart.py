"""The Gantt chart as a matplotlib figure and as RGB frames.

Text is drawn as outlines, gathered in one collection per kind: an order of magnitude faster than
one matplotlib text each, which is what frames of a video need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.rendering.style import (
    LANES,
    STYLES,
    checked_titles,
    layer_label,
    overlap,
    span_of,
    unit_for,
    written,
)
from mjoa_gym.simulator import Interval, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

DPI = 100
LANE_PX, TITLE_PX, GAP_PX = 18, 20, 10
BLOCK_PX = TITLE_PX + len(LANES) * LANE_PX + GAP_PX
"""Height of one timeline: its title, its lanes and a gap."""
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 84, 24, 32, 40
INK, GREY, GRID, STRIP = "#1b1b1f", "#6b6b76", "#dcdce2", "#f3f3f6"
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
    figure_type, canvas_type = _import_matplotlib()
    names = checked_titles(timelines, titles)
    wanted = gantt_height(len(timelines))
    shape = int(width), wanted if height is None else int(height)
    figure = figure_type(figsize=[(pixels + 0.01) / DPI for pixels in shape], dpi=DPI)
    canvas_type(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, shape[0]), ylim=(wanted, 0))  # pixels, but for a height of one's own
    span = span_of(timelines) if span_s is None else float(span_s)
    canvas = _Canvas(axes, span, (shape[0] - LEFT_PX - RIGHT_PX) / span, [], [], [])
    _add_legend(canvas)
    _add_lanes(canvas, len(timelines))
    _add_time_axis(canvas, len(timelines))
    for block, (timeline, name) in enumerate(zip(timelines, names, strict=True)):
        _add_block(canvas, block, timeline, name)
    _draw(canvas, shape[1] / wanted)
    return figure


def gantt_rgb(
    timelines: Sequence[Timeline],
    titles: Sequence[str] | None = None,
    width: int = 960,
    height: int | None = None,
    span_s: float | None = None,
) -> NDArray[np.uint8]:
    """The chart of `gantt_figure` as an image (height, width, 3), for videos and `rgb_array`.

    The shape depends on `width`, `height` and the number of timelines only.
    """
    canvas: Any = gantt_figure(timelines, titles, width, height, span_s).canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def gantt_height(n_timelines: int) -> int:
    """The default height of a chart in pixels."""
    return TOP_PX + n_timelines * BLOCK_PX + BOTTOM_PX


class _Canvas(NamedTuple):
    """What is to be drawn, in pixels from the top left.

    Attributes:
        axes: Axes that cover the figure.
        span_s: Where the time axis ends.
        px_per_s: Pixels per second.
        boxes: (x, y, width, height, face colour, edge colour).
        lines: Dashed, from (x, y) to (x, y).
        texts: (x, y of the baseline, text, size in pixels, colour, bold or not).
    """

    axes: Axes
    span_s: float
    px_per_s: float
    boxes: list[tuple[float, float, float, float, str, str]]
    lines: list[tuple[tuple[float, float], tuple[float, float]]]
    texts: list[tuple[float, float, str, float, str, bool]]

    def x(self, seconds: float) -> float:
        """The pixel of a time, within the chart."""
        return LEFT_PX + min(seconds, self.span_s) * self.px_per_s

    def write(
        self,
        x: float,
        y: float,
        text: str,
        size: float = NORMAL,
        colour: str = INK,
        bold: bool = False,
        align: float = 0.0,
    ) -> float:
        """Note a text; `align` 0 starts, 0.5 centres, 1 ends it at x. Returns where it ends."""
        width = _outline(text, size, bold)[1]
        self.texts.append((x - align * width, y, text, size, colour, bold))
        return x + (1 - align) * width


def _import_matplotlib() -> tuple[Any, Any]:
    """The classes of figures and of Agg canvases."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which is not installed: pip install mjoa-gym[render]"
        ) from error
    return Figure, FigureCanvasAgg


def _add_legend(canvas: _Canvas) -> None:
    """What the colours mean: always the same entries, so that frames of a video align."""
    x = 8.0
    for label, face in {style.label: style.face for style in STYLES.values()}.items():
        canvas.boxes.append((x, 9, 12, 12, face, face))
        x = canvas.write(x + 17, 19, label) + 18


def _lane_top(block: int, lane: int = 0) -> float:
    """The upper end of a lane of a timeline."""
    return TOP_PX + block * BLOCK_PX + TITLE_PX + lane * LANE_PX


def _add_lanes(canvas: _Canvas, n_blocks: int) -> None:
    """The strips behind the bars, with their names."""
    width = canvas.x(canvas.span_s) - LEFT_PX
    for block in range(n_blocks):
        for lane, label in enumerate(LANES.values()):
            y = _lane_top(block, lane)
            canvas.write(LEFT_PX - 7, y + 13, label, align=1.0)
            canvas.boxes.append((LEFT_PX, y + 1, width, LANE_PX - 2, STRIP, "none"))


def _add_time_axis(canvas: _Canvas, n_blocks: int) -> None:
    """The axis with its ticks, and a line through the lanes at each."""
    from matplotlib.ticker import MaxNLocator

    scale, unit = unit_for(canvas.span_s)
    bottom = TOP_PX + n_blocks * BLOCK_PX
    right = canvas.x(canvas.span_s)
    canvas.boxes.append((LEFT_PX, bottom, right - LEFT_PX, 1, GREY, "none"))
    ticks = MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(0, canvas.span_s * scale)
    for tick in (t for t in ticks if 0 <= t <= canvas.span_s * scale * (1 + 1e-9)):
        x = canvas.x(tick / scale)
        canvas.boxes.append((x - 0.5, bottom, 1, 5, GREY, "none"))
        canvas.write(x, bottom + 17, f"{tick:g}", align=0.5)
        for block in range(n_blocks):
            height = len(LANES) * LANE_PX
            canvas.boxes.append((x - 0.5, _lane_top(block), 1, height, GRID, "none"))
    canvas.write((LEFT_PX + right) / 2, bottom + 33, f"time ({unit})", align=0.5)


def _add_block(canvas: _Canvas, block: int, timeline: Timeline, name: str) -> None:
    """One timeline: its title, its bars and the line at its latency."""
    baseline = _lane_top(block) - 6
    end = canvas.write(LEFT_PX, baseline, name, BIG, bold=True)
    latency = written(timeline.latency, *unit_for(canvas.span_s))
    end = canvas.write(end + 10, baseline, latency, BIG)
    share, right = overlap(timeline), canvas.x(canvas.span_s)
    hint = f"{100 * share:.0f} % of the upload runs beside execution"
    if share >= 0.005 and end + 20 < right - _outline(hint, SMALL, False)[1]:
        canvas.write(right, baseline, hint, SMALL, GREY, align=1.0)
    for lane, resource in enumerate(LANES):
        for interval in timeline.by_resource[resource]:
            if interval.start < canvas.span_s and interval.end > interval.start:
                _add_bar(canvas, _lane_top(block, lane) + 1, interval)
    if timeline.latency <= canvas.span_s * (1 + 1e-9):
        x, top = canvas.x(timeline.latency), _lane_top(block)
        canvas.lines.append(((x, top - 3), (x, top + len(LANES) * LANE_PX + 3)))


def _add_bar(canvas: _Canvas, y: float, interval: Interval) -> None:
    """One interval, at least a pixel wide, so that nothing goes unseen; numbered where it fits."""
    style = STYLES[interval.resource, interval.what]
    left = canvas.x(interval.start)
    width = max(1.0, canvas.x(interval.end) - left)
    edge = "white" if width > 4 else "none"
    canvas.boxes.append((left, y, width, LANE_PX - 2, style.face, edge))
    text = layer_label(interval)
    if width > 5 + _outline(text, SMALL, False)[1]:
        canvas.write(left + width / 2, y + 11.5, text, SMALL, style.ink, align=0.5)


def _draw(canvas: _Canvas, stretch: float) -> None:
    """Turn the notes into one collection each of boxes, lines and texts."""
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.transforms import Affine2D

    def add(collection: Any) -> None:
        canvas.axes.add_collection(collection, autolim=False)

    x, y, w, h = np.array([box[:4] for box in canvas.boxes]).T
    corners = list(np.stack([[x, x + w, x + w, x], [y, y, y + h, y + h]]).T)
    faces, edges = ([box[k] for box in canvas.boxes] for k in (4, 5))
    add(PolyCollection(corners, facecolors=faces, edgecolors=edges, linewidths=0.5, zorder=1))
    add(LineCollection(canvas.lines, colors=INK, linewidths=1, linestyles=(0, (3, 2)), zorder=3))
    outlines = [_outline(text, size, bold)[0] for _, _, text, size, _, bold in canvas.texts]
    glyphs = PathCollection(
        outlines,
        offsets=[text[:2] for text in canvas.texts],
        offset_transform=canvas.axes.transData,
        facecolors=[text[4] for text in canvas.texts],
        linewidths=0,
        zorder=4,
    )
    inches = Affine2D().scale(1 / DPI, min(1.0, stretch) / DPI)
    glyphs.set_transform(inches + canvas.axes.figure.dpi_scale_trans)
    add(glyphs)


@lru_cache(maxsize=4096)
def _outline(text: str, size: float, bold: bool) -> tuple[Path, float]:
    """A text as a path that starts at (0, 0), and its width."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    path = TextPath((0, 0), text, size=size, prop=font, usetex=False)
    return path, float(path.get_extents().x1) if len(path.vertices) else 0.0
