"""What a picture consists of, before it becomes pixels or a matplotlib figure: boxes and texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

MARGIN = 2
"""Pixels that characters may reach beyond their advance."""
INK, GREY, GRID, STRIP = "#1b1b1f", "#62626d", "#dcdce2", "#f3f3f6"


class Text(NamedTuple):
    """A line of text.

    Attributes:
        x: Where it starts, in pixels from the left.
        y: Its baseline, in pixels from the top.
        text: The characters.
        size: Font size in pixels.
        colour: As "#rrggbb".
        bold: Or not.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str
    bold: bool


@dataclass
class Sheet:
    """A picture's boxes, painted in order, and the texts on top of them.

    Attributes:
        width: Pixels.
        height: Pixels.
        boxes: (x, y, width, height, colour) in pixels from the top left.
        texts: See `Text`.
    """

    width: int
    height: int
    boxes: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Note a filled box."""
        self.boxes.append((x, y, width, height, colour))

    def frame(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Note the outline of a box, 2 pixels thick, inside it."""
        for left, top, w, h in (
            (x, y, width, 2), (x, y + height - 2, width, 2),
            (x, y, 2, height), (x + width - 2, y, 2, height),
        ):  # fmt: skip
            self.box(left, top, w, h, colour)

    def dashes(self, x: float, top: float, bottom: float, colour: str, dash: float = 4) -> None:
        """Note a dashed upright line."""
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
        """Note a text, shortened to `room` pixels; returns where it ends.

        Args:
            x: Where it starts (`align` 0), is centred (0.5) or ends (1).
            y: Its baseline.
            text: One line.
            size: Font size in pixels.
            colour: As "#rrggbb".
            bold: Or not.
            align: See `x`.
            room: Pixels it may take.
        """
        text = shortened(text, size, bold, room)
        width = text_width(text, size, bold)
        if text:
            self.texts.append(Text(x - align * width, y, text, size, colour, bold))
        return x + (1 - align) * width


def shortened(text: str, size: float, bold: bool, room: float) -> str:
    """The text, or as much of it as fits `room` pixels with an ellipsis; "" if not even that."""
    if text_width(text, size, bold) <= room:
        return text
    for end in range(len(text) - 1, 0, -1):
        cut = text[:end].rstrip(" ·,(") + "…"
        if text_width(cut, size, bold) <= room:
            return cut
    return ""


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Pixels that a text takes."""
    return text_mask(text, size, bold)[0].shape[1]


@lru_cache(maxsize=8192)
def text_mask(text: str, size: float, bold: bool) -> tuple[NDArray[np.float32], int]:
    """A text as coverage in [0, 1] (height, width), and the row of its baseline.

    It is put together from single characters: most texts of a video are new in every frame, but
    not what they consist of.
    """
    glyphs = [_glyph(character, size, bold) for character in text]
    ends = np.cumsum([0.0, *(advance for _, advance in glyphs)])
    height, base = _canvas(size)
    mask = np.zeros((height, int(np.ceil(ends[-1])) + 2 * MARGIN), dtype=np.float32)
    for (coverage, _), start in zip(glyphs, ends[:-1], strict=True):
        left = round(start)
        part = mask[:, left : left + coverage.shape[1]]
        np.maximum(part, coverage[:, : part.shape[1]], out=part)
    return mask[:, MARGIN : MARGIN + int(np.ceil(ends[-1]))], base


@lru_cache(maxsize=4096)
def _glyph(character: str, size: float, bold: bool) -> tuple[NDArray[np.float32], float]:
    """A character's coverage, with a margin to both sides, and its advance in pixels."""
    height, base = _canvas(size)
    renderer = require_matplotlib().RendererAgg(int(2 * size) + 2 * MARGIN, height, 72)
    renderer.draw_text(renderer.new_gc(), MARGIN, base, character, font(bold, size), 0)
    coverage = np.asarray(renderer.buffer_rgba())[..., 3].astype(np.float32) / np.float32(255)

    def width(text: str) -> float:
        return float(renderer.get_text_width_height_descent(text, font(bold, size), False)[0])

    return coverage, width(f"|{character}|") - width("||")


def _canvas(size: float) -> tuple[int, int]:
    """Rows that hold any character of a font size, and which of them is the baseline."""
    return int(1.9 * size) + 4, int(1.3 * size) + 2


@lru_cache(maxsize=64)
def font(bold: bool, size: float) -> FontProperties:
    """The font that comes with matplotlib, so that a picture is the same on every machine."""
    from pathlib import Path

    import matplotlib
    from matplotlib.font_manager import FontProperties

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return FontProperties(fname=Path(matplotlib.get_data_path(), "fonts/ttf", name), size=size)


def require_matplotlib() -> Any:
    """Matplotlib's Agg backend; its pyplot, with its global state, is never loaded.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
    """
    try:
        from matplotlib.backends import backend_agg
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which is not installed: pip install mjoa-gym[render]"
        ) from error
    return backend_agg
