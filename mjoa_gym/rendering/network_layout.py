"""Where a network's layers are drawn: in rows by depth, few crossings, long graphs in columns.

A tensor that is read further down passes through a narrow place in every row between, once, however
many layers read it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mjoa_gym.layers import INPUT

SWEEPS = 8
PASSAGE_WIDTH = 0.16
"""The room, in boxes, that a tensor takes where it passes by."""


class Place(NamedTuple):
    """A row, and the tensor that is made there (`INPUT`: the input) or passes by."""

    row: int
    tensor: int


Point = tuple[int, float, float]
"""Column, x to the right in boxes, y down in rows; of a box its centre."""


class Route(NamedTuple):
    """An edge from a producer to a reader, and the points on the way."""

    producer: int
    reader: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class NetworkLayout:
    """Places of boxes and lines.

    Attributes:
        boxes: Where every tensor's producer is.
        routes: The edges.
        width: Of the whole, in boxes.
        height: Of the whole, in rows.
    """

    boxes: dict[int, Point]
    routes: tuple[Route, ...]
    width: float
    height: float


def layout(predecessors: Sequence[Sequence[int]], rows_per_column: int = 48) -> NetworkLayout:
    """Places for the layers of a network and its input."""
    row_of = {INPUT: 0}
    for layer, sources in enumerate(predecessors):
        row_of[layer] = 1 + max(row_of[source] for source in sources)
    last_row = dict(row_of)
    for layer, sources in enumerate(predecessors):
        for source in sources:
            last_row[source] = max(last_row[source], row_of[layer] - 1)
    rows: list[list[Place]] = [[] for _ in range(max(row_of.values()) + 1)]
    for tensor in range(INPUT, len(predecessors)):
        for row in range(row_of[tensor], last_row[tensor] + 1):
            rows[row].append(Place(row, tensor))
    upper: dict[Place, list[Place]] = {place: [] for row in rows for place in row}
    for place in upper:
        if place.row > row_of[place.tensor]:
            upper[place] = [Place(place.row - 1, place.tensor)]
        elif place.tensor != INPUT:
            upper[place] = [Place(place.row - 1, s) for s in predecessors[place.tensor]]
    x = _across(rows, upper, row_of)
    starts = _column_starts([len(row) for row in rows], rows_per_column)
    return _in_columns(predecessors, row_of, x, starts)


def _across(
    rows: list[list[Place]], upper: dict[Place, list[Place]], row_of: dict[int, int]
) -> dict[Place, float]:
    """The x of every place: each row in the order of what it is joined to, above and below."""
    lower: dict[Place, list[Place]] = {place: [] for place in upper}
    for place, sources in upper.items():
        for source in sources:
            lower[source].append(place)
    x: dict[Place, float] = {}
    for row in rows:
        _spread(row, x, row_of)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        joined = upper if down else lower
        for row in rows if down else reversed(rows):
            at = {p: _mean([x[q] for q in joined[p]], x[p]) for p in row}
            row.sort(key=lambda place: at[place])
            _spread(row, x, row_of)
    return x


def _spread(row: list[Place], x: dict[Place, float], row_of: dict[int, int]) -> None:
    """Side by side in the given order, centred on 0."""
    widths = [1.0 if row_of[p.tensor] == p.row else PASSAGE_WIDTH for p in row]
    left = -sum(widths) / 2
    for place, width in zip(row, widths, strict=True):
        x[place] = left + width / 2
        left += width


def _in_columns(
    predecessors: Sequence[Sequence[int]],
    row_of: dict[int, int],
    x: dict[Place, float],
    starts: list[int],
) -> NetworkLayout:
    ends = [*starts[1:], max(row_of.values()) + 1]
    offsets, left = [], 0.0
    for start, end in zip(starts, ends, strict=True):
        inside = [value for place, value in x.items() if start <= place.row < end]
        offsets.append(left - min(inside) + 0.6)
        left += max(inside) - min(inside) + 1.2

    def column(row: int) -> int:
        return bisect.bisect_right(starts, row) - 1

    def at(place: Place) -> tuple[float, float]:
        return x[place] + offsets[column(place.row)], float(place.row - starts[column(place.row)])

    routes = [
        Route(
            source,
            layer,
            tuple(
                (column(row), *at(Place(row, source)))
                for row in range(row_of[source] + 1, row_of[layer])
            ),
        )
        for layer, sources in enumerate(predecessors)
        for source in sources
    ]
    boxes = {tensor: (column(row), *at(Place(row, tensor))) for tensor, row in row_of.items()}
    height = max(end - start for start, end in zip(starts, ends, strict=True))
    return NetworkLayout(boxes, tuple(routes), left, height)


def _column_starts(widths: list[int], most: int) -> list[int]:
    """Columns of at most so many rows that end where little passes from row to row."""
    starts = [0]
    while len(widths) - starts[-1] > most:
        reach = range(starts[-1] + most * 2 // 3, starts[-1] + most + 1)
        starts.append(min(reach, key=lambda row: (widths[row], -row)))
    return starts


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default
