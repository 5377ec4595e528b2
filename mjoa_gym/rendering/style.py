"""What every kind of chart shares: lanes, colours, units and the numbers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mjoa_gym.simulator import Interval, Timeline

LANES = {"ue": "processor", "uplink": "uplink", "edge": "edge share", "downlink": "downlink"}
"""The lanes from top to bottom, with their names."""


class Style(NamedTuple):
    """How one kind of interval looks.

    Attributes:
        label: Its name in the legend.
        face: Fill colour, from the Okabe-Ito palette (told apart by colour-blind readers).
        ink: Colour of the layer number on it.
        glyph: Its character in text.
    """

    label: str
    face: str
    ink: str
    glyph: str


STYLES = {
    ("ue", "execute"): Style("executes on the UE", "#0072B2", "#ffffff", "█"),
    ("edge", "execute"): Style("executes at the edge", "#009E73", "#ffffff", "█"),
    ("uplink", "parameters"): Style("uploads parameters", "#E69F00", "#1b1b1f", "▒"),
    ("uplink", "prefetch"): Style("prefetches parameters", "#F0E442", "#1b1b1f", "░"),
    ("uplink", "activation"): Style("sends an activation", "#CC79A7", "#1b1b1f", "▓"),
    ("downlink", "activation"): Style("sends an activation", "#CC79A7", "#1b1b1f", "▓"),
}
"""How each (resource, what) of an interval is drawn."""

UNITS = ((1.0, "s", 2.0), (1e3, "ms", 2e-3), (1e6, "µs", 0.0))
"""Units per second, name, and the least time it is used for."""


def unit_for(seconds: float) -> tuple[float, str]:
    """Units per second and the name of the unit that suits a time."""
    return next((scale, unit) for scale, unit, least in UNITS if seconds >= least)


def written(seconds: float, scale: float, unit: str) -> str:
    """A time in a given unit, with three digits or all before the point."""
    if not np.isfinite(seconds):
        return "never finishes"
    value = seconds * scale
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def layer_label(interval: Interval) -> str:
    """The layer's number; "in" for the network's input."""
    return "in" if interval.layer < 0 else str(interval.layer)


def checked_titles(timelines: Sequence[Timeline], titles: Sequence[str] | None) -> Sequence[str]:
    """The titles, or "UE 0", "UE 1", ...

    Raises:
        ValueError: If there are no timelines, or not one title for each.
    """
    if not timelines:
        raise ValueError("timelines is empty: a chart shows at least one")
    if titles is None:
        return [f"UE {i}" for i in range(len(timelines))]
    if len(titles) != len(timelines):
        raise ValueError(f"titles has {len(titles)} entries for {len(timelines)} timelines")
    return titles


def span_of(timelines: Sequence[Timeline]) -> float:
    """The last finite time in any timeline, above 0."""
    times = [0.0]
    for timeline in timelines:
        times += [timeline.latency, *(t for i in timeline.intervals for t in (i.start, i.end))]
    return max(t for t in times if t < np.inf) or 1.0


def overlap(timeline: Timeline) -> float:
    """The fraction of the parameter upload during which the UE or the edge executes, in [0, 1].

    This is what parallel uploading has over serial uploading. Prefetches do not count; 0 if nothing
    is uploaded.
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
