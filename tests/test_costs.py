"""Planners minimise what an instance's inferences cost: energy and deadlines at their prices."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import DNN, UE, Horizon, Instance, Plan, Scenario, decode_observation, evaluate_cost
from mjoa_gym.devices import Power
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.planners import ara, lower_bound, plan_with
from mjoa_gym.planners.mjoa_mu import JointSearch
from tests.random_dags import STYLES, predecessors_in_style

LEVELS = 8
"""Of the brute force's shares."""
KINDS = {"energy": (0.5, 0.0), "deadlines": (0.0, 1.0), "both": (0.5, 1.0)}
"""Greatest prices of energy and of missed deadlines."""


def random_priced(seed: int, kind: str) -> Instance:
    """One to three UEs with up to six layers, and prices."""
    rng = np.random.default_rng(seed)
    ues = []
    for _ in range(int(rng.integers(1, 4))):
        n = int(rng.integers(3, 7))
        predecessors = predecessors_in_style(STYLES[seed % len(STYLES)], rng, n)
        bytes_of_parameters = rng.choice([0, 1], n) * rng.uniform(1e5, 2e7, n)
        dnn = DNN(
            "random", rng.uniform(1e8, 2e9, n), bytes_of_parameters, rng.uniform(1e4, 1e6, n),
            predecessors, rng.uniform(1e5, 1e6),
        )  # fmt: skip
        seconds = rng.uniform(0.01, 0.3, n)
        watts = rng.uniform(2, 12), rng.uniform(0.3, 4), rng.uniform(1, 5), rng.uniform(0.5, 3)
        ues.append(
            UE(
                dnn, seconds, seconds * rng.uniform(0.01, 0.2), weight=rng.uniform(0.5, 2),
                uplink_bps=rng.uniform(2e7, 4e8), downlink_bps=rng.uniform(5e7, 5e8),
                power=Power(*watts), deadline_s=seconds.sum() * rng.uniform(0.2, 1.2),
            )
        )  # fmt: skip
    prices = rng.uniform(0.1, 1.0, 2) * KINDS[kind]
    return Instance(
        ues, None, "parallel", 2e-3 * (seed % 2), None, float(prices[0]), float(prices[1])
    )


def optimum_on_a_grid(instance: Instance) -> float:
    """The least cost of all placements, with shares in eighths: a dynamic programme."""
    best = np.zeros((LEVELS + 1, LEVELS + 1))
    for i, ue in enumerate(instance.ues):
        alone = replace(instance, ues=(ue,))
        costs = np.full((LEVELS + 1, LEVELS + 1), instance.local_cost[i])
        for sides in product((0, 1), repeat=ue.dnn.n_layers):
            if any(sides):
                for b, c in product(range(1, LEVELS + 1), repeat=2):
                    plan = Plan([sides], [b / LEVELS], [c / LEVELS])
                    costs[b, c] = min(costs[b, c], evaluate_cost(alone, plan)[0])
        following = np.empty_like(best)
        for b, c in product(range(LEVELS + 1), repeat=2):
            following[b, c] = (best[b::-1, c::-1] + costs[: b + 1, : c + 1]).min()
        best = following
    return float(best[-1, -1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mjoa_mu_is_near_the_least_cost(kind):
    """Mean 1 %, worst 5 % above a grid's optimum; finer shares may be better."""
    gaps = []
    for seed in range(15):
        instance = random_priced(seed, kind)
        found = evaluate_cost(instance, plan_with("mjoa-mu", instance)).sum()
        gaps.append(found / optimum_on_a_grid(instance) - 1.0)
    assert np.mean(gaps) <= 0.01
    assert np.max(gaps) <= 0.05


def dear_misses(seed: int) -> Instance:
    """A random instance in any mode of uploading in which a missed deadline costs ten seconds."""
    instance = random_priced(seed, "deadlines")
    return replace(instance, miss_price_s=10.0, upload=UPLOAD_MODES[seed % 4])


def test_deadlines_are_met_with_more_of_either_resource():
    """No UE could meet another deadline with other shares, in sixteenths of what two UEs have."""
    for seed in range(60):
        instance = dear_misses(seed)
        if instance.n_ues != 2:
            continue
        plan = plan_with("mjoa-mu", instance)
        found = evaluate_cost(instance, plan).sum()
        for b, c in product(range(1, 16), repeat=2):
            shares = [b / 16, 1 - b / 16], [c / 16, 1 - c / 16]
            assert found <= evaluate_cost(instance, Plan(plan.placements, *shares)).sum() + 5.0


def test_the_dual_is_a_bound_with_deadlines():
    for seed in range(80):
        search = JointSearch(chain_of(dear_misses(seed)))
        for _ in search.steps():
            pass
        assert search.dual <= search.best.objective * (1.0 + 1e-9)


def chain_of(instance: Instance) -> Instance:
    """The same instance with the layers of each network in a chain."""
    ues = []
    for ue in instance.ues:
        dnn = ue.dnn
        chain = [[layer - 1] for layer in range(dnn.n_layers)]
        given = dnn.flops, dnn.parameter_bytes, dnn.output_bytes, chain, dnn.input_bytes
        ues.append(replace(ue, dnn=DNN("chain", *given)))
    return replace(instance, ues=tuple(ues))


def test_allocation_is_never_worse_than_equal_shares_with_deadlines():
    for seed in range(120):
        instance = dear_misses(seed)
        rng = np.random.default_rng(seed)
        placements = [rng.integers(0, 2, ue.dnn.n_layers) for ue in instance.ues]
        uses = np.array([placement.any() for placement in placements])
        equal = uses / max(1, uses.sum())
        costs = [
            evaluate_cost(instance, Plan(placements, *shares)).sum()
            for shares in (ara(instance, placements), (equal, equal))
        ]
        assert costs[0] <= costs[1] * (1 + 1e-9)


@pytest.mark.parametrize("name", ["mjoa-mu-prefetch", "far-sighted"])
def test_nothing_is_sent_for_later_in_the_last_round(name):
    """It would cost energy, and nobody would use it."""
    for rounds_left, expected in ((0, False), (5, True)):
        horizon = Horizon(rounds_left=rounds_left, period_s=30.0, server_memory_bytes=1e9)
        plans = [
            plan_with(name, replace(random_priced(seed, "energy"), horizon=horizon))
            for seed in range(10)
        ]
        marks = [own.any() for plan in plans if plan.prefetch is not None for own in plan.prefetch]
        assert any(marks) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_prices_are_looked_at(kind):
    """A plan made for the prices costs less than one that is made for latencies only."""
    totals = np.zeros(3)
    for seed in range(40):
        instance = random_priced(seed, kind)
        blind = replace(instance, energy_price_s_per_j=0.0, miss_price_s=0.0)
        plans = (plan_with("mjoa-mu", given) for given in (instance, blind))
        costs = [evaluate_cost(instance, plan).sum() for plan in plans]
        totals += [*costs, instance.local_cost.sum()]
        assert costs[0] <= costs[1] * (1 + 1e-3)
        assert costs[0] <= instance.local_cost.sum() * (1 + 1e-9)
    assert totals[0] < 0.99 * totals[1]


@pytest.mark.parametrize("name", ["mjoa-mu", "oracle", "pbt-dp+ara"])
def test_local_execution_is_never_beaten(name):
    """With energy so dear that only the UE's own matters, or so cheap that it does not."""
    for seed in range(6):
        instance = random_priced(seed, "both")
        for price in (1e-9, 1e3):
            priced = replace(instance, energy_price_s_per_j=price)
            cost = evaluate_cost(priced, plan_with(name, priced)).sum()
            assert cost <= priced.local_cost.sum() * (1 + 1e-9)


def test_allocation_knows_the_price_of_sending():
    """Shares at a price of energy cost no more than those for latencies alone."""
    for seed in range(20):
        instance = random_priced(seed, "energy")
        placements = [np.ones(ue.dnn.n_layers) for ue in instance.ues]
        blind = replace(instance, energy_price_s_per_j=0.0)
        costs = [
            evaluate_cost(instance, Plan(placements, *ara(given, placements))).sum()
            for given in (instance, blind)
        ]
        assert costs[0] <= costs[1] * (1 + 1e-4)


def test_the_bound_holds_without_what_prices_add():
    for seed in range(5):
        instance = random_priced(seed, "both")
        plan = plan_with("oracle", instance)
        assert lower_bound(instance) <= evaluate_cost(instance, plan).sum() * (1 + 1e-9)


def test_far_sighted_planners_mind_the_price_of_energy():
    """The dearer energy is, the less of it is spent, and the cost is what they aim at."""
    joules = []
    for price in (0.0, 0.3):
        scenario = Scenario(n_ues=3, rounds=8, energy_price_s_per_j=price)
        env = gym.make("MJOA/Streaming-v1", scenario=scenario)
        spent = 0.0
        for seed in range(3):
            observation, _ = env.reset(seed=seed)
            over = False
            while not over:
                instance = decode_observation(observation, scenario)
                plan = plan_with("far-sighted", instance)
                action = env.unwrapped.view.encode(plan, instance)
                observation, _, _, over, info = env.step(action)
                spent += info["energy_j"].sum()
        joules.append(spent)
    assert joules[1] < joules[0]
