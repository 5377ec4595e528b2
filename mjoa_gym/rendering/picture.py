"""A scene as a picture of any size: a title, every UE's lanes, and the server's memory.

The layout depends only on the size, the number of UEs and whether there is a memory. So the frames
of an episode, and those of several environments, align exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.rendering.lanes import LaneBlock, draw_bars, draw_lanes, draw_ticks
from mjoa_gym.rendering.panel import draw_server, draw_stock
from mjoa_gym.rendering.scene import Scene, headline, summaries
from mjoa_gym.rendering.scene_layout import HEIGHT, WIDTH, SceneLayout, layout_of
from mjoa_gym.rendering.sheet import GREY, GRID, INK, STRIP, Sheet, text_width
from mjoa_gym.rendering.style import DROPPED, GONE, LANES, RESIDENT, STYLES, duration, round_span
from mjoa_gym.validation import frozen

TILE = (640, 360)  # pixels of a picture in a vector
LEAST = (320, 180)
MOST_DRAWN = 9  # environments of a vector that are drawn


def scene_rgb(scene: Scene, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Draw a scene as an image (height, width, 3), for videos and `render_mode="rgb_array"`.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
        ValueError: If the picture would be too small to read.
    """
    return scene_sheet(scene, width, height).pixels()


def scene_frames(scenes: Sequence[Scene], num_envs: int) -> tuple[NDArray[np.uint8], ...]:
    """Draw a frame (360, 640, 3) for every environment, as `VectorEnv.render` returns them.

    Args:
        scenes: Scenes of the first environments, at most `MOST_DRAWN`.
        num_envs: Number of all environments; those without a scene share one empty, read-only
            frame.
    """
    drawn = tuple(scene_rgb(scene, *TILE) for scene in scenes)
    return drawn + (_not_drawn(),) * (num_envs - len(drawn))


@lru_cache(maxsize=1)
def _not_drawn() -> NDArray[np.uint8]:
    """Return the frame of an environment that is not drawn."""
    sheet = Sheet(*TILE)
    sheet.box(0, 0, *TILE, STRIP)
    sheet.write(TILE[0] / 2, TILE[1] / 2, "not drawn", 13.0, GREY, align=0.5)
    return frozen(sheet.pixels())


def scene_sheet(scene: Scene, width: int, height: int) -> Sheet:
    """Return the picture as boxes and texts."""
    if width < LEAST[0] or height < LEAST[1]:
        raise ValueError(f"size {width} x {height}: must be at least {LEAST[0]} x {LEAST[1]}")
    sheet = Sheet(int(width), int(height))
    layout = layout_of(width, height, scene.instance.n_ues, scene.memory is not None)
    _draw_head(sheet, layout, scene)
    _draw_legend(sheet, layout, scene)
    blocks = [_lane_block(layout, i, round_span(scene.end_s)) for i in range(len(scene.timelines))]
    for block in blocks:
        draw_lanes(sheet, block, scene.end_s, layout.small)
    draw_ticks(sheet, blocks, layout.bottom, layout.normal)
    for i, (block, timeline) in enumerate(zip(blocks, scene.timelines, strict=True)):
        if layout.block >= 7 * layout.small and i:
            y = layout.top + i * layout.block - 1
            sheet.box(layout.margin, y, width - 2 * layout.margin, 1, GRID)
        _draw_name(sheet, layout, scene, i)
        draw_bars(sheet, block, timeline, layout.small)
        alone = scene.instance.ues[i].local_s
        if alone < block.span_s and alone != timeline.latency:
            sheet.dashes(block.x(alone), block.top, block.top + block.height, GREY, dash=2)
    for i, stock in enumerate(scene.stocks):
        draw_stock(sheet, layout, i, stock)
    if scene.server is not None:
        draw_server(sheet, layout, scene.server)
    return sheet


def _lane_block(layout: SceneLayout, i: int, span_s: float) -> LaneBlock:
    """Return the position of UE i's lanes."""
    pad = max(1.0, 0.08 * layout.block) if layout.block > 8 else 0.0
    lane_px = (layout.block - layout.above - pad) / len(LANES)
    if lane_px > 3:
        lane_px = float(int(lane_px))
    top = layout.top + i * layout.block + (layout.above or pad / 2)
    return LaneBlock(layout.left, layout.right, round(top), lane_px, span_s)


def _draw_head(sheet: Sheet, layout: SceneLayout, scene: Scene) -> None:
    """Draw the progress of the episode, the number of the round, and its result."""
    if scene.rounds:
        sheet.box(0, 0, sheet.width, 3, GRID)
        done = sheet.width * min(1.0, scene.round / scene.rounds)
        if done >= 1:
            sheet.box(0, 0, done, 3, STYLES["ue", "execute"].face)
    baseline = round(layout.head * 1.35)
    room = sheet.width - 2 * layout.margin
    end = sheet.write(layout.margin, baseline, headline(scene), layout.head, INK, True, room=room)
    size, right = max(layout.normal, 0.75 * layout.head), sheet.width - layout.margin
    says = summaries(scene)
    text = next((s for s in says if text_width(s, size) <= right - end - 12), says[-1])
    sheet.write(right, baseline, text, size, align=1.0, room=max(0.0, right - end - 12))


def _draw_legend(sheet: Sheet, layout: SceneLayout, scene: Scene) -> None:
    """Draw the legend of the colours, always with the same entries, so that frames align."""
    styles = dict.fromkeys(STYLES.values())
    if scene.memory is None:
        del styles[STYLES["uplink", "prefetch"]]
    entries = [(style.face, style.label, style.short) for style in styles]
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


def _draw_name(sheet: Sheet, layout: SceneLayout, scene: Scene, i: int) -> None:
    """Draw a UE's name, its latency alone and now, and its shares if there is room."""
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
        room = max(0.0, layout.right - x)
        x = sheet.write(x, baseline, text, layout.big, colour, bold, room=room) + 0.45 * layout.big
    if scene.plan is None:
        return
    shares = f"band {scene.plan.bandwidth_share[i]:.0%} · server {scene.plan.compute_share[i]:.0%}"
    if ue.weight != 1.0:
        shares = f"weight {ue.weight:.3g} · {shares}"
    if x + 8 + text_width(shares, layout.small) <= layout.right:
        sheet.write(layout.right, baseline, shares, layout.small, GREY, align=1.0)


def _draw_name_beside(
    sheet: Sheet, layout: SceneLayout, top: float, texts: tuple[str, str, str]
) -> None:
    """Draw a UE's name and latency to the left of its lanes: in two lines, in one, or none."""
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
