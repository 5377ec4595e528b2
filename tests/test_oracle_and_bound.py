"""The yardsticks themselves: the oracle's grid, and the bound that no plan may beat."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mjoa_gym import DNN, UE, Instance
from mjoa_gym.planners import plan_with, planner_names
from mjoa_gym.planners.anytime import finished
from mjoa_gym.planners.bound import certified_cost, lower_bound
from mjoa_gym.planners.mjoa_mu import JointSearch
from mjoa_gym.planners.oracle import Grid
from mjoa_gym.planners.pricing import value_all
from tests.random_instances import random_instance, varied, without_link
from tests.reference_allocation import best_of_all, objective, seconds_of_all

UPLOADS = ("parallel", "serial", "whole", "preinstalled")


def tiny_instance(seed: int, chain: bool, upload: str | None = None) -> Instance:
    instance = random_instance(seed, n_ues=2, max_layers=5, chain=chain, upload=upload)
    return varied(instance, seed) if seed % 2 else instance


def grid_brute_force(instance: Instance, levels: int) -> float:
    """The least objective of two UEs over all placements and all divisions of both resources."""
    tables = []
    for i, ue in enumerate(instance.ues):
        table = np.full((levels + 1, levels + 1), ue.local_s)
        for b, c in itertools.product(range(1, levels + 1), repeat=2):
            table[b, c] = seconds_of_all(instance, i, b / levels, c / levels).min()
        tables.append(ue.weight * table)
    grid = itertools.product(range(levels + 1), repeat=2)
    return min(tables[0][b, c] + tables[1][levels - b, levels - c] for b, c in grid)


def grid_plan(instance: Instance, levels: int) -> float:
    return objective(instance, finished(Grid(instance, levels)))


@pytest.mark.parametrize("upload", ["parallel", "serial", "preinstalled"])
def test_the_grid_is_searched_exactly_on_chains(upload):
    for seed in range(12):
        instance = tiny_instance(seed, True, upload)
        assert grid_plan(instance, 5) == pytest.approx(grid_brute_force(instance, 5), rel=1e-9)


@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_the_grid_is_searched_nearly_exactly_elsewhere(chain):
    for seed in range(12):
        instance = tiny_instance(seed, chain, "whole" if chain else None)
        best = grid_brute_force(instance, 5)
        assert best * (1 - 1e-9) <= grid_plan(instance, 5) <= best * 1.01


@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_the_oracle_is_no_worse_than_its_grid(chain):
    for seed in range(30):
        instance = random_instance(seed, 1 + seed % 4, 6, chain)
        ours = objective(instance, plan_with("oracle", instance))
        assert ours <= grid_plan(instance, 20) * (1 + 1e-9)


def test_the_oracle_is_no_worse_than_mjoa_mu_among_more_ues_than_levels():
    dnn = DNN("one", [0], [0], [1e3], [[-1]], 1e4)
    many = [Instance([UE(dnn, [1.0], [1e-3], 100.0, 100.0)] * n, 1e7) for n in (21, 40)]
    for instance in [*many, *(random_instance(seed, 9 + seed, 5, True) for seed in range(8))]:
        ours = objective(instance, plan_with("oracle", instance))
        assert ours <= objective(instance, plan_with("mjoa-mu", instance)) * (1 + 1e-9)


@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_the_oracle_is_near_the_best_of_all_plans(chain):
    gaps = []
    for seed in range(200, 216):
        instance = random_instance(seed, 2 + seed % 2, 5, chain)
        best = best_of_all(instance)
        gaps.append(objective(instance, plan_with("oracle", instance)) / best - 1)
    assert np.mean(gaps) <= 1e-3
    assert max(gaps) <= 0.02


@pytest.mark.parametrize("upload", UPLOADS)
@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_no_plan_beats_the_bound(chain, upload, capsys):
    slack = []
    for seed in range(15):
        instance = tiny_instance(seed, chain, upload)
        best = best_of_all(instance, levels=8)
        for name in ("mjoa-mu", "oracle", "pbt-dp+ara"):
            best = min(best, objective(instance, plan_with(name, instance)))
        bound = lower_bound(instance)
        assert 0 < bound <= best * (1 + 1e-9)
        slack.append(1 - bound / best)
    with capsys.disabled():
        print(
            f"\nbound, {upload}: mean {np.mean(slack):.1%} below, worst {max(slack):.1%}", end=" "
        )


@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_no_share_of_any_placement_costs_less_than_certified(chain):
    """At any prices, however few cells there are: all placements, shares on a grid."""
    for seed in range(16):
        instance, rng = tiny_instance(seed, chain), np.random.default_rng(seed)
        search = JointSearch(instance)
        for _ in search.steps():
            pass
        price_b, price_p = prices = instance.weights.mean() * 10.0 ** rng.uniform(-3, 0.5, size=2)
        value_all(search.packed, search.portfolio, *prices, 0.0)
        for most_cells, tolerance in ((2, 0.3), (12, 0.01), (200, 1e-4)):
            certified = certified_cost(
                search.packed, search.portfolio, 0, *prices, tolerance, most_cells
            )
            for b, c in itertools.product(np.geomspace(0.02, 1.0, 9), repeat=2):
                seconds = seconds_of_all(instance, 0, b, c).min()
                paid = instance.ues[0].weight * seconds + price_b * b + price_p * c
                assert certified <= paid * (1 + 1e-9)


def test_no_registered_planner_beats_the_bound():
    for seed in range(12):
        instance = random_instance(seed, n_ues=1 + seed % 5, max_layers=8)
        bound = lower_bound(instance)
        for name in planner_names():
            assert bound <= objective(instance, plan_with(name, instance)) * (1 + 1e-9)


def test_the_bound_does_not_depend_on_the_plan_it_is_given():
    """A plan only says where to look: a silly one makes the bound looser, never invalid."""
    for seed in range(10):
        instance = random_instance(seed, n_ues=3, max_layers=6)
        best = objective(instance, plan_with("oracle", instance))
        for name in ("random", "edge-only"):
            assert lower_bound(instance, plan_with(name, instance)) <= best * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_no_plan_beats_the_bound_anywhere(chain):
    for seed in range(1000, 1400):
        instance = random_instance(seed, 1 + seed % 6, 8, chain)
        best = min(objective(instance, plan_with(n, instance)) for n in ("mjoa-mu", "oracle"))
        assert lower_bound(instance) <= best * (1 + 1e-9)


@pytest.mark.parametrize("upload", ["parallel", "serial", "preinstalled"])
def test_the_bound_is_the_optimum_of_one_chain(upload):
    """Nothing to share and PBT-DP is exact: no slack at all."""
    for seed in range(25):
        instance = random_instance(seed, 1, 8, chain=True, upload=upload)
        best = instance.ues[0].weight * seconds_of_all(instance, 0, 1.0, 1.0).min()
        assert lower_bound(instance) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("direction", ["snr_up", "snr_down"])
def test_the_bound_without_a_link(direction):
    for seed in range(10):
        instance = without_link(random_instance(seed, n_ues=1 + seed % 3, max_layers=6), direction)
        best = objective(instance, plan_with("oracle", instance))
        bound = lower_bound(instance)
        assert np.isfinite(bound)
        assert bound <= best * (1 + 1e-9)
        if instance.n_ues == 1:
            assert bound == pytest.approx(instance.ues[0].local_s, rel=1e-9)


def test_the_bound_of_a_ue_that_needs_nothing():
    """A layer without bytes that takes the server no time costs nothing at the least of shares."""
    free = DNN("free", [0.0], [0.0], [0.0], [[-1]], 0.0)
    slow_server = DNN(
        "dag", [1.0] * 4, [4.6e5, 5.4e4, 4.7e5, 6.3e4], [6.7e5, 1.2e5, 4.5e5, 2e5],
        [[-1], [-1, 0], [-1], [0, 1]], 2.9e5,
    )  # fmt: skip
    ues = [
        UE(
            slow_server, [0.051, 0.29, 0.028, 0.22], [0.082, 0.46, 0.045, 0.35], weight=200.0,
            uplink_bps=5.4e7, downlink_bps=1.9e7,
        ),
        UE(free, [0.22], [0.0], snr_up=5.9, snr_down=32.0, weight=1.7e-4),
    ]  # fmt: skip
    instance = Instance(ues, bandwidth_hz=1e9)
    cost = objective(instance, plan_with("mjoa-mu", instance))
    assert 0.95 * cost <= lower_bound(instance) <= cost * (1 + 1e-9)


def test_the_bound_with_a_free_server_and_with_a_useless_one():
    for seed in range(10):
        instance = random_instance(seed, n_ues=3, max_layers=6)
        for factor in (0.0, 1e6):
            ues = [
                UE(
                    ue.dnn, ue.ue_seconds, factor * ue.edge_seconds, ue.snr_up, ue.snr_down,
                    ue.resident, ue.weight,
                )
                for ue in instance.ues
            ]  # fmt: skip
            other = Instance(ues, instance.bandwidth_hz, instance.upload)
            best = objective(other, plan_with("oracle", other))
            assert lower_bound(other) <= best * (1 + 1e-9)
