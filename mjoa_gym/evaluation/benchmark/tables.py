"""The benchmark's tables, and its headline in sentences."""

from __future__ import annotations

from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark.results import (
    CLAIM,
    OUR_WORLD,
    THEIR_WORLD,
    Overview,
    SuiteResults,
    against,
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
    ours, sweeps = results.suite.ours, results.suite.compared
    sentences = []
    for world, how in (
        (THEIR_WORLD, "uploading serially, as earlier systems do"),
        (OUR_WORLD, "given parallel uploading too"),
    ):
        typical = against(results, [s for s in sweeps if s.typical], world)
        if typical is not None:
            sentences.append(
                f"Against the strongest earlier system ({how}) in each of "
                f"{len(typical.comparisons)} cold-start settings, {ours} lowers the weighted mean "
                f"latency by {percent(typical.mean)} on average."
            )
            sentences.append(_largest(typical))
        every = against(results, sweeps, world)
        if every is not None and world == THEIR_WORLD:
            one_cut = against(results, sweeps, world, ONE_CUT)
            sentences += [_claim(every), *([] if one_cut is None else [_one_cut(one_cut)])]
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
    if found.largest.mean >= CLAIM:
        return f'That is within the paper\'s "up to {100 * CLAIM:.1f} %" for a whole setting.'
    ranked = sorted(found.comparisons, key=lambda c: -c.mean)[:3]
    nearest = "; ".join(f"{c.where} ({100 * c.mean:.1f} %)" for c in ranked)
    single = found.best.reduction.best >= CLAIM
    instance = "but a single instance does" if single else "nor does any single instance"
    return (
        f"No setting's mean reaches the paper's \"up to {100 * CLAIM:.1f} %\", {instance}. "
        f"The nearest conditions, favourable sweeps included, are {nearest}."
    )


def _one_cut(found: Overview) -> str:
    """Which opponent it takes: the best single cut, which knows of uploading."""
    above = sum(c.mean >= CLAIM for c in found.comparisons)
    return (
        f"Against systems restricted to the best single cut (uploading serially, and charged for "
        f"it) the largest reduction of a setting is {percent(found.largest.reduction.mean)} "
        f"({found.largest.where}), and {above} settings reach the paper's figure."
    )


def overview_table(results: SuiteResults) -> Table:
    """One row per sweep: ours against the strongest earlier system, in either world."""
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
    """The mean reduction, and the largest of a setting."""
    if found is None:
        return "-", "-"
    return percent(found.mean), f"{100 * found.largest.mean:.1f} % at {found.largest.point}"


def baseline_table(results: SuiteResults, sweep: Sweep) -> Table:
    """One row per other planner: the reduction of ours against it over a sweep."""
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


def latency_table(results: SuiteResults, sweep: Sweep, world: str) -> Table:
    """One row per planner: mean latency at every point."""
    rows = [
        (planner, *map(milliseconds, results.means(sweep, world, planner)))
        for planner in results.planners(sweep, [world])
    ]
    header = (sweep.label, *(point.label for point in sweep.points))
    return Table(f"{sweep.title}, {world} world: mean latency (ms)", header, rows)


def detail_table(results: SuiteResults, sweep: Sweep, world: str) -> Table:
    """One row per planner at the middle point: mean, median, p95, planning time."""
    point, rows = sweep.middle, []
    for planner in sweep.planners:
        if (sweep.name, point, world, planner) in results.rows:
            s = results.summary(sweep, point, world, planner)
            seconds = (*s.mean, s.median, s.p95, s.planning_s)
            mean, low, high, *others = map(milliseconds, seconds)
            rows.append((planner, mean, f"{low} - {high}", *others))
    header = ("Planner", "Mean (ms)", "95 % interval", "Median", "p95", "Planning (ms)")
    return Table(f"{sweep.title}, {sweep.label} {point}, {world} world", header, rows)


def gap_table(results: SuiteResults, sweep: Sweep) -> Table:
    """One row per planner: excess over the certified lower bound, at every point."""
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
    """The tables of a sweep."""
    if sweep.kind == "optimum" and LOWER_BOUND in sweep.planners:
        return [gap_table(results, sweep)]
    if sweep.kind == "sweep":
        latencies = [latency_table(results, sweep, world) for world in sweep.worlds]
        return [baseline_table(results, sweep), *latencies]
    return [detail_table(results, sweep, world) for world in sweep.worlds]
