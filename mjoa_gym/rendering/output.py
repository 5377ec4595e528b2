"""A sheet as pixels, painted by hand for the sake of speed, and as a matplotlib figure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.rendering.sheet import Sheet, font, require_matplotlib, text_mask, text_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.path import Path

DPI = 100


def to_pixels(sheet: Sheet) -> NDArray[np.uint8]:
    """A sheet as an image (height, width, 3).

    Boxes are aligned to pixels, each at least one wide, so that nothing goes unseen; texts are
    those of matplotlib's Agg, kept from picture to picture.
    """
    image = np.full((sheet.height, sheet.width, 3), 255, dtype=np.uint8)
    for x, y, width, height, colour in sheet.boxes:
        left, top = max(0, round(x)), max(0, round(y))
        right, bottom = max(left + 1, round(x + width)), max(top + 1, round(y + height))
        image[top:bottom, left:right] = rgb(colour)
    for text in sheet.texts:
        mask, baseline = text_mask(text.text, text.size, text.bold)
        left, top = max(0, round(text.x)), max(0, round(text.y) - baseline)
        under = image[top : top + mask.shape[0], left : left + mask.shape[1]]
        cover = mask[: under.shape[0], : under.shape[1], None]
        under[...] = np.rint(under + cover * (rgb(text.colour) - under.astype(np.float32)))
    return image


def to_figure(sheet: Sheet) -> Figure:
    """A sheet as a matplotlib figure on an Agg canvas; `figure.savefig(path)` writes any format.

    Boxes and texts are one collection each, so that saving is fast too.
    """
    agg = require_matplotlib()
    from matplotlib.collections import PathCollection, PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.transforms import Affine2D

    def inches(pixels: int) -> float:
        return (pixels + 0.01) / DPI

    figure = Figure(figsize=(inches(sheet.width), inches(sheet.height)), dpi=DPI)
    agg.FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, sheet.width), ylim=(sheet.height, 0))
    x, y, w, h = np.array([box[:4] for box in sheet.boxes]).T
    corners = list(np.stack([[x, x + w, x + w, x], [y, y, y + h, y + h]]).T)
    faces = [box[4] for box in sheet.boxes]
    boxes: Any = PolyCollection(corners, facecolors=faces, linewidths=0, zorder=1)
    axes.add_collection(boxes, autolim=False)
    glyphs = PathCollection(
        [_outline(text.text, text.size, text.bold) for text in sheet.texts],
        offsets=[text[:2] for text in sheet.texts],
        offset_transform=axes.transData,
        facecolors=[text.colour for text in sheet.texts],
        linewidths=0,
        zorder=2,
    )
    glyphs.set_transform(Affine2D().scale(1 / DPI) + figure.dpi_scale_trans)
    axes.add_collection(glyphs, autolim=False)
    return figure


@lru_cache(maxsize=256)
def rgb(colour: str) -> NDArray[np.uint8]:
    """A colour "#rrggbb" as three numbers."""
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], dtype=np.uint8)


@lru_cache(maxsize=4096)
def _outline(text: str, size: float, bold: bool) -> Path:
    """A text as a path that starts at (0, 0), as wide as in pixels."""
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    path = TextPath((0, 0), text.rstrip(), size=size, prop=font(bold, size), usetex=False)
    if not len(path.vertices):
        return path
    width = text_width(text.rstrip(), size, bold)
    return Affine2D().scale(width / path.get_extents().x1, 1).transform_path(path)
