"""The layout of a network's picture: rows by depth, few crossings, long graphs in columns.

A tensor that is read further down passes through a narrow place in every row in between, only once,
however many layers read it.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from mjoa_gym.layers import INPUT

SWEEPS = 8
PASSAGE_WIDTH = 0.16  # width, in boxes, of a tensor that passes by

Place = tuple[int, int]
"""A row, and the tensor that is made there (`INPUT`: the input) or passes through it."""
Point = tuple[int, float, float]
"""Column, x to the right in boxes, and y down in rows; the centre of a box."""


class Route(NamedTuple):
    """An edge from a producer to a reader, and the points on the way."""

    producer: int
    reader: int
    points: tuple[Point, ...]


class NetworkLayout(NamedTuple):
    """Places of boxes and lines."""

    boxes: dict[int, Point]  # position of every tensor's producer
    routes: list[Route]  # the edges
    width: float  # total width, in boxes
    height: float  # total height, in rows


def layout(predecessors: Sequence[Sequence[int]], rows_per_column: int = 48) -> NetworkLayout:
    """Return places for the layers of a network and its input."""
    edges = [(source, layer) for layer, sources in enumerate(predecessors) for source in sources]
    row_of = {INPUT: 0}
    for layer, sources in enumerate(predecessors):
        row_of[layer] = 1 + max(row_of[source] for source in sources)
    last_row = dict(row_of)
    for source, layer in edges:
        last_row[source] = max(last_row[source], row_of[layer] - 1)
    rows: list[list[Place]] = [[] for _ in range(max(row_of.values()) + 1)]
    joined = [((row_of[layer] - 1, s), (row_of[layer], layer)) for s, layer in edges]
    for tensor, first in sorted(row_of.items()):
        own = [(row, tensor) for row in range(first, last_row[tensor] + 1)]
        joined += pairwise(own)
        for place in own:
            rows[place[0]].append(place)
    boxes = {(row, tensor) for tensor, row in row_of.items()}
    x = _across(rows, joined, boxes)
    starts = _column_starts([len(row) for row in rows], rows_per_column)
    ends = [*starts[1:], len(rows)]
    offsets, width = [], 0.0
    for start, end in zip(starts, ends, strict=True):
        inside = [x[place] for row in rows[start:end] for place in row]
        offsets.append(width - min(inside) + 0.6)
        width += max(inside) - min(inside) + 1.2

    def point(row: int, tensor: int) -> Point:
        column = bisect.bisect_right(starts, row) - 1
        return column, x[row, tensor] + offsets[column], float(row - starts[column])

    def between(source: int, layer: int) -> tuple[Point, ...]:
        return tuple(point(row, source) for row in range(row_of[source] + 1, row_of[layer]))

    return NetworkLayout(
        {tensor: point(row, tensor) for tensor, row in row_of.items()},
        [Route(source, layer, between(source, layer)) for source, layer in edges],
        width,
        max(end - start for start, end in zip(starts, ends, strict=True)),
    )


def _across(
    rows: list[list[Place]], joined: list[tuple[Place, Place]], boxes: set[Place]
) -> dict[Place, float]:
    """Return the x of every place: rows are sorted by the places they connect to."""
    above: defaultdict[Place, list[Place]] = defaultdict(list)
    below: defaultdict[Place, list[Place]] = defaultdict(list)
    for upper, lower in joined:
        above[lower].append(upper)
        below[upper].append(lower)
    x: dict[Place, float] = {}

    def spread(row: list[Place]) -> None:
        """Place a row side by side in the given order, centred on 0."""
        widths = [1.0 if place in boxes else PASSAGE_WIDTH for place in row]
        left = -sum(widths) / 2
        for place, width in zip(row, widths, strict=True):
            x[place] = left + width / 2
            left += width

    for row in rows:
        spread(row)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for row in rows if down else reversed(rows):
            at = {p: fmean(x[q] for q in near[p]) if p in near else x[p] for p in row}
            row.sort(key=lambda place: at[place])
            spread(row)
    return x


def _column_starts(widths: list[int], most: int) -> list[int]:
    """Choose columns of at most `most` rows that end where few tensors pass from row to row."""
    starts = [0]
    while len(widths) - starts[-1] > most:
        reach = range(starts[-1] + most * 2 // 3, starts[-1] + most + 1)
        starts.append(min(reach, key=lambda row: (widths[row], -row)))
    return starts
