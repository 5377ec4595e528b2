"""Whatever the scenario, the environments keep their promises."""

import warnings

import gymnasium as gym
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mjoa_gym import DNN, Scenario
from mjoa_gym.devices import device_names
from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.actions import ACTION_VIEWS
from mjoa_gym.envs.api_test import api_test
from mjoa_gym.model.inference import UPLOAD_MODES
from tests.pairs import PAIRS

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
LEARNED = sorted(set(ACTION_VIEWS) - {"plan"})


def unordered(values, **limits):
    return st.lists(st.sampled_from(values), unique=True, **limits)


def ordered_pair(low, high):
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(sorted)


@st.composite
def scenarios(draw):
    """Scenarios that are valid by construction, far from the packaged ones."""
    distance_m = draw(ordered_pair(1.0, 500.0))
    snr_db = draw(ordered_pair(-30.0, 50.0))
    weight = draw(ordered_pair(0.1, 10.0))
    speed = draw(ordered_pair(0.05, 20.0))
    return Scenario(
        name="drawn",
        n_ues=draw(st.integers(1, 6)),
        rounds=draw(st.integers(1, 4)),
        dnns=tuple(draw(unordered(DNN.names()[::2], min_size=1, max_size=3))),
        granularity=draw(st.sampled_from(["layer", "block"])),
        ue_devices=tuple(draw(unordered(device_names(), min_size=1, max_size=3))),
        ue_speed_min=speed[0],
        ue_speed_max=speed[1] * 1.5,  # something is left to chance in every scenario
        weight_min=weight[0],
        weight_max=weight[1],
        edge_speed=draw(st.floats(0.01, 100.0)),
        upload=draw(st.sampled_from(UPLOAD_MODES)),
        bandwidth_hz=draw(st.floats(1e4, 1e9)),
        distance_min_m=distance_m[0],
        distance_max_m=distance_m[1],
        shadowing_db=draw(st.sampled_from([0.0, 3.0, 12.0])),
        rayleigh_fading=draw(st.booleans()),
        snr_min_db=snr_db[0],
        snr_max_db=snr_db[1] + 1.0,
        period_s=draw(st.sampled_from([1e-3, 0.3, 5.0])),
        server_memory_bytes=draw(st.sampled_from([0.0, 1e6, 1e8, 1e12])),
        departure_probability=draw(st.sampled_from([0.0, 0.1, 1.0])),
        shadowing_correlation=draw(st.sampled_from([0.0, 0.9, 1.0])),
        speed_m_per_s=draw(st.sampled_from([0.0, 1.4, 40.0])),
        trace=draw(st.sampled_from([None, None, "glasgow-like", ("walking-like", "glasgow-like")])),
    )


@every_env
@given(scenario=scenarios(), pair=st.sampled_from(PAIRS), data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_scenario_passes_the_public_check(env_id, scenario, pair, data):
    action, observation = pair
    env = gym.make(env_id, scenario=scenario, action=action, observation=observation)
    api_test(env, episodes=1, seed=data.draw(st.integers(0, 2**31)))


@every_env
@pytest.mark.parametrize("action", LEARNED)
def test_stable_baselines3_check_env(env_id, action):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An outlook has a row for each UE; MlpPolicy flattens it.
        warnings.filterwarnings("ignore", message="Your observation  has an unconventional shape")
        checker.check_env(gym.make(env_id, action=action, rounds=3).unwrapped)
