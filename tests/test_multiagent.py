"""The PettingZoo environments against PettingZoo's tests, and against the single-agent ones."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence

import mjoa_gym
from mjoa_gym.envs import ENTRY_POINTS

pytest.importorskip("pettingzoo")
from pettingzoo.test import api_test as pettingzoo_api_test
from pettingzoo.test import parallel_api_test, parallel_seed_test
from pettingzoo.utils.conversions import aec_to_parallel, parallel_to_aec

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
every_view = pytest.mark.parametrize("action", ["multidiscrete", "box", "shares", "shares-box"])


@every_env
@every_view
@pytest.mark.parametrize(("reward", "observation"), [("team", "flat"), ("own", "outlook")])
def test_pettingzoos_tests(env_id, action, reward, observation):
    kwargs = {"env_id": env_id, "action": action, "reward": reward, "observation": observation}
    kwargs |= {"rounds": 4}
    parallel_api_test(mjoa_gym.parallel_env(**kwargs), num_cycles=20)
    parallel_seed_test(lambda: mjoa_gym.parallel_env(**kwargs), num_cycles=10)


@every_env
@every_view
def test_together_the_agents_are_the_environment(env_id, action):
    scenario = {"weight_max": 3.0, "departure_probability": 0.3}
    given = {"action": action, "n_ues": 3, "rounds": 6, "scenario": scenario, "observation": "flat"}
    many, own = (mjoa_gym.parallel_env(env_id, reward=who, **given) for who in ("team", "own"))
    one = gym.make(env_id, **given)
    observation, info = one.reset(seed=4)
    observations, infos = many.reset(seed=4)
    own.reset(seed=4)
    one.action_space.seed(0)
    for _ in range(6):
        np.testing.assert_array_equal(observations["ue_0"], observation)
        np.testing.assert_array_equal(many.state(), observation)
        of_ues = len(observation) - 1 - (5 if one.unwrapped.persists else 0)  # networks' memory
        blocks, rest = observation[:of_ues].reshape(3, -1), observation[of_ues:]
        shown = np.append(blocks[[2, 0, 1]], rest)
        np.testing.assert_array_equal(observations["ue_2"], shown)
        if action == "multidiscrete":
            masks = sum((infos[agent]["action_mask"] for agent in many.agents), ())
            assert data_equivalence(masks, info["action_mask"], exact=True)
            for agent in many.agents:
                space = many.action_space(agent)
                assert space.sample(infos[agent]["action_mask"]) in space
        assert {frozenset(each) for each in infos.values()} == {frozenset(info)}
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
            assert infos[agent]["round_complete"] is True
            assert own_rewards[agent] == 1.0 - latency_s / local_s
    assert many.agents == []


@every_env
@every_view
@pytest.mark.filterwarnings("ignore:Action space for each agent probably should be:UserWarning")
def test_pettingzoos_test_of_turn_based_play(env_id, action):
    aec = parallel_to_aec(mjoa_gym.parallel_env(env_id, n_ues=3, rounds=4, action=action))
    pettingzoo_api_test(aec, num_cycles=30)
    parallel_api_test(aec_to_parallel(aec), num_cycles=20)


def test_without_agents_a_step_does_nothing():
    env = mjoa_gym.parallel_env("MJOA/Streaming-v1", n_ues=2, rounds=1)
    actions = {agent: env.action_space(agent).sample() for agent in env.possible_agents}
    for call in (lambda: env.step({}), lambda: env.step(actions), env.state):
        with pytest.raises(ResetNeeded, match="call reset"):
            call()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="there must be one for each"):
        env.step({})
    last = env.step(actions)[0]
    assert env.agents == []
    assert env.step({}) == ({}, {}, {}, {}, {})
    np.testing.assert_array_equal(env.state(), last["ue_0"])
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(actions)
    env.reset()
    env.step(actions)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_supersuits_agents_die_together():
    supersuit = pytest.importorskip("supersuit")
    env = supersuit.black_death_v3(mjoa_gym.parallel_env(n_ues=2, rounds=2))
    env.reset(seed=0)
    while env.agents:
        *_, over, _, _ = env.step({a: env.action_space(a).sample() for a in env.agents})
    assert all(over.values())


def test_bad_arguments_and_actions_are_named():
    for kwargs, message in (
        ({"env_id": "MJOA/Warm-v1"}, "env_id='MJOA/Warm-v1'"),
        ({"action": "plan"}, "action='plan'"),
        ({"reward": "greedy"}, "reward='greedy'"),
        ({"observation": "dict"}, "observation='dict'"),
    ):
        with pytest.raises(ValueError, match=message):
            mjoa_gym.parallel_env(**kwargs)
    env = mjoa_gym.parallel_env(n_ues=2)
    env.reset(seed=0)
    good = {agent: env.action_space(agent).sample() for agent in env.agents}
    with pytest.raises(ValueError, match="there must be one for each"):
        env.step({"ue_0": good["ue_0"]})
    with pytest.raises(ValueError, match=r"actions\['ue_1'\] has shape \(2,\)"):
        env.step(good | {"ue_1": good["ue_1"][:2]})
    env.step(good)


def test_pickling_rendering_and_turn_based_play():
    env = mjoa_gym.parallel_env("MJOA/Streaming-v1", n_ues=2, rounds=3, render_mode="ansi")
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
