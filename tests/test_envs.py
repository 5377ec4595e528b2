"""What holds for every registered environment."""

import json
import multiprocessing
import pickle
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence

import mjoa_gym
from mjoa_gym import Plan, Scenario, decode_observation, evaluate
from mjoa_gym.envs import ENTRY_POINTS, OBSERVERS
from mjoa_gym.envs.actions import ACTION_VIEWS
from mjoa_gym.world.population import link_names
from mjoa_gym.world.rounds import of_ues

IDS = tuple(ENTRY_POINTS)
every_env = pytest.mark.parametrize("env_id", IDS)


def roll_out(env, seed, steps=12):
    """All that an environment says under actions that depend on the seed only."""
    env.action_space.seed(seed)
    said = [env.reset(seed=seed)]
    for _ in range(steps):
        said.append(env.step(env.action_space.sample()))
        if said[-1][3]:
            said.append(env.reset())
    return said


def equal_shares(env, **marks):
    """An action with equal shares and the given rows of marks, all zeros where not given."""
    n, width = env.action_space["placements"].shape
    keys = set(env.action_space) & {"placements", "prefetch", "retain"}
    action = {key: marks.get(key, np.zeros((n, width), np.int8)) for key in keys}
    return action | {key: np.full(n, 1.0 / n) for key in ("bandwidth_share", "compute_share")}


@every_env
def test_gymnasium_check_env(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, rounds=7).unwrapped)


@every_env
def test_check_env_with_other_settings(env_id):
    scenario = {"dnns": ["alexnet"], "ue_devices": ["phone-cpu"], "upload": "serial"}
    check_env(gym.make(env_id, n_ues=1, scenario=scenario).unwrapped, skip_render_check=True)


@every_env
def test_make_with_the_module_and_idempotent_registration(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mjoa_gym.register_all()
        env = gym.make(f"mjoa_gym:{env_id}", action="plan", n_ues=2)
    assert env.observation_space["snr_up"].shape == (2,)
    assert not env.spec.nondeterministic


@every_env
def test_the_same_seed_repeats_and_another_differs(env_id):
    one, two = (gym.make(env_id, rounds=5) for _ in range(2))
    said = roll_out(one, 7)
    assert data_equivalence(said, roll_out(two, 7), exact=True)
    assert data_equivalence(said, roll_out(one, 7), exact=True)
    other = roll_out(two, 8)
    assert not np.array_equal(said[0][0]["snr_up"], other[0][0]["snr_up"])
    assert [s[1] for s in said[1:6]] != [s[1] for s in other[1:6]]


@every_env
def test_rounds_differ_within_an_episode_and_episodes_from_each_other(env_id):
    said = roll_out(gym.make(env_id, rounds=5), 0)
    snrs = {tuple(s[0]["snr_up"]) for s in said}
    assert len(snrs) == len(said)


@every_env
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_copies_differ_and_equal_single_environments(env_id, mode):
    envs = gym.make_vec(env_id, num_envs=3, vectorization_mode=mode, rounds=4)
    try:
        envs.action_space.seed(0)
        observation, _ = envs.reset(seed=5)
        assert len({tuple(row) for row in observation["snr_up"]}) == 3
        assert observation in envs.observation_space
        singles = [gym.make(env_id, rounds=4) for _ in range(3)]
        for i, single in enumerate(singles):
            single.reset(seed=5 + i)
        for _ in range(3):
            actions = envs.action_space.sample()
            assert actions in envs.action_space
            observation, rewards, _, _, _ = envs.step(actions)
            for i, single in enumerate(singles):
                alone = single.step({key: value[i] for key, value in actions.items()})
                assert alone[1] == rewards[i]
                for key, value in alone[0].items():
                    np.testing.assert_array_equal(observation[key][i], value)
    finally:
        envs.close()


@every_env
def test_the_horizon_is_a_truncation(env_id):
    env = gym.make(env_id, rounds=3)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(ResetNeeded):
        env.step(env.action_space.sample())
    assert env.reset()[0]["round"] == [0]
    assert env.spec.max_episode_steps is None


@every_env
def test_stepping_needs_a_reset_and_options_do_not_exist(env_id):
    env = gym.make(env_id).unwrapped
    with pytest.raises(ResetNeeded):
        env.step(env.action_space.sample())
    with pytest.raises(ValueError, match="has none"):
        env.reset(options={"difficulty": "hard"})


@every_env
@pytest.mark.parametrize("seed", range(3))
def test_rewards_and_what_info_says(env_id, seed):
    env = gym.make(env_id, scenario={"weight_max": 5.0}, rounds=4)
    observation, info = env.reset(seed=seed)
    for _ in range(4):
        weight = observation["weight"]
        observation, reward, terminated, _, info = env.step(env.action_space.sample())
        assert type(reward) is float
        assert reward < 1.0
        assert terminated is False
        saved = 1 - weight @ info["latency_s"] / (weight @ info["local_s"])
        assert reward == pytest.approx(saved, rel=1e-12)
        assert type(info["round_s"]) is float
        assert info["round_s"] >= info["latency_s"].max()


@every_env
def test_doing_nothing_earns_nothing(env_id):
    env = gym.make(env_id, rounds=4)
    env.reset(seed=0)
    nothing = equal_shares(env)
    nothing["bandwidth_share"] = nothing["compute_share"] = np.zeros(5)
    assert [env.step(nothing)[1] for _ in range(4)] == [0.0] * 4


@every_env
@pytest.mark.parametrize("name", Scenario.names())
def test_an_observation_gives_the_instance_back_exactly(env_id, name):
    env = gym.make(env_id, scenario=name, rounds=6)
    env.action_space.seed(1)
    observation, _ = env.reset(seed=1)
    scenario = Scenario.load(name)
    for _ in range(6):
        instance = decode_observation(observation, scenario)
        action = env.action_space.sample()
        depth = [ue.dnn.n_layers for ue in instance.ues]
        plan = Plan(
            [row[:n] for row, n in zip(action["placements"], depth, strict=True)],
            action["bandwidth_share"],
            action["compute_share"],
        )
        state = env.unwrapped.core.batch.state
        if "resident" in observation:
            rows = of_ues(state.resident, state.population.dnn, scenario.share_parameters)[0]
            for ue, row in zip(instance.ues, rows, strict=True):
                np.testing.assert_array_equal(ue.resident, row[: ue.dnn.n_layers])
        for key, name in {"weight": "weight", **link_names(scenario)}.items():
            values = [getattr(ue, key) for ue in instance.ues]
            np.testing.assert_array_equal(values, getattr(state.population, name)[0])
        observation, _, _, _, info = env.step(action)
        np.testing.assert_array_equal(evaluate(instance, plan), info["latency_s"])


def test_an_incomplete_observation_is_refused():
    with pytest.raises(ValueError, match="no entry 'dnn'"):
        decode_observation({}, Scenario())


def test_cold_start_is_the_simulator():
    """The reward is `evaluate` on the decoded instance, and nothing is ever resident."""
    env = gym.make("MJOA/ColdStart-v1", rounds=20)
    observation, _ = env.reset(seed=3)
    for _ in range(20):
        instance = decode_observation(observation, env.unwrapped.scenario)
        assert not any(ue.resident.any() for ue in instance.ues)
        action = equal_shares(env, placements=env.action_space["placements"].sample())
        rows = zip(action["placements"], instance.ues, strict=True)
        plan = Plan([row[: ue.dnn.n_layers] for row, ue in rows], *[np.full(5, 0.2)] * 2)
        observation, reward, *_ = env.step(action)
        seconds = evaluate(instance, plan).sum()
        assert reward == pytest.approx(1 - seconds / instance.local_s.sum(), rel=1e-12)


@every_env
def test_pickling_in_the_middle_of_an_episode(env_id):
    env = gym.make(env_id, rounds=8).unwrapped
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    copy = pickle.loads(pickle.dumps(env))
    assert copy.action_space == env.action_space
    for _ in range(4):
        action = env.action_space.sample()
        assert data_equivalence(env.step(action), copy.step(action), exact=True)


@every_env
def test_a_spec_survives_json(env_id):
    scenario = Scenario(n_ues=3, dnns=("alexnet", "nin"), rounds=4)
    env = gym.make(env_id, scenario=scenario, action="plan")
    text = env.spec.to_json()
    assert isinstance(json.loads(text)["kwargs"]["scenario"], dict)
    again = gym.make(EnvSpec.from_json(text))
    assert again.unwrapped.scenario == scenario
    assert data_equivalence(roll_out(env, 2), roll_out(again, 2), exact=True)


def first_rewards(env_id):
    env = gym.make(f"mjoa_gym:{env_id}", rounds=5)
    return [step[1] for step in roll_out(env, 4)[1:6]]


def test_spawned_processes_agree():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(first_rewards, IDS) == [first_rewards(env_id) for env_id in IDS]


@every_env
def test_constructor_errors_are_named(env_id):
    for kwargs, message in (
        ({"action": "plam"}, "did you mean 'plan'"),
        ({"n_ues": 0}, "n_ues=0"),
        ({"rounds": 0}, "rounds=0"),
        ({"scenario": "none"}, "scenario='none'"),
        ({"scenario": {"band": 1}}, "no field 'band'"),
        ({"render_mode": "human"}, "human"),
    ):
        with pytest.raises(ValueError, match=message):
            type(gym.make(env_id).unwrapped)(**kwargs)


@every_env
def test_overrides(env_id):
    env = gym.make(env_id, n_ues=2, rounds=3, scenario="crowded").unwrapped
    assert (env.scenario.n_ues, env.scenario.rounds) == (2, 3)
    assert Scenario.load("crowded").n_ues == 15


@every_env
@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_rendering(env_id, mode):
    env = gym.make(env_id, render_mode=mode, n_ues=2)
    env.reset(seed=0)
    frames = [env.render()]
    for _ in range(2):
        env.step(env.action_space.sample())
        frames.append(env.render())
    if mode == "ansi":
        assert all(isinstance(frame, str) and "UE 1" in frame for frame in frames)
    else:
        assert all(f.dtype == np.uint8 and f.shape == frames[0].shape for f in frames)
        assert frames[0].shape[2] == 3
    assert not np.array_equal(frames[0], frames[1])


def test_importing_loads_no_learning_or_drawing_library():
    code = "import sys, mjoa_gym; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "matplotlib", "stable_baselines3", "pandas", "agents", "pygame"}
    assert not heavy & set(out.stdout.split())


@pytest.mark.parametrize(
    "make",
    [
        lambda **given: gym.make("MJOA/Streaming-v1", **given),
        lambda **given: gym.make_vec(
            "MJOA/Streaming-v1", 2, vectorization_mode="vector_entry_point", **given
        ),
        lambda **given: mjoa_gym.parallel_env("MJOA/Streaming-v1", **given),
        lambda **given: sb3_envs("MJOA/Streaming-v1", **given),
    ],
    ids=["one", "vector", "parallel", "sb3"],
)
@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (
            {"bandwidth_hz": 2e7},
            r"a field of the scenario: scenario=\{'bandwidth_hz': 20000000.0\}",
        ),
        ({"n_use": 3}, "did you mean 'n_ues'"),
        ({"nonsense": 3}, "allowed are .*'rounds'"),
        ({"frameskip": 1}, "allowed are .*'rounds'"),
    ],
)
def test_what_is_no_argument_gets_pythons_words_and_a_hint(make, given, hint):
    words = rf"Env\.__init__\(\) got an unexpected keyword argument '{next(iter(given))}'; .*{hint}"
    with pytest.raises(TypeError, match=words):
        make(**given)


def sb3_envs(*args, **kwargs):
    pytest.importorskip("stable_baselines3")
    from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env

    return make_vec_env(*args, **kwargs)


def test_a_scenario_of_another_type_is_refused():
    with pytest.raises(TypeError, match="scenario=3: must be"):
        gym.make("MJOA/Streaming-v1", scenario=3)


def kinds(info):
    """What is said, but for the numbers."""
    if isinstance(info, tuple):
        return [kinds(value) for value in info]
    return (info.dtype, info.shape) if isinstance(info, np.ndarray) else type(info)


@every_env
@pytest.mark.parametrize("action", tuple(ACTION_VIEWS))
def test_info_is_of_one_kind_from_reset_to_end(env_id, action):
    """Recorders stack what they get."""
    env = gym.make(env_id, action=action, n_ues=3, rounds=2)
    one_by_one = env.unwrapped.view.one_by_one
    first, steps = env.reset(seed=0)[1], 6 if one_by_one else 2
    infos = [first, *(env.step(env.action_space.sample())[4] for _ in range(steps)), env.reset()[1]]
    assert len({str({key: kinds(value) for key, value in info.items()}) for info in infos}) == 1
    complete = [info["round_complete"] for info in infos]
    of_round = [False, False, True] if one_by_one else [True]
    assert complete == [False, *of_round, *of_round, False]
    for info in infos:
        for key in set(info) - {"action_mask", "left", "missed", "resident_bytes", "dropped_bytes"}:
            assert np.all(info[key]) == np.any(info[key]) == info["round_complete"]


RESERVED = {"batch_dims", "batch_size", "device", "dtype", "keys", "names", "shape", "space"}


@every_env
@pytest.mark.parametrize("action", tuple(ACTION_VIEWS))
def test_no_key_is_a_word_that_containers_keep_for_themselves(env_id, action):
    env = gym.make(env_id, action=action, observation="dict")
    for keys in (env.observation_space, env.reset()[1], env.action_space):
        if isinstance(keys, (dict, gym.spaces.Dict)):
            assert not RESERVED & set(keys)


@every_env
@pytest.mark.parametrize("action", ["box", "multidiscrete", "discrete", "shares-box"])
@pytest.mark.parametrize("observation", tuple(OBSERVERS))
@pytest.mark.filterwarnings("ignore")  # of TorchRL's own
def test_torchrl_takes_them(env_id, action, observation):
    envs = pytest.importorskip("torchrl.envs")
    given = {"action": action, "observation": observation, "n_ues": 2}
    env, own = envs.GymEnv(env_id, **given), gym.make(env_id, **given)
    envs.check_env_specs(env)
    keys = set(own.observation_space) if observation == "dict" else {"observation"}
    assert keys <= set(env.rollout(3).keys())
