"""Networks at another precision: what is sent shrinks, what is computed stays."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import DNN, Scenario
from mjoa_gym.devices import TableDevice, load_device

NETWORKS = ("alexnet", "googlenet")


@pytest.mark.parametrize("granularity", ["layer", "block"])
def test_bytes_are_scaled_and_nothing_else(granularity):
    full = DNN.load("googlenet", granularity)
    dnn = full.at_precision(parameter_bits=16, activation_bits=8)
    assert dnn.name == "googlenet-w16a8"
    np.testing.assert_array_equal(dnn.parameter_bytes, full.parameter_bytes / 2)
    np.testing.assert_array_equal(dnn.output_bytes, full.output_bytes / 4)
    assert dnn.input_bytes == full.input_bytes / 4
    np.testing.assert_array_equal(dnn.flops, full.flops)
    assert (dnn.predecessors, dnn.kinds) == (full.predecessors, full.kinds)
    for device in map(load_device, ("odroid-xu4", "server-gpu")):
        np.testing.assert_array_equal(device.seconds(dnn), device.seconds(full))


def test_a_measured_table_serves_every_precision():
    full = DNN.load("alexnet")
    seconds = load_device("phone-cpu").seconds(full)
    table = TableDevice("measured", {"alexnet": dict(zip(full.layer_names, seconds, strict=True))})
    np.testing.assert_array_equal(table.seconds(full.at_precision(4)), seconds)


def test_a_precision_replaces_the_one_before():
    full = DNN.load("googlenet")
    half = full.at_precision(16)
    assert half.at_precision(8, 16) == full.at_precision(8, 16)
    assert half.at_precision() is full
    assert half.blocks() == full.blocks().at_precision(16)
    assert half.blocks().at_precision(8) == full.blocks().at_precision(8)


@pytest.mark.parametrize("bits", [0, 12, 64, 16.0, "16", True])
def test_other_bits_are_refused(bits):
    with pytest.raises(ValueError, match="parameter_bits="):
        DNN.load("alexnet").at_precision(bits)
    with pytest.raises(ValueError, match="activation_bits="):
        Scenario(activation_bits=bits)


@pytest.mark.parametrize("name", ["ColdStart", "Streaming"])
def test_a_scenario_equals_one_with_networks_of_fewer_bytes(name):
    """Built without `at_precision`: other numbers in the profiles, seconds from tables."""
    ideal, networks = Scenario.load("ideal"), []
    devices = ideal.ue_devices
    tables: dict[str, dict[str, dict[str, float]]] = {d: {} for d in (*devices, "server-gpu")}
    for network in NETWORKS:
        content = DNN.load(network).to_dict()
        for device in tables:
            seconds = load_device(device).seconds(DNN.load(network))
            tables[device][network] = {str(n): float(s) for n, s in enumerate(seconds)}
        content["input_bytes"] /= 4
        for layer in content["layers"]:
            layer["parameter_bytes"] /= 2
            layer["output_bytes"] /= 4
        networks.append(DNN.from_dict(content))
    measured = {device: TableDevice(device, table) for device, table in tables.items()}
    by_hand = ideal.with_changes(
        dnns=networks, ue_devices=[measured[d] for d in devices], edge_device=measured["server-gpu"]
    )
    by_bits = ideal.with_changes(dnns=NETWORKS, parameter_bits=16, activation_bits=8)
    played = []
    for scenario in (by_hand, by_bits):
        env = gym.make(f"MJOA/{name}-v1", scenario=scenario, rounds=4)
        env.reset(seed=3)
        env.action_space.seed(3)
        played.append([env.step(env.action_space.sample())[4]["latency_s"] for _ in range(4)])
    np.testing.assert_array_equal(*played)
