"""The joules of an inference: what devices draw, and what a timeline adds up to."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mjoa_gym import DNN, UE, Instance, Plan, evaluate, evaluate_energy, simulate, timelines
from mjoa_gym.devices import FlopsDevice, Power, TableDevice, load_device
from mjoa_gym.model.instance import Horizon
from tests.exhaustive import dnn_of
from tests.random_dags import STYLES, predecessors_in_style
from tests.random_dnns import UPLOAD_MODES, dnn_cases, random_case, simulator_arguments
from tests.random_instances import random_instance
from tests.reference_simulator import reference_simulate

POWER = Power(compute_w=5.0, idle_w=2.0, transmit_w=3.0, receive_w=1.0)
WATTS = (5.0, 2.0, 3.0, 1.0)
NETWORK = {"flops", "parameter_bytes", "output_bytes", "predecessors", "input_bytes"}
ABSENT = 99.0  # seconds on a side that the placement does not use


def simulated(case: dict[str, Any], **changes: Any):
    case = case | changes
    rest = {key: value for key, value in case.items() if key not in NETWORK}
    return simulate(dnn_of(case), power=POWER, **rest)


def added_up(timeline) -> float:
    """Joules, interval by interval."""
    busy = {
        lane: sum(i.end - i.start for i in intervals)
        for lane, intervals in timeline.by_resource.items()
    }
    waiting = timeline.latency - busy["ue"]
    return 5 * busy["ue"] + 2 * waiting + 3 * busy["uplink"] + busy["downlink"]


# --- By hand -------------------------------------------------------------------------------------

#                 01234567890
# ue              00........2     3 s of computing, 8 s of waiting
# uplink          pp0pp......     5 s
# edge            .....111...
# downlink        ........11.     2 s
MIDDLE = {
    "dnn": DNN("m", [1] * 3, [7, 4, 7], [1, 2, 5], [[-1], [0], [1]], 6),
    "placement": [0, 1, 0],
    "ue_seconds": [2, ABSENT, 1],
    "edge_seconds": [ABSENT, 3, ABSENT],
    "uplink_bps": 8.0,
    "downlink_bps": 8.0,
}


@pytest.mark.parametrize(
    ("changes", "joules"),
    [
        ({}, 3 * 5 + 8 * 2 + 5 * 3 + 2 * 1),
        ({"resident": [0, 0.5, 0]}, 3 * 5 + 6 * 2 + 3 * 3 + 2 * 1),  # 9 s: pp0
        ({"resident": [0, 1, 0]}, 3 * 5 + 6 * 2 + 1 * 3 + 2 * 1),  # 9 s, too
        ({"upload": "preinstalled"}, 3 * 5 + 6 * 2 + 1 * 3 + 2 * 1),
        ({"upload": "serial"}, 3 * 5 + 10 * 2 + 5 * 3 + 2 * 1),  # 13 s
        ({"message_s": 1.0}, 3 * 5 + 10 * 2 + 5 * 3 + 2 * 1),  # 13 s: nobody draws more
        ({"prefetch": [0, 0, 1]}, 3 * 5 + 8 * 2 + 11 * 3 + 2 * 1),  # 6 s of prefetching, to 11 s
        ({"prefetch": [0, 0, 1], "until_s": 1.0}, 3 * 5 + 8 * 2 + 11 * 3 + 2 * 1),
        ({"prefetch": [0, 0, 1], "until_s": 11.5}, 3 * 5 + 8 * 2 + 11.5 * 3 + 2 * 1),
        ({"prefetch": [0, 0, 1], "until_s": 99.0}, 3 * 5 + 8 * 2 + 12 * 3 + 2 * 1),
        ({"prefetch": [0, 1, 0]}, 3 * 5 + 8 * 2 + 5 * 3 + 2 * 1),  # a mark that adds nothing
        ({"placement": [0, 0, 0], "ue_seconds": [2, 4, 1]}, 7 * 5),
        ({"uplink_bps": 0.0}, math.inf),
    ],
)
def test_by_hand(changes, joules):
    assert simulate(**MIDDLE | changes, power=POWER).energy_j == joules


def test_without_power_there_is_no_energy():
    assert simulate(**MIDDLE).energy_j is None


def test_nothing_drawn_is_nothing_even_for_ever():
    nothing = Power(0, 0, 0, 0)
    assert simulate(**MIDDLE, power=nothing).energy_j == 0
    for_ever = simulate(**MIDDLE | {"uplink_bps": 0.0}, power=nothing)
    assert for_ever.energy_j == math.inf  # as the docs say, whatever it draws


# --- Against the reference, and the timeline's own intervals -------------------------------------


def assert_adds_up(case: dict[str, Any]) -> None:
    timeline = simulated(case)
    assert timeline.energy_j == pytest.approx(added_up(timeline), rel=1e-9, abs=1e-12)
    expected = reference_simulate(**simulator_arguments(case), watts=WATTS)
    if not 0 < expected.tie_margin < 1e-9:  # else rounding decides a race
        assert timeline.energy_j == pytest.approx(expected.energy_j, rel=1e-9, abs=1e-12)


@given(dnn_cases(9))
@settings(max_examples=200, deadline=None)
def test_energy_adds_up_over_the_timelines_intervals(case):
    assert_adds_up(case)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_energy_adds_up_on_dags_of_every_style(upload, style):
    for seed in range(15):
        rng = np.random.default_rng([seed, STYLES.index(style)])
        n = int(rng.integers(1, 13))
        case = random_case(rng, n, upload=upload, messages=seed % 2 == 0)
        until_s = [None, 0.0, 1.0, 1e3][seed % 4]
        rows = predecessors_in_style(style, rng, n)
        assert_adds_up(case | {"predecessors": rows, "until_s": until_s})


# --- Of an instance ------------------------------------------------------------------------------


def powered(instance: Instance, seed: int, **changes: Any) -> Instance:
    """The same instance with a power for every UE."""
    rng = np.random.default_rng(seed)
    ues = [
        UE(
            ue.dnn, ue.ue_seconds, ue.edge_seconds, ue.snr_up, ue.snr_down, ue.resident,
            ue.weight, power=Power(*rng.uniform(0, 10, 4)),
        )
        for ue in instance.ues
    ]  # fmt: skip
    return Instance(ues, instance.bandwidth_hz, instance.upload, instance.message_s, **changes)


def random_plan(instance: Instance, seed: int, prefetch: bool) -> Plan:
    rng = np.random.default_rng(seed)
    marks = [[rng.integers(0, 2, ue.dnn.n_layers) for ue in instance.ues] for _ in range(2)]
    shares = rng.dirichlet(np.ones(instance.n_ues), 2)
    return Plan(marks[0], *shares, marks[1] if prefetch else None)


@pytest.mark.parametrize("seed", range(24))
def test_evaluate_energy_is_what_timelines_say(seed):
    horizon = Horizon(3, period_s=seed / 4 + 1e-3, server_memory_bytes=1e9) if seed % 2 else None
    instance = powered(random_instance(seed), seed, horizon=horizon)
    plan = random_plan(instance, seed, prefetch=seed % 3 > 0)
    least_s = 0.0 if horizon is None else horizon.period_s
    round_s = max(least_s, evaluate(instance, plan).max())
    told = [timeline.energy_j for timeline in timelines(instance, plan, round_s)]
    assert evaluate_energy(instance, plan).tolist() == told


def test_all_local_energy():
    instance = powered(random_instance(3), 3)
    n = [ue.dnn.n_layers for ue in instance.ues]
    nothing = Plan([np.zeros(k) for k in n], np.zeros(len(n)), np.zeros(len(n)))
    joules = evaluate_energy(instance, nothing)
    np.testing.assert_allclose(joules, [ue.local_j for ue in instance.ues], rtol=1e-12)
    assert random_instance(3).ues[0].local_j is None


def test_a_ue_without_power_is_named():
    instance = random_instance(1, n_ues=2)
    plan = random_plan(instance, 1, prefetch=False)
    with pytest.raises(ValueError, match=r"ues\[0\].power=None: its energy is not known"):
        evaluate_energy(instance, plan)
    known = powered(instance, 1).ues[0]
    with pytest.raises(ValueError, match=r"ues\[1\].power=None"):
        Instance([known, instance.ues[1]], 1e6, energy_price_s_per_j=0.1)


def test_an_energetic_ue_survives_pickling():
    instance = powered(random_instance(2), 2)
    again = pickle.loads(pickle.dumps(instance))
    assert [ue.power for ue in again.ues] == [ue.power for ue in instance.ues]
    plan = random_plan(instance, 2, prefetch=True)
    assert evaluate_energy(again, plan).tolist() == evaluate_energy(instance, plan).tolist()


# --- Devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Power(1, 1, 1, -1), "receive_w=-1: must be finite and >= 0"),
        (lambda: Power(math.inf, 1, 1, 1), "compute_w=inf: must be finite"),
        (lambda: Power(1, "2", 1, 1), "idle_w='2': must be a number"),
        (lambda: FlopsDevice("f", 1.0, power=3.0), "power=3.0: must be a Power, or None"),
        (lambda: UE(MIDDLE["dnn"], [1] * 3, [1] * 3, 1, 1, power=3.0), "power=3.0: must be a Pow"),
    ],
)
def test_what_is_not_allowed_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_devices_and_their_power():
    for name in ("odroid-xu4", "raspberry-pi-4", "phone-cpu", "jetson-nano"):
        power = load_device(name).power
        assert power.compute_w > power.idle_w > 0
        assert power.transmit_w > power.receive_w > 0
    assert load_device("server-gpu").power is None
    pi = load_device("raspberry-pi-4")
    assert pi.scaled(0.5).power == pi.power
    assert FlopsDevice("f", 1.0, power=POWER).scaled(2).scaled(2).power == POWER
    assert FlopsDevice("f", 1.0).scaled(2).power is None
    assert FlopsDevice("f", 1.0, power=POWER) != FlopsDevice("f", 1.0)
    assert pickle.loads(pickle.dumps(pi)).power == pi.power
    assert Power(1, 2, 3, 4) == Power(1.0, 2.0, 3.0, 4.0)


def test_a_file_may_state_power(tmp_path):
    path = tmp_path / "phone.json"
    figures = {"compute_w": 5, "idle_w": 2.0, "transmit_w": 3, "receive_w": 1}
    for content in ({"tables": {"m": [1, 2]}}, {"coefficients": {"other": {"constant": 1}}}):
        path.write_text(json.dumps(content | figures))
        assert load_device(path).power == POWER
        path.write_text(json.dumps(content))
        assert load_device(path).power is None
    assert TableDevice("phone", {"m": {"0": 1, "1": 2}}, power=POWER) == TableDevice(
        "phone", {"m": {"0": 1, "1": 2}}, power=Power(*WATTS)
    )
    for left_out in figures:
        some = {key: value for key, value in figures.items() if key != left_out}
        path.write_text(json.dumps({"tables": {"m": [1, 2]}} | some))
        with pytest.raises(ValueError, match=r"has only \[.*of its power: all of \['compute_w'"):
            load_device(path)
    path.write_text(json.dumps({"tables": {"m": [1]}} | figures | {"idle_w": -1}))
    with pytest.raises(ValueError, match="idle_w=-1: must be finite and >= 0"):
        load_device(path)
