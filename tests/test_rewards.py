"""Rewards in training count as they should."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import DummyVecEnv

from agents.rewards import RewardVecEnv
from mjoa_gym.envs import StreamingEnv
from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env

ARGUMENTS = {"action": "multidiscrete", "observation": "outlook", "rounds": 3}


def environments(infos="lean", **more):
    return make_vec_env("MJOA/Streaming-v1", 4, 0, infos=infos, **ARGUMENTS | more)


def episode(envs, steps=3, seed=5):
    """Everything that is said, with random actions."""
    envs.seed(0)
    said = [envs.reset()]
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        nvec = envs.action_space.nvec
        said.append(envs.step(rng.integers(nvec, size=(envs.num_envs, len(nvec)))))
    return said


@pytest.mark.parametrize("stakes", [0.0, 1.0])
def test_single_environments_in_a_dummy_are_rewarded_alike(stakes):
    dummy = DummyVecEnv([lambda: StreamingEnv(**ARGUMENTS)] * 4)
    ours, theirs = (episode(RewardVecEnv(envs, stakes=stakes)) for envs in (environments(), dummy))
    np.testing.assert_array_equal(ours[0], theirs[0])
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_allclose(one[1], other[1])


def test_rewards_have_a_floor():
    plain = np.array([said[1] for said in episode(RewardVecEnv(environments()))[1:]])
    floored = RewardVecEnv(environments(), least_reward=-0.5)
    cut = np.array([said[1] for said in episode(floored)[1:]])
    assert (plain < -0.5).any()
    np.testing.assert_array_equal(cut, np.maximum(plain, np.float32(-0.5)))


@pytest.mark.parametrize("action", ["multidiscrete", "discrete"])
def test_seconds_go_with_the_latency(action):
    """One minus the reward, in seconds: the mean latency, over one and the same constant."""
    envs = RewardVecEnv(environments("full", action=action), stakes=1.0)
    envs.seed(0)
    envs.reset()
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(10 if action == "discrete" else 2):
        before = envs._round_weight.copy()
        shape = (4, *envs.action_space.shape)
        high = envs.action_space.n if action == "discrete" else envs.action_space.nvec
        _, rewards, _, infos = envs.step(rng.integers(high, size=shape))
        for e, info in enumerate(infos):
            if info["round_complete"]:
                ratios.append((before[e] - rewards[e]) / info["latency_s"].mean())
    assert len(ratios) == 8
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)


def test_negative_stakes_are_refused():
    with pytest.raises(ValueError, match=r"stakes=-1\.0: must be"):
        RewardVecEnv(environments(), stakes=-1.0)
