"""The earlier systems: each is optimal under its own assumptions, by brute force."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from mjoa_gym import DNN, UE, Instance, evaluate
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.additive import block_chain
from mjoa_gym.planners.efficiency import most_efficient_range
from mjoa_gym.planners.iao import balance
from mjoa_gym.planners.ionn import FACTORS, shortest_path
from mjoa_gym.planners.one_ue import at_equal_shares
from tests.random_instances import as_blocks, random_instance, rates, seconds_alone, without_link

cases = pytest.mark.parametrize("seed", range(40))


def all_placements(n_layers):
    return [np.array(x) for x in itertools.product((0, 1), repeat=n_layers)]


def all_cuts(n_layers):
    return [(np.arange(n_layers) >= cut).astype(int) for cut in range(n_layers + 1)]


def least_seconds(instance, i, placements, upload, **more):
    return min(seconds_alone(instance, i, x, upload, **more) for x in placements)


@cases
@pytest.mark.parametrize("name", ["neurosurgeon", "single-cut"])
def test_single_cuts_are_the_best_of_all_cuts(name, seed):
    instance = random_instance(seed)
    believed = "preinstalled" if name == "neurosurgeon" else instance.upload
    plan = plan_with(name, instance)
    for i, ue in enumerate(instance.ues):
        assert (np.diff(plan.placements[i]) >= 0).all()
        chosen = seconds_alone(instance, i, plan.placements[i], believed)
        best = least_seconds(instance, i, all_cuts(ue.dnn.n_layers), believed)
        assert chosen == pytest.approx(best, rel=1e-12)


@cases
def test_single_cut_is_no_worse_than_staying_local(seed):
    chains = random_instance(seed, chain=True)
    latency = evaluate(chains, plan_with("single-cut", chains))
    assert (latency <= chains.local_s * (1 + 1e-12)).all()


@cases
@pytest.mark.parametrize(
    ("name", "believed"), [("dads", "preinstalled"), ("dads-serial", "serial")]
)
def test_minimum_cut_is_the_optimum_on_chains(name, believed, seed):
    instance = random_instance(seed, n_ues=2, max_layers=8, chain=True, upload="parallel")
    plan = plan_with(name, instance)
    for i, ue in enumerate(instance.ues):
        best = least_seconds(instance, i, all_placements(ue.dnn.n_layers), believed)
        chosen = seconds_alone(instance, i, plan.placements[i], believed)
        assert chosen <= best + 1e-7 * ue.local_s


def summed_seconds(instance, i, placement, uploading):
    """Everything added up, each crossing tensor once: what a minimum cut minimises."""
    ue, dnn = instance.ues[i], instance.ues[i].dnn
    up, down = (8 / rate for rate in rates(instance, i))
    total = 0.0
    for layer, at_edge in enumerate(placement):
        missing = dnn.parameter_bytes[layer] * (1 - ue.resident[layer]) * uploading
        edge_s = ue.edge_seconds[layer] * instance.n_ues + missing * up
        total += edge_s if at_edge else ue.ue_seconds[layer]
    for tensor in range(-1, dnn.n_layers):
        readers = [x for x, ps in zip(placement, dnn.predecessors, strict=True) if tensor in ps]
        if tensor < 0 or not placement[tensor]:
            n_bytes = dnn.input_bytes if tensor < 0 else dnn.output_bytes[tensor]
            total += n_bytes * up * any(readers)
        else:
            total += dnn.output_bytes[tensor] * down * (not readers or not all(readers))
    return total


@cases
@pytest.mark.parametrize(("name", "uploading"), [("dads", False), ("dads-serial", True)])
def test_minimum_cut_minimises_the_sum_on_dags(name, uploading, seed):
    max_layers = 12 if seed % 8 == 0 else 9
    instance = random_instance(seed, 2, max_layers, chain=False, upload="parallel")
    plan = plan_with(name, instance)
    for i, ue in enumerate(instance.ues):
        placements = all_placements(ue.dnn.n_layers)
        best = min(summed_seconds(instance, i, x, uploading) for x in placements)
        chosen = summed_seconds(instance, i, plan.placements[i], uploading)
        assert chosen <= best + 1e-7 * ue.local_s


def densely_connected(n_pairs_per_block: tuple[int, ...]) -> DNN:
    """Blocks of pairs of layers; the first of a pair reads all tensors of its block before it."""
    predecessors = [[-1], [0]]
    for n_pairs in n_pairs_per_block:
        features = [len(predecessors) - 1]
        for _ in range(n_pairs):
            predecessors += [list(features), [len(predecessors)]]
            features.append(len(predecessors) - 1)
        predecessors += [list(features), [len(predecessors)]]
    rng, n = np.random.default_rng(0), len(predecessors)
    arrays = rng.uniform(1e6, 4e7, n), rng.uniform(1e3, 2e5, n), rng.uniform(1e4, 1e6, n)
    return DNN("dense", *arrays, predecessors, 6e5)


@pytest.mark.parametrize("name", ["dads", "dads-serial"])
def test_minimum_cut_of_190_layers_is_fast(name):
    dnn = densely_connected((12, 24, 32, 22))
    assert dnn.n_layers == 190
    ue = UE(dnn, dnn.flops / 2e9, dnn.flops / 5e11, 30.0, 300.0)
    seconds = []
    for bandwidth_hz in (2e6, 2e7, 5e7, 1e8):
        instance = Instance([ue], bandwidth_hz)
        plan_with(name, instance)
        start = time.perf_counter()
        plan_with(name, instance)
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < 0.05


def test_nothing_is_missing_when_everything_is_preinstalled():
    for seed in range(8):
        instance = random_instance(seed, upload="preinstalled")
        plans = [plan_with(name, instance).placements for name in ("dads", "dads-serial")]
        assert all(np.array_equal(a, b) for a, b in zip(*plans, strict=True))
        for name in ("ionn", "efficiency"):
            assert not np.concatenate(plan_with(name, instance).prefetch).any()


@cases
def test_ionn_levels_are_shortest_paths_over_blocks(seed):
    instance = random_instance(seed, n_ues=2, max_layers=9, upload="serial")
    blocks = as_blocks(instance)
    for i, one in enumerate(at_equal_shares(instance)):
        chain, block_of = block_chain(one)
        assert np.array_equal(block_of, blocks.ues[i].dnn.block_of)
        for factor in FACTORS[::10]:
            resident = 1 - factor * (1 - blocks.ues[i].resident)
            placements = all_placements(blocks.ues[i].dnn.n_layers)
            best = least_seconds(blocks, i, placements, "serial", resident=resident)
            path = shortest_path(chain, factor)
            found = seconds_alone(blocks, i, path, "serial", resident=resident)
            assert found == pytest.approx(best, rel=1e-9)


@cases
def test_efficiency_picks_the_range_with_most_gain_per_byte(seed):
    instance = as_blocks(random_instance(seed, n_ues=1, upload="serial"))
    ue, (one,) = instance.ues[0], at_equal_shares(instance)
    missing = ue.dnn.parameter_bytes * (1 - ue.resident)
    rng = np.random.default_rng(seed)
    at_edge = rng.integers(2, size=ue.dnn.n_layers).astype(np.int8)
    before = seconds_alone(instance, 0, at_edge, "preinstalled")

    def gain_and_bytes(first, end):
        moved = at_edge.copy()
        moved[first:end] = 1
        gain = before - seconds_alone(instance, 0, moved, "preinstalled")
        return gain, missing[first:end][at_edge[first:end] == 0].sum()

    worth = [gain_and_bytes(*r) for r in itertools.combinations(range(len(at_edge) + 1), 2)]
    most = max((gain / max(b, 1e-9) for gain, b in worth if gain > 1e-9 * before), default=None)
    first, end = most_efficient_range(block_chain(one)[0], at_edge)
    if most is None:
        assert first == end or gain_and_bytes(first, end)[0] <= 1e-9 * before
    else:
        gain, n_bytes = gain_and_bytes(first, end)
        assert gain / max(n_bytes, 1e-9) == pytest.approx(most, rel=1e-6)


@cases
@pytest.mark.parametrize("name", ["ionn", "efficiency"])
def test_what_is_placed_pays_now_and_what_is_prefetched_is_missing(name, seed):
    instance = random_instance(seed, chain=True, upload="serial")
    plan = plan_with(name, instance)
    for i, ue in enumerate(instance.ues):
        placed, marked = plan.placements[i], plan.prefetch[i] == 1
        assert not placed[marked].any()
        assert (ue.dnn.parameter_bytes * (1 - ue.resident) > 0)[marked].all()
        assert seconds_alone(instance, i, placed, "serial") <= ue.local_s * (1 + 1e-12)


def test_levels_end_at_a_thousandth():
    # One second each on the UE, none at the edge; uploads take 0.5, 790, 830 and 10 seconds.
    # The last level counts 0.8^30 = 0.00124 of an upload.
    dnn = DNN("four", [1] * 4, [500, 790e3, 830e3, 10e3], [0] * 4, [[-1], [0], [1], [2]], 0)
    instance = Instance([UE(dnn, [1] * 4, [0] * 4, 1.0, 1.0)], 8000.0, "serial")
    ionn, efficiency = plan_with("ionn", instance), plan_with("efficiency", instance)
    assert ionn.placements[0].tolist() == efficiency.placements[0].tolist() == [1, 0, 0, 0]
    assert ionn.prefetch[0].tolist() == [0, 1, 0, 1]
    assert efficiency.prefetch[0].tolist() == [0, 1, 1, 1]


@cases
@pytest.mark.parametrize("cut_off", [False, True])
def test_iao_minimises_the_slowest_latency(cut_off, seed):
    n_units = 7
    instance = random_instance(seed, n_ues=2 + seed % 2, max_layers=6)
    if cut_off:
        instance = without_link(instance, "snr_up")

    def latency(i, units):
        n_layers = instance.ues[i].dnn.n_layers
        if units == 0 or (cut_off and i == 0):
            return instance.local_s[i]
        share = units / n_units
        return least_seconds(instance, i, all_cuts(n_layers), "preinstalled", compute_share=share)

    n = instance.n_ues
    table = [[latency(i, units) for units in range(n_units + 1)] for i in range(n)]
    splits = [s for s in itertools.product(range(n_units + 1), repeat=n) if sum(s) == n_units]
    best = min(max(table[i][units] for i, units in enumerate(split)) for split in splits)
    placements, units = balance(instance, n_units)
    assert sum(units) == n_units
    assert max(table[i][units[i]] for i in range(n)) == pytest.approx(best, rel=1e-12)
    for i, placement in enumerate(placements):
        if units[i] and placement.any():
            share = units[i] / n_units
            found = seconds_alone(instance, i, placement, "preinstalled", compute_share=share)
            assert found == pytest.approx(table[i][units[i]], rel=1e-12)


def test_random_plans_follow_the_instance():
    plans = [plan_with("random", random_instance(seed, 3, chain=True)) for seed in range(8)]
    assert len({plan.bandwidth_share.tobytes() for plan in plans}) == len(plans)


def test_what_is_installed_demands_no_band():
    instance = random_instance(7, 3, chain=True, upload="preinstalled")
    installed = replace(
        instance, ues=[replace(ue, resident=np.ones(ue.dnn.n_layers)) for ue in instance.ues]
    )
    plans = [plan_with("pbt-dp+demand", given) for given in (instance, installed)]
    assert plans[0].bandwidth_share.any()
    np.testing.assert_array_equal(plans[0].bandwidth_share, plans[1].bandwidth_share)


def test_ablations_are_partitions_with_a_share_rule():
    for seed in range(8):
        instance = random_instance(seed)
        for name in ("single-cut", "dads-serial"):
            whole = plan_with(name, instance)
            equal, demand = (plan_with(f"{name}+{rule}", instance) for rule in ("equal", "demand"))
            for plan in (equal, demand):
                assert all(map(np.array_equal, plan.placements, whole.placements))
            assert np.array_equal(equal.bandwidth_share, whole.bandwidth_share)
            assert np.array_equal(equal.compute_share, whole.compute_share)


def test_importing_the_planners_loads_no_solver():
    script = "import sys, mjoa_gym.planners; sys.exit('scipy.sparse' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
