"""The adapter for Stable-Baselines3 does what SB3's own DummyVecEnv does, step by step."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

pytest.importorskip("stable_baselines3")
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecVideoRecorder,
)

from mjoa_gym.envs.adapters.stable_baselines3 import StableBaselinesVecEnv, make_vec_env
from tests.toy_envs import ToyEnv, ToyVectorEnv

MAKERS = {
    "cartpole": lambda: gym.make("CartPole-v1", max_episode_steps=15),
    "dict": ToyEnv,
    "array": lambda: ToyEnv(with_dict=False),
    "monitored": lambda: Monitor(ToyEnv()),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def adapted(make, n=4, infos="lean"):
    envs = SyncVectorEnv([make] * n, autoreset_mode=AutoresetMode.SAME_STEP)
    return StableBaselinesVecEnv(envs, infos)


def both(name, wrap=lambda envs: envs, infos="lean"):
    return wrap(adapted(MAKERS[name], infos=infos)), wrap(DummyVecEnv([MAKERS[name]] * 4))


def assert_same(one, other):
    """Equal content, whichever the kind of mapping or number; but for the time on the clock."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        one, other = (as_rows(each) for each in (one, other))
        for key in set(one) - {"t"}:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        np.testing.assert_array_equal(one, other)


def as_rows(info):
    """An info whose masks, one for each number of an action, are concatenated."""
    if isinstance(info.get("action_mask"), tuple):
        return info | {"action_mask": np.concatenate(info["action_mask"])}
    return info


def steps(envs, count=150, seed=11):
    """All that a VecEnv says under actions that depend on the seed only."""
    rng = np.random.default_rng(seed)
    envs.seed(seed)
    yield envs.reset(), None, None, envs.reset_infos
    for _ in range(count):
        observations, rewards, dones, infos = envs.step(rng.integers(0, 2, envs.num_envs))
        assert rewards.dtype == np.float32
        yield observations, rewards, dones, infos


def normalized(envs):
    keys = ["number"] if isinstance(envs.observation_space, gym.spaces.Dict) else None
    return VecNormalize(envs, norm_obs_keys=keys)


WRAPPERS = {
    "bare": lambda envs: envs,
    "monitor": VecMonitor,
    "normalize": normalized,
    "stack": lambda envs: VecFrameStack(envs, 3),
    "all": lambda envs: VecFrameStack(normalized(VecMonitor(envs)), 2),
}
PAIRS = [(name, wrapper) for name in ("cartpole", "dict", "array") for wrapper in WRAPPERS]


@pytest.mark.parametrize(("name", "wrapper"), [*PAIRS, ("monitored", "bare")])
def test_equals_dummy_vec_env(name, wrapper):
    ours, theirs = both(name, WRAPPERS[wrapper])
    ends = 0
    for mine, other in zip(steps(ours), steps(theirs), strict=True):
        assert_same(mine[0], other[0])
        if mine[1] is None:
            continue
        assert_same(mine[1], other[1])
        assert_same(mine[2], other[2])
        for done, info, expected in zip(mine[2], mine[3], other[3], strict=True):
            kept = {"terminal_observation", "TimeLimit.truncated", "episode", "is_success"}
            assert_same(info, {key: expected[key] for key in kept & set(expected) if done})
            ends += done
    assert ends > 10


@pytest.mark.parametrize("name", MAKERS)
def test_full_infos_equal_dummy_vec_envs(name):
    ours, theirs = both(name, infos="full")
    for mine, other in zip(steps(ours), steps(theirs), strict=True):
        for info, expected in zip(mine[3], other[3], strict=True):
            assert_same(info, expected)
        for info, expected in zip(ours.reset_infos, theirs.reset_infos, strict=True):
            assert_same(info, expected)


def test_both_ends_occur_and_only_a_pure_truncation_counts_as_time_limit():
    seen = set()
    envs = adapted(ToyEnv)
    for _, _, _, infos in steps(envs):
        seen |= {(i["TimeLimit.truncated"], i["is_success"]) for i in infos if "is_success" in i}
    assert seen >= {(True, False), (False, True)}


def test_options_reach_every_environment_once():
    envs = adapted(ToyEnv)
    envs.set_options({"clock": 7})
    assert envs.reset()["clock"].tolist() == [[7]] * 4
    assert envs.reset()["clock"].tolist() == [[0]] * 4
    envs.set_options([{"clock": 2}] * 4)
    assert envs.reset()["clock"].tolist() == [[2]] * 4
    with pytest.raises(ValueError, match="the same for all"):
        envs.set_options([{"clock": i} for i in range(4)])


def test_attributes_and_methods_of_single_environments():
    envs, dummy = both("dict")
    for each in (envs, dummy):
        each.seed(0)
        each.reset()
        each.set_attr("bonus", 10.0, indices=[1, 2])
        assert each.get_attr("bonus") == [0.0, 10.0, 10.0, 0.0]
        assert each.get_attr("bonus", indices=2) == [10.0]
        assert each.step(np.ones(4, int))[1].tolist() == [1.0, 11.0, 11.0, 1.0]
        forbidden = each.get_attr("clock", indices=[3])[0] % 3
        masks = each.env_method("action_masks", indices=[3])
        assert np.flatnonzero(~masks[0]) == [forbidden]
        assert not each.has_attr("no_such_thing")
        assert each.env_is_wrapped(Monitor) == [False] * 4
    assert adapted(MAKERS["monitored"]).env_is_wrapped(Monitor) == [True] * 4


def test_a_vector_environment_without_single_ones():
    base = ToyVectorEnv(3)
    envs = StableBaselinesVecEnv(gym.wrappers.vector.RecordEpisodeStatistics(base))
    envs.seed(5)
    envs.reset()
    envs.reset()
    assert base.seen == [(5, None), (None, None)]
    assert np.array_equal(np.stack(envs.env_method("action_masks")), base.action_masks())
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("no_such_thing")
    assert envs.get_attr("num_envs") == [3, 3, 3]
    envs.set_attr("bonus", 2.0)
    assert envs.get_attr("bonus", indices=[0]) == [2.0]
    assert envs.env_is_wrapped(Monitor) == [False] * 3
    for call in (envs.set_attr, envs.env_method):
        with pytest.raises(ValueError, match="all or none"):
            call("action_masks", 1, indices=[0])
    with pytest.raises(ValueError, match="gave 2 results"):
        envs.env_method("one_too_few")
    for _ in range(3):
        _, _, dones, infos = envs.step(np.arange(3))
    assert dones.all()
    assert [info["episode"]["r"] for info in infos] == [0.0, 3.0, 6.0]
    assert [info["terminal_observation"].tolist() for info in infos] == [[3.0]] * 3


def test_rendering(tmp_path):
    envs = adapted(lambda: ToyEnv(render_mode="rgb_array"))
    envs.reset()
    assert envs.render_mode == "rgb_array"
    assert envs.render().shape == (8, 8, 3)
    assert len(envs.get_images()) == 4
    pytest.importorskip("moviepy")
    video = VecVideoRecorder(envs, str(tmp_path), lambda step: step == 0, video_length=2)
    assert video.frames_per_sec == 5


def test_what_it_refuses():
    with pytest.raises(ValueError, match="SAME_STEP is needed"):
        StableBaselinesVecEnv(gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"))
    with pytest.raises(ValueError, match="did you mean 'lean'"):
        adapted(ToyEnv, infos="leen")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_make_vec_env(mode):
    settings = {"vectorization_mode": mode, "max_episode_steps": 5}
    envs = make_vec_env("CartPole-v1", 3, seed=2, **settings)
    try:
        first = envs.reset()
        assert envs.get_attr("render_mode") == [None] * 3
        for i in range(3):
            np.testing.assert_array_equal(first[i], gym.make("CartPole-v1").reset(seed=2 + i)[0])
    finally:
        envs.close()


@pytest.mark.parametrize("name", ["cartpole", "dict"])
def test_ppo_and_dqn_learn_the_same_as_on_dummy_vec_env(name):
    policy = "MultiInputPolicy" if name == "dict" else "MlpPolicy"
    for algorithm, settings in (
        (PPO, {"n_steps": 32, "batch_size": 32, "n_epochs": 2}),
        (DQN, {"learning_starts": 40, "batch_size": 16, "buffer_size": 400}),
    ):
        first, second = (
            algorithm(policy, envs, seed=3, device="cpu", **settings).learn(256)
            for envs in both(name, VecMonitor)
        )
        assert len(first.ep_info_buffer) == len(second.ep_info_buffer) > 5
        pairs = zip(first.ep_info_buffer, second.ep_info_buffer, strict=True)
        assert all(one["r"] == other["r"] and one["l"] == other["l"] for one, other in pairs)
        weights = zip(first.policy.parameters(), second.policy.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in weights)


def test_evaluate_policy():
    model = PPO("MlpPolicy", VecMonitor(adapted(MAKERS["cartpole"])), n_steps=32, device="cpu")
    results = []
    for envs in both("cartpole", VecMonitor):
        envs.seed(9)
        results.append(evaluate_policy(model, envs, 8, return_episode_rewards=True))
    assert results[0] == results[1]


@pytest.mark.parametrize("native", [False, True])
def test_maskable_ppo_finds_the_masks(native):
    contrib = pytest.importorskip("sb3_contrib")
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

    envs = StableBaselinesVecEnv(ToyVectorEnv(4)) if native else adapted(MAKERS["array"])
    assert is_masking_supported(envs)
    settings = {"n_steps": 16, "batch_size": 32, "device": "cpu"}
    model = contrib.MaskablePPO("MlpPolicy", VecMonitor(envs), **settings).learn(128)
    observations = envs.reset()
    for _ in range(20):
        masks = get_action_masks(envs)
        assert masks.shape == (4, 3)
        actions, _ = model.predict(observations, action_masks=masks)
        assert masks[np.arange(4), actions].all()
        observations, *_ = envs.step(actions)


def test_the_package_does_not_import_stable_baselines3():
    code = "import sys, mjoa_gym, mjoa_gym.envs.adapters; print('stable_baselines3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
