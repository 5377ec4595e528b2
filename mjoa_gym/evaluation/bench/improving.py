"""Takes over better plans from a submission: the best-known plans only ever improve."""

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
    """A better plan: of which instance, and what the best one cost before and costs now."""

    instance: str
    before: float
    now: float


def improve(result: Result, file: Path = FOLDER / BEST) -> list[Improvement]:
    """Replace best-known plans by those of a submission that cost less, and are checked.

    Args:
        result: The submission; whether its plans were late does not matter.
        file: Where the best-known plans are; it is written if anything improves.

    Raises:
        ValueError: If a plan that would be taken over does not reproduce, or beats the bound.
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
