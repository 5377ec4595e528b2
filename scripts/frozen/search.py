"""Searches for the best plans of the frozen instances: with every planner, then for longer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mjoa_gym.evaluation.bench.frozen import EQUAL, Best, cases, hashes
from mjoa_gym.evaluation.bench.instances import Plain, plain_plan, read_plan
from mjoa_gym.evaluation.journal import Journal
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model.instance import Instance, Plan, evaluate_cost
from mjoa_gym.planners import lower_bound, plan_with
from mjoa_gym.planners.anytime import ALL
from mjoa_gym.planners.bound import ask_widely, certified_dual
from mjoa_gym.planners.mjoa_mu import JointSearch
from mjoa_gym.planners.portfolio import add_all, fastest
from mjoa_gym.planners.pricing import worth_serving
from mjoa_gym.planners.registry import PLANNERS

ENTRIES, TRIED, WIDTH = 160, 96, 256
"""Entries per UE, changes tried, and nodes of PBT-DP's trees: two to four times the oracle's."""
LONGER_S = 3.0
"""Seconds after which the long search starts no further iteration."""
GLANCE_S, COARSE = 0.3, 8
"""Seconds for MJOA-MU, and cells per UE of the bound, for a quick search."""
SPREAD = 0.5
"""Spread, on a logarithmic scale, of the random factors on shares in the long search."""
LONG = "long search"


def best_plans(
    journal: Path, known: Mapping[str, Best], count: int | None = None, quick: bool = False
) -> dict[str, Best]:
    """Return the best plan of every instance and its bound; the journal keeps the results.

    Args:
        journal: The results of searches; instances in it are not searched again.
        known: What is known before; it is only improved.
        count: Search only this number of instances, those with the most layers.
        quick: Look only briefly at instances that the journal lacks, and do not add them to it, so
            that a later search covers them.
    """
    kept = Journal(journal, {"setting": hashes()["instances.json.gz"], "code": "search/1"})
    found = {entry["id"]: entry for entry in kept.entries}
    best = dict(known)
    small_first = sorted(cases().items(), key=lambda pair: len(pair[1].instance.packed.ue_s))
    for name, case in bar(small_first[-(count or len(small_first)) :], desc="searching"):
        if name not in found and quick:
            found[name] = glanced(case.instance)
        elif name not in found:
            found[name] = {"id": name, **searched(case.instance)}
            kept.append(found[name])
        best[name] = better(found[name], best.get(name))
    return best


def better(one: Plain, known: Best | None) -> Best:
    """Return the better of two plans of an instance, and the higher of their bounds."""
    found = Best(read_plan(one["plan"]), one["cost"], one["bound"], one["found_by"])
    if known is None:
        return found
    bound = max(found.bound, known.bound)
    return (known if found.cost >= known.cost * (1.0 - EQUAL) else found)._replace(bound=bound)


def searched(instance: Instance) -> Plain:
    """Return the best plan that any planner or the long search finds, and the bound."""
    plans: dict[str, Plan] = {}
    costs: dict[str, float] = {}
    for name, planner in PLANNERS.items():
        plans[name] = planner(instance)
        costs[name] = float(evaluate_cost(instance, plans[name]).sum())
    leader = min(costs, key=costs.__getitem__)
    # the first planner whose plan is equal
    leader = next(name for name in costs if costs[name] <= costs[leader] * (1.0 + EQUAL))
    plans[LONG] = longer(instance, [plans[n] for n in {leader, "mjoa-mu", "oracle"}])
    costs[LONG] = float(evaluate_cost(instance, plans[LONG]).sum())
    if costs[LONG] < costs[leader] * (1.0 - EQUAL):
        leader = LONG
    plan = without_marks(plans[leader])
    bound = min(lower_bound(instance, plan), costs[leader])
    return {
        "plan": plain_plan(plan), "cost": costs[leader], "bound": bound, "found_by": leader,
        "costs": costs,
    }  # fmt: skip


def glanced(instance: Instance) -> Plain:
    """Return MJOA-MU's plan after a short time, and the bound of UEs with all resources each."""
    plan = plan_with("mjoa-mu", instance, GLANCE_S)
    cost = float(evaluate_cost(instance, plan).sum())
    free = JointSearch(replace(instance, energy_price_s_per_j=0.0, miss_price_s=0.0))
    bound = min(cost, certified_dual(free, 0.0, 0.0, 0.0, COARSE))
    return {"plan": plain_plan(plan), "cost": cost, "bound": bound, "found_by": "mjoa-mu"}


def without_marks(plan: Plan) -> Plan:
    """Return the plan without prefetches, which only cost energy in a cold start."""
    return Plan(plan.placements, plan.bandwidth_share, plan.compute_share)


def longer(instance: Instance, plans: list[Plan]) -> Plan:
    """Return the result of MJOA-MU's search from the best known plans, with larger limits."""
    rng, start = np.random.default_rng(0), time.monotonic()
    search = JointSearch(instance, ENTRIES, TRIED)
    packed, portfolio = search.packed, search.portfolio
    for plan in plans:
        shares = np.stack([plan.bandwidth_share, plan.compute_share], axis=1)
        choice = add_all(packed, portfolio, np.concatenate(plan.placements), shares)
        search.keep(search.settled(choice, np.inf))
    for _ in search.steps():
        pass
    if instance.n_ues > 1 and max(search.prices) > 0.0:
        ask_widely(search)
        for _ in search.change():
            pass
    n, everybody = instance.n_ues, np.arange(instance.n_ues)
    choice, at = np.empty(n, np.int64), np.full((n, 2), 1e-9)
    while time.monotonic() - start < LONGER_S and search.best.choice.any():
        worth_serving(portfolio, search.best.choice, search.slack, at)
        shares = np.minimum(1.0, at * np.exp(rng.normal(0.0, SPREAD, (n, 2))))
        asked = np.flatnonzero((at > 1e-6).all(axis=1))
        fastest(packed, portfolio, shares, choice)
        for _ in search.propose(asked, shares, WIDTH, everybody, choice, ALL):
            pass
        for _ in search.change():
            pass
    if instance.miss_price_s > 0.0:
        search.make_deadlines()
    return search.plan()
