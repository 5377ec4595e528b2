"""Scores every answer of a submission again, and reports those that do not match their claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mjoa_gym.evaluation.bench.frozen import REPRODUCES, Best, best_known, cases, evenly, scenes
from mjoa_gym.evaluation.bench.instances import read_plan
from mjoa_gym.evaluation.bench.playing import cost_of, is_late, replayed
from mjoa_gym.evaluation.bench.result import STATIC, Key, Result
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model.instance import SHARE_TOLERANCE, Plan
from mjoa_gym.validation import short


def faults_of(
    result: Result, sample: int | None = None, progress: bool | None = False
) -> Iterator[str]:
    """Yield what is wrong with a submission, answer by answer; nothing if all of it reproduces.

    Args:
        result: The submission.
        sample: Number of answers of each track and budget to check; all by default.
        progress: Whether to show a progress bar; None for only if standard error is a terminal.
    """
    best = best_known()
    todo = [
        (track, budget, key)
        for track, budgets in result.tracks.items()
        for budget, answers in budgets.items()
        for key in evenly(list(answers), sample)
    ]
    for track, budget, key in bar(todo, desc="checking", leave=False, shown=progress):
        answer = result.tracks[track][budget][key]
        fault = (
            static_fault(key, answer, best[key[0]])
            if track == STATIC
            else dynamic_fault(key, answer, budget)
        )
        if fault:
            yield f"{track}, budget {budget}, {' '.join(key)}: {fault}"


def static_fault(key: Key, answer: Row, best: Best) -> str:
    """Return what is wrong with an answer to an instance; "" if it reproduces."""
    if "invalid" in answer:
        return ""
    instance = cases()[key[0]].instance
    try:
        cost = cost_of(instance, read_plan(answer["plan"]))
    except ValueError as error:
        return f"the plan is not an answer: {error}"
    if fault := difference("the plan costs", cost, answer["cost"]):
        return fault
    # shares may exceed 1 a little, and times are at most so much shorter then
    if cost * (1.0 + SHARE_TOLERANCE) < best.bound * (1.0 - REPRODUCES):
        return f"the plan costs {cost!r}, less than the certified bound {best.bound!r}"
    return ""


def dynamic_fault(key: Key, rows: list[Row], budget: str) -> str:
    """Return what is wrong with an episode; "" if it reproduces."""
    scene, seed = scenes()[key[0]], int(key[1])
    try:
        plans = [read_plan(row["plan"]) for row in rows]
        again = replayed(scene.setting, seed, plans)
    except ValueError as error:
        return f"cannot be played again: {error}"
    for k, (row, plan, new) in enumerate(zip(rows, plans, again, strict=True)):
        stayed = "invalid" in row or is_late(row["seconds"], row["reference_s"], budget)
        if stayed and not is_local(plan):
            return f"round {k}: the answer is late or invalid, but its plan is not all-local"
        for name, what in (("cost", "the plan costs"), ("local", "all-local costs")):
            if fault := difference(what, new[name], row[name]):
                return f"round {k}: {fault}"
    return ""


def is_local(plan: Plan) -> bool:
    """Return whether a plan leaves all layers on the UEs, and uploads and retains nothing."""
    rows = (*plan.placements, *(plan.prefetch or ()), *(plan.retain or ()))
    return not any(row.any() for row in rows)


def difference(what: str, now: float, claimed: Any) -> str:
    """Return a message about a number that differs from its claim; "" if it does not."""
    if abs(now - claimed) <= REPRODUCES * abs(now):
        return ""
    return f"{what} {now!r}, not {short(claimed)}"
