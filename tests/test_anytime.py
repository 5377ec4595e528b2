"""Planners that have a plan at any time, and many plans at once."""

from __future__ import annotations

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import Instance, Plan, decode_observation
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.planners import plan_many, plan_with
from mjoa_gym.planners.far_sighted import prospect_of
from mjoa_gym.planners.mjoa_mu import GAIN, JointSearch
from mjoa_gym.planners.prospect import search
from mjoa_gym.planners.registry import ANYTIME
from tests.random_instances import random_instance
from tests.reference_allocation import objective
from tests.test_mjoa_mu import catalogue_instance


def assert_same(one: Plan, other: Plan) -> None:
    for a, b in zip(one.placements, other.placements, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.bandwidth_share, other.bandwidth_share)
    np.testing.assert_array_equal(one.compute_share, other.compute_share)


@pytest.mark.parametrize("name", ANYTIME)
@pytest.mark.parametrize("piece", [1, 3])
def test_plans_get_better_until_they_are_those_without_a_budget(name, piece):
    for seed in range(6):
        instance = random_instance(seed, 2 + seed, 8)
        search = ANYTIME[name](instance)
        costs = [objective(instance, search.plan())]
        costs += [objective(instance, search.plan()) for _ in search.steps(piece)]
        assert costs[0] == pytest.approx(np.dot(instance.weights, instance.local_s), rel=1e-12)
        assert all(after <= before * (1 + GAIN) for before, after in pairwise(costs))
        assert_same(search.plan(), plan_with(name, instance))


@pytest.mark.parametrize("name", ["mjoa-mu-prefetch", "far-sighted"])
def test_where_parameters_stay_every_plan_fits_and_the_last_is_that_without_a_budget(name):
    env = gym.make("MJOA/Streaming-v1", action="plan", n_ues=3)
    observation, _ = env.reset(seed=5)
    for _ in range(3):
        instance = decode_observation(observation, env.unwrapped.scenario)
        search = ANYTIME[name](instance)
        plans = [search.plan(), *(search.plan() for _ in search.steps(piece=1)), search.plan()]
        costs = [objective(instance, plan) for plan in plans if plan.check_fits(instance) is None]
        assert len(costs) == len(plans)
        assert costs[0] == pytest.approx(np.dot(instance.weights, instance.local_s), rel=1e-12)
        prefetched = [plan for plan in plans if plan.prefetch is not None]
        assert 1 < len(prefetched) < len(plans)
        unbudgeted = plan_with(name, instance)
        assert_same(plans[-1], unbudgeted)
        for key in ("prefetch", "retain"):
            for one, other in zip(getattr(plans[-1], key), getattr(unbudgeted, key), strict=True):
                np.testing.assert_array_equal(one, other)
        observation, *_ = env.step(env.unwrapped.view.encode(plans[-1]))


def test_the_search_for_later_rounds_only_gets_better():
    env = gym.make("MJOA/Streaming-v1", action="plan", n_ues=3)
    observation, _ = env.reset(seed=6)
    instance = decode_observation(observation, env.unwrapped.scenario)
    prospect = prospect_of(instance, plan_with("mjoa-mu-prefetch", instance), 3.0, 1.0)
    objectives, over = [], False
    while not over:
        first, now, over = search(prospect, 1)
        objectives += [first, now] if not objectives else [now]
    assert all(after <= before for before, after in pairwise(objectives))
    assert objectives[-1] < objectives[0]


@pytest.mark.parametrize("name", ANYTIME)
def test_a_budget_gives_a_plan_between_all_local_and_the_best(name):
    for seed in range(4):
        instance = random_instance(seed, 5, 8)
        local, best = (objective(instance, plan_with(n, instance)) for n in ("local-only", name))
        assert objective(instance, plan_with(name, instance, budget_s=1e-9)) <= local
        assert objective(instance, plan_with(name, instance, budget_s=600.0)) == best


@pytest.mark.parametrize("n_ues", [2, 5, 12])
def test_who_cannot_wait_gets_a_good_plan_before_the_first_trees(n_ues):
    """The sketch: all UEs but few shares, without trees."""
    first, best, local = [], [], []
    for seed in range(8):
        instance = catalogue_instance(seed, "default", n_ues)
        search = JointSearch(instance)
        costs = []
        for _ in search.steps(piece=1):
            if search.best.choice.any():  # PBT-DP's trees have answered
                break
            costs.append(objective(instance, search.plan()))
        first.append(costs[-1])
        best.append(objective(instance, plan_with("mjoa-mu", instance)))
        local.append(objective(instance, plan_with("local-only", instance)))
        assert min(costs) >= best[-1] * (1 - GAIN)
    saved = np.subtract(local, first).sum() / np.subtract(local, best).sum()
    assert saved >= 0.9


@pytest.mark.parametrize("budget_s", [0, -1.0, float("nan"), "soon"])
def test_what_is_no_budget_is_refused(budget_s):
    with pytest.raises((ValueError, TypeError), match="budget_s"):
        plan_with("mjoa-mu", random_instance(0), budget_s=budget_s)


def test_planners_without_one_refuse_a_budget():
    with pytest.raises(
        ValueError, match=r"budget_s=1.0: dads takes no budget; .* mjoa-mu, .* oracle"
    ):
        plan_with("dads", random_instance(0), budget_s=1.0)
    with pytest.raises(ValueError, match="mjoa-mu"):
        plan_with("mjoa-m", random_instance(0), budget_s=1.0)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", ["mjoa-mu", "dads-serial"])
def test_many_plans_are_those_one_by_one(name, threads):
    instances = [random_instance(seed, 1 + seed % 6, 8) for seed in range(12)]
    plans = plan_many(name, instances, threads=threads)
    assert len(plans) == len(instances)
    for plan, instance in zip(plans, instances, strict=True):
        assert_same(plan, plan_with(name, instance))
    assert plan_many(name, []) == []


def test_what_cannot_plan_many_is_refused():
    with pytest.raises(ValueError, match="threads"):
        plan_many("mjoa-mu", [random_instance(0)], threads=0)
    with pytest.raises(ValueError, match="mjoa-mu"):
        plan_many("mjoa-m", [random_instance(0)])


def test_an_error_of_one_of_many_is_the_planners_own():
    def fails(instance: Instance) -> Plan:
        raise RuntimeError("not this one")

    import mjoa_gym.planners.registry as registry

    with pytest.raises(RuntimeError, match="not this one"):
        registry.each_planned(fails, [random_instance(0)] * 3, 2)


def test_an_agent_plans_a_batch_on_several_threads():
    envs = gym.make_vec(
        "MJOA/Streaming-v1", 4, vectorization_mode="vector_entry_point", action="plan", n_ues=2
    )
    observation, _ = envs.reset(seed=3)
    one, two = (
        PlannerAgent("mjoa-mu", envs.unwrapped.core.scenario, threads).predict(observation)[0]
        for threads in (1, 2)
    )
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])
