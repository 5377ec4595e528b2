"""MJOA-MU with prefetch: costs nothing now, and what it uploads is of use later."""

from __future__ import annotations

import numpy as np
import pytest

from mjoa_gym import DNN, UE, Instance, Plan, evaluate
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.model.instance import timelines
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.anytime import finished
from mjoa_gym.planners.prefetch import Prefetch
from tests.random_instances import random_instance

modes = pytest.mark.parametrize("upload", UPLOAD_MODES)


def drawn(seed: int, upload: str = "parallel", chain: bool | None = None) -> Instance:
    return random_instance(seed, n_ues=1 + seed % 4, max_layers=10, chain=chain, upload=upload)


def marks_of(plan: Plan) -> tuple:
    assert plan.prefetch is not None
    return plan.prefetch


def with_resident(instance: Instance, resident: list) -> Instance:
    ues = [
        UE(ue.dnn, ue.ue_seconds, ue.edge_seconds, ue.snr_up, ue.snr_down, there, ue.weight)
        for ue, there in zip(instance.ues, resident, strict=True)
    ]
    return Instance(ues, instance.bandwidth_hz, instance.upload)


def next_round(instance: Instance, plan: Plan, prefetched: bool) -> Instance:
    """The next round: all uploads have arrived, with or without the prefetched layers."""
    resident = []
    for ue, own, marks in zip(instance.ues, plan.placements, marks_of(plan), strict=True):
        arrived = (own == 1) | ((marks == 1) & prefetched)
        resident.append(np.where(arrived, 1.0, ue.resident))
    return with_resident(instance, resident)


@modes
def test_the_plan_is_that_of_mjoa_mu(upload):
    for seed in range(20):
        instance = drawn(seed, upload)
        plain, plan = plan_with("mjoa-mu", instance), plan_with("mjoa-mu-prefetch", instance)
        for a, b in zip(plain.placements, plan.placements, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(plain.compute_share, plan.compute_share)
        if plain.bandwidth_share.any():  # else those who prefetch share what nobody uses
            np.testing.assert_array_equal(plain.bandwidth_share, plan.bandwidth_share)


@modes
def test_only_missing_layers_that_stay_on_the_ue_are_marked(upload):
    n_marked = 0
    for seed in range(20):
        instance = drawn(seed, upload)
        plan = plan_with("mjoa-mu-prefetch", instance)
        for i, (ue, own, marks) in enumerate(
            zip(instance.ues, plan.placements, marks_of(plan), strict=True)
        ):
            missing = ue.dnn.parameter_bytes * (1 - ue.resident)
            assert (missing[marks == 1] > 0).all()
            assert (own[marks == 1] == 0).all()
            assert not marks.any() or plan.bandwidth_share[i] > 0
            n_marked += int(marks.sum())
    assert (n_marked == 0) == (upload == "preinstalled")


@modes
def test_this_round_is_as_fast_as_without(upload):
    for seed in range(20):
        instance = drawn(seed, upload)
        plan = plan_with("mjoa-mu-prefetch", instance)
        without = evaluate(
            instance, Plan(plan.placements, plan.bandwidth_share, plan.compute_share)
        )
        np.testing.assert_array_equal(evaluate(instance, plan), without)
        long = 2.0 * float(without.max()) + 1.0
        latencies = [timeline.latency for timeline in timelines(instance, plan, until_s=long)]
        np.testing.assert_allclose(latencies, without, rtol=1e-12)


@pytest.mark.parametrize("upload", ["parallel", "serial", "whole"])
def test_the_next_round_never_gets_slower_on_chains(upload):
    """With the same placements; and replanned, some round must get faster."""
    gains = []
    for seed in range(20):
        instance = drawn(seed, upload, chain=True)
        plan = plan_with("mjoa-mu-prefetch", instance)
        before = evaluate(next_round(instance, plan, prefetched=False), plan)
        arrived = next_round(instance, plan, prefetched=True)
        assert (evaluate(arrived, plan) <= before * (1 + 1e-12)).all()
        replanned = evaluate(arrived, plan_with("mjoa-mu", arrived)) @ instance.weights
        earlier = next_round(instance, plan, prefetched=False)
        stayed = evaluate(earlier, plan_with("mjoa-mu", earlier)) @ instance.weights
        gains.append(1 - replanned / stayed)
    assert min(gains) >= -0.02  # MJOA-MU is a heuristic
    assert np.mean(gains) > 0.01


@modes
def test_everything_resident_marks_nothing(upload):
    for seed in range(8):
        instance = drawn(seed, upload)
        everything = [np.ones(ue.dnn.n_layers) for ue in instance.ues]
        plan = plan_with("mjoa-mu-prefetch", with_resident(instance, everything))
        assert not np.concatenate(marks_of(plan)).any()


def test_layers_that_help_are_uploaded_while_everybody_is_local():
    """Too big for one inference and far faster at the edge: worth having for the next one."""
    dnn = DNN("big", [1, 1], [10**9, 10**9], [1, 1], [[-1], [0]], 1)
    ues = [UE(dnn, [1.0, 1.0], [1e-3, 1e-3], 10.0, 10.0) for _ in range(2)]
    idle = UE(DNN("small", [1], [8], [10**9], [[-1]], 10**9), [1e-3], [1.0], 10.0, 10.0)
    instance = Instance([*ues, idle], 1e6)
    plan = plan_with("mjoa-mu-prefetch", instance)
    assert not np.concatenate(plan.placements).any()
    assert [marks.tolist() for marks in marks_of(plan)] == [[1, 1], [1, 1], [0]]
    np.testing.assert_array_equal(plan.bandwidth_share, [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(evaluate(instance, plan), instance.local_s)


def test_any_plan_can_be_given_a_prefetch():
    for seed in range(10):
        instance = drawn(seed)
        for name in ("pbt-dp+equal", "local-only", "edge-only"):
            plan = plan_with(name, instance)
            more = finished(Prefetch(instance, plan))
            np.testing.assert_array_equal(evaluate(instance, more), evaluate(instance, plan))
            assert more.bandwidth_share.sum() <= 1 + 1e-9
