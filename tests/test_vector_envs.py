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
from tests.pairs import every_pair

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
    first, expected = one.reset(seed=seed), other.reset(seed=seed)
    assert data_equivalence(rows_of_masks(first), rows_of_masks(expected), exact=True)
    for _ in range(steps):
        actions = one.action_space.sample()
        said, expected = one.step(actions), other.step(actions)
        assert said[0] in one.observation_space
        for mine, theirs in zip(rows_of_masks(said), rows_of_masks(expected), strict=True):
            assert data_equivalence(mine, theirs, exact=True)


def rows_of_masks(said):
    """What an environment said, with masks that are tuples, one for each number, as rows."""
    if isinstance(said, tuple):
        return tuple(map(rows_of_masks, said))
    if not isinstance(said, dict):
        return said
    rows = {key: rows_of_masks(value) for key, value in said.items()}
    masks = rows.get("action_mask")
    if masks is not None and masks.dtype == object:
        widest = max((mask for mask in masks if isinstance(mask, tuple)), key=len)
        nothing = tuple(np.zeros_like(part) for part in widest)
        rows["action_mask"] = np.stack([np.concatenate(mask or nothing) for mask in masks])
    return rows


@every_env
@every_pair
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


@every_view
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("most", [1, 2, 5, -1])
def test_a_limit_of_steps_equals_wrapped_environments(action, mode, most):
    kwargs = {"action": action, "max_episode_steps": most}
    one = native("MJOA/Streaming-v1", autoreset_mode=mode, **kwargs)
    assert_equal_steps(one, looped("MJOA/Streaming-v1", autoreset_mode=mode, **kwargs))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_names_and_values_of_autoreset_modes(mode):
    for given in (mode, mode.name, mode.value, mode.name.lower(), mode.value.upper()):
        envs = native("MJOA/ColdStart-v1", autoreset_mode=given)
        assert envs.metadata["autoreset_mode"] is mode


@every_env
def test_attributes_and_methods_of_each_environment(env_id):
    kwargs = {"action": "discrete", "observation": "dict", "render_mode": "ansi"}
    one, other = native(env_id, **kwargs).unwrapped, looped(env_id, **kwargs)
    for envs in (one, other):
        envs.reset(seed=[3, 1, 4])
    assert one.scenario == one.get_attr("scenario")[2]
    names = ["action_space", "observation_space", "np_random_seed", "persists", "render_mode"]
    for name in (*names, "scenario", "title"):
        assert one.get_attr(name) == other.get_attr(name)
    assert one.call("render") == other.call("render")
    for mine, theirs in zip(one.call("action_masks"), other.call("action_masks"), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for envs in (one, other):
        for values, expected in (([1, 2, 3], (1, 2, 3)), ("tag", ("tag",) * 3)):
            envs.set_attr("mine", values)
            assert envs.get_attr("mine") == expected
        with pytest.raises(ValueError, match="environments"):
            envs.set_attr("mine", [1, 2])
        with pytest.raises(AttributeError, match="no_such_thing"):
            envs.get_attr("no_such_thing")
        with pytest.raises(AttributeError, match="scenario"):
            envs.set_attr("scenario", None)
    with pytest.raises(AttributeError, match="reset"):
        one.call("reset")  # that would begin all of them anew, three times


@every_env
@pytest.mark.parametrize("observation", tuple(OBSERVERS))
def test_a_first_reset_of_some(env_id, observation):
    kwargs = {"observation": observation, "action": "discrete", "render_mode": "ansi"}
    one, twin = (native(env_id, **kwargs) for _ in range(2))
    first = np.array([False, True, False])
    seen, infos = one.reset(seed=np.arange(3), options={"reset_mask": first})
    expected, _ = twin.reset(seed=0)
    assert seen in one.observation_space
    rows = list(seen.values()) if observation == "dict" else [seen]
    whole = list(expected.values()) if observation == "dict" else [expected]
    for mine, theirs in zip(rows, whole, strict=True):
        np.testing.assert_array_equal(mine[1], theirs[1])
        assert not mine[[0, 2]].any()
    for key in set(infos) - {key for key in infos if key.startswith("_")}:
        np.testing.assert_array_equal(infos[f"_{key}"], first)
    for call in (lambda: one.step(one.action_space.sample()), one.render):
        with pytest.raises(ResetNeeded, match=r"environments \[0, 2\]"):
            call()
    rest = one.reset(seed=[0, None, 2], options={"reset_mask": ~first})[0]
    assert data_equivalence(rest, expected, exact=True)
    actions = one.action_space.sample()
    assert data_equivalence(one.step(actions), twin.step(actions), exact=True)


@every_view
def test_masks_are_what_sampling_takes(action):
    envs = native("MJOA/Streaming-v1", action=action, rounds=9)
    space = envs.single_action_space
    infos = envs.reset(seed=0)[1]
    if action not in ("multidiscrete", "discrete"):
        assert "action_mask" not in infos
        return
    for _ in range(5):
        masks = envs.unwrapped.sampling_masks()
        chosen = np.array([space.sample(mask) for mask in masks])
        rows = [mask if action == "discrete" else np.concatenate(mask) for mask in masks]
        np.testing.assert_array_equal(np.equal(rows, 1), envs.unwrapped.action_masks())
        np.testing.assert_array_equal(rows, infos["action_mask"])
        infos = envs.step(chosen)[4]


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
        ({"autoreset_mode": "later"}, "autoreset_mode='later'"),
        ({"max_episode_steps": 0}, "max_episode_steps=0"),
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
    for mask in (np.array([True]), np.array([1, 0]), np.array([False, False]), "both", None):
        with pytest.raises(ValueError, match="reset_mask"):
            one.reset(options={"reset_mask": mask})
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
