"""Several environments at once: a frame each, or all on one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.rendering.picture import TILE, scene_rgb
from mjoa_gym.rendering.scene import Scene
from mjoa_gym.rendering.sheet import GREY, STRIP, Sheet

MOST_DRAWN = 9
"""Environments that are drawn, unless asked for otherwise."""
BORDER = "#9a9aa6"
LABEL_PX, LABEL_SIZE = 18, 11.5


def scene_frames(
    scenes: Sequence[Scene],
    num_envs: int | None = None,
    width: int = TILE[0],
    height: int = TILE[1],
) -> tuple[NDArray[np.uint8], ...]:
    """A frame for every environment, as `VectorEnv.render` is to return them.

    Args:
        scenes: Of the first environments, as many as are worth drawing (`MOST_DRAWN`).
        num_envs: Environments in all; those without a scene share one empty, read-only frame.
        width: Pixels of a frame.
        height: Likewise.

    Raises:
        ValueError: If there are more scenes than environments.
    """
    n = len(scenes) if num_envs is None else int(num_envs)
    if n < len(scenes):
        raise ValueError(f"num_envs={num_envs!r}: there are {len(scenes)} scenes")
    drawn = tuple(scene_rgb(scene, width, height) for scene in scenes)
    return drawn + (_not_drawn(width, height),) * (n - len(drawn))


def scenes_rgb(
    scenes: Sequence[Scene],
    labels: Sequence[str] | None = None,
    width: int = TILE[0],
    height: int = TILE[1],
) -> NDArray[np.uint8]:
    """Several scenes on one frame (see `tile`), each of the given size."""
    return tile([scene_rgb(scene, width, height) for scene in scenes], labels)


def tile(
    frames: Sequence[NDArray[np.uint8]],
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    border: int = 2,
) -> NDArray[np.uint8]:
    """Frames of one shape side by side on one frame.

    Args:
        frames: (height, width, 3) each.
        labels: One per frame, written above it; default "0", "1", ...; empty for none at all.
        columns: Frames in a row; default as many as make the grid nearly square.
        border: Pixels around each frame.

    Returns:
        (height, width, 3), both even, as video codecs want them.

    Raises:
        ValueError: If there are no frames, they differ in shape, or there is not a label for each.
    """
    if not len(frames):
        raise ValueError("frames is empty: at least one is needed")
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise ValueError(f"frames differ in shape: {sorted(shapes)}")
    n = len(frames)
    names = [str(i) for i in range(n)] if labels is None else list(labels)
    if names and len(names) != n:
        raise ValueError(f"labels has {len(names)} entries for {n} frames")
    across = int(np.ceil(np.sqrt(n))) if columns is None else int(columns)
    if across < 1:
        raise ValueError(f"columns={columns!r}: must be at least 1")
    rows = -(-n // across)
    high, wide, _ = frames[0].shape
    band = LABEL_PX if names else 0
    pitch_y, pitch_x = high + band + border, wide + border
    height, width = rows * pitch_y + border, across * pitch_x + border
    sheet = Sheet(width + width % 2, height + height % 2)
    sheet.box(0, 0, sheet.width, sheet.height, BORDER)
    corners = [(border + i // across * pitch_y, border + i % across * pitch_x) for i in range(n)]
    for name, (y, x) in zip(names, corners, strict=False):
        sheet.box(x, y, wide, band, STRIP)
        middle, room = x + wide / 2, wide - 8
        sheet.write(middle, y + band - 5, name, LABEL_SIZE, bold=True, align=0.5, room=room)
    image = sheet.pixels()
    for frame, (y, x) in zip(frames, corners, strict=True):
        image[y + band : y + band + high, x : x + wide] = frame
    return image


@lru_cache(maxsize=8)
def _not_drawn(width: int, height: int) -> NDArray[np.uint8]:
    """The frame of an environment that is not drawn."""
    sheet = Sheet(width, height)
    sheet.box(0, 0, width, height, STRIP)
    sheet.write(width / 2, height / 2, "not drawn", 13.0, GREY, align=0.5)
    image = sheet.pixels()
    image.flags.writeable = False
    return image
