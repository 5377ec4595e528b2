"""Timelines and scenes as text, for terminals and `render_mode="ansi"`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from mjoa_gym.model.simulator import Interval, Timeline
from mjoa_gym.rendering.scene import Scene, ServerMemory, Stock, headline, summaries
from mjoa_gym.rendering.style import (
    LANES,
    STYLES,
    amount,
    checked_titles,
    duration,
    layer_label,
    round_span,
    span_of,
)

LABEL = max(map(len, LANES.values()))
LEAST_COLUMNS = 40
MEMORY_LEGEND = "memory by layer: █ was there ▒ uploaded ░ prefetched ▄ in part × dropped - left"
WEIGHT = {"execute": 4.0, "activation": 2.0, "parameters": 1.0, "prefetch": 0.5}
"""A row for all resources shows what its UE executes, or else what it waits for."""
BESIDE = 24  # characters of a UE's number, network and latency next to its row


def gantt_text(
    timelines: Sequence[Timeline], titles: Sequence[str] | None = None, width: int = 80
) -> str:
    """Return the chart of `gantt_figure` as lines of at most `width` characters.

    A character shows what its lane does for most of that time. Numbers are layers; they are written
    if they fit.

    Args:
        timelines: One per UE.
        titles: One per timeline; default "UE 0", "UE 1", ...; the latency is added to each.
        width: Width in characters, at least 40.

    Raises:
        ValueError: If there are no timelines, the number of titles differs, or `width` is too
            small.
    """
    if width < LEAST_COLUMNS:
        raise ValueError(f"width={width!r}: must be at least {LEAST_COLUMNS}")
    names = checked_titles(timelines, titles)
    span, cells = span_of(timelines), width - LABEL - 3
    lines = []
    for timeline, name in zip(timelines, names, strict=True):
        lines.append(f"{name}: {duration(timeline.latency, span)}"[:width])
        lines += _lanes(timeline, span, cells)
    lines.append(_time_row(span, cells))
    lines.append("█ executes  ▒ parameters  ░ prefetch  ▓ activation  17 layer"[:width])
    return "\n".join(lines)


def scene_text(scene: Scene, columns: int = 80, lines: int = 40) -> str:
    """Return a scene as text, in the most detailed of three forms that fits.

    With few UEs, each has a row for each of its resources and one for its layers on the server.
    With more UEs, each has a title and one row for all resources. With many UEs, each has all of
    this in one row.

    Args:
        scene: The scene to show.
        columns: Maximum characters of a line, at least 40.
        lines: Maximum number of lines; there are always one for every UE and seven others.

    Raises:
        ValueError: If `columns` is too small.
    """
    if columns < LEAST_COLUMNS:
        raise ValueError(f"columns={columns!r}: must be at least {LEAST_COLUMNS}")
    for form in (_in_full, _in_two_rows, _in_one_row):
        rows = [*_head(scene, columns), *form(scene, columns), *_server(scene, columns)]
        if len(rows) <= lines:
            break
    return "\n".join(row.rstrip()[:columns] for row in rows)


def _head(scene: Scene, columns: int) -> list[str]:
    """Return the round's number and result, in one line or in two."""
    title, says = headline(scene), summaries(scene)
    if len(title) + 3 + len(says[0]) <= columns:
        return [f"{title} · {says[0]}"]
    return [title, next((s for s in says if len(s) <= columns), says[-1])]


def _in_full(scene: Scene, columns: int) -> list[str]:
    """Return a title, four lanes and the memory for every UE."""
    cells, span = columns - LABEL - 3, round_span(scene.end_s)
    rows = []
    for i, timeline in enumerate(scene.timelines):
        title = _title(scene, i)
        if scene.plan is not None:
            band, server = scene.plan.bandwidth_share[i], scene.plan.compute_share[i]
            title += f" · band {band:.0%} · server {server:.0%}"
        rows += [title, *_lanes(timeline, span, cells)]
        if scene.memory is not None:
            note = _note(scene.stocks[i])
            there = _layer_row(scene.stocks[i], cells - len(note) - 1)
            rows.append(f"{_framed('memory', there)} {note}")
    rows.append(_time_row(span, cells))
    rows.append(f"█ executes  ▒ parameters{_prefetch(scene)}  ▓ activation  17 layer")
    return rows if scene.memory is None else [*rows, MEMORY_LEGEND]


def _in_two_rows(scene: Scene, columns: int) -> list[str]:
    """Return a title with the memory, and one row for all resources, for every UE."""
    span = round_span(scene.end_s)
    rows = []
    for i, timeline in enumerate(scene.timelines):
        title = _title(scene, i)
        if scene.memory is not None:
            title = f"{title} · {_note(scene.stocks[i])}"
        rows += [title, f"│{_activity_row(timeline, span, columns - 2)}│"]
    return [*rows, f"0{duration(span):>{columns - 1}}", _legend(scene)]


def _in_one_row(scene: Scene, columns: int) -> list[str]:
    """Return name, latency, activity and memory of every UE in one row."""
    span = round_span(scene.end_s)
    shown = scene.memory is not None and columns >= 70
    cells = columns - BESIDE - 2 - (15 if shown else 0)
    rows = []
    for i, timeline in enumerate(scene.timelines):
        latency = duration(timeline.latency).removesuffix(" finishes")
        start = f"{i:>2} {scene.instance.ues[i].dnn.name:<12.12} {latency:>7} "
        row = f"{start[:BESIDE]}│{_activity_row(timeline, span, cells)}│"
        rows.append(f"{row} {_short_note(scene.stocks[i])}" if shown else row)
    return [*rows, f"{'0':>{BESIDE + 2}}{duration(span):>{cells - 1}}", _legend(scene)]


def _title(scene: Scene, i: int) -> str:
    """Return a UE's name and latency: "UE 0 · alexnet · 582 ms (alone 1.05 s)"."""
    ue, latency = scene.instance.ues[i], scene.latency_s[i]
    return f"UE {i} · {ue.dnn.name} · {duration(latency)} (alone {duration(ue.local_s)})"


def _framed(label: str, row: str) -> str:
    return f"{label:>{LABEL}} │{row}│"


def _time_row(span: float, cells: int) -> str:
    """Return the two ends of the time axis below lanes of `cells` characters."""
    return f"{'0':>{LABEL + 3}}{duration(span):>{cells - 1}}"


def _legend(scene: Scene) -> str:
    """Return the legend of the characters of an activity row."""
    return f"█ UE executes  e edge executes  ▓ activation  ▒ parameters{_prefetch(scene)}"


def _prefetch(scene: Scene) -> str:
    return "" if scene.memory is None else "  ░ prefetch"


def _lanes(timeline: Timeline, span: float, cells: int) -> list[str]:
    """Return a row for each resource, with layer numbers if they fit."""
    glyphs, weight = [style.glyph for style in STYLES.values()], dict.fromkeys(WEIGHT, 1.0)
    rows = []
    for resource, lane in LANES.items():
        intervals = timeline.by_resource[resource]
        row = _busiest(intervals, span, cells, glyphs, weight)
        for interval in intervals:
            first = int(interval.start / span * cells)
            last = int(np.ceil(min(interval.end / span, 1.0) * cells - 1e-9))
            text = layer_label(interval)
            if last - first >= len(text) + 3:
                row[first + 1 : first + 1 + len(text)] = text
        rows.append(_framed(lane, "".join(row)))
    return rows


def _activity_row(timeline: Timeline, span: float, cells: int) -> str:
    """Return all four resources as one row of `cells` characters."""
    glyphs = ["e" if kind[0] == "edge" else style.glyph for kind, style in STYLES.items()]
    return "".join(_busiest(timeline.intervals, span, cells, glyphs, WEIGHT))


def _busiest(
    intervals: Sequence[Interval],
    span: float,
    cells: int,
    glyphs: Sequence[str],
    weight: Mapping[str, float],
) -> list[str]:
    """Return the glyph of the longest kind in each of `cells` equal parts of the span."""
    bounds = np.linspace(0.0, span, cells + 1)
    kinds = list(STYLES)
    busy = np.zeros((len(kinds), cells))
    for i in intervals:
        part = np.minimum(i.end, bounds[1:]) - np.maximum(i.start, bounds[:-1])
        busy[kinds.index((i.resource, i.what))] += weight[i.what] * np.maximum(part, 0.0)
    shown = busy.max(axis=0) > 1e-9 * span / cells
    most = busy.argmax(axis=0).tolist()
    return [glyphs[k] if some else " " for k, some in zip(most, shown, strict=True)]


def _layer_row(stock: Stock, cells: int) -> str:
    """Return a UE's layers on the server, a character per layer, or for the largest of several."""
    n = len(stock.layers)
    cells = max(1, min(cells, n))
    bounds = pairwise(k * n // cells for k in range(cells + 1))
    return "".join(
        _layer(stock, first + int(stock.sizes[first:last].argmax()))
        for first, last in bounds
        if last > first
    )


def _layer(stock: Stock, k: int) -> str:
    """Return the character of a layer's state after the round."""
    after = stock.after[k]
    if after <= 0:
        return "·"
    if stock.left:
        return "-"
    if stock.dropped[k] > 0:
        return "×"
    if after < 1 - 1e-9:
        return "▄"
    new = {"█": stock.before[k], "▒": stock.uploaded[k], "░": stock.prefetched[k]}
    return max(new, key=lambda glyph: new[glyph])


def _note(stock: Stock) -> str:
    """Return how much of a UE's network is on the server, and what changed."""
    if stock.left:
        return f"left, {amount(stock.bytes_of(stock.after))}"
    total = stock.total_bytes
    text = f"{amount(stock.kept_bytes, total, unit=False)} of {amount(total)}"
    for sign, fractions in (("+", stock.uploaded + stock.prefetched), ("−", stock.dropped)):
        if (changed := stock.bytes_of(fractions)) > 0:
            text += f", {sign}{amount(changed, total, unit=False)}"
    return text


def _short_note(stock: Stock) -> str:
    """Return kept and total bytes, in at most 14 characters."""
    total = stock.total_bytes
    kept = f"{amount(stock.kept_bytes, total, unit=False)}/{amount(total)}"
    return "left" if stock.left else kept


def _server(scene: Scene, columns: int) -> list[str]:
    """Return the server's memory: a bar with the digit of every UE, and its sums."""
    memory = scene.server
    if memory is None:
        return []
    says = f"server keeps {memory.kept_text}"
    if memory.dropped > 0:
        says += f", dropped {amount(memory.dropped)}"
    if gone := [str(i) for i, stock in enumerate(scene.stocks) if stock.left]:
        says += f", left: UE {' '.join(gone)}"
    return [_framed("server", _server_bar(memory, columns - LABEL - 3)), says]


def _server_bar(memory: ServerMemory, cells: int) -> str:
    """Return the bytes of every UE, the dropped bytes, and the limit, as `cells` characters."""
    few = len(memory.kept) <= 10
    glyphs = [*(str(i) if few else "█" for i in range(len(memory.kept))), "+", "×"]
    sizes = [0.0, *memory.kept, memory.others, memory.dropped]
    ends = np.cumsum(sizes) / memory.shown_bytes * cells
    columns = np.minimum(np.round(ends), cells).astype(int).tolist()
    parts = zip(glyphs, pairwise(columns), strict=True)
    row = "".join(glyph * (last - first) for glyph, (first, last) in parts).ljust(cells)
    if 0 < memory.limit_bytes < np.inf:
        limit = min(cells - 1, round(memory.limit_bytes / memory.shown_bytes * cells))
        row = f"{row[:limit]}┃{row[limit + 1 :]}"
    return row
