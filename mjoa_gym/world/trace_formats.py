"""Conversion of other formats of measured links to traces (`docs/uplinks.md`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import files
from mjoa_gym.validation import as_number, choice, finite, non_negative, positive
from mjoa_gym.world.trace import NEEDED, OPTIONAL

PACKET_BITS = 8 * 1500
"""Bits that a line of a Mahimahi trace stands for."""
MOST_DIGITS = 15
"""Maximum number of digits in such a line, enough for 30,000 years."""
MOST_ROWS = 10**6
UNITS = {"bit/s": 1.0, "kbit/s": 1e3, "Mbit/s": 1e6}
NO_VALUE = ("", "-", "nan", "none", "null")
"""Values, in lower case, that mark missing measurements in files."""


def as_csv(rows: NDArray[np.float64]) -> str:
    """Return the text of a trace's file, from the columns (R, 3 or 4) that `world.trace` names."""
    names = (*NEEDED, *OPTIONAL)[: rows.shape[1]]
    lines = (",".join(f"{value:.12g}" for value in row) for row in rows.tolist())
    return "\n".join([",".join(names), *lines]) + "\n"


def from_mahimahi(
    uplink: Path, downlink: Path, window_s: float, least_bps: float
) -> NDArray[np.float64]:
    """Make a trace (R, 3) from two packet-delivery traces for Mahimahi's `mm-link`.

    Each line is a whole number of milliseconds, at which 1500 bytes may leave. The file repeats
    after the last of them. The shorter file is repeated.

    Args:
        uplink: The file of the uplink.
        downlink: The file of the downlink.
        window_s: Seconds of a row, in whole milliseconds. Its rate is what may leave in this time.
        least_bps: Lower rates are raised to this rate.

    Raises:
        ValueError: If an argument or a file is invalid; says what is wrong.
        OSError: If a file cannot be read.
    """
    window_ms = max(1, round(positive("window_s", window_s) * 1e3))
    least = positive("least_bps", least_bps)
    chances = [files.read(path, _opportunities) for path in (uplink, downlink)]
    length_ms = max(times[-1] for times in chances)
    n = -(-int(length_ms) // window_ms)
    if n > MOST_ROWS:
        raise ValueError(f"window_s={window_s!r}: would give {n} rows; the limit is {MOST_ROWS}")
    ends = np.minimum(np.arange(1, n + 1) * window_ms, length_ms)
    lasts_s = np.diff(ends, prepend=0.0) / 1e3
    rates = [PACKET_BITS * _counts(times, ends) / lasts_s for times in chances]
    starts_s = np.arange(n) * window_ms / 1e3
    return np.stack([starts_s, *(np.maximum(rate, least) for rate in rates)], axis=1)


def _opportunities(content: bytes) -> NDArray[np.int64]:
    """Return the times of a packet-delivery trace, in milliseconds."""
    times: list[int] = []
    for number, line in enumerate(files.decode(content).splitlines(), start=1):
        if not (text := line.strip()):
            continue
        if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
            raise ValueError(
                f"line {number}: {text[:40]!r}: must be a whole number of milliseconds"
            )
        if times and int(text) < times[-1]:
            raise ValueError(f"line {number}: {text}: must be at least {times[-1]} as before")
        times.append(int(text))
    if not times or times[-1] == 0:
        raise ValueError("ends at 0 ms: a line above 0 is needed")
    return np.array(times)


def _counts(times: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the opportunities (R,) in windows up to and including `ends`, with repetitions."""
    length = int(times[-1])
    rounds, rest = np.divmod(ends, length)
    until = rounds * len(times) + np.searchsorted(times, rest, side="right")
    until -= np.searchsorted(times, 0, side="right") * (rest == 0)  # 0 ms of the next repetition
    return np.diff(until, prepend=0)


@dataclass(frozen=True)
class Columns:
    """The columns of a table of measurements.

    Attributes:
        uplink: Column of the uplink's rate.
        downlink: Column of the downlink's rate.
        unit: Unit of both: "bit/s", "kbit/s" or "Mbit/s".
        time: Column of the time; None if rows are `every_s` apart.
        time_format: Format for `datetime.strptime`; None if times are seconds.
        every_s: Seconds between rows, without `time`.
        ping: Column of the ping in milliseconds, half of which is the cost of a message; or None.
    """

    uplink: str
    downlink: str
    unit: str = "Mbit/s"
    time: str | None = None
    time_format: str | None = None
    every_s: float = 1.0
    ping: str | None = None


def from_table(path: Path, columns: Columns, least_bps: float) -> tuple[NDArray[np.float64], int]:
    """Make a trace (R, 3 or 4) from a table of measurements; return it and the rows left out.

    Rows with a missing measurement (`NO_VALUE`) and rows that are not later than the one before are
    left out and counted. Seconds count from the first row.

    Raises:
        ValueError: If the file is invalid; names the file, the line and what is wrong.
        OSError: If the file cannot be read.
    """
    choice("unit", columns.unit, tuple(UNITS))
    positive("every_s", columns.every_s)
    positive("least_bps", least_bps)
    return files.read(path, partial(_parse, columns, least_bps))


def _parse(columns: Columns, least_bps: float, content: bytes) -> tuple[NDArray[np.float64], int]:
    scale, left_out = UNITS[columns.unit], 0
    rows: list[list[float]] = []
    numbers = [columns.uplink, columns.downlink, *([columns.ping] if columns.ping else [])]
    times = [columns.time] if columns.time else []
    needed = [name.lower() for name in (*numbers, *times)]

    def take(row: dict[str, str]) -> None:
        nonlocal left_out
        measured = all(row[name].lower() not in NO_VALUE for name in needed)
        now = _moment(row, columns, len(rows)) if measured else -np.inf
        if not measured or (rows and now <= rows[-1][0]):
            left_out += 1
            return
        values = [non_negative(name, as_number(name, row[name.lower()])) for name in numbers]
        rates = [max(value * scale, least_bps) for value in values[:2]]
        rows.append([now, *rates, *(ping_ms / 2e3 for ping_ms in values[2:])])

    plain = needed if columns.time_format is None else needed[: len(numbers)]
    files.parse_csv(content, needed, (), plain, take)
    if not rows:
        raise ValueError("has no row in which everything was measured")
    trace = np.array(rows)
    trace[:, 0] -= trace[0, 0]
    return trace, left_out


def _moment(row: dict[str, str], columns: Columns, k: int) -> float:
    """Return the seconds of a row that would become row k."""
    if columns.time is None:
        return k * columns.every_s
    text = row[columns.time.lower()]
    if columns.time_format is None:
        return finite(columns.time, as_number(columns.time, text))
    try:
        moment = datetime.strptime(text, columns.time_format)
    except ValueError as error:
        raise ValueError(f"{columns.time}={text!r}: {error}") from error
    return (moment - datetime(1970, 1, 1)).total_seconds()
