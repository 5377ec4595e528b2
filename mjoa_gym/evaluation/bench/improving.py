"""Adopts better plans from a submission, so that the best-known plans only improve."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mjoa_gym.evaluation.bench.checking import static_fault
from mjoa_gym.evaluation.bench.frozen import (
    BEST,
    EQUAL,
    FOLDER,
    Best,
    best_known,
    cases,
    write_best,
)
from mjoa_gym.evaluation.bench.instances import read_plan
from mjoa_gym.evaluation.bench.playing import cost_of
from mjoa_gym.evaluation.bench.result import STATIC, Result


class Improvement(NamedTuple):
    """A better plan: its instance, and the cost of the best plan before and now."""

    instance: str
    before: float
    now: float


def improve(result: Result, file: Path = FOLDER / BEST) -> list[Improvement]:
    """Replace best-known plans by plans of a submission that cost less and pass the check.

    Args:
        result: The submission. Late plans count too.
        file: The file of the best-known plans; it is written if any plan improves.

    Raises:
        ValueError: If a better plan does not reproduce, or costs less than the bound.
    """
    known = best_known(file)
    before = dict(known)
    for answers in result.tracks[STATIC].values():
        for (name,), answer in answers.items():
            if "plan" not in answer or answer["cost"] >= known[name].cost * (1.0 - EQUAL):
                continue
            if fault := static_fault((name,), answer, known[name]):
                raise ValueError(f"{result.label}, {name}: {fault}")
            plan = read_plan(answer["plan"])
            cost = cost_of(cases()[name].instance, plan)
            known[name] = Best(plan, cost, known[name].bound, result.label)
    better = [
        Improvement(name, before[name].cost, best.cost)
        for name, best in known.items()
        if best is not before[name]
    ]
    if better:
        write_best(known, file)
    return better
