"""Plan quality against planning time, for planners that can stop at any time with a plan."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from statistics import mean, median
from typing import NamedTuple

import numpy as np

from mjoa_gym.evaluation.benchmark.results import OUR_WORLD, SuiteResults
from mjoa_gym.evaluation.benchmark.suite import Sweep
from mjoa_gym.evaluation.decision_time import first_instance
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.table import Table, milliseconds
from mjoa_gym.model.instance import Instance, evaluate
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.registry import ANYTIME

NO_LIMIT = math.inf
"""The budget of a planner without a time limit."""


class Budgeted(NamedTuple):
    """A planner's plan for one instance with a budget."""

    planner: str
    point: str
    seed: int
    budget_ms: float
    seconds: float  # planning time
    latency_s: float  # weighted mean over the UEs


class Reached(NamedTuple):
    """Quality of a planner's plans with a budget, at one point of the sweep."""

    gap: float  # mean excess over the best known latency, as a fraction of it
    seconds: float  # median planning time


Gaps = dict[tuple[str, str, float], Reached]
"""By planner, point and budget."""


def plans_on_budgets(results: SuiteResults, sweep: Sweep) -> list[Budgeted]:
    """Return the plans of a sweep's planners: without a limit as played, on budgets as measured.

    The searches run one after the other, on one thread. Everything is compiled before, and every
    search starts with an instance that has not been planned for.
    """
    plans = list(_played(results, sweep))
    planners = [p for p in results.planners(sweep, [OUR_WORLD]) if p in ANYTIME]
    scenarios = {p.label: sweep.setting_at(p.label, OUR_WORLD).scenario for p in sweep.points}
    first_seed = results.suite.first_seed
    for planner in planners:
        plan_with(planner, first_instance(scenarios[sweep.middle].with_changes(n_ues=2)))
    where = list(product(scenarios, range(first_seed, first_seed + sweep.seeds)))
    for point, seed in bar(where, desc="planning on budgets", leave=False):
        instance = first_instance(scenarios[point], seed)
        for planner, budget_ms in product(planners, sweep.budgets_ms):
            taken = _measured(planner, replace(instance), budget_ms / 1e3)
            plans.append(Budgeted(planner, point, seed, budget_ms, *taken))
    return plans


def _played(results: SuiteResults, sweep: Sweep) -> Iterator[Budgeted]:
    for planner, point in product(results.planners(sweep, [OUR_WORLD]), sweep.points):
        where = sweep, point.label, OUR_WORLD, planner
        columns = (results.column(*where, name)[:, 0] for name in ("planning_s", "latency_s"))
        for k, (seconds, latency_s) in enumerate(zip(*columns, strict=True)):
            seed = results.suite.first_seed + k
            yield Budgeted(planner, point.label, seed, NO_LIMIT, float(seconds), float(latency_s))


def _measured(planner: str, instance: Instance, budget_s: float) -> tuple[float, float]:
    """Return the planning time in seconds, and the weighted mean latency of the plan."""
    start = time.perf_counter()
    plan = plan_with(planner, instance, budget_s)
    seconds = time.perf_counter() - start
    latency_s = np.average(evaluate(instance, plan), weights=instance.weights)
    return seconds, float(latency_s)


def gaps_of(plans: Sequence[Budgeted]) -> Gaps:
    """Return the quality reached; an instance's best known latency is that of its best plan."""
    best: dict[tuple[str, int], float] = {}
    groups: dict[tuple[str, str, float], list[Budgeted]] = {}
    for plan in plans:
        where = plan.point, plan.seed
        best[where] = min(plan.latency_s, best.get(where, math.inf))
        groups.setdefault((plan.planner, plan.point, plan.budget_ms), []).append(plan)
    return {
        who: Reached(
            mean(p.latency_s / best[p.point, p.seed] - 1.0 for p in some),
            median(p.seconds for p in some),
        )
        for who, some in groups.items()
    }


def budget_table(sweep: Sweep, gaps: Gaps) -> Table:
    """Return one row per planner and point: the gap with every budget, and the planning time."""
    budgets = [*sweep.budgets_ms, NO_LIMIT]
    rows = [
        (planner, p.label, *(_shown(gaps.get((planner, p.label, budget))) for budget in budgets))
        for planner, p in product(sweep.planners, sweep.points)
    ]
    header = ("Planner", sweep.label, *map(_milliseconds, sweep.budgets_ms), "no limit")
    caption = (
        "Mean excess over the best known plan, by planning time allowed; in brackets the median "
        "time taken"
    )
    return Table(caption, header, rows)


def _shown(what: Reached | None) -> str:
    if what is None:
        return "-"
    gap = 100 * what.gap
    digits = 2 if gap < 10 else 1 if gap < 100 else 0
    return f"{gap:.{digits}f} % ({milliseconds(what.seconds)} ms)"


def _milliseconds(budget_ms: float) -> str:
    return f"{budget_ms:,g} ms"


def budget_caption(sweep: Sweep, reference: str) -> str:
    """Return the caption of the figure."""
    return (
        "How far a plan is from the best known one when planning is stopped after the time on the "
        f"axis: the mean excess of the latency over {sweep.seeds} instances for each line. The "
        "best known plan is the best that any planner of the table found, with any budget or "
        "without a limit; it need not be optimal. Every point is a search of its own, on one "
        "thread, everything compiled; it may end earlier, when nothing better is found, or later, "
        f"by the step that it is in: the table has the times taken. Dotted: {reference}. The "
        "command at the end of this page measures it again."
    )
