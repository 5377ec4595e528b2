"""Every planner by name: ours, those that are registered, and those of installed packages."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.ablations import ABLATIONS
from mjoa_gym.planners.dads import dads, dads_serial
from mjoa_gym.planners.efficiency import efficiency
from mjoa_gym.planners.far_sighted import far_sighted
from mjoa_gym.planners.iao import iao
from mjoa_gym.planners.ionn import ionn
from mjoa_gym.planners.mjoa_mu import mjoa_mu
from mjoa_gym.planners.neurosurgeon import neurosurgeon
from mjoa_gym.planners.oracle import oracle
from mjoa_gym.planners.prefetch import mjoa_mu_prefetch
from mjoa_gym.planners.single_cut import single_cut
from mjoa_gym.planners.trivial import edge_only, local_only, random
from mjoa_gym.validation import choice

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

GROUP = "mjoa_gym.planners"
"""The entry points under which installed packages offer planners."""

_registered: dict[str, Planner] = {}


def register_planner(name: str, planner: Planner, replace: bool = False) -> None:
    """Make a planner known by a name, in this process.

    Args:
        name: For `plan_with` and everything that takes a planner's name.
        planner: A function `Instance -> Plan`.
        replace: Whether a planner that was registered under the name before may be replaced.

    Raises:
        ValueError: If the name is taken, or no name.
        TypeError: If the planner cannot be called.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name={name!r}: must be a text")
    if not callable(planner):
        raise TypeError(f"planner={planner!r}: must be a function Instance -> Plan")
    if name in PLANNERS or (name in _registered and not replace):
        raise ValueError(f"name={name!r}: there is a planner of this name already")
    _registered[name] = planner


@cache
def installed_planners() -> dict[str, Planner]:
    """The planners that installed packages offer in the entry-point group `mjoa_gym.planners`.

    One that cannot be loaded, or has a name that is taken, is left out with a warning.
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
    """The names that `plan_with` knows: baselines first, those that others brought last."""
    return tuple(PLANNERS | installed_planners() | _registered)


def planner_of(name: str) -> Planner:
    """The planner of a name.

    Raises:
        ValueError: If no planner has that name (with the nearest one).
    """
    if name in PLANNERS:  # without a look at what else is installed
        return PLANNERS[name]
    if name not in _registered:
        choice("planner", name, planner_names())
    return (installed_planners() | _registered)[name]


def plan_with(name: str, instance: Instance) -> Plan:
    """The plan of the named planner for an instance.

    Raises:
        ValueError: If no planner has that name (with the nearest one).
    """
    return planner_of(name)(instance)
