"""What matters most, in sentences for people who want to know what to build."""

from __future__ import annotations

import numpy as np

from mjoa_gym.evaluation.benchmark.results import OUR_WORLD, SuiteResults
from mjoa_gym.evaluation.benchmark.suite import Effect, Sweep
from mjoa_gym.evaluation.statistics import Reduction
from mjoa_gym.evaluation.table import milliseconds

MOST = 6
"""Effects that the sentences name."""


def what_matters(results: SuiteResults) -> list[str]:
    """The suite's effects, energy and deadlines in sentences; none where a planner did not run."""
    found = [_waiting(results), _largest(results)]
    by_kind = {"deadlines": _deadlines, "energy": _energy}
    found += [by_kind[s.kind](results, s) for s in results.suite.sweeps if s.kind in by_kind]
    return [sentence for sentence in found if sentence]


def _waiting(results: SuiteResults) -> str:
    """How long a UE waits with ours, the strongest earlier system, and alone."""
    suite = results.suite
    if not suite.compared:
        return ""
    sweep = suite.compared[0]
    point, other = sweep.middle, results.strongest(sweep, sweep.middle, OUR_WORLD)
    if other is None or not _ran(results, sweep, suite.ours, suite.reference):
        return ""
    ours, theirs, alone = (
        milliseconds(float(results.column(sweep, point, OUR_WORLD, planner).mean()))
        for planner in (sweep.ours, other, suite.reference)
    )
    return (
        f"With {sweep.ours} a UE that has uploaded nothing waits {ours} ms for its result on "
        f"average ({sweep.label}: {point}). With the strongest earlier system it waits {theirs} "
        f"ms, and {alone} ms without the edge."
    )


def _largest(results: SuiteResults) -> str:
    """The effects that change latency most, by how much each."""
    found = [
        (effect, change)
        for sweep in results.suite.sweeps
        for effect in sweep.effects
        if (change := _change(results, sweep, effect)) is not None
    ]
    if not found:
        return ""
    found.sort(key=lambda each: -abs(np.log1p(-each[1].mean.value)))
    parts = [f"{effect.what} ({_signed(change)})" for effect, change in found[:MOST]]
    return f"What changes the latency most, with 95 % intervals: {'; '.join(parts)}."


def _change(results: SuiteResults, sweep: Sweep, effect: Effect) -> Reduction | None:
    if not _ran(results, sweep, sweep.ours):
        return None
    ours = OUR_WORLD, sweep.ours
    return results.between(sweep, (effect.point, *ours), (effect.base, *ours))


def _deadlines(results: SuiteResults, sweep: Sweep) -> str:
    """Which part of the deadlines are met at the point in the middle."""
    other = results.strongest(sweep, sweep.middle, OUR_WORLD)
    who = (sweep.ours, other or "", results.suite.reference)
    if not _ran(results, sweep, *who):
        return ""
    ours, theirs, alone = (
        f"{100 - 100 * results.column(sweep, sweep.middle, OUR_WORLD, p, 'missed').mean():.0f} %"
        for p in who
    )
    return (
        f"Of deadlines of {sweep.middle} times a UE's own seconds, {sweep.ours} meets {ours}, the "
        f"strongest earlier system {theirs}, and a UE without the edge {alone}."
    )


def _energy(results: SuiteResults, sweep: Sweep) -> str:
    """What minding the battery at the price in the middle saves, and how much it slows down."""
    if not _ran(results, sweep, sweep.ours, results.suite.reference):
        return ""

    def mean(point: str, planner: str, name: str) -> float:
        return float(results.column(sweep, point, OUR_WORLD, planner, name).mean())

    free, price = sweep.points[0].label, sweep.middle
    joules, alone_j, slower = (
        mean(price, sweep.ours, "energy_j") / mean(free, sweep.ours, "energy_j"),
        mean(free, sweep.ours, "energy_j") / mean(free, results.suite.reference, "energy_j"),
        mean(price, sweep.ours, "latency_s") / mean(free, sweep.ours, "latency_s"),
    )
    return (
        f"{sweep.ours} takes {100 * alone_j:.0f} % of the energy that UEs need without the edge. "
        f"At a price of {price} seconds per joule it takes {100 - 100 * joules:.0f} % less than at "
        f"none, and {100 * slower - 100:.0f} % more time."
    )


def _ran(results: SuiteResults, sweep: Sweep, *planners: str) -> bool:
    return OUR_WORLD in sweep.worlds and set(planners) <= set(results.planners(sweep, [OUR_WORLD]))


def _signed(change: Reduction) -> str:
    """A reduction as a change, with its interval."""
    value, high, low = (-100 * part for part in change.mean)
    return f"{value:+.0f} % [{low:+.0f}, {high:+.0f}]"
