"""The server's memory on a sheet: a strip of layers per UE, and one bar for the whole server."""

from __future__ import annotations

import numpy as np

from mjoa_gym.rendering.scene import ServerMemory, Stock
from mjoa_gym.rendering.scene_layout import SceneLayout
from mjoa_gym.rendering.sheet import GREY, INK, Sheet, text_width
from mjoa_gym.rendering.style import DROPPED, GONE, RESIDENT, STYLES, amount, faded

EMPTY = "#e9e9ee"
UPLOADED, PREFETCHED = STYLES["uplink", "parameters"].face, STYLES["uplink", "prefetch"].face
TONES = (RESIDENT, "#8fcdf0")  # alternating tones of the UEs' parts of the server's bar


def draw_stock(sheet: Sheet, layout: SceneLayout, i: int, stock: Stock) -> None:
    """Draw UE i's layers as cells, each filled by the fraction of its parameters on the server."""
    left, right, top = layout.shelf, layout.border, layout.top + i * layout.block
    text_size = layout.normal if layout.above else layout.small
    said = layout.above or (round(1.35 * text_size) if layout.block > 2.6 * text_size else 0)
    pad = max(1.0, 0.08 * layout.block)
    strip_top = round(top + (said or pad / 2))
    strip_bottom = round(top + layout.block - pad)
    if said:
        baseline = top + 0.5 * said + 0.4 * text_size
        if not layout.above:
            baseline = top + said - 0.25 * text_size
        _write_stock(sheet, layout, baseline, text_size, stock)
    height = min(max(2, strip_bottom - strip_top), round(6 * text_size))
    n = len(stock.layers)
    edges = [round(left + k * (right - left) / n) for k in range(n + 1)] if n else []
    pitch = (right - left) / max(1, n)
    widest = text_width(str(stock.layers.max(initial=0)), layout.small)
    numbered = pitch >= widest + 4 and height >= 2.2 * layout.small
    for k, layer in enumerate(stock.layers.tolist()):
        cell = (edges[k], strip_top, max(1, edges[k + 1] - edges[k] - (pitch >= 4)), height)
        _draw_cell(sheet, cell, stock, k)
        _mark_cell(sheet, cell, stock.dropped[k] > 0, str(layer) if numbered else "", layout.small)


def _draw_cell(sheet: Sheet, cell: tuple[float, float, float, float], stock: Stock, k: int) -> None:
    """Draw a layer, filled from below: what was there, was uploaded, and was prefetched.

    Dropped parts are faded.
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
    """Write the layer's number, and a cross if it was dropped; in a small cell, only a colour."""
    x, y, width, height = cell
    if dropped and (width < 12 or height < 2.2 * size):
        sheet.box(x, y, width, height, DROPPED)
    elif dropped:
        sheet.frame(x, y, width, height, DROPPED)
        sheet.write(x + width / 2, y + 0.55 * height, "×", 1.6 * size, DROPPED, True, align=0.5)
    if label:
        sheet.write(x + width / 2, y + height - 4, label, size, INK, align=0.5)


def _write_stock(
    sheet: Sheet, layout: SceneLayout, baseline: float, size: float, stock: Stock
) -> None:
    """Write how much of the UE's network is on the server, and what the round changed."""
    left, right = layout.shelf, layout.border
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


def draw_server(sheet: Sheet, layout: SceneLayout, memory: ServerMemory) -> None:
    """Draw what the server keeps per UE, what it dropped and lost with UEs, and its limit."""
    left, right = layout.shelf, layout.border
    y, height = layout.bottom + 3, round(1.3 * layout.normal)
    sheet.box(left, y, right - left, height, EMPTY)

    def place(size: float) -> float:
        return left + min(1.0, size / memory.shown_bytes) * (right - left)

    position = 0.0
    parts = [(size, TONES[i % 2], str(i)) for i, size in enumerate(memory.kept)]
    parts.append((memory.others, TONES[len(parts) % 2], "+"))
    for size, colour, label in [*parts, (memory.dropped, DROPPED, ""), (memory.gone, GONE, "")]:
        start, end = place(position), place(position + size)
        position += size
        if size > 0 and end - start >= 0.5:
            sheet.box(start, y, max(1.0, end - start - (end - start > 4)), height, colour)
            if end - start > 4 + text_width(label, layout.small):
                baseline = y + height / 2 + 0.36 * layout.small
                sheet.write((start + end) / 2, baseline, label, layout.small, align=0.5)
    if memory.limit_bytes < np.inf:
        sheet.box(min(place(memory.limit_bytes), right - 2), y - 3, 2, height + 6, INK)
    _write_server(sheet, layout, y + height + 4 + layout.normal, memory)


def _write_server(sheet: Sheet, layout: SceneLayout, baseline: float, memory: ServerMemory) -> None:
    """Write the bar's bytes: kept, dropped, left, limit; shorter if there is little room."""
    x, right, size = layout.shelf, layout.border, layout.normal
    lost = [(memory.dropped, "dropped", DROPPED), (memory.gone, "left", GREY)]
    for form in ("server keeps {0}", "{0}", "{0}"):
        notes = [(form.format(memory.kept_text), INK)]
        notes += [(f"{amount(n)} {what}", colour) for n, what, colour in lost if n > 0]
        gap = 10 if "server" in form else 6
        widths = [text_width(note, size, k == 0) for k, (note, _) in enumerate(notes)]
        if sum(widths) + gap * (len(notes) - 1) <= right - x:
            break
        if form == "{0}":
            size *= 0.9
    for k, (note, colour) in enumerate(notes):
        x = sheet.write(x, baseline, note, size, colour, k == 0, room=max(0.0, right - x)) + gap
