"""The results of a suite: by setting and planner, ours against the others, and the headline.

An earlier system lives in the serial world: it starts to upload a layer when the layer's inputs are
there. Ours lives in the parallel world. The second comparison gives the earlier systems parallel
uploading too, so that what remains is due to planning alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self, sweep: str, point: str, world: str, planner: str, name: str = "latency_s"
    ) -> NDArray[np.float64]:
        """(seeds, rounds) of a column of the rows."""
        episodes = self.rows[sweep, point, world, planner]
        return np.array([[row[name] for row in rows] for rows in episodes])

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
    other_world: str
    reduction: Reduction

    @property
    def where(self) -> str:
        """The setting in words."""
        return f"{self.sweep.title}; {self.sweep.label}: {self.point}"


class Overview(NamedTuple):
    """Comparisons over several settings.

    Attributes:
        mean: Mean reduction over the settings.
        largest: The setting with the largest mean reduction.
        best: The setting with the largest reduction of a single instance.
        comparisons: All of them.
    """

    mean: Estimate
    largest: Versus
    best: Versus
    comparisons: tuple[Versus, ...]


def against(results: SuiteResults, sweep: Sweep, other: str, world: str) -> Overview | None:
    """Ours against one planner in a world, over a sweep; None where one of them did not run."""
    return _overview(results, [sweep], world, lambda *_: other)


def against_strongest(
    results: SuiteResults, sweeps: Sequence[Sweep], world: str
) -> Overview | None:
    """Ours against the earlier system that is best in each setting, in a world."""
    return _overview(results, sweeps, world, results.strongest)


def compared_sweeps(suite: Suite) -> tuple[Sweep, ...]:
    """The sweeps of which the headline is taken: cold starts over a swept quantity."""
    return tuple(s for s in suite.sweeps if s.kind == "sweep" and s.environment == "cold-start")


def units_of(sweep: Sweep, latency: NDArray[np.float64]) -> NDArray[np.float64]:
    """(units,) what is resampled: instances, or means of whole episodes."""
    return latency.mean(axis=1) if sweep.environment == "streaming" else latency.ravel()


def _overview(
    results: SuiteResults,
    sweeps: Sequence[Sweep],
    world: str,
    other_of: Callable[[Sweep, str, str], str | None],
) -> Overview | None:
    comparisons = []
    for sweep in sweeps:
        for point in sweep.points:
            other = other_of(sweep, point.label, world)
            ours = sweep.ours
            needed = ((OUR_WORLD, ours), (world, other))
            if all((sweep.name, point.label, *pair) in results.rows for pair in needed):
                assert other is not None
                change = results.reduction(sweep, point.label, OUR_WORLD, ours, world, other)
                comparisons.append(Versus(sweep, point.label, other, world, change))
    if not comparisons:
        return None
    return Overview(
        mean_reduction([c.reduction for c in comparisons]),
        max(comparisons, key=lambda c: c.reduction.mean.value),
        max(comparisons, key=lambda c: c.reduction.best),
        tuple(comparisons),
    )
