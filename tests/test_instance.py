"""Instances, plans, and that evaluate, timelines and simulate are one model."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from mjoa_gym import DNN, UE, Instance, Plan, evaluate, simulate, timelines
from mjoa_gym.model import radio
from tests.random_instances import random_instance, varied

TOY = DNN("toy", [1, 1], [8e3, 4e3], [2e3, 1e3], [[-1], [0]], 1e3)


def toy_ue(**changes):
    good = {"dnn": TOY, "ue_seconds": [1, 2], "edge_seconds": [0.1, 0.2], "snr_up": 3.0}
    return UE(**(good | {"snr_down": 7.0} | changes))


def random_plan(instance: Instance, seed: int) -> Plan:
    rng = np.random.default_rng(seed)
    placements = [rng.integers(0, 2, ue.dnn.n_layers) for ue in instance.ues]
    prefetch = [rng.random(ue.dnn.n_layers) < 0.5 for ue in instance.ues]
    bandwidth_share, compute_share = rng.dirichlet(np.ones(instance.n_ues), 2)
    return Plan(placements, bandwidth_share, compute_share, prefetch if seed % 2 else None)


@pytest.mark.parametrize("seed", range(6))
def test_rates_at_shares_are_those_of_the_radio(seed):
    instance = random_instance(seed)
    shares = random_plan(instance, seed).bandwidth_share
    pairs = zip(instance.ues, shares, strict=True)
    wanted = np.transpose([rates_with(instance, ue, share) for ue, share in pairs])
    np.testing.assert_allclose(instance.rates_bps(shares), wanted, rtol=1e-12)
    with pytest.raises(ValueError, match="bandwidth_share"):
        instance.rates_bps(shares[:-1])


def rates_with(instance: Instance, ue: UE, share: float) -> tuple[float, float]:
    if ue.snr_up is None:
        return share * ue.uplink_bps, share * ue.downlink_bps
    band_hz = instance.bandwidth_hz
    return (
        radio.uplink_bps(band_hz, share, ue.snr_up),
        radio.downlink_bps(band_hz, share, ue.snr_down),
    )


@pytest.mark.parametrize("seed", range(40))
def test_evaluate_is_timelines_is_simulate(seed):
    instance = random_instance(seed)
    if seed % 2:
        instance = varied(instance, seed)
    plan = random_plan(instance, seed)
    until_s = None if seed % 3 else 2.0
    seconds = evaluate(instance, plan)
    found = timelines(instance, plan, until_s)
    assert seconds.tolist() == [t.latency for t in found]
    for i, ue in enumerate(instance.ues):
        bandwidth_share, compute_share = plan.bandwidth_share[i], plan.compute_share[i]
        alone = simulate(
            ue.dnn,
            plan.placements[i],
            ue.ue_seconds,
            ue.edge_seconds,
            *rates_with(instance, ue, bandwidth_share),
            ue.resident,
            instance.upload,
            None if plan.prefetch is None else plan.prefetch[i],
            until_s,
            instance.message_s,
            compute_share,
        )
        assert alone.latency == pytest.approx(seconds[i], rel=1e-12)
        np.testing.assert_allclose(alone.resident, found[i].resident, rtol=1e-9)
        assert [x[:3] for x in alone.intervals] == [x[:3] for x in found[i].intervals]


@pytest.mark.parametrize(
    ("placement", "bandwidth_share", "compute_share", "finite"),
    [
        ([0, 0], 0.0, 0.0, True),  # needs neither
        ([1, 0], 0.0, 1.0, False),
        ([1, 0], 1.0, 0.0, False),
        ([1, 1], -0.0, 1.0, False),
        ([1, 1], 1e-9, 1e-9, True),
        ([1, 1], 1e-320, 1.0, False),  # slower than any number can say
    ],
)
def test_a_share_that_is_needed_and_zero(placement, bandwidth_share, compute_share, finite):
    instance = Instance([toy_ue()], 1e6)
    plan = Plan([placement], [bandwidth_share], [compute_share], [[1, 1]])
    (seconds,) = evaluate(instance, plan)
    (timeline,) = timelines(instance, plan)
    assert seconds == timeline.latency
    assert np.isfinite(seconds) == finite
    assert not np.isnan(timeline.resident).any()


def test_zero_snr_is_no_link():
    for dead in ("snr_up", "snr_down"):
        instance = Instance([toy_ue(**{dead: 0.0})], 1e6)
        assert evaluate(instance, Plan([[0, 1]], [1], [1])) == np.inf
        assert evaluate(instance, Plan([[0, 0]], [0], [0])) == 3.0


def test_an_snr_beyond_all_bounds():
    instance = Instance([toy_ue(snr_up=1e308)], 1e6)
    plan = Plan([[1, 1]], [1e-10], [1.0])
    assert evaluate(instance, plan).tolist() == [t.latency for t in timelines(instance, plan)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ue_seconds": [1]}, r"ue_seconds has shape \(1,\)"),
        ({"edge_seconds": [1, -2]}, r"edge_seconds\[1\]=-2.0"),
        ({"snr_up": -1}, "snr_up=-1: must be finite and >= 0"),
        ({"snr_down": np.inf}, "snr_down=inf: must be finite"),
        ({"snr_down": "good"}, "snr_down='good': must be a number"),
        ({"resident": [0, 2]}, r"resident\[1\]=2.0: must be in \[0, 1\]"),
        ({"weight": 0}, "weight=0: must be above 0"),
    ],
)
def test_errors_of_ues(wrong, message):
    with pytest.raises(ValueError, match=message):
        toy_ue(**wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1e6), "ues is empty"),
        (([toy_ue()], 0), "bandwidth_hz=0: must be above 0"),
        (([toy_ue()], np.nan), "bandwidth_hz=nan"),
        (([toy_ue()], 1e6, "seriall"), "upload='seriall'.*did you mean 'serial'"),
    ],
)
def test_errors_of_instances(arguments, message):
    with pytest.raises(ValueError, match=message):
        Instance(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0, 2]], [1], [1]), r"placements\[0\]\[1\]=2.0: must be 0 or 1"),
        (([[0, 1]], [-0.1], [1]), r"bandwidth_share\[0\]=-0.1"),
        (([[0, 1]], [1], [np.nan]), r"compute_share\[0\]=nan"),
        (([[0, 1]] * 2, [0.6, 0.6], [0.5, 0.5]), "bandwidth_share sums to .*1.2"),
        (([[0, 1]] * 2, [0.5, 0.5], [0.5]), r"compute_share has shape \(1,\)"),
        (([[0, 1]], [1], [1], [[0, 1], [0, 1]]), "prefetch has 2 entries for 1 UEs"),
        (([[0, 1]], [1], [1], [[0, 0.5]]), r"prefetch\[0\]\[1\]=0.5"),
    ],
)
def test_errors_of_plans(arguments, message):
    with pytest.raises(ValueError, match=message):
        Plan(*arguments)


def test_a_plan_must_fit_its_instance():
    instance = Instance([toy_ue()], 1e6)
    for plan, message in (
        (Plan([[0, 1]] * 2, [0.5, 0.5], [0.5, 0.5]), "placements has 2 entries for 1 UEs"),
        (Plan([[0, 1, 1]], [1], [1]), r"placements\[0\] has 3 entries; toy has 2 layers"),
        (Plan([[0, 1]], [1], [1], [[0]]), r"prefetch\[0\] has 1 entries; toy has 2 layers"),
    ):
        for call in (evaluate, timelines):
            with pytest.raises(ValueError, match=message):
                call(instance, plan)


def test_rounding_of_shares_is_no_error():
    assert Plan([[0]] * 10, [0.1] * 10, [0.1 + 1e-17] * 10).bandwidth_share.sum() <= 1 + 1e-9


@pytest.mark.parametrize(
    "clone", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_everything_is_immutable(clone):
    given = np.array([1.0, 2.0])
    ue = clone(toy_ue(ue_seconds=given, resident=[0.5, 0.0]))
    given[0] = 99.0
    assert ue.ue_seconds.tolist() == [1.0, 2.0]
    instance = clone(Instance([ue], 1e6, "serial"))
    plan = clone(Plan([[0, 1]], [1.0], [1.0], [[1, 0]]))
    for thing, field in ((ue, "weight"), (instance, "upload"), (plan, "prefetch")):
        with pytest.raises(AttributeError):
            setattr(thing, field, None)
    for array in (
        *(ue.ue_seconds, ue.edge_seconds, ue.resident, plan.placements[0], plan.prefetch[0]),
        *(plan.bandwidth_share, plan.compute_share, instance.ues[0].dnn.flops),
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert evaluate(instance, plan) == evaluate(
        Instance([toy_ue(resident=[0.5, 0])], 1e6, "serial"), plan
    )
