"""The benchmark's tables, and its headline in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark.results import (
    CLAIM,
    OUR_WORLD,
    THEIR_WORLD,
    Overview,
    SuiteResults,
    against,
    against_strongest,
    compared_sweeps,
)
from mjoa_gym.evaluation.benchmark.suite import Sweep
from mjoa_gym.evaluation.statistics import gap
from mjoa_gym.evaluation.table import Table, milliseconds, percent

OVERVIEW = (
    "Latency reduction of {} (parallel uploading) against the strongest earlier system of each "
    "setting, with 95 % bootstrap intervals over paired instances"
)
ONE_CUT = "single-cut"
"""Our control: the best single cut, which is charged for uploading when it plans."""


def headline(results: SuiteResults) -> list[str]:
    """What the benchmark found about the paper's headline, in sentences."""
    ours, sweeps = results.suite.ours, compared_sweeps(results.suite)
    sentences = []
    for world, how in (
        (THEIR_WORLD, "uploading serially, as earlier systems do"),
        (OUR_WORLD, "given parallel uploading too"),
    ):
        every = against_strongest(results, sweeps, world)
        typical = against_strongest(results, [s for s in sweeps if s.typical], world)
        if typical is not None:
            sentences.append(
                f"Against the strongest earlier system ({how}) in each of "
                f"{len(typical.comparisons)} cold-start settings, {ours} lowers the weighted mean "
                f"latency by {percent(typical.mean)} on average."
            )
            sentences.append(_largest(typical))
        if every is not None and world == THEIR_WORLD:
            sentences += [_claim(every), *_one_cut(results, sweeps)]
    return sentences or [f"{ours} or the earlier systems did not run."]


def _largest(found: Overview) -> str:
    largest, best = found.largest, found.best
    return (
        f"The largest reduction of a setting is {percent(largest.reduction.mean)} (being the "
        f"largest, somewhat more than other seeds would give), against {largest.other} "
        f"({largest.where}); of a single instance it is "
        f"{100 * best.reduction.best:.1f} %, against {best.other} ({best.where})."
    )


def _claim(found: Overview) -> str:
    setting, single = found.largest.reduction.mean.value, found.best.reduction.best
    if setting >= CLAIM:
        return f'That is within the paper\'s "up to {100 * CLAIM:.1f} %" for a whole setting.'
    ranked = sorted(found.comparisons, key=lambda c: -c.reduction.mean.value)[:3]
    nearest = "; ".join(f"{c.where} ({100 * c.reduction.mean.value:.1f} %)" for c in ranked)
    instance = "but a single instance does" if single >= CLAIM else "nor does any single instance"
    return (
        f"No setting's mean reaches the paper's \"up to {100 * CLAIM:.1f} %\", {instance}. "
        f"The nearest conditions, favourable sweeps included, are {nearest}."
    )


def _one_cut(results: SuiteResults, sweeps: Sequence[Sweep]) -> list[str]:
    """Which opponent it takes: the best single cut, which knows of uploading."""
    found = [against(results, sweep, ONE_CUT, THEIR_WORLD) for sweep in sweeps]
    largest = [f.largest for f in found if f is not None]
    if not largest:
        return []
    best = max(largest, key=lambda c: c.reduction.mean.value)
    above = sum(
        c.reduction.mean.value >= CLAIM for f in found if f is not None for c in f.comparisons
    )
    return [
        f"Against systems restricted to the best single cut (uploading serially, and charged for "
        f"it) the largest reduction of a setting is {percent(best.reduction.mean)} ({best.where}), "
        f"and {above} settings reach the paper's figure."
    ]


def overview_table(results: SuiteResults) -> Table:
    """One row per sweep: ours against the strongest earlier system, in either world."""
    header = (
        "Sweep", "Mean reduction, earlier systems serial", "Largest of a setting",
        "Largest of an instance", "Mean reduction, earlier systems parallel",
        "Mean reduction, single cut serial",
    )  # fmt: skip
    rows = []
    for sweep in (s for s in results.suite.sweeps if s.kind == "sweep"):
        theirs = against_strongest(results, [sweep], THEIR_WORLD)
        same = against_strongest(results, [sweep], OUR_WORLD)
        if theirs is None and same is None:
            continue
        shown = ("-", "-", "-")
        if theirs is not None:
            largest = theirs.largest
            at = f"{100 * largest.reduction.mean.value:.1f} % at {largest.point}"
            shown = (percent(theirs.mean), at, f"{100 * theirs.best.reduction.best:.1f} %")
        name = "" if sweep.ours == results.suite.ours else f" ({sweep.ours})"
        one_cut = against(results, sweep, ONE_CUT, THEIR_WORLD)
        others = ("-" if found is None else percent(found.mean) for found in (same, one_cut))
        rows.append((sweep.title + name, *shown, *others))
    return Table(OVERVIEW.format(results.suite.ours), header, rows)


def baseline_table(results: SuiteResults, sweep: Sweep) -> Table:
    """One row per other planner: the reduction of ours against it over a sweep."""
    rows = []
    for planner in sweep.planners:
        if planner in (sweep.ours, LOWER_BOUND):
            continue
        cells = [planner]
        for world in (THEIR_WORLD, OUR_WORLD):
            found = against(results, sweep, planner, world)
            if found is None:
                cells += ["-", "-"]
            else:
                largest = found.largest
                cells.append(percent(found.mean))
                cells.append(f"{100 * largest.reduction.mean.value:.1f} % at {largest.point}")
        rows.append(tuple(cells))
    header = ("Against", "Serial world: mean", "largest", "Parallel world: mean", "largest")
    caption = f"{sweep.title}: latency reduction of {sweep.ours} in the parallel world"
    return Table(caption, header, rows)


def latency_table(results: SuiteResults, sweep: Sweep, world: str) -> Table:
    """One row per planner: mean latency at every point."""
    rows = []
    for planner in results.planners(sweep, [world]):
        found = [results.summary(sweep, point.label, world, planner) for point in sweep.points]
        rows.append((planner, *(milliseconds(s.mean.value) for s in found)))
    header = (sweep.label, *(point.label for point in sweep.points))
    return Table(f"{sweep.title}, {world} world: mean latency (ms)", header, rows)


def detail_table(results: SuiteResults, sweep: Sweep, point: str, world: str) -> Table:
    """One row per planner in one setting: mean, median, p95, planning time."""
    rows = []
    for planner in sweep.planners:
        if (sweep.name, point, world, planner) not in results.rows:
            continue
        s = results.summary(sweep, point, world, planner)
        interval = f"{milliseconds(s.mean.low)} - {milliseconds(s.mean.high)}"
        mean, median, p95 = (milliseconds(x) for x in (s.mean.value, s.median, s.p95))
        rows.append((planner, mean, interval, median, p95, milliseconds(s.planning_s)))
    header = ("Planner", "Mean (ms)", "95 % interval", "Median", "p95", "Planning (ms)")
    return Table(f"{sweep.title}, {sweep.label} {point}, {world} world", header, rows)


def gap_table(results: SuiteResults, sweep: Sweep) -> Table:
    """One row per planner: excess over the certified lower bound, at every point."""
    rows = []
    for planner in (p for p in results.planners(sweep) if p != LOWER_BOUND):
        cells = [planner]
        for point in sweep.points:
            latency, bound = (
                results.column(sweep.name, point.label, OUR_WORLD, p)
                for p in (planner, LOWER_BOUND)
            )
            cells.append(percent(gap(latency, bound)))
        rows.append(tuple(cells))
    header = (sweep.label, *(point.label for point in sweep.points))
    return Table(f"{sweep.title}: mean excess over the certified lower bound", header, rows)


def all_tables(results: SuiteResults) -> dict[str, Sequence[Table]]:
    """The tables of every sweep, by its name."""
    tables: dict[str, Sequence[Table]] = {}
    for sweep in results.suite.sweeps:
        middle = sweep.points[len(sweep.points) // 2].label
        if sweep.kind == "optimum" and LOWER_BOUND in sweep.planners:
            tables[sweep.name] = [gap_table(results, sweep)]
        elif sweep.kind == "sweep":
            latencies = [latency_table(results, sweep, world) for world in sweep.worlds]
            tables[sweep.name] = [baseline_table(results, sweep), *latencies]
        else:
            tables[sweep.name] = [detail_table(results, sweep, middle, w) for w in sweep.worlds]
    return tables
