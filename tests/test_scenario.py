import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import yaml

from mjoa_gym import DNN, Scenario
from mjoa_gym.devices import FlopsDevice


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bandwith_hz": 1e6}, "did you mean 'bandwidth_hz'"),
        ({"bandwidth_hz": 0}, "bandwidth_hz=0: must be above 0"),
        ({"bandwidth_hz": "fast"}, "bandwidth_hz='fast': must be a number"),
        ({"n_ues": 0}, "n_ues=0: must be a whole number >= 1"),
        ({"n_ues": 2.5}, "n_ues=2.5"),
        ({"rounds": True}, "rounds=True"),
        ({"dnns": []}, "dnns is empty"),
        ({"dnns": "vgg16"}, "dnns='vgg16': must be a list"),
        ({"dnns": ["vgg_16"]}, "did you mean 'vgg16'"),
        ({"ue_devices": ["odroid"]}, "odroid"),
        ({"granularity": "blocks"}, "did you mean 'block'"),
        ({"upload": "streaming"}, "upload='streaming'"),
        ({"departure_probability": 1.5}, r"departure_probability=1.5: must be in \[0, 1\]"),
        ({"shadowing_correlation": float("nan")}, "shadowing_correlation"),
        ({"noise_dbm_per_hz": float("-inf")}, "noise_dbm_per_hz"),
        ({"ue_speed_min": 2.0}, "ue_speed_min=2.0: must be at most ue_speed_max=0.2"),
        ({"distance_min_m": 0}, "distance_min_m=0: must be above 0"),
        ({"snr_min_db": 70}, "snr_min_db"),
        ({"rayleigh_fading": "yes"}, "must be true or false"),
        ({"server_memory_bytes": -1}, "server_memory_bytes"),
    ],
)
def test_what_is_not_allowed_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Scenario.from_dict(settings)


def test_the_ways_to_say_a_scenario_agree(tmp_path):
    settings = {"name": "mine", "n_ues": 3, "dnns": ["alexnet", "nin"], "bandwidth_hz": 2e7}
    scenario = Scenario.from_dict(settings)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert Scenario.load(path) == Scenario.of(path) == Scenario.of(str(path)) == scenario
    assert Scenario.of(settings) == Scenario(**settings) == scenario
    assert Scenario.of(None) == Scenario.load("default") == Scenario()
    assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert copy.deepcopy(scenario) is scenario


def test_a_yaml_number_without_a_point_is_a_number(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("bandwidth_hz: 2e7\n")  # YAML 1.1 reads a string here
    assert Scenario.load(path).bandwidth_hz == 2e7


def test_files_that_are_no_scenario(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match="field: value"):
        Scenario.load(path)
    with pytest.raises(ValueError, match="did you mean 'crowded'"):
        Scenario.load("crowdet")


@pytest.mark.parametrize("name", Scenario.names())
def test_packaged_scenarios_load(name):
    scenario = Scenario.load(name)
    assert scenario.name == name
    assert scenario.tables.width == max(dnn.n_layers for dnn in scenario.profiles)


def test_own_networks_and_devices():
    toy = DNN("toy", [1e9, 2e9], [1e6, 0], [1e5, 10], [[-1], [0]], 1e5)
    device = FlopsDevice("slow", 1e9)
    scenario = Scenario(dnns=(toy, "alexnet"), ue_devices=(device,), edge_speed=2.0)
    tables = scenario.tables
    assert tables.n_layers.tolist() == [2, 12]
    np.testing.assert_array_equal(tables.ue_s[0, 0], [1.0, 2.0] + [0.0] * 10)
    alexnet = DNN.load("alexnet")
    np.testing.assert_array_equal(tables.edge_s[1], scenario.server.seconds(alexnet) / 2.0)
    with pytest.raises(ValueError, match="dnns holds objects"):
        scenario.to_dict()


def test_equal_scenarios_share_their_tables():
    assert Scenario(rounds=3).tables is Scenario(n_ues=2).tables


def test_a_scenario_may_be_another_one_with_changes(tmp_path):
    ideal = Scenario.load("ideal")
    assert Scenario.from_dict({"base": "ideal"}) == ideal
    found = Scenario.from_dict({"base": "ideal", "n_ues": 3, "bandwidth_hz": 1e7})
    assert found == replace(ideal, name="ideal with n_ues, bandwidth_hz", n_ues=3, bandwidth_hz=1e7)
    assert Scenario.from_dict(found.to_dict()) == found
    (tmp_path / "mine.yaml").write_text("base: measured-uplink\nn_ues: 2\n")
    mine = Scenario.load(tmp_path / "mine.yaml")
    assert mine == replace(Scenario.load("measured-uplink"), name="mine", n_ues=2)
    with pytest.raises(ValueError, match=r"base='ideel': allowed are .*; did you mean 'ideal'"):
        Scenario.from_dict({"base": "ideel"})
    with pytest.raises(ValueError, match="no field 'bas'; did you mean 'base'"):
        Scenario.from_dict({"bas": "ideal"})


def test_tables_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Scenario().tables.ue_s[0, 0, 0] = 1.0


def test_a_network_without_any_time_is_refused():
    idle = DNN("idle", [0.0], [0], [1], [[-1]], 1)
    with pytest.raises(ValueError, match="idle-w16a16 takes no time"):
        _ = Scenario(dnns=(idle,), ue_devices=(FlopsDevice("x", 1e9),)).tables


def test_block_granularity_gives_chains():
    assert all(dnn.is_chain for dnn in Scenario(granularity="block").profiles)
