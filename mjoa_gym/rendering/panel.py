"""The server's memory on a sheet: a strip of layers per UE, and one bar for the whole server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from mjoa_gym.rendering.scene import Stock
from mjoa_gym.rendering.sheet import GREY, INK, Sheet, text_width
from mjoa_gym.rendering.style import DROPPED, GONE, RESIDENT, STYLES, amount, faded

EMPTY = "#e9e9ee"
UPLOADED, PREFETCHED = STYLES["uplink", "parameters"].face, STYLES["uplink", "prefetch"].face
TONES = (RESIDENT, "#8fcdf0")
"""Of the UEs' parts of the server's bar, in turn."""
LEAST_SCALE = 4 / 3
"""The server's bar shows this many times the limit, so that what has to go is seen too."""


class Fonts(Protocol):
    """What of the layout the memory needs."""

    @property
    def small(self) -> float:
        """Font size of numbers and notes."""

    @property
    def normal(self) -> float:
        """Font size of axes."""

    @property
    def big(self) -> float:
        """Font size of names."""

    @property
    def block(self) -> float:
        """Height of a UE's block."""

    @property
    def above(self) -> float:
        """Height of the names above the lanes, or 0."""


def draw_stock(
    sheet: Sheet, area: tuple[float, float], top: float, fonts: Fonts, stock: Stock
) -> None:
    """A UE's layers, each a cell that is filled as far as its parameters are on the server.

    Args:
        sheet: What to draw on.
        area: Left and right end, in pixels.
        top: Where the UE's block begins.
        fonts: Sizes.
        stock: What the UE has on the server.
    """
    left, right = area
    text_size = fonts.normal if fonts.above else fonts.small
    said = fonts.above or (round(1.35 * text_size) if fonts.block > 2.6 * text_size else 0)
    pad = max(1.0, 0.08 * fonts.block)
    strip_top = round(top + (said or pad / 2))
    strip_bottom = round(top + fonts.block - pad)
    if said:
        baseline = top + 0.5 * said + 0.4 * text_size
        if not fonts.above:
            baseline = top + said - 0.25 * text_size
        _write_stock(sheet, area, baseline, text_size, stock)
    height = min(max(2, strip_bottom - strip_top), round(6 * text_size))
    n = len(stock.layers)
    edges = [round(left + k * (right - left) / n) for k in range(n + 1)] if n else []
    pitch = (right - left) / max(1, n)
    widest = text_width(str(stock.layers.max(initial=0)), fonts.small)
    numbered = pitch >= widest + 4 and height >= 2.2 * fonts.small
    for k, layer in enumerate(stock.layers.tolist()):
        cell = (edges[k], strip_top, max(1, edges[k + 1] - edges[k] - (pitch >= 4)), height)
        _draw_cell(sheet, cell, stock, k)
        _mark_cell(sheet, cell, stock.dropped[k] > 0, str(layer) if numbered else "", fonts.small)


def _draw_cell(sheet: Sheet, cell: tuple[float, float, float, float], stock: Stock, k: int) -> None:
    """One layer, filled from below: what was there, what was uploaded, what was prefetched.

    What is dropped is faded.
    """
    x, y, width, height = cell
    sheet.box(x, y, width, height, EMPTY)
    parts = ((stock.before, RESIDENT), (stock.uploaded, UPLOADED), (stock.prefetched, PREFETCHED))
    level = 0.0
    for fractions, colour in parts:
        if fractions[k] > 0:
            upper = min(1.0, level + fractions[k])
            rise = max(1.0, round(upper * height) - round(level * height))
            face = GONE if stock.left else faded(colour) if stock.dropped[k] > 0 else colour
            sheet.box(x, y + height - max(rise, round(upper * height)), width, rise, face)
            level = upper


def _mark_cell(
    sheet: Sheet, cell: tuple[float, float, float, float], dropped: bool, label: str, size: float
) -> None:
    """The layer's number, and a cross if it was dropped; colour alone where a cell is small."""
    x, y, width, height = cell
    if dropped and (width < 12 or height < 2.2 * size):
        sheet.box(x, y, width, height, DROPPED)
    elif dropped:
        sheet.frame(x, y, width, height, DROPPED)
        sheet.write(x + width / 2, y + 0.55 * height, "×", 1.6 * size, DROPPED, True, align=0.5)
    if label:
        sheet.write(x + width / 2, y + height - 4, label, size, INK, align=0.5)


def _write_stock(
    sheet: Sheet, area: tuple[float, float], baseline: float, size: float, stock: Stock
) -> None:
    """How much of the UE's network is on the server, and what the round changed."""
    left, right = area
    if stock.left:
        text = f"left, with {amount(stock.bytes_of(stock.after))}"
        sheet.write(left, baseline, text, size, INK, bold=True, room=right - left)
        return
    total = stock.total_bytes
    text = f"{amount(stock.kept_bytes, total, unit=False)} of {amount(total)}"
    x = sheet.write(left, baseline, text, size, INK, bold=True, room=right - left)
    for fractions, sign, what in (
        (stock.dropped, "−", "dropped"),
        (stock.uploaded, "+", "uploaded"),
        (stock.prefetched, "+", "prefetched"),
    ):
        if (changed := stock.bytes_of(fractions)) > 0:
            for note in (f"{sign}{amount(changed)} {what}", f"{sign}{amount(changed)}"):
                if x + 10 + text_width(note, size) <= right:
                    colour = DROPPED if what == "dropped" else GREY
                    x = sheet.write(x + 10, baseline, note, size, colour)
                    break


def draw_server(
    sheet: Sheet,
    area: tuple[float, float],
    top: float,
    fonts: Fonts,
    stocks: Sequence[Stock],
    limit_bytes: float,
) -> None:
    """What the server keeps, per UE, what it dropped and lost with UEs, and its limit.

    Args:
        sheet: What to draw on.
        area: Left and right end, in pixels.
        top: Where the UEs' blocks end.
        fonts: Sizes.
        stocks: What every UE has on the server.
        limit_bytes: What it keeps at most.
    """
    left, right = area
    kept = [stock.kept_bytes for stock in stocks]
    dropped = sum(stock.bytes_of(stock.dropped) for stock in stocks)
    gone = sum(stock.bytes_of(stock.after) for stock in stocks if stock.left)
    scale = limit_bytes * LEAST_SCALE
    if not 0 < scale < np.inf:
        scale = max(1.0, sum(stock.total_bytes for stock in stocks))
    y, height = top + 3, round(1.3 * fonts.normal)
    sheet.box(left, y, right - left, height, EMPTY)
    position = 0.0
    parts = [(size, TONES[i % 2], str(i)) for i, size in enumerate(kept)]
    for size, colour, label in [*parts, (dropped, DROPPED, ""), (gone, GONE, "")]:
        start = left + min(1.0, position / scale) * (right - left)
        position += size
        end = left + min(1.0, position / scale) * (right - left)
        if size > 0 and end - start >= 0.5:
            sheet.box(start, y, max(1.0, end - start - (end - start > 4)), height, colour)
            if end - start > 4 + text_width(label, fonts.small):
                sheet.write(
                    (start + end) / 2, y + height / 2 + 0.36 * fonts.small, label, fonts.small,
                    align=0.5,
                )  # fmt: skip
    if limit_bytes < np.inf:
        x = left + min(1.0, limit_bytes / scale) * (right - left)
        sheet.box(min(x, right - 2), y - 3, 2, height + 6, INK)
    baseline = y + height + 4 + fonts.normal
    _write_server(sheet, area, baseline, fonts.normal, (sum(kept), dropped, gone, limit_bytes))


def _write_server(
    sheet: Sheet,
    area: tuple[float, float],
    baseline: float,
    size: float,
    sums: tuple[float, float, float, float],
) -> None:
    """What the bar says, in bytes: kept, dropped, left, limit; shorter where there is no room."""
    left, right = area
    kept, dropped, gone, limit = sums
    if limit < np.inf:
        first = f"{amount(kept, limit or None, unit=False)} of {amount(limit)}"
    else:
        first = f"{amount(kept)}, no limit"
    lost = [(dropped, "dropped", DROPPED), (gone, "left", GREY)]
    for form in ("server keeps {0}", "{0}", "{0}"):
        notes = [(form.format(first), INK)]
        notes += [(f"{amount(n)} {what}", colour) for n, what, colour in lost if n > 0]
        gap = 10 if "server" in form else 6
        widths = [text_width(note, size, k == 0) for k, (note, _) in enumerate(notes)]
        if sum(widths) + gap * (len(notes) - 1) <= right - left:
            break
        if form == "{0}":
            size *= 0.9
    x = left
    for k, (note, colour) in enumerate(notes):
        x = sheet.write(x, baseline, note, size, colour, k == 0, room=max(0.0, right - x)) + gap
