"""Statistics over paired units: means, reductions, gaps, with bootstrap intervals.

Resampling draws *units*. A unit is a round if every round has fresh UEs (cold start), else a whole
episode. All planners and agents play the same units.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A value with its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def negated(self) -> Estimate:
        """The estimate of the negated quantity: a reduction as a change."""
        return Estimate(-self.value, -self.high, -self.low)


class Reduction(NamedTuple):
    """How much lower one planner's mean latency is than another's, as a fraction.

    It also has the largest reduction of a single unit, and (RESAMPLES,) bootstrap values of the
    mean.
    """

    mean: Estimate
    best: float
    resampled: NDArray[np.float64]


def bootstrap(values: NDArray[np.float64]) -> Estimate:
    """Return the mean of (units,) values with its percentile bootstrap interval."""
    means = values[_resamples(len(values))].mean(axis=1)
    return _estimate(float(values.mean()), means)


def reduction(latency: NDArray[np.float64], base: NDArray[np.float64]) -> Reduction:
    """Return the reduction from a base (units,) to a planner (units,), resampled in pairs."""
    if latency.shape != base.shape:
        raise ValueError(f"not paired: {latency.shape} and {base.shape} units")
    chosen = _resamples(len(base))
    resampled = 1.0 - latency[chosen].mean(axis=1) / base[chosen].mean(axis=1)
    value = 1.0 - float(latency.mean() / base.mean())
    return Reduction(_estimate(value, resampled), float(np.max(1.0 - latency / base)), resampled)


def change(runs: NDArray[np.float64], base: NDArray[np.float64]) -> Estimate:
    """Return the change from a base (units,) to runs (training seeds, units), as a fraction.

    Training seeds are resampled too.
    """
    if runs.shape[1:] != base.shape:
        raise ValueError(f"not paired: {runs.shape[1:]} and {base.shape} units")
    n_runs, n_units = runs.shape
    units, chosen = _shares_of(_resamples(n_units)), _shares_of(_resamples(n_runs))
    resampled = np.einsum("rk,kn,rn->r", chosen, runs, units) / (units @ base) - 1.0
    return _estimate(float(runs.mean() / base.mean()) - 1.0, resampled)


def mean_reduction(reductions: Sequence[Reduction]) -> Estimate:
    """Return the mean over settings, resample by resample, as the settings share their seeds."""
    values = [r.mean.value for r in reductions]
    return _estimate(float(np.mean(values)), np.mean([r.resampled for r in reductions], axis=0))


def gap(latency: NDArray[np.float64], bound: NDArray[np.float64]) -> Estimate:
    """Return the mean relative excess over a lower bound."""
    return bootstrap((latency / bound - 1.0).ravel())


@lru_cache(maxsize=8)
def _resamples(n: int) -> NDArray[np.int64]:
    """Return (RESAMPLES, n) indices, always the same for the same n."""
    return np.random.default_rng(n).integers(n, size=(RESAMPLES, n))


def _shares_of(resamples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (RESAMPLES, n) the fraction of each resample that each of n units makes up."""
    n = resamples.shape[1]
    return np.array([np.bincount(row, minlength=n) for row in resamples]) / n


def _estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))
