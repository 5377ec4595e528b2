"""The native vector environments against Gymnasium's loop over single ones."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from mjoa_gym.envs import ENTRY_POINTS, OBSERVERS
from mjoa_gym.envs.actions import ACTION_VIEWS

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
every_view = pytest.mark.parametrize("action", tuple(ACTION_VIEWS))
SMALL = {
    "dnns": ["alexnet", "googlenet"],
    "departure_probability": 0.2,
    "server_memory_bytes": 5e7,
    "weight_max": 3.0,
}


def native(env_id, num_envs=3, **kwargs):
    kwargs = {"scenario": SMALL, "n_ues": 3, "rounds": 3} | kwargs
    return gym.make_vec(
        env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs
    )


def looped(env_id, num_envs=3, autoreset_mode=AutoresetMode.NEXT_STEP, **kwargs):
    kwargs = {"scenario": SMALL, "n_ues": 3, "rounds": 3} | kwargs
    makers = [lambda: gym.make(env_id, **kwargs)] * num_envs
    return SyncVectorEnv(makers, autoreset_mode=autoreset_mode)


def assert_equal_steps(one, other, steps=14, seed=5):
    """Two vector environments say the same, step by step, to the last bit."""
    for envs in (one, other):
        envs.action_space.seed(1)
    assert one.action_space == other.action_space
    assert one.observation_space == other.observation_space
    assert data_equivalence(one.reset(seed=seed), other.reset(seed=seed), exact=True)
    for _ in range(steps):
        actions = one.action_space.sample()
        said, expected = one.step(actions), other.step(actions)
        assert said[0] in one.observation_space
        for mine, theirs in zip(said, expected, strict=True):
            assert data_equivalence(mine, theirs, exact=True)


@every_env
@every_view
@pytest.mark.parametrize("observation", tuple(OBSERVERS))
def test_native_equals_looped_through_autoresets(env_id, action, observation):
    kwargs = {"action": action, "observation": observation}
    assert_equal_steps(native(env_id, **kwargs), looped(env_id, **kwargs))


@every_env
@every_view
def test_same_step_autoreset_equals_looped(env_id, action):
    mode = AutoresetMode.SAME_STEP
    one = native(env_id, action=action, autoreset_mode="same_step")
    assert one.metadata["autoreset_mode"] == mode
    assert_equal_steps(one, looped(env_id, action=action, autoreset_mode=mode))


@every_env
def test_seed_lists_and_going_on_without_a_seed(env_id):
    kwargs = {"action": "box"}
    one, other = native(env_id, **kwargs), looped(env_id, **kwargs)
    for seed in ([3, 1, 4], [7, None, 7], None):
        if seed == [7, None, 7]:  # the second goes on
            assert_equal_steps(one, other, steps=2, seed=seed)
            first = one.reset(seed=seed)[0]
            np.testing.assert_array_equal(first[0], first[2])
        else:
            assert_equal_steps(one, other, steps=5, seed=seed or [9, 8, 7])
    again, twice = one.reset()[0], one.reset()[0]
    assert not np.array_equal(again, twice)
    with pytest.raises(ValueError, match="seed has 2 entries for 3"):
        one.reset(seed=[1, 2])


@every_env
@every_view
def test_threads_and_company_make_no_difference(env_id, action):
    many = native(env_id, num_envs=70, threads=3, action=action)
    few = native(env_id, num_envs=70, threads=1, action=action)
    assert_equal_steps(many, few, steps=5)


@every_env
def test_copies_differ(env_id):
    envs = native(env_id, num_envs=16, action="multidiscrete")
    observation, _ = envs.reset(seed=0)
    assert len({row.tobytes() for row in observation}) == 16
    envs.reset()
    rewards = envs.step(np.tile(envs.single_action_space.sample(), (16, 1)))[1]
    assert len(set(rewards)) > 8


@every_env
def test_without_autoreset_an_end_asks_for_a_reset(env_id):
    envs = native(env_id, num_envs=2, rounds=1, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(ResetNeeded):
        envs.step(envs.action_space.sample())
    envs.reset(seed=0)
    assert envs.step(envs.action_space.sample())[3].all()
    with pytest.raises(ResetNeeded):
        envs.step(envs.action_space.sample())
    mask = np.array([True, False])
    before = envs.reset(options={"reset_mask": mask})[0]
    with pytest.raises(ResetNeeded):
        envs.step(envs.action_space.sample())
    after = envs.reset(options={"reset_mask": ~mask})[0]
    np.testing.assert_array_equal(before["snr_up"][0], after["snr_up"][0])
    envs.step(envs.action_space.sample())


@every_env
def test_bad_arguments_are_named_and_change_nothing(env_id):
    for kwargs, message in (
        ({"num_envs": 0}, "num_envs=0"),
        ({"autoreset_mode": "later"}, "autoreset_mode='LATER'"),
        ({"threads": 0}, "threads=0"),
        ({"action": "boxx"}, "did you mean 'box'"),
        ({"observation": "image"}, "observation='image'"),
    ):
        with pytest.raises(ValueError, match=message):
            native(env_id, **kwargs)
    one, twin = (native(env_id, action="box", num_envs=2) for _ in range(2))
    for envs in (one, twin):
        envs.reset(seed=0)
        envs.action_space.seed(0)
    good = one.action_space.sample()
    nan = np.where(np.arange(good.size).reshape(good.shape) == 3, np.nan, good)
    for bad, message in (
        (good[:1], "action has shape"),
        (good[:, :-1], "action has shape"),
        (nan, r"action\[3\]=nan"),
        (good.astype(str), "action has dtype"),
    ):
        with pytest.raises(ValueError, match=message):
            one.step(bad)
    with pytest.raises(ValueError, match="reset_mask"):
        one.reset(options={"reset_mask": np.array([True])})
    with pytest.raises(ValueError, match="only reset_mask"):
        one.reset(options={"speed": 1})
    assert data_equivalence(one.step(good), twin.step(good), exact=True)


@every_env
@every_view
def test_pickling_in_the_middle_of_an_episode(env_id, action):
    envs = native(env_id, action=action).unwrapped
    envs.reset(seed=0)
    envs.step(envs.action_space.sample())
    copy = pickle.loads(pickle.dumps(envs))
    for _ in range(4):
        actions = envs.action_space.sample()
        assert data_equivalence(envs.step(actions), copy.step(actions), exact=True)


@every_env
def test_gymnasiums_vector_wrappers_work(env_id):
    envs = native(env_id, action="multidiscrete")
    envs = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    envs = gym.wrappers.vector.NormalizeObservation(envs)
    envs = gym.wrappers.vector.NormalizeReward(envs)
    envs = gym.wrappers.vector.DictInfoToList(envs)
    envs.reset(seed=0)
    ends = [envs.step(envs.action_space.sample())[4] for _ in range(4)]
    assert [["episode" in info for info in infos] for infos in ends][2] == [True] * 3
    assert ends[2][0]["episode"]["l"] == 3


@every_env
@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_rendering_and_videos(env_id, mode, tmp_path):
    envs = native(env_id, action="multidiscrete", render_mode=mode, num_envs=12)
    envs.reset(seed=0)
    first = envs.render()
    for _ in range(4):
        envs.step(envs.action_space.sample())
    frames = envs.render()
    assert len(frames) == 12
    if mode == "ansi":
        assert "UE 2" in frames[0]
        assert frames[11] == "not drawn"
        return
    assert {frame.shape for frame in (*first, *frames)} == {frames[0].shape}
    assert not np.array_equal(first[0], frames[0])
    assert not np.array_equal(frames[0], frames[1])
    pytest.importorskip("moviepy")
    one = gym.make(env_id, action="box", n_ues=3, rounds=3, scenario=SMALL, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of moviepy's own
        video = gym.wrappers.RecordVideo(one, str(tmp_path), disable_logger=True)
        video.reset(seed=0)
        for _ in range(3):
            video.step(video.action_space.sample())
        video.close()
    assert [file.suffix for file in tmp_path.iterdir()] == [".mp4"]
