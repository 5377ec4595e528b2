"""A scene as a picture of any size: a title, every UE's lanes, and the server's memory beside them.

The layout depends on the size, the number of UEs and whether there is a memory, never on what
happens: the frames of an episode, and those of several environments, lie on each other exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.rendering.lanes import LaneBlock, draw_bars, draw_lanes, draw_ticks
from mjoa_gym.rendering.output import to_figure, to_pixels
from mjoa_gym.rendering.panel import draw_server, draw_stock
from mjoa_gym.rendering.scene import Scene, headline, summaries
from mjoa_gym.rendering.sheet import GREY, GRID, INK, Sheet, require_matplotlib, text_width
from mjoa_gym.rendering.style import (
    DROPPED,
    GONE,
    LANES,
    RESIDENT,
    STYLES,
    duration,
    round_span,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 1280, 720
"""Pixels of a picture, unless asked for otherwise."""
TILE = (640, 360)
"""Pixels of a picture among others."""
LEAST = (320, 180)


class Layout(NamedTuple):
    """Where things are, in pixels.

    Attributes:
        small: Font size of numbers and notes.
        normal: Font size of legend and axes.
        big: Font size of the UEs' names.
        head: Font size of the title.
        margin: Free space at the borders.
        left: Where the lanes begin.
        right: Where they end.
        shelf: Where the memory begins; it ends at the right margin.
        top: Where the first UE's block begins.
        bottom: Where the last one ends.
        block: Height of a UE's block.
        above: Height of the names above the lanes; 0 where they are to the left of them.
    """

    small: float
    normal: float
    big: float
    head: float
    margin: float
    left: float
    right: float
    shelf: float
    top: float
    bottom: float
    block: float
    above: float


def scene_rgb(scene: Scene, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A scene as an image (height, width, 3), for videos and `render_mode="rgb_array"`.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
        ValueError: If the picture would be too small to read.
    """
    return to_pixels(scene_sheet(scene, width, height))


def scene_figure(scene: Scene, width: int = WIDTH, height: int = HEIGHT) -> Figure:
    """The picture of `scene_rgb` as a matplotlib figure, to save as SVG or PDF.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
        ValueError: If the picture would be too small to read.
    """
    return to_figure(scene_sheet(scene, width, height))


def scene_sheet(scene: Scene, width: int, height: int) -> Sheet:
    """The picture as boxes and texts."""
    if width < LEAST[0] or height < LEAST[1]:
        raise ValueError(f"size {width} x {height}: must be at least {LEAST[0]} x {LEAST[1]}")
    require_matplotlib()
    sheet = Sheet(int(width), int(height))
    layout = layout_of(width, height, scene.instance.n_ues, scene.memory is not None)
    _draw_head(sheet, layout, scene)
    _draw_legend(sheet, layout, scene)
    blocks = [_lane_block(layout, i, round_span(scene.end_s)) for i in range(len(scene.timelines))]
    for block in blocks:
        draw_lanes(sheet, block, scene.end_s, layout.small)
    draw_ticks(sheet, blocks, layout.bottom, layout.normal, unit=True)
    for i, (block, timeline) in enumerate(zip(blocks, scene.timelines, strict=True)):
        if layout.block >= 7 * layout.small and i:
            y = layout.top + i * layout.block - 1
            sheet.box(layout.margin, y, width - 2 * layout.margin, 1, GRID)
        _draw_name(sheet, layout, scene, i)
        draw_bars(sheet, block, timeline, layout.small)
        alone = scene.instance.ues[i].local_s
        if alone < block.span_s and alone != timeline.latency:
            sheet.dashes(block.x(alone), block.top, block.top + block.height, GREY, dash=2)
    area = (layout.shelf, sheet.width - layout.margin)
    for i, stock in enumerate(scene.stocks):
        draw_stock(sheet, area, layout.top + i * layout.block, layout, stock)
    if scene.memory is not None:
        draw_server(sheet, area, layout.bottom, layout, scene.stocks, scene.memory.limit_bytes)
    return sheet


def layout_of(width: int, height: int, n_ues: int, memory: bool) -> Layout:
    """The layout for a size and a number of UEs."""
    factor = min(width / WIDTH, height / HEIGHT)
    small, normal = max(9.0, 11.5 * factor), max(9.5, 13.0 * factor)
    big, head = max(10.0, 14.0 * factor), max(13.0, 20.0 * factor)
    margin = round(max(6.0, 16.0 * factor))
    top = round(head * 1.7) + round(normal * 1.6) + round(8 * factor)
    bottom = height - round(normal * 3.2)
    block = (bottom - top) / n_ues
    above = round(1.7 * big)
    if block < above + len(LANES) * 8:
        above = 0
    lane_px = (block - above) / len(LANES)
    named = 6.9 * small if lane_px >= 13 and above else 0
    left = margin + (named if above else min(15.5 * small, width * 0.2))
    shelf = width - margin - round(0.31 * width) if memory else width - margin
    right = shelf - max(14.0, 28.0 * factor)
    return Layout(small, normal, big, head, margin, left, right, shelf, top, bottom, block, above)


def _lane_block(layout: Layout, i: int, span_s: float) -> LaneBlock:
    """Where UE i's lanes are."""
    pad = max(1.0, 0.08 * layout.block) if layout.block > 8 else 0.0
    lane_px = (layout.block - layout.above - pad) / len(LANES)
    if lane_px > 3:
        lane_px = float(int(lane_px))
    top = layout.top + i * layout.block + (layout.above or pad / 2)
    return LaneBlock(layout.left, layout.right, round(top), lane_px, span_s)


def _draw_head(sheet: Sheet, layout: Layout, scene: Scene) -> None:
    """How far the episode is, which round this is, and how it went."""
    if scene.rounds:
        sheet.box(0, 0, sheet.width, 3, GRID)
        done = sheet.width * min(1.0, scene.round / scene.rounds)
        if done >= 1:
            sheet.box(0, 0, done, 3, STYLES["ue", "execute"].face)
    baseline = round(layout.head * 1.35)
    room = sheet.width - 2 * layout.margin
    end = sheet.write(
        layout.margin, baseline, headline(scene), layout.head, INK, bold=True, room=room
    )
    size, right = max(layout.normal, 0.75 * layout.head), sheet.width - layout.margin
    says = summaries(scene)
    text = next((s for s in says if text_width(s, size) <= right - end - 12), says[-1])
    sheet.write(right, baseline, text, size, align=1.0, room=max(0.0, right - end - 12))


def _draw_legend(sheet: Sheet, layout: Layout, scene: Scene) -> None:
    """What the colours mean: always the same entries, so that frames align."""
    styles = {style.face: style for style in STYLES.values()}
    if scene.memory is None:
        del styles[STYLES["uplink", "prefetch"].face]
    entries = [(style.face, style.label, style.short) for style in styles.values()]
    if scene.memory is not None:
        entries += [
            (RESIDENT, "was resident", "resident"),
            (DROPPED, "dropped", "dropped"),
            (GONE, "left with its UE", "left"),
        ]
    entries += [(INK, "done", "done"), (GREY, "if alone", "alone")]
    room = sheet.width - 2 * layout.margin
    for which, size in ((1, layout.normal), (1, layout.small), (2, layout.normal), (2, 9.0)):
        swatch = round(0.85 * size)
        widths = [swatch + 4 + text_width(entry[which], size) for entry in entries]
        gap = min(18.0, (room - sum(widths)) / max(1, len(entries) - 1))
        if gap >= 7 or (which, size) == (2, 9.0):
            break
    x, baseline = float(layout.margin), round(layout.head * 1.35) + round(1.75 * layout.normal)
    for entry, width in zip(entries, widths, strict=True):
        if x + width > sheet.width - layout.margin / 2:
            break
        if entry[0] in (INK, GREY):
            dash = 4 if entry[0] == INK else 2
            sheet.dashes(x + swatch // 2, baseline - swatch - 1, baseline + 2, entry[0], dash)
        else:
            sheet.box(x, baseline - swatch, swatch, swatch, entry[0])
        sheet.write(x + swatch + 4, baseline, entry[which], size)
        x += width + max(6.0, gap)


def _draw_name(sheet: Sheet, layout: Layout, scene: Scene, i: int) -> None:
    """Who a UE is, its latency alone and now, and its shares where there is room."""
    ue = scene.instance.ues[i]
    latency, alone = duration(scene.latency_s[i]), f"(alone {duration(ue.local_s)})"
    top = layout.top + i * layout.block
    if not layout.above:
        _draw_name_beside(sheet, layout, top, (f"{i} {ue.dnn.name}", latency, alone))
        return
    baseline = top + 0.5 * layout.above + 0.45 * layout.big
    room = layout.right - layout.margin
    x = sheet.write(layout.margin, baseline, f"UE {i} · {ue.dnn.name} · ", layout.big, room=room)
    for text, colour, bold in ((latency, INK, True), (alone, GREY, False)):
        x = sheet.write(
            x, baseline, text, layout.big, colour, bold, room=max(0.0, layout.right - x)
        )
        x += 0.45 * layout.big
    if scene.plan is None:
        return
    shares = f"band {scene.plan.bandwidth_share[i]:.0%} · server {scene.plan.compute_share[i]:.0%}"
    if ue.weight != 1.0:
        shares = f"weight {ue.weight:.3g} · {shares}"
    if x + 8 + text_width(shares, layout.small) <= layout.right:
        sheet.write(layout.right, baseline, shares, layout.small, GREY, align=1.0)


def _draw_name_beside(
    sheet: Sheet, layout: Layout, top: float, texts: tuple[str, str, str]
) -> None:
    """A UE's name and latency to the left of its lanes: in two lines, in one, or not at all."""
    name, latency, alone = texts
    size, middle = layout.small, top + layout.block / 2
    room = layout.left - layout.margin - 5
    if layout.block >= 2.5 * size:
        sheet.write(layout.margin, middle - 0.25 * size, name, size, INK, room=room)
        end = sheet.write(layout.margin, middle + 1.05 * size, latency, size, INK, bold=True)
        left = layout.margin + room - end - 4
        if text_width(alone, size) <= left:
            sheet.write(end + 4, middle + 1.05 * size, alone, size, GREY)
    else:
        size = min(size, max(6.0, 0.95 * layout.block))
        baseline = middle + 0.36 * size
        start = layout.margin + room - text_width(latency, size, True)
        sheet.write(layout.margin + room, baseline, latency, size, INK, True, align=1.0)
        sheet.write(layout.margin, baseline, name, size, INK, room=start - layout.margin - 4)
