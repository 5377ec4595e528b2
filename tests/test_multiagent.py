"""The PettingZoo environments against PettingZoo's tests, and against the single-agent ones."""

import pickle

import gymnasium as gym
import numpy as np
import pytest

import mjoa_gym
from mjoa_gym.envs import ENTRY_POINTS

pytest.importorskip("pettingzoo")
from pettingzoo.test import parallel_api_test, parallel_seed_test
from pettingzoo.utils.conversions import parallel_to_aec

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
every_view = pytest.mark.parametrize("action", ["multidiscrete", "box"])


@every_env
@every_view
@pytest.mark.parametrize("reward", ["team", "own"])
def test_pettingzoos_tests(env_id, action, reward):
    kwargs = {"env_id": env_id, "action": action, "reward": reward, "rounds": 4}
    parallel_api_test(mjoa_gym.parallel_env(**kwargs), num_cycles=20)
    parallel_seed_test(lambda: mjoa_gym.parallel_env(**kwargs), num_cycles=10)


@every_env
@every_view
def test_together_the_agents_are_the_environment(env_id, action):
    scenario = {"weight_max": 3.0, "departure_probability": 0.3}
    many = mjoa_gym.parallel_env(env_id, action=action, n_ues=3, rounds=6, scenario=scenario)
    own = mjoa_gym.parallel_env(
        env_id, action=action, n_ues=3, rounds=6, scenario=scenario, reward="own"
    )
    one = gym.make(env_id, action=action, n_ues=3, rounds=6, scenario=scenario)
    observation, info = one.reset(seed=4)
    observations, infos = many.reset(seed=4)
    own.reset(seed=4)
    one.action_space.seed(0)
    for _ in range(6):
        np.testing.assert_array_equal(observations["ue_0"], observation)
        np.testing.assert_array_equal(many.state(), observation)
        blocks = observation[:-1].reshape(3, -1)
        np.testing.assert_array_equal(observations["ue_2"][:-1], blocks[[2, 0, 1]].ravel())
        if action == "multidiscrete":
            masks = np.concatenate([infos[agent]["action_mask"] for agent in many.agents])
            np.testing.assert_array_equal(masks, info["action_mask"])
        joint = one.action_space.sample()
        parts = dict(zip(many.agents, np.split(joint, 3), strict=True))
        observation, reward, _, truncated, info = one.step(joint)
        observations, rewards, terminations, truncations, infos = many.step(parts)
        own_rewards = own.step(parts)[1]
        assert rewards == dict.fromkeys(parts, reward)
        assert not any(terminations.values())
        assert truncations == dict.fromkeys(parts, truncated)
        for i, agent in enumerate(parts):
            latency_s, local_s = info["latency_s"][i], info["local_s"][i]
            assert infos[agent]["latency_s"] == latency_s
            assert own_rewards[agent] == 1.0 - latency_s / local_s
    assert many.agents == []


def test_bad_arguments_and_actions_are_named():
    for kwargs, message in (
        ({"env_id": "MJOA/Warm-v0"}, "env_id='MJOA/Warm-v0'"),
        ({"action": "plan"}, "action='plan'"),
        ({"reward": "greedy"}, "reward='greedy'"),
    ):
        with pytest.raises(ValueError, match=message):
            mjoa_gym.parallel_env(**kwargs)
    env = mjoa_gym.parallel_env(n_ues=2)
    env.reset(seed=0)
    good = {agent: env.action_space(agent).sample() for agent in env.agents}
    with pytest.raises(ValueError, match="needed is one for each"):
        env.step({"ue_0": good["ue_0"]})
    with pytest.raises(ValueError, match=r"actions\['ue_1'\] has shape \(2,\)"):
        env.step(good | {"ue_1": good["ue_1"][:2]})
    env.step(good)


def test_pickling_rendering_and_turn_based_play():
    env = mjoa_gym.parallel_env("MJOA/Streaming-v0", n_ues=2, rounds=3, render_mode="ansi")
    env.reset(seed=0)
    assert "UE 1" in env.render()
    copy = pickle.loads(pickle.dumps(env))
    actions = {agent: env.action_space(agent).sample() for agent in env.agents}
    assert env.step(actions)[1] == copy.step(actions)[1]
    aec = parallel_to_aec(mjoa_gym.parallel_env(n_ues=2, rounds=2))
    aec.reset(seed=0)
    for agent in aec.agent_iter():
        over = aec.last()[3]
        aec.step(None if over else aec.action_space(agent).sample())
