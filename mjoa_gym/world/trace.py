"""Measured links: files with a UE's rates over time (`docs/uplinks.md`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym import files
from mjoa_gym.model.compiling import lean_inner
from mjoa_gym.validation import as_number, choice, frozen, non_negative, positive

NEEDED = ("seconds", "uplink_bps", "downlink_bps")
OPTIONAL = ("message_s",)
SECONDS, UP, DOWN, MESSAGE = range(4)
"""Columns of a trace as an array."""
SUFFIXES = (".csv", ".tsv")
FOLDER = Path(__file__).with_name("traces")
"""Folder of the packaged traces; `scripts/make_trace.py` writes them."""


@dataclass(frozen=True, eq=False)
class GivenTrace:
    """A trace that is in no file: (R, 4) seconds from its start, rates, message, as columns.

    As in `load_trace`, the last row is the moment at which it begins again.
    """

    rows: NDArray[np.float64]


Traces = str | GivenTrace | tuple[str | GivenTrace, ...] | None
"""The traces that a scenario accepts."""


def trace_names() -> tuple[str, ...]:
    """Return the packaged traces, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.csv")))


def checked_names(name: str, value: Any) -> Traces:
    """Names of traces: None, one, or several; the paths of files are made absolute.

    Traces that are given in place of a name are left as they are.

    Raises:
        ValueError: If the value is anything else; the message names the field.
    """
    if value is None or isinstance(value, GivenTrace):
        return value
    if isinstance(value, (str, Path)):
        return os.path.abspath(value) if is_file(value) else str(value)
    if not isinstance(value, Sequence) or not all(
        isinstance(one, (str, Path, GivenTrace)) for one in value
    ):
        raise ValueError(f"{name}={value!r}: must be a packaged trace, a file, or a list of them")
    if not value:
        raise ValueError(f"{name} is empty: at least one is needed")
    return tuple(checked_names(name, one) for one in value)  # type: ignore[misc]


def relative_to(folder: Path, value: Any) -> Any:
    """Return the names with paths of files relative to a folder; other values do not change."""
    if isinstance(value, list):
        return [relative_to(folder, one) for one in value]
    return str(folder / value) if isinstance(value, str) and is_file(value) else value


def is_file(name: str | Path) -> bool:
    """Return whether a trace's name is a path, which ends in .csv or .tsv."""
    return Path(name).suffix.lower() in SUFFIXES


def load_trace(name_or_path: str | GivenTrace, message_s: float) -> NDArray[np.float64]:
    """A trace as an array (rows + 1, 4), read-only: seconds from its start, rates, message.

    The last row is the time at which the trace repeats: the row before it lasts as long as its
    predecessor (1 s if there is none).

    Args:
        name_or_path: One of `trace_names()`, a path that ends in .csv or .tsv, or a trace.
        message_s: Of the rows, where the file says nothing of it.

    Raises:
        ValueError: If there is no such name, or the file is invalid; names the file, the line and
            what is wrong.
        OSError: If the file cannot be read.
    """
    if isinstance(name_or_path, GivenTrace):
        return name_or_path.rows
    path = Path(name_or_path)
    if not is_file(path):
        remark = "; a file's name ends in .csv or .tsv"
        path = FOLDER / f"{choice('trace', name_or_path, trace_names(), remark)}.csv"
    status = path.stat()
    return _loaded(path, message_s, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=64)
def _loaded(path: Path, message_s: float, version: tuple[int, int]) -> NDArray[np.float64]:
    """Read this version of a file once: scenarios change much more often than their files."""
    return files.read(path, partial(_parse, message_s))


def _parse(message_s: float, content: bytes) -> NDArray[np.float64]:
    rows: list[tuple[float, ...]] = []

    def take(row: dict[str, str]) -> None:
        seconds = non_negative("seconds", as_number("seconds", row["seconds"]))
        if rows and seconds <= rows[-1][SECONDS]:
            raise ValueError(f"seconds={seconds!r}: must be above {rows[-1][SECONDS]!r} as before")
        rates = [positive(name, as_number(name, row[name])) for name in NEEDED[1:]]
        message = row.get("message_s", message_s)
        rows.append((seconds, *rates, non_negative("message_s", as_number("message_s", message))))

    files.parse_csv(content, NEEDED, OPTIONAL, (*NEEDED, *OPTIONAL), take)
    if not rows:
        raise ValueError("has no rows: at least one is needed")
    lasts = rows[-1][SECONDS] - rows[-2][SECONDS] if len(rows) > 1 else 1.0
    trace = np.array([*rows, (rows[-1][SECONDS] + lasts, *rows[-1][UP:])])
    trace[:, SECONDS] -= trace[0, SECONDS]
    return frozen(trace)


def stacked(traces: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Stack traces to (F, R, 4); shorter ones are padded with their last row.

    So `[f, -1, SECONDS]` is the time at which trace f repeats. The array is not read-only, because
    pickling would make it writeable and kernels would be compiled once for each kind.
    """
    most = max(map(len, traces))
    return np.stack([np.pad(t, ((0, most - len(t)), (0, 0)), "edge") for t in traces])


def no_trace() -> NDArray[np.float64]:
    """Return what `stacked` would return for no traces, (0, 1, 4)."""
    return np.empty((0, 1, 4))


def mean_of(trace: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (4,) the means over time of a trace's columns; that of the seconds has no meaning."""
    lasts = np.diff(trace[:, SECONDS])
    mean: NDArray[np.float64] = lasts @ trace[:-1] / lasts.sum()
    return mean


@lean_inner
def row_at(trace, seconds):
    """Return the last row of a trace (R, 4) at or before a time, counted from its start."""
    low, high = 0, len(trace) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if trace[middle, SECONDS] <= seconds:
            low = middle
        else:
            high = middle
    return low


@njit(inline="always")
def length_s(trace):
    """Return the seconds after which a trace (R, 4) repeats."""
    return trace[len(trace) - 1, SECONDS]


@njit(inline="always")
def within_trace(trace, seconds):
    """Return a time since the trace's start modulo its length."""
    return seconds % length_s(trace)
