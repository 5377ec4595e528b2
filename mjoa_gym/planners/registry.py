"""Every planner by name: ours, those that are registered, and those of installed packages."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import entry_points

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.ablations import ABLATIONS
from mjoa_gym.planners.anytime import Anytime
from mjoa_gym.planners.dads import dads, dads_serial
from mjoa_gym.planners.efficiency import efficiency
from mjoa_gym.planners.far_sighted import FarSightedSearch, far_sighted
from mjoa_gym.planners.iao import iao
from mjoa_gym.planners.ionn import ionn
from mjoa_gym.planners.mjoa_mu import JointSearch, mjoa_mu
from mjoa_gym.planners.neurosurgeon import neurosurgeon
from mjoa_gym.planners.oracle import OracleSearch, oracle
from mjoa_gym.planners.prefetch import PrefetchSearch, mjoa_mu_prefetch
from mjoa_gym.planners.single_cut import single_cut
from mjoa_gym.planners.trivial import edge_only, local_only, random
from mjoa_gym.validation import choice, count, positive

Planner = Callable[[Instance], Plan]


PLANNERS: dict[str, Planner] = {
    "local-only": local_only,
    "edge-only": edge_only,
    "random": random,
    "neurosurgeon": neurosurgeon,
    "single-cut": single_cut,
    "dads": dads,
    "dads-serial": dads_serial,
    "ionn": ionn,
    "efficiency": efficiency,
    "iao": iao,
    **ABLATIONS,
    "mjoa-mu": mjoa_mu,
    "mjoa-mu-prefetch": mjoa_mu_prefetch,
    "far-sighted": far_sighted,
    "oracle": oracle,
}
"""The planners of this package."""

ANYTIME: dict[str, Callable[[Instance], Anytime]] = {
    "mjoa-mu": JointSearch,
    "mjoa-mu-prefetch": PrefetchSearch,
    "far-sighted": FarSightedSearch,
    "oracle": OracleSearch,
}
"""The planners that have a plan at any time, and better ones later."""

GROUP = "mjoa_gym.planners"
"""The group of entry points in which installed packages offer planners."""

_registered: dict[str, Planner] = {}


def register_planner(name: str, planner: Planner, replace: bool = False) -> None:
    """Register a planner under a name, in this process.

    Args:
        name: The name for `plan_with` and everything else that takes a planner's name.
        planner: A function `Instance -> Plan`.
        replace: Whether the planner may replace one that was registered under the same name.

    Raises:
        ValueError: If the name is taken or empty, or is not a text.
        TypeError: If the planner cannot be called.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name={name!r}: must be a text that is not empty")
    if not callable(planner):
        raise TypeError(f"planner={planner!r}: must be a function Instance -> Plan")
    if name in PLANNERS or (name in _registered and not replace):
        raise ValueError(f"name={name!r}: there is a planner of this name already")
    _registered[name] = planner


@cache
def installed_planners() -> dict[str, Planner]:
    """The planners that installed packages offer in the entry-point group `mjoa_gym.planners`.

    A planner is left out with a warning if it cannot be loaded or its name is taken.
    """
    found: dict[str, Planner] = {}
    for point in entry_points(group=GROUP):
        where = f"entry point {point.name!r} = {point.value!r} of {GROUP}"
        if point.name in PLANNERS or point.name in found:
            warnings.warn(f"{where} is left out: the name is taken", RuntimeWarning, stacklevel=2)
            continue
        try:
            planner = point.load()
            if not callable(planner):
                raise TypeError(f"{type(planner).__name__} cannot be called")
        except (Exception, SystemExit) as error:  # whatever is wrong with it, the others still work
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"{where} is left out: {reason}", RuntimeWarning, stacklevel=2)
        else:
            found[point.name] = planner
    return found


def planner_names() -> tuple[str, ...]:
    """The names that `plan_with` accepts: baselines first, planners of other projects last."""
    return tuple(PLANNERS | installed_planners() | _registered)


def planner_of(name: str) -> Planner:
    """The planner with a given name.

    Raises:
        ValueError: If no planner has that name. The message suggests the nearest one.
    """
    if name in PLANNERS:  # this does not load what else is installed
        return PLANNERS[name]
    if name not in _registered:
        choice("planner", name, planner_names())
    return (installed_planners() | _registered)[name]


def plan_with(name: str, instance: Instance, budget_s: float | None = None) -> Plan:
    """The plan of the named planner for an instance.

    Args:
        name: The planner's name.
        instance: The instance.
        budget_s: Seconds after which the best plan found so far is taken, for the planners of
            `ANYTIME`. At worst the plan is all-local, and with more time it is never worse. The
            search may exceed the budget by one step: mostly a call of PBT-DP, for the oracle up to
            20 calls or more. In the first call, the budget includes compiling.

    Raises:
        ValueError: If no planner has that name (the message suggests the nearest one), or if the
            planner takes no budget.
    """
    planner = planner_of(name)
    if budget_s is None:
        return planner(instance)
    end = time.perf_counter() + positive("budget_s", budget_s)
    if name not in ANYTIME:
        takers = ", ".join(ANYTIME)
        raise ValueError(f"budget_s={budget_s!r}: {name} takes no budget; these do: {takers}")
    search = ANYTIME[name](instance)
    for _ in search.steps(piece=1):
        if time.perf_counter() >= end:
            break
    return search.plan()


def plan_many(name: str, instances: Sequence[Instance], threads: int = 1) -> list[Plan]:
    """The plans of the named planner for many instances: the same plans as those of `plan_with`.

    Args:
        name: The planner's name.
        instances: The instances.
        threads: The number of threads that plan at the same time. MJOA-MU's search is compiled and
            holds the interpreter's lock for a small part of the time only. Planners in plain Python
            do not gain.

    Raises:
        ValueError: If no planner has that name (the message suggests the nearest one), or if
            `threads` is less than 1.
    """
    return each_planned(planner_of(name), instances, threads)


def each_planned(planner: Planner, instances: Sequence[Instance], threads: int) -> list[Plan]:
    """A planner's plans for many instances, with a number of threads."""
    if count("threads", threads) == 1 or len(instances) < 2:
        return [planner(instance) for instance in instances]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(planner, instances))
