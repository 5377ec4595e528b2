"""How far simulated latencies are from measured ones, and whether that misleads a planner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import kendalltau

from comparison.cells import COLD, RESIDENT, Measurement

AIM_MEDIAN, AIM_P90 = 0.05, 0.12
AIM_REGRET, AIM_SHARE = 0.03, 0.95


class Errors(NamedTuple):
    """Relative errors of some inferences, predicted against measured.

    Attributes:
        n: How many.
        median: Of the absolute errors.
        p90: 90th percentile of them.
        worst: The largest.
        bias: Mean of the signed errors: below 0 where the simulator promises too much.
    """

    n: int
    median: float
    p90: float
    worst: float
    bias: float


def measured(rows: Sequence[Measurement]) -> list[Measurement]:
    """Every inference that was run, once."""
    return [row for row in rows if row.was_run and not row.same_as and not row.failure]


def errors(rows: Sequence[Measurement], predicted: str = "predicted_s") -> Errors:
    """The errors of one of the predictions of rows that were run."""
    signed = np.array([getattr(row, predicted) / row.measured_s - 1.0 for row in rows])
    size = np.abs(signed)
    numbers = np.median(size), np.quantile(size, 0.9), size.max(), signed.mean()
    return Errors(len(rows), *map(float, numbers))


def mode_of(row: Measurement) -> str:
    """The line of the error table that a row belongs to."""
    if "1" not in row.placement:
        return "on the UE"
    return "with residency" if row.scenario == RESIDENT else row.upload


def by_model_and_mode(rows: Sequence[Measurement]) -> dict[tuple[str, str], list[Measurement]]:
    """Measured rows in groups, and all of a model and of a mode as "all"."""
    groups: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    for row in measured(rows):
        mode = mode_of(row)
        for key in ((row.model, mode), (row.model, "all"), ("all", mode), ("all", "all")):
            groups[key].append(row)
    return dict(groups)


class PlannerChoice(NamedTuple):
    """The planners of one model, rate and upload mode, in the simulator and in reality.

    Attributes:
        model: Network.
        rate_mbps: Rate.
        upload: Upload mode, or "any" over all of them.
        planners: How many were run.
        tau: Kendall's rank correlation of predicted and measured; NaN if all plans are one.
        best: The planner that the simulator prefers.
        regret: How much longer it took than the best in reality.
    """

    model: str
    rate_mbps: float
    upload: str
    planners: int
    tau: float
    best: str
    regret: float


def choices(rows: Sequence[Measurement], uploads: Sequence[str]) -> list[PlannerChoice]:
    """What trusting the simulator leads to, per model, rate and upload mode."""
    groups: dict[tuple[str, float, str], list[Measurement]] = defaultdict(list)
    for row in rows:
        if row.scenario == COLD and row.upload in uploads and row.was_run and not row.failure:
            groups[row.model, row.rate_mbps, row.upload].append(row)
    return [_choice(key, group) for key, group in groups.items()]


def _choice(key: tuple[str, float, str], rows: list[Measurement]) -> PlannerChoice:
    best = min(rows, key=lambda row: row.predicted_s)
    plans = {row.placement: (row.predicted_s, row.measured_s) for row in rows}
    tau = float("nan")
    if len(plans) > 1:
        tau = float(kendalltau(*zip(*plans.values(), strict=True)).statistic)
    fastest = min(row.measured_s for row in rows)
    return PlannerChoice(*key, len(rows), tau, best.planner, best.measured_s / fastest - 1.0)


class Drift(NamedTuple):
    """Measurements of one side's layer times in the course of a model's part of the grid.

    Attributes:
        first_s: All layers, at first.
        last: How much longer they took at last, relative.
        spread: The longest of these sums against the shortest, relative.
    """

    first_s: float
    last: float
    spread: float


def drift(notes: Sequence[dict[str, Any]], side: str) -> Drift:
    """The drift of "ue_s" or "edge_s"."""
    sums = np.array([np.sum(note[side]) for note in notes])
    return Drift(
        float(sums[0]), float(sums[-1] / sums[0] - 1.0), float(sums.max() / sums.min() - 1.0)
    )
