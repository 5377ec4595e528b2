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
    if other is None or not _ran(results, sweep, sweep.ours, suite.reference):
        return ""
    ours, theirs, alone = (
        milliseconds(float(results.column(sweep, point, OUR_WORLD, planner).mean()))
        for planner in (sweep.ours, other, suite.reference)
    )
    return (
        f"With {sweep.ours} a UE that has uploaded nothing waits {ours} ms for its result on "
        f"average ({sweep.label}: {point}). With the strongest earlier system, given parallel "
        f"uploading too, it waits {theirs} ms; without the edge, {alone} ms."
    )


def _largest(results: SuiteResults) -> str:
    """The effects that change latency most, by how much each."""
    found = [
        (sweep, effect, change)
        for sweep in results.suite.sweeps
        for effect in sweep.effects
        if (change := _change(results, sweep, effect)) is not None
    ]
    if not found:
        return ""
    found.sort(key=lambda each: -abs(np.log1p(-each[2].mean.value)))
    parts = [f"{e.what} ({_signed(change)}{_where(s)})" for s, e, change in found[:MOST]]
    return (
        "Of the changes tried, these change the latency of our plans most, with 95 % intervals: "
        f"{'; '.join(parts)}."
    )


def _where(sweep: Sweep) -> str:
    """Of which world, planner and sample an effect is, if it is not of cold starts."""
    if sweep.environment == "cold-start":
        return ""
    return f"; {sweep.environment}, {sweep.ours}, {sweep.seeds} episodes"


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
        f"With deadlines of {sweep.middle} times the all-local seconds, {sweep.ours} meets {ours} "
        f"of them, the strongest earlier system, given parallel uploading too, {theirs}, and "
        f"staying local {alone}."
    )


def _energy(results: SuiteResults, sweep: Sweep) -> str:
    """How energy and latency change if energy has the price of the point in the middle."""
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


def _signed(change: Reduction) -> str:
    """A reduction as a change, with its interval."""
    value, high, low = (-100 * part for part in change.mean)
    return f"{value:+.0f} % [{low:+.0f}, {high:+.0f}]"
