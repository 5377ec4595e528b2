"""The common style of all charts: lanes, colours, units and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mjoa_gym.model.simulator import Interval, Timeline

LANES = {"ue": "processor", "uplink": "uplink", "edge": "edge share", "downlink": "downlink"}
"""The lanes from top to bottom, with their names."""


class Style(NamedTuple):
    """The look of one kind of interval."""

    label: str  # its name in the legend
    short: str  # its name if there is little room
    face: str  # fill colour, from the Okabe-Ito palette (safe for colour-blind readers)
    ink: str  # colour of the layer number on it
    glyph: str  # its character in text


ACTIVATION = Style("sends an activation", "activation", "#CC79A7", "#1b1b1f", "▓")
STYLES = {
    ("ue", "execute"): Style("UE executes", "UE", "#0072B2", "#ffffff", "█"),
    ("edge", "execute"): Style("edge executes", "edge", "#009E73", "#ffffff", "█"),
    ("uplink", "parameters"): Style("uploads parameters", "upload", "#E69F00", "#1b1b1f", "▒"),
    ("uplink", "prefetch"): Style("prefetches", "prefetch", "#F0E442", "#1b1b1f", "░"),
    ("uplink", "activation"): ACTIVATION,
    ("downlink", "activation"): ACTIVATION,
}
"""The style of each (resource, what) of an interval."""
RESIDENT, DROPPED, GONE = "#56B4E9", "#D55E00", "#b9b9c4"
"""Colours of the server's memory: there before the round, dropped after it, left with its UE."""


def faded(colour: str) -> str:
    """Return a colour "#rrggbb" mixed with white."""
    return "#" + "".join(f"{(int(colour[k : k + 2], 16) + 2 * 255) // 3:02x}" for k in (1, 3, 5))


UNITS = ((1.0, "s", 2.0), (1e3, "ms", 2e-3), (1e6, "µs", 0.0))
"""Units per second, name, and the shortest time for which the unit is used."""
BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))  # bytes per unit, and its name
SPANS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
"""Ends of time axes, times a power of ten."""


def unit_for(seconds: float) -> tuple[float, str]:
    """Return units per second and the name of the unit that suits a time."""
    return next((scale, unit) for scale, unit, least in UNITS if seconds >= least)


def duration(seconds: float, unit_of: float | None = None) -> str:
    """Format a time with three digits, or all before the point, in the unit that suits it.

    With `unit_of`, the unit is the one that suits that time.
    """
    if not np.isfinite(seconds):
        return "never finishes"
    scale, unit = unit_for(seconds if unit_of is None else unit_of)
    return f"{_digits(seconds * scale)} {unit}"


def amount(size: float, unit_of: float | None = None, unit: bool = True) -> str:
    """Format bytes with three digits, as "58.1 MB", in the unit of `unit_of` bytes if given."""
    if not np.isfinite(size):
        return "no limit"
    suiting = size if unit_of is None else unit_of
    scale, name = next((s, n) for s, n in BYTES if suiting >= s or s == 1)
    number = _digits(size / scale)
    return f"{number} {name}" if unit else number


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def round_span(seconds: float) -> float:
    """Return the next round number, so that time axes seldom change between pictures."""
    magnitude = 10.0 ** np.floor(np.log10(seconds))
    return float(magnitude * next(s for s in SPANS if seconds <= magnitude * s * (1 + 1e-9)))


def layer_label(interval: Interval) -> str:
    """Return the layer's number; "in" for the network's input."""
    return "in" if interval.layer < 0 else str(interval.layer)


def checked_titles(timelines: Sequence[Timeline], titles: Sequence[str] | None) -> Sequence[str]:
    """Return the titles, or "UE 0", "UE 1", ...; a ValueError if their number does not fit."""
    if not timelines:
        raise ValueError("timelines is empty: a chart shows at least one")
    if titles is None:
        return [f"UE {i}" for i in range(len(timelines))]
    if len(titles) != len(timelines):
        raise ValueError(f"titles has {len(titles)} entries for {len(timelines)} timelines")
    return titles


def span_of(timelines: Sequence[Timeline]) -> float:
    """Return the last finite time in any timeline, above 0."""
    times = [0.0]
    for timeline in timelines:
        times += [timeline.latency, *(t for i in timeline.intervals for t in (i.start, i.end))]
    return max(t for t in times if t < np.inf) or 1.0


def overlap(timeline: Timeline) -> float:
    """Return the fraction of the parameter upload in which the UE or the edge executes, in [0, 1].

    This is the advantage of parallel over serial uploading. Prefetches do not count. The result is
    0 if nothing is uploaded.
    """
    uploads = [i for i in timeline.by_resource["uplink"] if i.what == "parameters"]
    total = sum(u.end - u.start for u in uploads)
    if not 0 < total < np.inf:
        return 0.0
    shared = covered = 0.0
    executions = [*timeline.by_resource["ue"], *timeline.by_resource["edge"]]
    for execution in sorted(executions, key=lambda i: i.start):
        start = max(execution.start, covered)
        shared += sum(max(0.0, min(execution.end, u.end) - max(start, u.start)) for u in uploads)
        covered = max(covered, execution.end)
    return min(1.0, shared / total)
