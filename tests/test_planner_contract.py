"""What holds for every registered planner, whatever it believes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mjoa_gym import DNN, UE, Instance, Plan, evaluate
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.planners import plan_with, planner_names
from tests.random_instances import random_instance, varied, without_link

pytestmark = pytest.mark.parametrize("name", planner_names())


@pytest.fixture(autouse=True)
def _skip_if_missing(name: str) -> None:
    for part, module in (("pbt-dp", "pbt_dp"), ("+ara", "ara")):
        if part in name:
            pytest.importorskip(f"mjoa_gym.planners.{module}")


def assert_finite_with_needed_shares(instance: Instance, plan: Plan) -> None:
    assert np.isfinite(evaluate(instance, plan)).all()
    uses = np.array([placement.any() for placement in plan.placements])
    for share in (plan.bandwidth_share, plan.compute_share):
        assert (share[uses] > 0).all()


def assert_same(a: Plan, b: Plan) -> None:
    assert np.array_equal(np.concatenate(a.placements), np.concatenate(b.placements))
    assert np.array_equal(a.bandwidth_share, b.bandwidth_share)
    assert np.array_equal(a.compute_share, b.compute_share)
    assert (a.prefetch is None) == (b.prefetch is None)
    if a.prefetch is not None and b.prefetch is not None:
        assert np.array_equal(np.concatenate(a.prefetch), np.concatenate(b.prefetch))


def test_plans_are_valid_finite_and_deterministic(name):
    for seed in range(12 if name == "oracle" else 40):  # which takes its time
        instance = random_instance(seed)
        if seed % 2:
            instance = varied(instance, seed)
        plan = plan_with(name, instance)
        assert_finite_with_needed_shares(instance, plan)
        assert_same(plan, plan_with(name, replace(instance)))


@pytest.mark.parametrize("direction", ["snr_up", "snr_down"])
def test_a_ue_without_a_link_stays_local(name, direction):
    for seed in range(8):
        instance = without_link(random_instance(seed, n_ues=1 + seed % 3), direction)
        plan = plan_with(name, instance)
        assert not plan.placements[0].any()
        assert plan.prefetch is None or not plan.prefetch[0].any()
        assert_finite_with_needed_shares(instance, plan)


@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_degenerate_networks(name, upload):
    free = DNN("free", [0, 0], [0, 0], [0, 0], [[-1], [-1]], 0)
    forked = DNN("forked", [1, 1, 1], [0, 8, 0], [4, 4, 4], [[-1], [0], [-1, 0]], 4)
    ues = [UE(free, [0, 0], [0, 0], 1, 1), UE(forked, [1, 0, 2], [0, 0.1, 0.2], 1, 1, [0, 0.5, 1])]
    instance = Instance(ues, 1000.0, upload)
    assert_finite_with_needed_shares(instance, plan_with(name, instance))
