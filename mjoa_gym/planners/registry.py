"""Every planner by name."""

from __future__ import annotations

from collections.abc import Callable

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


def planner_names() -> tuple[str, ...]:
    """The names that `plan_with` knows, baselines first."""
    return tuple(PLANNERS)


def plan_with(name: str, instance: Instance) -> Plan:
    """The plan of the named planner for an instance.

    Raises:
        ValueError: If no planner has that name (with the nearest one).
    """
    return PLANNERS[choice("planner", name, PLANNERS)](instance)
