"""Every planner by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from mjoa_gym.instance import Instance, Plan

Planner = Callable[[Instance], Plan]

PLANNERS: dict[str, Planner] = {}


def planner_names() -> tuple[str, ...]:
    """The names that `plan_with` knows, baselines first."""
    return tuple(PLANNERS)


def plan_with(name: str, instance: Instance) -> Plan:
    """The plan of the named planner for an instance.

    Raises:
        ValueError: If no planner has that name (with the nearest one).
    """
    if name not in PLANNERS:
        near = difflib.get_close_matches(name, PLANNERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"planner {name!r} is unknown{hint}; allowed are {list(PLANNERS)}")
    return PLANNERS[name](instance)
