"""The positions of the parts of a scene's picture, for any size and number of UEs."""

from __future__ import annotations

from typing import NamedTuple

from mjoa_gym.rendering.style import LANES

WIDTH, HEIGHT = 1280, 720
"""Default size of a picture in pixels."""


class SceneLayout(NamedTuple):
    """Positions and sizes, in pixels."""

    small: float  # font size of numbers and notes
    normal: float  # font size of legend and axes
    big: float  # font size of the UEs' names
    head: float  # font size of the title
    margin: float  # free space at the borders
    left: float  # start of the lanes
    right: float  # end of the lanes
    shelf: float  # start of the memory
    border: float  # end of the memory
    top: float  # start of the first UE's block
    bottom: float  # end of the last UE's block
    block: float  # height of a UE's block
    above: float  # height of the names above the lanes; 0 if they are to the left of the lanes


def layout_of(width: int, height: int, n_ues: int, memory: bool) -> SceneLayout:
    """Return the layout for a size and a number of UEs."""
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
    border = width - margin
    shelf = border - round(0.31 * width) if memory else border
    right = shelf - max(14.0, 28.0 * factor)
    texts = small, normal, big, head
    return SceneLayout(*texts, margin, left, right, shelf, border, top, bottom, block, above)
