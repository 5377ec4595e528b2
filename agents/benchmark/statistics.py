"""Statistics over paired instances: means, reductions, gaps, with bootstrap intervals.

An *instance* is one round of one seed; every planner meets the same ones. Latencies come as arrays
(seeds, rounds) of the weighted mean over the UEs. Fresh UEs in every round make rounds independent
(cold start), so that instances are resampled; in streaming whole episodes are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.benchmark.store import Row
from agents.benchmark.suite import Cell, Suite, Sweep

RESAMPLES = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value with its bootstrap interval."""

    value: float
    low: float
    high: float


class Summary(NamedTuple):
    """Latencies of one planner in one setting, in seconds."""

    mean: Estimate
    median: float
    p95: float
    planning_s: float


class Reduction(NamedTuple):
    """How much lower one planner's latency is than another's, as fractions.

    Attributes:
        mean: 1 - mean latency / mean latency of the other.
        best: The largest reduction of a single instance.
        resampled: (RESAMPLES,) bootstrap values of the mean.
    """

    mean: Estimate
    best: float
    resampled: NDArray[np.float64]


class Results:
    """All rows of a run, by setting and planner.

    Args:
        suite: What was run.
        rows: Pairs of cell and row, in any order.
    """

    def __init__(self, suite: Suite, rows: Iterable[tuple[Cell, Row]]) -> None:
        self.suite = suite
        self.rows: dict[tuple[str, str, str, str], list[tuple[int, Row]]] = {}
        for cell, row in rows:
            self.rows.setdefault(cell[:4], []).append((cell.seed, row))
        for found in self.rows.values():
            found.sort(key=lambda pair: (pair[0], pair[1]["round"]))

    def column(
        self, sweep: str, point: str, world: str, planner: str, name: str = "latency_s"
    ) -> NDArray[np.float64]:
        """(seeds, rounds) of a column of the rows."""
        found = self.rows[sweep, point, world, planner]
        n_seeds = len({seed for seed, _ in found})
        return np.array([row[name] for _, row in found]).reshape(n_seeds, -1)

    def summary(self, sweep: Sweep, point: str, world: str, planner: str) -> Summary:
        """Latencies and planning time of one planner in one setting."""
        latency = self.column(sweep.name, point, world, planner)
        planning = self.column(sweep.name, point, world, planner, "planning_s")
        return Summary(
            bootstrap(units_of(sweep, latency)),
            float(np.median(latency)),
            float(np.percentile(latency, 95)),
            float(np.mean(planning)),
        )

    def reduction(
        self,
        sweep: Sweep,
        point: str,
        world: str,
        planner: str,
        base_world: str,
        base: str,
    ) -> Reduction:
        """The reduction of a planner against a base, each in its world, on paired instances."""
        latency = self.column(sweep.name, point, world, planner)
        other = self.column(sweep.name, point, base_world, base)
        local = self.column(sweep.name, point, world, planner, "local_s")
        their_local = self.column(sweep.name, point, base_world, base, "local_s")
        if sweep.environment == "cold-start" and not np.allclose(local, their_local, rtol=1e-12):
            raise ValueError(f"{sweep.name}/{point}: {planner} and {base} met other instances")
        return reduction(units_of(sweep, latency), units_of(sweep, other))

    def strongest(self, sweep: Sweep, point: str, world: str) -> str | None:
        """The earlier system with the lowest mean latency in a setting; None if none ran."""
        ran = [p for p in self.suite.earlier if (sweep.name, point, world, p) in self.rows]
        means = {p: self.column(sweep.name, point, world, p).mean() for p in ran}
        return min(means, key=lambda p: means[p]) if means else None


def units_of(sweep: Sweep, latency: NDArray[np.float64]) -> NDArray[np.float64]:
    """(units,) what is resampled: instances, or means of whole episodes."""
    return latency.mean(axis=1) if sweep.environment == "streaming" else latency.ravel()


def bootstrap(values: NDArray[np.float64]) -> Estimate:
    """The mean of (units,) values with its percentile bootstrap interval."""
    means = values[_resamples(len(values))].mean(axis=1)
    return _estimate(float(values.mean()), means)


def reduction(latency: NDArray[np.float64], base: NDArray[np.float64]) -> Reduction:
    """The reduction from (units,) of a base to (units,) of a planner, resampled in pairs."""
    if latency.shape != base.shape:
        raise ValueError(f"not paired: {latency.shape} and {base.shape} units")
    chosen = _resamples(len(base))
    resampled = 1.0 - latency[chosen].mean(axis=1) / base[chosen].mean(axis=1)
    value = 1.0 - float(latency.mean() / base.mean())
    return Reduction(_estimate(value, resampled), float(np.max(1.0 - latency / base)), resampled)


def change(runs: NDArray[np.float64], base: NDArray[np.float64]) -> Estimate:
    """How much more than a base several training runs take, as a fraction of it.

    Args:
        runs: (training seeds, units); training seeds are resampled too.
        base: (units,), the same ones.
    """
    if runs.shape[1:] != base.shape:
        raise ValueError(f"not paired: {runs.shape[1:]} and {base.shape} units")
    n_runs, n_units = runs.shape
    units, chosen = _shares_of(_resamples(n_units)), _shares_of(_resamples(n_runs))
    resampled = np.einsum("rk,kn,rn->r", chosen, runs, units) / (units @ base) - 1.0
    return _estimate(float(runs.mean() / base.mean()) - 1.0, resampled)


def mean_reduction(reductions: Sequence[Reduction]) -> Estimate:
    """The mean over settings; their resamples go together, as their seeds are the same."""
    values = [r.mean.value for r in reductions]
    return _estimate(float(np.mean(values)), np.mean([r.resampled for r in reductions], axis=0))


def gap(latency: NDArray[np.float64], bound: NDArray[np.float64]) -> Estimate:
    """The mean relative excess over a lower bound."""
    return bootstrap((latency / bound - 1.0).ravel())


@lru_cache(maxsize=8)
def _resamples(n: int) -> NDArray[np.int64]:
    """(RESAMPLES, n) indices, always the same for the same n."""
    return np.random.default_rng(n).integers(n, size=(RESAMPLES, n))


def _shares_of(resamples: NDArray[np.int64]) -> NDArray[np.float64]:
    """(RESAMPLES, n) which part of each resample every one of n is."""
    n = resamples.shape[1]
    return np.array([np.bincount(row, minlength=n) for row in resamples]) / n


def _estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))
