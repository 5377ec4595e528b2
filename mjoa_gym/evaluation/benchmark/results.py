"""The results of a suite by setting and planner, comparisons of ours with the others, and tables.

An earlier system plays in the serial world: it starts to upload a layer when the layer's inputs
exist. Ours plays in the parallel world. The second comparison gives the earlier systems parallel
uploading too, so that the remaining difference is due to planning alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark.suite import Cell, Suite, Sweep
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.statistics import Estimate, Reduction, bootstrap, gap, mean_reduction
from mjoa_gym.evaluation.statistics import reduction as reduction_of
from mjoa_gym.evaluation.table import Table, milliseconds, percent

OUR_WORLD, THEIR_WORLD = "parallel", "serial"
CLAIM = 0.645
"""The paper's headline: up to 64.5 % lower DNN execution latency than the state of the art."""
OVERVIEW = (
    "Latency reduction of {} (parallel uploading) against the strongest earlier system of each "
    "setting, with 95 % bootstrap intervals over paired instances"
)
ONE_CUT = "single-cut"
"""Our control: the best single cut, which accounts for uploading when it plans."""


class SuiteResults:
    """All rows of a run, by setting and planner, of planners that have played all of its seeds."""

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
        """Return a column of the rows as (seeds, rounds)."""
        episodes = self.rows[sweep.name, point, world, planner]
        return np.array([[row[name] for row in rows] for rows in episodes])

    def means(
        self, sweep: Sweep, world: str, planner: str, name: str = "latency_s"
    ) -> NDArray[np.float64]:
        """Return (points,) means of a column of a planner's rows over a sweep."""
        columns = (self.column(sweep, p.label, world, planner, name) for p in sweep.points)
        return np.array([column.mean() for column in columns])

    def units(self, sweep: Sweep, point: str, world: str, planner: str) -> NDArray[np.float64]:
        """Return the resampled latencies (units,): of instances, or means of whole episodes."""
        latency = self.column(sweep, point, world, planner)
        return latency.mean(axis=1) if sweep.environment == "streaming" else latency.ravel()

    def summary(
        self, sweep: Sweep, point: str, world: str, planner: str
    ) -> tuple[Estimate, float, float, float]:
        """Return a planner's seconds in a setting: mean, median and p95 latency, mean planning."""
        latency = self.column(sweep, point, world, planner)
        median, p95 = np.percentile(latency, (50, 95))
        planning_s = self.column(sweep, point, world, planner, "planning_s").mean()
        mean = bootstrap(self.units(sweep, point, world, planner))
        return mean, float(median), float(p95), float(planning_s)

    def reduction(
        self, sweep: Sweep, point: str, ours: tuple[str, str], other: tuple[str, str]
    ) -> Reduction:
        """Return the reduction of one world and planner against another, on paired instances."""
        local, their_local = (self.column(sweep, point, *who, "local_s") for who in (ours, other))
        if sweep.environment == "cold-start" and not np.allclose(local, their_local, rtol=1e-12):
            raise ValueError(f"{sweep.name}/{point}: {ours} and {other} met different instances")
        return self.between(sweep, (point, *ours), (point, *other))

    def between(
        self, sweep: Sweep, one: tuple[str, str, str], other: tuple[str, str, str]
    ) -> Reduction:
        """Return the reduction of one point, world and planner against another, on equal seeds."""
        return reduction_of(self.units(sweep, *one), self.units(sweep, *other))

    def strongest(self, sweep: Sweep, point: str, world: str) -> str | None:
        """Return the earlier system with the lowest mean latency in a setting; None if none ran."""
        ran = [p for p in self.suite.earlier if (sweep.name, point, world, p) in self.rows]
        return min(ran, key=lambda p: self.column(sweep, point, world, p).mean(), default=None)

    def planners(self, sweep: Sweep, worlds: Sequence[str] = ()) -> list[str]:
        """Return a sweep's planners that ran at all its points, in all of the worlds."""
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
    """Compare ours with a planner in a world, wherever both ran; None if that is nowhere.

    Without a planner, ours is compared with the best earlier system of each setting.
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


def overview_table(results: SuiteResults) -> Table:
    """Return one row per sweep: ours against the strongest earlier system, in either world."""
    header = (
        "Sweep", "Mean reduction, earlier systems serial", "Largest of a setting",
        "Largest of an instance", "Mean reduction, earlier systems parallel",
        "Mean reduction, single cut serial",
    )  # fmt: skip
    rows = []
    for sweep in (s for s in results.suite.sweeps if s.kind == "sweep"):
        theirs, same = (against(results, [sweep], world) for world in (THEIR_WORLD, OUR_WORLD))
        if theirs is None and same is None:
            continue
        best = "-" if theirs is None else f"{100 * theirs.best.reduction.best:.1f} %"
        name = "" if sweep.ours == results.suite.ours else f" ({sweep.ours})"
        one_cut = against(results, [sweep], THEIR_WORLD, ONE_CUT)
        shown = (*_cells(theirs), best, _cells(same)[0], _cells(one_cut)[0])
        rows.append((sweep.title + name, *shown))
    return Table(OVERVIEW.format(results.suite.ours), header, rows)


def _cells(found: Overview | None) -> tuple[str, str]:
    """Return the mean reduction, and the largest of a setting."""
    if found is None:
        return "-", "-"
    return percent(found.mean), f"{100 * found.largest.mean:.1f} % at {found.largest.point}"


def baseline_table(results: SuiteResults, sweep: Sweep) -> Table:
    """Return one row per other planner: the reduction of ours against it over a sweep."""
    rows = [
        (
            planner,
            *_cells(against(results, [sweep], THEIR_WORLD, planner)),
            *_cells(against(results, [sweep], OUR_WORLD, planner)),
        )
        for planner in sweep.planners
        if planner not in (sweep.ours, LOWER_BOUND)
    ]
    header = ("Against", "Serial world: mean", "largest", "Parallel world: mean", "largest")
    caption = f"{sweep.title}: latency reduction of {sweep.ours} in the parallel world"
    return Table(caption, header, rows)


def point_table(
    results: SuiteResults,
    sweep: Sweep,
    world: str,
    what: str,
    cells: Callable[[str], Iterable[str]],
) -> Table:
    """Return one row per planner: its cells, one for every point."""
    header = (sweep.label, *(point.label for point in sweep.points))
    rows = [(planner, *cells(planner)) for planner in results.planners(sweep, [world])]
    return Table(f"{sweep.title}: {what}", header, rows)


def latency_table(results: SuiteResults, sweep: Sweep, world: str) -> Table:
    """Return the table of mean latencies."""

    def cells(planner: str) -> Iterable[str]:
        return map(milliseconds, results.means(sweep, world, planner))

    return point_table(results, sweep, world, f"mean latency (ms), {world} uploading", cells)


def detail_table(results: SuiteResults, sweep: Sweep, world: str) -> Table:
    """Return one row per planner at the middle point: mean, median, p95, planning time."""
    rows = []
    for planner in sweep.planners:
        if (sweep.name, sweep.middle, world, planner) in results.rows:
            latency, *more = results.summary(sweep, sweep.middle, world, planner)
            mean, low, high, *others = map(milliseconds, (*latency, *more))
            rows.append((planner, mean, f"{low} - {high}", *others))
    header = ("Planner", "Mean (ms)", "95 % interval", "Median", "p95", "Planning (ms)")
    return Table(f"{sweep.title}, {sweep.at(sweep.middle)}, {world} uploading", header, rows)


def energy_table(results: SuiteResults, sweep: Sweep) -> Table:
    """Return the table of mean latencies and mean joules of a UE."""

    def cells(planner: str) -> Iterable[str]:
        seconds = results.means(sweep, OUR_WORLD, planner)
        joules = results.means(sweep, OUR_WORLD, planner, "energy_j")
        return (f"{1e3 * s:.0f}, {j:.2f}" for s, j in zip(seconds, joules, strict=True))

    what = "mean latency (ms), energy of a UE (J)"
    return point_table(results, sweep, OUR_WORLD, what, cells)


def deadline_table(results: SuiteResults, sweep: Sweep) -> Table:
    """Return the table of the fractions of deadlines that are met."""

    def cells(planner: str) -> Iterable[str]:
        missed = results.means(sweep, OUR_WORLD, planner, "missed")
        return (f"{100 - 100 * part:.1f} %" for part in missed)

    return point_table(results, sweep, OUR_WORLD, "deadlines that are met", cells)


def gap_table(results: SuiteResults, sweep: Sweep) -> Table:
    """Return one row per planner: excess over the certified lower bound, at every point."""
    bounds = {p.label: results.column(sweep, p.label, OUR_WORLD, LOWER_BOUND) for p in sweep.points}
    rows = [
        (
            planner,
            *(
                percent(gap(results.column(sweep, point, OUR_WORLD, planner), bound))
                for point, bound in bounds.items()
            ),
        )
        for planner in results.planners(sweep)
        if planner != LOWER_BOUND
    ]
    header = (sweep.label, *bounds)
    return Table(f"{sweep.title}: mean excess over the certified lower bound", header, rows)


def tables_of(results: SuiteResults, sweep: Sweep) -> list[Table]:
    """Return the tables of a sweep."""
    if sweep.kind == "optimum" and LOWER_BOUND in sweep.planners:
        return [gap_table(results, sweep)]
    if sweep.kind == "energy":
        return [energy_table(results, sweep)]
    if sweep.kind == "deadlines":
        return [deadline_table(results, sweep), latency_table(results, sweep, OUR_WORLD)]
    if sweep.kind == "condition":
        return [latency_table(results, sweep, world) for world in sweep.worlds]
    if sweep.kind == "sweep":
        latencies = [latency_table(results, sweep, world) for world in sweep.worlds]
        return [baseline_table(results, sweep), *latencies]
    return [detail_table(results, sweep, world) for world in sweep.worlds]
