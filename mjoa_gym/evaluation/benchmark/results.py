"""The results of a suite: by setting and planner, and ours against the others.

An earlier system lives in the serial world: it starts to upload a layer when the layer's inputs are
there. Ours lives in the parallel world. The second comparison gives the earlier systems parallel
uploading too, so that what remains is due to planning alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.evaluation.benchmark.suite import Cell, Suite, Sweep
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.statistics import (
    Estimate,
    Reduction,
    bootstrap,
    mean_reduction,
    reduction,
)

OUR_WORLD, THEIR_WORLD = "parallel", "serial"
CLAIM = 0.645
"""The paper's headline: up to 64.5 % lower DNN execution latency than the state of the art."""


class Summary(NamedTuple):
    """Latencies of one planner in one setting, in seconds."""

    mean: Estimate
    median: float
    p95: float
    planning_s: float


class SuiteResults:
    """All rows of a run, by setting and planner; of planners that have played all of its seeds.

    Args:
        suite: What was run.
        played: A row per round, by cell.
    """

    def __init__(self, suite: Suite, played: Mapping[Cell, Sequence[Row]]) -> None:
        self.suite = suite
        cells: dict[tuple[str, str, str, str], list[Cell]] = {}
        for cell in suite.cells():
            cells.setdefault(cell[:4], []).append(cell)
        self.rows = {
            setting: [played[cell] for cell in some]
            for setting, some in cells.items()
            if all(cell in played for cell in some)
        }

    def column(
        self, sweep: Sweep, point: str, world: str, planner: str, name: str = "latency_s"
    ) -> NDArray[np.float64]:
        """(seeds, rounds) of a column of the rows."""
        episodes = self.rows[sweep.name, point, world, planner]
        return np.array([[row[name] for row in rows] for rows in episodes])

    def means(self, sweep: Sweep, world: str, planner: str) -> NDArray[np.float64]:
        """(points,) mean latencies of a planner over a sweep."""
        return np.array([self.column(sweep, p.label, world, planner).mean() for p in sweep.points])

    def units(self, sweep: Sweep, point: str, world: str, planner: str) -> NDArray[np.float64]:
        """(units,) latencies that are resampled: of instances, or means of whole episodes."""
        latency = self.column(sweep, point, world, planner)
        return latency.mean(axis=1) if sweep.environment == "streaming" else latency.ravel()

    def summary(self, sweep: Sweep, point: str, world: str, planner: str) -> Summary:
        """Latencies and planning time of one planner in one setting."""
        latency = self.column(sweep, point, world, planner)
        return Summary(
            bootstrap(self.units(sweep, point, world, planner)),
            float(np.median(latency)),
            float(np.percentile(latency, 95)),
            float(self.column(sweep, point, world, planner, "planning_s").mean()),
        )

    def reduction(
        self, sweep: Sweep, point: str, ours: tuple[str, str], other: tuple[str, str]
    ) -> Reduction:
        """The reduction of one world and planner against another, on paired instances."""
        local, their_local = (
            self.column(sweep, point, *who, "local_s") for who in (ours, other)
        )
        if sweep.environment == "cold-start" and not np.allclose(local, their_local, rtol=1e-12):
            raise ValueError(f"{sweep.name}/{point}: {ours} and {other} met other instances")
        return reduction(self.units(sweep, point, *ours), self.units(sweep, point, *other))

    def strongest(self, sweep: Sweep, point: str, world: str) -> str | None:
        """The earlier system with the lowest mean latency in a setting; None if none ran."""
        ran = [p for p in self.suite.earlier if (sweep.name, point, world, p) in self.rows]
        return min(ran, key=lambda p: self.column(sweep, point, world, p).mean(), default=None)

    def planners(self, sweep: Sweep, worlds: Sequence[str] = ()) -> list[str]:
        """A sweep's planners that ran at all its points, in all of the worlds."""
        points = [p.label for p in sweep.points]
        settings = [(sweep.name, p, w) for p in points for w in worlds or sweep.worlds]
        return [p for p in sweep.planners if all((*s, p) in self.rows for s in settings)]


class Versus(NamedTuple):
    """Our planner against one other in one setting, each in its world."""

    sweep: Sweep
    point: str
    other: str
    reduction: Reduction

    @property
    def mean(self) -> float:
        """The reduction of the mean latency."""
        return self.reduction.mean.value

    @property
    def where(self) -> str:
        """The setting in words."""
        return f"{self.sweep.title}; {self.sweep.label}: {self.point}"


class Overview(NamedTuple):
    """Comparisons over several settings."""

    comparisons: tuple[Versus, ...]

    @property
    def mean(self) -> Estimate:
        """Mean reduction over the settings."""
        return mean_reduction([c.reduction for c in self.comparisons])

    @property
    def largest(self) -> Versus:
        """The setting with the largest mean reduction."""
        return max(self.comparisons, key=lambda c: c.mean)

    @property
    def best(self) -> Versus:
        """The setting with the largest reduction of a single instance."""
        return max(self.comparisons, key=lambda c: c.reduction.best)


def against(
    results: SuiteResults, sweeps: Sequence[Sweep], world: str, planner: str | None = None
) -> Overview | None:
    """Ours against a planner in a world, wherever both ran; None if that is nowhere.

    Without a planner, against the earlier system that is best in each setting.
    """
    found = []
    for sweep in sweeps:
        for point in (p.label for p in sweep.points):
            other = planner or results.strongest(sweep, point, world)
            pair = (OUR_WORLD, sweep.ours), (world, other or "")
            if all((sweep.name, point, *who) in results.rows for who in pair):
                change = results.reduction(sweep, point, *pair)
                found.append(Versus(sweep, point, pair[1][1], change))
    return Overview(tuple(found)) if found else None
