"""Our planner against the earlier systems: per setting, per sweep, and the headline.

An earlier system lives in the serial world: it starts to upload a layer when the layer's inputs are
there. Ours lives in the parallel world. The second comparison gives the earlier systems parallel
uploading too, so that what remains is due to planning alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from agents.benchmark.statistics import Estimate, Reduction, Results, mean_reduction
from agents.benchmark.suite import Suite, Sweep

OUR_WORLD, THEIR_WORLD = "parallel", "serial"
CLAIM = 0.645
"""The paper's headline: up to 64.5 % lower DNN execution latency than the state of the art."""


class Comparison(NamedTuple):
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
    largest: Comparison
    best: Comparison
    comparisons: tuple[Comparison, ...]


def against(results: Results, sweep: Sweep, other: str, world: str) -> Overview | None:
    """Ours against one planner in a world, over a sweep; None where one of them did not run."""
    return _overview(results, [sweep], world, lambda *_: other)


def against_strongest(results: Results, sweeps: Sequence[Sweep], world: str) -> Overview | None:
    """Ours against the earlier system that is best in each setting, in a world."""
    return _overview(results, sweeps, world, results.strongest)


def compared_sweeps(suite: Suite) -> tuple[Sweep, ...]:
    """The sweeps of which the headline is taken: cold starts over a swept quantity."""
    return tuple(s for s in suite.sweeps if s.kind == "sweep" and s.environment == "cold-start")


def _overview(
    results: Results,
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
                comparisons.append(Comparison(sweep, point.label, other, world, change))
    if not comparisons:
        return None
    return Overview(
        mean_reduction([c.reduction for c in comparisons]),
        max(comparisons, key=lambda c: c.reduction.mean.value),
        max(comparisons, key=lambda c: c.reduction.best),
        tuple(comparisons),
    )
