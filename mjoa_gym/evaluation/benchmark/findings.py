"""The findings of a run in sentences: a summary of three, and the rest."""

from __future__ import annotations

import numpy as np

from mjoa_gym.evaluation.benchmark.results import (
    CLAIM,
    ONE_CUT,
    OUR_WORLD,
    THEIR_WORLD,
    Overview,
    SuiteResults,
    Versus,
    against,
)
from mjoa_gym.evaluation.benchmark.suite import Effect, Sweep
from mjoa_gym.evaluation.statistics import Reduction
from mjoa_gym.evaluation.table import Table, milliseconds, percent

NEAREST = 3
"""Number of settings that are named as the nearest to the paper's figure."""


def summary(results: SuiteResults) -> list[str]:
    """Return the UEs' waiting time, our reduction against earlier systems, and the paper's."""
    found = [_waiting(results), _reductions(results), _claim(results)]
    shown = [sentence for sentence in found if sentence]
    return shown or [f"{results.suite.ours} or the earlier systems did not run."]


def findings(results: SuiteResults) -> list[str]:
    """Return the other findings of the run; nothing where a planner did not run."""
    by_kind = {"deadlines": _deadlines, "energy": _energy}
    found = [_same_uploading(results), _one_cut(results), _nearest(results)]
    found += [by_kind[s.kind](results, s) for s in results.suite.sweeps if s.kind in by_kind]
    return [sentence for sentence in found if sentence]


def changes(results: SuiteResults) -> list[tuple[Sweep, Effect, Reduction]]:
    """Return the suite's effects on the latency of our plans, the largest first."""
    found = [
        (sweep, effect, _change(results, sweep, effect))
        for sweep in results.suite.sweeps
        if _ran(results, sweep, sweep.ours)
        for effect in sweep.effects
    ]
    return sorted(found, key=lambda each: -abs(np.log1p(-each[2].mean.value)))


def effect_table(results: SuiteResults) -> Table:
    """Return one row per effect: the change of our plans' latency, and its cause."""
    rows = [
        (effect.what, percent(change.mean.negated, "+"), sweep.ours, f"{sweep.environment}")
        for sweep, effect, change in changes(results)
    ]
    header = ("Change", "Mean latency", "Planner", "Environment")
    return Table("What changes the latency of our plans, the largest effect first", header, rows)


def _waiting(results: SuiteResults) -> str:
    """Return how long a UE waits with ours, with the strongest earlier system, and alone."""
    suite = results.suite
    if not suite.compared:
        return ""
    sweep = suite.compared[0]
    point, other = sweep.middle, results.strongest(sweep, sweep.middle, OUR_WORLD)
    if other is None or not _ran(results, sweep, sweep.ours, suite.reference):
        return ""
    ours, theirs, alone = (
        milliseconds(float(results.column(sweep, point, OUR_WORLD, planner).mean()))
        for planner in (sweep.ours, other, suite.reference)
    )
    return (
        f"A UE that has uploaded nothing waits {ours} ms on average for its result with "
        f"{sweep.ours}, {theirs} ms with the strongest earlier system, and {alone} ms without the "
        f"edge ({sweep.at(point)}; all upload while layers execute)."
    )


def _reductions(results: SuiteResults) -> str:
    """Return our reduction against the earlier systems over all settings, in either world."""
    typical = [s for s in results.suite.compared if s.typical]
    serial, same = (against(results, typical, world) for world in (THEIR_WORLD, OUR_WORLD))
    if serial is None or same is None:
        return ""
    return (
        f"Over the {len(serial.comparisons)} points of the cold-start sweeps, {results.suite.ours} "
        f"lowers the mean latency by {percent(serial.mean)} against the strongest earlier system "
        f"of each point, which uploads serially, and by {percent(same.mean)} if that system also "
        "uploads while layers execute."
    )


def _claim(results: SuiteResults) -> str:
    """Return the largest reductions, compared with the paper's figure."""
    found = against(results, [s for s in results.suite.compared if s.typical], THEIR_WORLD)
    if found is None:
        return ""
    return (
        f"The paper reports up to {100 * CLAIM:.1f} %, in settings that are not public; here "
        f"{_largest(found)}."
    )


def _largest(found: Overview) -> str:
    """Return the largest reductions of a setting and of an instance, in words."""

    def where(versus: Versus) -> str:
        return f"{versus.sweep.at(versus.point)}; against {versus.other}"

    largest, best = found.largest, found.best
    return (
        f"the largest reduction of a setting is {percent(largest.reduction.mean)} "
        f"({where(largest)}), and that of a single instance {100 * best.reduction.best:.1f} % "
        f"({where(best)})"
    )


def _same_uploading(results: SuiteResults) -> str:
    """Return the largest reductions if the earlier systems upload as ours does."""
    found = against(results, [s for s in results.suite.compared if s.typical], OUR_WORLD)
    if found is None:
        return ""
    return f"Against earlier systems that upload while layers execute, {_largest(found)}."


def _one_cut(results: SuiteResults) -> str:
    """Return the reductions against the best single cut that takes uploading into account."""
    found = against(results, results.suite.compared, THEIR_WORLD, ONE_CUT)
    if found is None:
        return ""
    above, largest = sum(c.mean >= CLAIM for c in found.comparisons), found.largest.reduction.mean
    near = largest.value < CLAIM <= largest.high
    but = ", though the interval of the largest includes it" if near else ""
    return (
        "Against a system that is restricted to the best single cut, and knows that it has to "
        "upload, the largest reduction of a setting is "
        f"{percent(largest)} ({found.largest.sweep.at(found.largest.point)}); "
        f"{above} of {len(found.comparisons)} settings reach the paper's figure{but}."
    )


def _nearest(results: SuiteResults) -> str:
    """Return the settings that come nearest to the paper's figure, including favourable ones."""
    found = against(results, results.suite.compared, THEIR_WORLD)
    if found is None:
        return ""
    ranked = sorted(found.comparisons, key=lambda c: -c.mean)[:NEAREST]
    named = "; ".join(f"{100 * c.mean:.1f} % with {c.sweep.at(c.point)}" for c in ranked)
    return (
        f"The settings that come nearest to the paper's figure, favourable ones included: {named}. "
        "Being the largest of many, they are somewhat above what other seeds would give."
    )


def _change(results: SuiteResults, sweep: Sweep, effect: Effect) -> Reduction:
    ours = OUR_WORLD, sweep.ours
    return results.between(sweep, (effect.point, *ours), (effect.base, *ours))


def _deadlines(results: SuiteResults, sweep: Sweep) -> str:
    """Return the fraction of deadlines that are met at the middle point."""
    other = results.strongest(sweep, sweep.middle, OUR_WORLD)
    who = (sweep.ours, other or "", results.suite.reference)
    if not _ran(results, sweep, *who):
        return ""
    ours, theirs, alone = (
        f"{100 - 100 * results.column(sweep, sweep.middle, OUR_WORLD, p, 'missed').mean():.0f} %"
        for p in who
    )
    return (
        f"With deadlines of {sweep.middle} times the all-local seconds, {sweep.ours} meets {ours} "
        f"of them, the strongest earlier system {theirs}, and staying local {alone}."
    )


def _energy(results: SuiteResults, sweep: Sweep) -> str:
    """Return how energy and latency change if energy has the price of the middle point."""
    if not _ran(results, sweep, sweep.ours, results.suite.reference):
        return ""

    def mean(point: str, planner: str, name: str) -> float:
        return float(results.column(sweep, point, OUR_WORLD, planner, name).mean())

    least, price = sweep.points[0].label, sweep.middle
    joules, alone_j, slower = (
        mean(price, sweep.ours, "energy_j") / mean(least, sweep.ours, "energy_j"),
        mean(least, sweep.ours, "energy_j") / mean(least, results.suite.reference, "energy_j"),
        mean(price, sweep.ours, "latency_s") / mean(least, sweep.ours, "latency_s"),
    )
    return (
        f"With {sweep.ours} UEs need {100 * alone_j:.0f} % of the energy that they need without "
        f"the edge. At a price of {price} s/J instead of {least} their energy changes by "
        f"{100 * joules - 100:+.0f} %, and their latency by {100 * slower - 100:+.0f} %."
    )


def _ran(results: SuiteResults, sweep: Sweep, *planners: str) -> bool:
    return OUR_WORLD in sweep.worlds and set(planners) <= set(results.planners(sweep, [OUR_WORLD]))
