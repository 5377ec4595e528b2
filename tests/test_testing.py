"""The public check, on environments that are right and on some that are not."""

import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import Scenario
from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.api_test import api_test
from tests.pairs import every_pair

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))


@every_env
@every_pair
def test_every_view_passes(env_id, action, observation):
    api_test(gym.make(env_id, action=action, observation=observation, n_ues=3, rounds=4))


@every_env
@pytest.mark.parametrize("name", Scenario.names())
def test_every_scenario_passes(env_id, name):
    api_test(gym.make(env_id, action="multidiscrete", scenario=name, rounds=3), episodes=1)


def test_what_is_not_ours_is_refused():
    with pytest.raises(TypeError, match="CartPole"):
        api_test(gym.make("CartPole-v1"))


def broken(method, change):
    env = gym.make("MJOA/ColdStart-v1", action="box", n_ues=2, rounds=3).unwrapped
    honest = getattr(env, method)
    setattr(env, method, lambda *args, **kwargs: change(honest(*args, **kwargs)))
    return env


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("step", lambda s: (s[0], s[1] * 1.001, *s[2:])),
        ("step", lambda s: (s[0], s[1], True, *s[3:])),
        ("step", lambda s: (s[0] + 2, *s[1:])),
        ("step", lambda s: (*s[:4], s[4] | {"latency_s": s[4]["latency_s"] * 2})),
        ("step", lambda s: (*s[:4], s[4] | {"round_s": np.float32(s[4]["round_s"])})),
        ("reset", lambda s: (s[0], {})),
        ("reset", lambda s: (np.zeros_like(s[0]), s[1])),
    ],
)
def test_what_is_broken_is_found(method, change):
    with pytest.raises(AssertionError):
        api_test(broken(method, change))
