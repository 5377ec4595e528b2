"""The statistics of the benchmark, by hand and against numpy."""

import numpy as np
import pytest

from mjoa_gym.evaluation.statistics import bootstrap, gap, mean_reduction, reduction


def test_reduction_by_hand():
    ours, base = np.array([1.0, 3.0]), np.array([4.0, 4.0])
    found = reduction(ours, base)
    assert found.mean.value == pytest.approx(0.5)  # 1 - 2 / 4
    assert found.best == pytest.approx(0.75)  # 1 - 1 / 4
    assert (found.mean.low, found.mean.high) == pytest.approx((0.25, 0.75))
    both = mean_reduction([found, reduction(base, base)])
    assert both == pytest.approx((0.25, 0.125, 0.375))
    with pytest.raises(ValueError, match="not paired"):
        reduction(ours, base[:1])


def test_bootstrap_of_a_mean_against_the_normal_interval():
    values = np.random.default_rng(0).normal(10, 2, 400)
    found = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(1)
    base = rng.uniform(0.1, 10, 100)
    found = reduction(0.7 * base * rng.uniform(0.99, 1.01, 100), base).mean
    assert found.value == pytest.approx(0.3, abs=0.01)
    assert found.high - found.low < 0.01


def test_gap_by_hand():
    assert gap(np.array([[2.0, 3.0]]), np.array([[1.0, 2.0]])).value == pytest.approx(0.75)
