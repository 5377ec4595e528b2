"""The laws of what persists between rounds, where nothing is shared or retained."""

import gymnasium as gym
import numpy as np
import pytest


def make(seed=0, **scenario):
    scenario = {"base": "ideal"} | scenario
    env = gym.make("MJOA/Streaming-v1", scenario=scenario).unwrapped
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    return env, observation


def action(env, placements=0, prefetch=0):
    shape = env.action_space["placements"].shape
    share = np.full(shape[0], 1.0 / shape[0])
    return {
        "placements": np.full(shape, placements, np.int8),
        "prefetch": np.full(shape, prefetch, np.int8),
        "bandwidth_share": share,
        "compute_share": share,
    }


def resident_bytes(env, observation):
    return (observation["resident"] * env.scenario.tables.parameter_bytes[observation["dnn"]]).sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("memory", [0.0, 3e7, 250e6, 1e12])
def test_memory_holds_and_only_eviction_or_departure_loses(seed, memory):
    env, before = make(seed, server_memory_bytes=memory, departure_probability=0.2)
    for _ in range(env.scenario.rounds):
        after, _, _, _, info = env.step(env.action_space.sample())
        kept = resident_bytes(env, after)
        assert kept <= memory * (1 + 1e-12)
        assert kept == pytest.approx(info["resident_bytes"], rel=1e-9)
        stays = ~info["left"]
        lost = after["resident"] < before["resident"]
        assert not after["resident"][info["left"]].any()
        if info["dropped_bytes"] == 0:
            assert not lost[stays].any()
        np.testing.assert_array_equal(after["resident"][lost], 0.0)  # layers go whole
        idle = after["idle_rounds"]
        assert not idle[after["resident"] == 0].any()
        grown = (idle == 0) | (idle == before["idle_rounds"] + 1)
        assert grown.all()
        before = after
    assert memory < 1e12 or info["dropped_bytes"] == 0


def test_a_prefetch_is_there_in_the_next_round():
    env, observation = make(departure_probability=0.0, server_memory_bytes=1e12)
    for _ in range(5):
        before, (observation, reward, _, _, info) = observation, env.step(action(env, prefetch=1))
        assert reward == 0.0  # a prefetch costs nothing
        assert info["round_s"] == max(1.0, info["latency_s"].max())
        assert np.all(observation["resident"] >= before["resident"])
    sent = resident_bytes(env, observation)
    assert sent > 50e6
    partly = (observation["resident"] > 0) & (observation["resident"] < 1)
    assert np.all(partly.sum(axis=1) <= 1)  # one stream per UE, in program order


def test_uploading_pays_later():
    """All-edge is a disaster while the models go up, and a gain once they are there."""
    scenario = {
        "dnns": ["resnet18"],
        "ue_devices": ["odroid-xu4"],
        "departure_probability": 0.0,
        "speed_m_per_s": 0.0,
        "rayleigh_fading": False,
        "shadowing_db": 0.0,
    }
    env, _ = make(**scenario)
    rewards = [env.step(action(env, placements=1))[1] for _ in range(5)]
    assert rewards[0] < 0.5 < 0.9 < rewards[1]
    assert rewards[1:] == pytest.approx([rewards[1]] * 4)


def test_a_newcomer_starts_with_nothing():
    env, _ = make(departure_probability=1.0, server_memory_bytes=1e12)
    for _ in range(3):
        observation, _, _, _, info = env.step(action(env, prefetch=1))
        assert info["left"].all()
        assert not observation["resident"].any()


def test_unused_layers_age_and_go_first():
    env, _ = make(departure_probability=0.0, server_memory_bytes=1e12)
    env.step(action(env, prefetch=1))
    for expected in (1, 2):
        observation, *_ = env.step(action(env))
        there = observation["resident"] > 0
        assert np.all(observation["idle_rounds"][there] == expected)


def test_without_period_a_round_is_its_slowest_inference():
    env, _ = make(period_s=0.0)
    info = env.step(action(env))[4]
    assert info["round_s"] == info["latency_s"].max()


def test_preinstalled_uploads_nothing():
    env, _ = make(upload="preinstalled")
    observation, *_, info = env.step(action(env, placements=1, prefetch=1))
    assert not observation["resident"].any()
    assert info["resident_bytes"] == 0.0


def test_those_who_stay_keep_network_device_and_weight():
    env, before = make(departure_probability=0.3, weight_max=9.0)
    for _ in range(20):
        after, *_, info = env.step(action(env))
        for key in ("dnn", "ue_device", "speed", "weight"):
            np.testing.assert_array_equal(after[key][~info["left"]], before[key][~info["left"]])
        assert not np.any(after["dnn"][info["left"]] == before["dnn"][info["left"]])
        before = after
