"""A sheet: the boxes and texts of a picture, and its pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

DPI = 100
MARGIN = 2  # pixels by which characters may extend beyond their advance
INK, GREY, GRID, STRIP = "#1b1b1f", "#62626d", "#dcdce2", "#f3f3f6"


class Text(NamedTuple):
    """A line of text: the start of its baseline, in pixels from the top left, and its style."""

    x: float
    y: float
    text: str
    size: float
    colour: str
    bold: bool


@dataclass
class Sheet:
    """A picture's boxes (x, y, width, height, colour), painted in order, and the texts on top.

    All positions are in pixels from the top left; colours are "#rrggbb".
    """

    width: int
    height: int
    boxes: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Add a filled box."""
        self.boxes.append((x, y, width, height, colour))

    def frame(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Add the outline of a box, 2 pixels thick, inside it."""
        for left, top, w, h in (
            (x, y, width, 2), (x, y + height - 2, width, 2),
            (x, y, 2, height), (x + width - 2, y, 2, height),
        ):  # fmt: skip
            self.box(left, top, w, h, colour)

    def dashes(self, x: float, top: float, bottom: float, colour: str, dash: float = 4) -> None:
        """Add a dashed vertical line."""
        y = top
        while y < bottom:
            self.box(x, y, 1, min(dash, bottom - y), colour)
            y += dash + 2

    def write(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: str = INK,
        bold: bool = False,
        align: float = 0.0,
        room: float = np.inf,
    ) -> float:
        """Add a text, shortened to `room` pixels; return the x at which it ends.

        It starts (`align` 0), is centred (0.5) or ends (1) at x; its baseline is at y.
        """
        text = shortened(text, size, bold, room)
        width = text_width(text, size, bold)
        if text:
            self.texts.append(Text(x - align * width, y, text, size, colour, bold))
        return x + (1 - align) * width

    def pixels(self) -> NDArray[np.uint8]:
        """Paint the picture as an image (height, width, 3).

        Boxes and texts are aligned to pixels. A box is at least one pixel wide, so that it is
        visible.
        """
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (self.width, self.height), "white")
        draw = ImageDraw.Draw(image)
        for x, y, width, height, colour in self.boxes:
            left, top = max(0, round(x)), max(0, round(y))
            right, bottom = max(left + 1, round(x + width)), max(top + 1, round(y + height))
            draw.rectangle((left, top, right - 1, bottom - 1), colour)
        for text in self.texts:
            mask, baseline = _mask(text.text, text.size, text.bold)
            image.paste(text.colour, (round(text.x) - MARGIN, round(text.y) - baseline), mask)
        return np.array(image)


def shortened(text: str, size: float, bold: bool, room: float) -> str:
    """Return the text, shortened with an ellipsis to `room` pixels; "" if nothing fits."""
    if text_width(text, size, bold) <= room:
        return text
    for end in range(len(text) - 1, 0, -1):
        cut = text[:end].rstrip(" ·,(") + "…"
        if text_width(cut, size, bold) <= room:
            return cut
    return ""


@lru_cache(maxsize=8192)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a text in pixels."""
    return font(size, bold).getlength(text)


@lru_cache(maxsize=64)
def font(size: float, bold: bool) -> FreeTypeFont:
    """Return matplotlib's own font, so that pictures are the same on every machine."""
    data = require_matplotlib().get_data_path()
    from PIL.ImageFont import Layout, truetype

    name = "DejaVuSans-Bold" if bold else "DejaVuSans"
    return truetype(f"{data}/fonts/ttf/{name}.ttf", size, layout_engine=Layout.BASIC)


@lru_cache(maxsize=4096)
def _mask(text: str, size: float, bold: bool) -> tuple[Image, int]:
    """Return a text's coverage and its baseline's row; cached, because frames repeat most texts."""
    from PIL import Image, ImageDraw

    face = font(size, bold)
    above, below = face.getmetrics()
    mask = Image.new("L", (int(text_width(text, size, bold)) + 2 * MARGIN, above + below))
    ImageDraw.Draw(mask).text((MARGIN, above), text, 255, face, anchor="ls")
    return mask, above


def points(pixels: float) -> float:
    """Return a font's size in points, for matplotlib."""
    return pixels * 72 / DPI


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, with its size in pixels, on an Agg canvas, without pyplot."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=((width + 0.01) / DPI, (height + 0.01) / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def require_matplotlib() -> Any:
    """Return matplotlib without pyplot and its global state; an error says how to install it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which is not installed: pip install 'mjoa-gym[render]'"
        ) from error
    return matplotlib
