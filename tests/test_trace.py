"""Links that follow a measured trace."""

import json
import pickle
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml

import mjoa_gym
from mjoa_gym import UE, Instance, Plan, Scenario, decode_observation, evaluate
from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.api_test import api_test
from mjoa_gym.planners import plan_with
from mjoa_gym.world.population import DRAWS, OFFSET
from mjoa_gym.world.randomness import fill_uniform
from mjoa_gym.world.trace import (
    MESSAGE,
    UP,
    GivenTrace,
    load_trace,
    mean_of,
    row_at,
    trace_names,
)
from tests.pairs import every_pair

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import make_trace

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
STEPS = "seconds,uplink_bps,downlink_bps\n2,8e6,80e6\n3,16e6,160e6\n5,4e6,40e6\n"
OTHER = "seconds;uplink_bps;downlink_bps;message_s\n0;1,5e6;3e6;0,02\n"


@pytest.fixture
def steps(tmp_path):
    path = tmp_path / "steps.csv"
    path.write_text(STEPS)
    return path


@pytest.fixture
def other(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text(OTHER)
    return path


def small(*traces, **changes):
    settings = {"n_ues": 3, "rounds": 6, "dnns": ("alexnet", "nin"), "message_s": 0.005} | changes
    return Scenario(trace=[str(path) for path in traces], **settings)


def uplink_at(clock_s):
    """What the file above says, by hand: it lasts 5 s, and begins 2 s after its clock's zero."""
    return 8e6 if clock_s < 1 else 16e6 if clock_s < 3 else 4e6


def test_a_file_is_rows_from_its_start_and_the_moment_of_its_end(steps, other):
    trace = load_trace(str(steps), 0.005)
    assert trace.tolist() == [
        [0, 8e6, 80e6, 0.005],
        [1, 16e6, 160e6, 0.005],
        [3, 4e6, 40e6, 0.005],
        [5, 4e6, 40e6, 0.005],  # the last row lasts as long as the one before
    ]
    assert mean_of(trace)[UP] == pytest.approx((8e6 + 2 * 16e6 + 2 * 4e6) / 5)
    assert load_trace(str(other), 0.0).tolist() == [[0, 1.5e6, 3e6, 0.02], [1, 1.5e6, 3e6, 0.02]]
    scenario = small(steps, other)
    assert scenario.traces.shape == (2, 4, 4)
    assert scenario.traces[1, :, 0].tolist() == [0, 1, 1, 1]
    assert scenario.link_limits.tolist() == [[1.5e6, 3e6, 0.005], [16e6, 160e6, 0.02]]


@pytest.mark.parametrize(
    ("seconds", "row"), [(0.0, 0), (0.999, 0), (1.0, 1), (2.9, 1), (3.0, 2), (4.999, 2)]
)
def test_a_moment_has_the_last_row_at_or_before_it(seconds, row, steps, other):
    trace, short = small(steps, other).traces

    def found(rows):  # kernels without an entrance from Python are tried as Python
        return row_at.py_func(rows, seconds)

    assert found(trace) == row
    assert found(short) == 0 or seconds >= 1.0


def test_clocks_move_on_by_the_rounds_and_repeat(steps, other):
    scenario = small(steps, other, rounds=30, departure_probability=0.0)
    env = gym.make("MJOA/Streaming-v1", scenario=scenario)
    observation, _ = env.reset(seed=4)
    people = env.unwrapped.core.batch.state.population
    clock_s, seen = people.clock_s[0].copy(), set()
    assert (clock_s < [5, 1, 5]).all()
    assert clock_s[0] != clock_s[2]
    env.action_space.seed(0)
    for _ in range(30):
        expected = [uplink_at(clock_s[0]), 1.5e6, uplink_at(clock_s[2])]
        np.testing.assert_array_equal(observation["uplink_bps"], expected)
        assert observation["downlink_bps"].tolist() == [10 * expected[0], 3e6, 10 * expected[2]]
        assert observation["message_s"].tolist() == [0.005, 0.02, 0.005]
        observation, _, _, _, info = env.step(env.action_space.sample())
        clock_s = (clock_s + info["round_s"]) % [5, 1, 5]
        np.testing.assert_array_equal(people.clock_s[0], clock_s)
        seen.add(expected[0])
    assert seen == {8e6, 16e6, 4e6}


def test_newcomers_begin_anywhere(steps):
    scenario = small(steps, n_ues=1, rounds=400)
    env = gym.make("MJOA/ColdStart-v1", scenario=scenario).unwrapped
    env.reset(seed=0)
    nothing = {key: np.zeros_like(space.sample()) for key, space in env.action_space.items()}
    clock_s = []
    for _ in range(400):
        clock_s.append(env.core.batch.state.population.clock_s[0, 0])
        env.step(nothing)
    assert np.histogram(clock_s, bins=5, range=(0, 5))[0].min() > 50
    leaving = gym.make(
        "MJOA/Streaming-v1", scenario=scenario.with_changes(departure_probability=1.0)
    ).unwrapped
    leaving.reset(seed=0)
    before = leaving.core.batch.state.population.clock_s[0, 0]
    more = dict.fromkeys(("prefetch", "retain"), nothing["placements"])
    info = leaving.step(nothing | more)[4]
    after = leaving.core.batch.state.population.clock_s[0, 0]
    assert info["left"].all()
    assert after != (before + info["round_s"]) % 5


@every_env
def test_the_offset_is_drawn_after_everything_else(env_id, steps):
    """The first UE is who it would be without a trace, and so are all of them from there on."""
    traced = gym.make(env_id, scenario=small(steps, n_ues=1)).unwrapped
    plain = gym.make(env_id, scenario=small(steps, n_ues=1).with_changes(name="x")).unwrapped
    untraced = gym.make(env_id, scenario=Scenario(n_ues=1, dnns=("alexnet", "nin"))).unwrapped
    shown = [env.reset(seed=9)[0] for env in (traced, plain, untraced)]
    for key in ("dnn", "ue_device", "speed", "weight"):
        np.testing.assert_array_equal(shown[0][key], shown[2][key])
    assert shown[0]["uplink_bps"] == shown[1]["uplink_bps"]
    stream = np.zeros(1, np.uint64)
    stream[0] = np.random.default_rng(0).integers(0, 1 << 64, dtype=np.uint64)
    env = traced.core.batch
    env.state.stream[0], draws = stream[0], np.empty(DRAWS)
    env.begin(np.ones(1, np.bool_))
    fill_uniform(stream, 0, draws[: OFFSET + 1])
    assert env.state.stream[0] == stream[0]
    assert env.state.population.clock_s[0, 0] == draws[OFFSET] * 5


@every_env
@every_pair
def test_environments_keep_their_promises(env_id, action, observation, steps, other):
    scenario = small(steps, other, rounds=2)
    api_test(
        gym.make(env_id, scenario=scenario, action=action, observation=observation), episodes=1
    )


@every_env
def test_copies_differ(env_id):
    envs = gym.make_vec(
        env_id, 16, vectorization_mode="vector_entry_point", scenario="measured-uplink"
    )
    observation, _ = envs.reset(seed=0)
    assert len({tuple(row) for row in observation["uplink_bps"]}) == 16


@every_env
@pytest.mark.parametrize("trace", [("steps", "other"), ("steps",), ("glasgow-like",)])
def test_observations_give_the_instance_back(env_id, trace, steps, other):
    files = {"steps": steps, "other": other}
    scenario = small(*(files.get(name, name) for name in trace))
    envs = [gym.make(env_id, scenario=scenario, observation=name) for name in ("dict", "flat")]
    observation, flat = (env.reset(seed=1)[0] for env in envs)
    envs[0].action_space.seed(1)
    for _ in range(scenario.rounds):
        instance = envs[0].unwrapped.core.batch.instance(0)
        exact, near = (decode_observation(shown, scenario) for shown in (observation, flat))
        for ue, same, similar in zip(instance.ues, exact.ues, near.ues, strict=True):
            assert ue.snr_up is None
            for key in ("uplink_bps", "downlink_bps", "message_s", "weight"):
                assert getattr(ue, key) == getattr(same, key)
                assert getattr(similar, key) == pytest.approx(getattr(ue, key), rel=1e-5)
            np.testing.assert_array_equal(ue.resident, same.resident)
            np.testing.assert_allclose(ue.resident, similar.resident, atol=1e-6)
            assert ue.dnn is same.dnn is similar.dnn
        action = envs[0].action_space.sample()
        depth = [ue.dnn.n_layers for ue in instance.ues]
        rows = [row[:n] for row, n in zip(action["placements"], depth, strict=True)]
        plan = Plan(rows, action["bandwidth_share"], action["compute_share"])
        observation, _, _, _, info = envs[0].step(action)
        flat = envs[1].step(action)[0]
        np.testing.assert_array_equal(evaluate(exact, plan), info["latency_s"])


def test_message_costs_may_differ_between_ues():
    dnn = mjoa_gym.DNN("toy", [1e9, 2e9], [1e3, 0], [1e5, 10], [[-1], [0]], 1e5)
    given = {"ue_seconds": [1, 2], "edge_seconds": [0.1, 0.2]}
    given |= {"uplink_bps": 8e6, "downlink_bps": 8e7}
    ues = [UE(dnn, **given), UE(dnn, **given, message_s=0.5)]
    plan = Plan([[1, 1], [1, 1]], [0.5, 0.5], [0.5, 0.5])
    plain, slow = evaluate(Instance(ues), plan)
    assert slow == pytest.approx(plain + 1.0)  # the input's message, and the result's
    assert evaluate(Instance(ues, message_s=0.5), plan) == pytest.approx([slow, slow])
    assert pickle.loads(pickle.dumps(ues[1])).message_s == 0.5
    with pytest.raises(ValueError, match="message_s=-1"):
        UE(dnn, **given, message_s=-1)


@every_env
@pytest.mark.parametrize("planner", ["local-only", "mjoa-mu", "far-sighted", "random"])
def test_the_packaged_scenario_is_played(env_id, planner):
    env = gym.make(env_id, scenario="measured-uplink", rounds=2)
    observation, _ = env.reset(seed=0)
    scenario, over, total = env.unwrapped.scenario, False, 0.0
    while not over:
        plan = plan_with(planner, decode_observation(observation, scenario))
        action = env.unwrapped.view.encode(plan)
        observation, reward, _, over, _ = env.step(action)
        total += reward
    assert {"local-only": total == 0, "random": total < 1}.get(planner, total > 0)


def test_pictures_parallel_and_stable_baselines3():
    for mode in ("ansi", "rgb_array"):
        env = gym.make("MJOA/Streaming-v1", scenario="measured-uplink", render_mode=mode, n_ues=2)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        assert len(env.render()) > 0
    pytest.importorskip("pettingzoo")
    many = mjoa_gym.parallel_env("MJOA/Streaming-v1", scenario="measured-uplink", rounds=2)
    many.reset(seed=0)
    while many.agents:
        many.step({agent: many.action_space(agent).sample() for agent in many.agents})
    pytest.importorskip("stable_baselines3")
    from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env

    envs = make_vec_env("MJOA/Streaming-v1", 3, scenario="measured-uplink", action="multidiscrete")
    envs.reset()
    actions = np.array([envs.action_space.sample() for _ in range(3)])
    assert np.isfinite(envs.step(actions)[1]).all()


def test_the_outlook_takes_rates():
    given = {"action": "multidiscrete", "scenario": "measured-uplink"}
    shown, seen = (
        gym.make("MJOA/Streaming-v1", observation=name, **given).reset(seed=0)[0]
        for name in ("dict", "outlook")
    )
    band_hz = Scenario.load("measured-uplink").bandwidth_hz
    np.testing.assert_allclose(seen[:, 3], shown["uplink_bps"] / band_hz / 20, rtol=1e-6)


def test_a_scenario_names_its_files(steps, other, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "mine.yaml"
    path.write_text("trace: ../steps.csv\nn_ues: 2\n")
    scenario = Scenario.load(path)
    assert scenario.trace == str(steps)
    path.write_text(yaml.safe_dump(scenario.to_dict()))
    assert Scenario.load(path) == scenario
    path.write_text("trace: [../steps.csv, glasgow-like, ../other.csv]\n")
    several = Scenario.load(path)
    assert several.trace == (str(steps), "glasgow-like", str(other))
    assert Scenario.from_dict(json.loads(json.dumps(several.to_dict()))) == several
    assert pickle.loads(pickle.dumps(several)) == several
    monkeypatch.chdir(tmp_path)
    assert Scenario(trace=Path("steps.csv")).trace == str(steps)
    assert not Scenario().traced
    assert Scenario().to_dict()["trace"] is None


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("glasgow", "trace='glasgow': allowed are .*ends in .csv or .tsv; did you mean 'glasgow-l"),
        ([], r"trace is empty: at least one"),
        (3, "trace=3: must be a packaged trace, a file, or a list"),
        (["glasgow-like", 3], "must be a packaged trace"),
    ],
)
def test_what_is_no_trace_is_refused(trace, message):
    with pytest.raises(ValueError, match=message):
        Scenario(trace=trace)


HEAD = "seconds,uplink_bps,downlink_bps,message_s\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: the columns seconds, uplink_bps, downlink_bps are needed"),
        ("seconds,uplink_bps\n", "'downlink_bps' is missing"),
        (HEAD.replace("\n", ",seconds\n"), "'seconds' occurs twice"),
        (HEAD, "has no rows: at least one is needed"),
        (HEAD + "0,1e6,1e6\n", "line 2: has 3 values: 4 are needed"),
        (HEAD + "0,1e6,1e6,0\n0,1e6,1e6,0\n", r"line 3: seconds=0.0: must be above 0.0 as before"),
        (HEAD + "-1,1e6,1e6,0\n", "line 2: seconds=-1.0: must be finite and >= 0"),
        (HEAD + "0,0,1e6,0\n", "line 2: uplink_bps=0.0: must be above 0"),
        (HEAD + "0,1e6,nan,0\n", "line 2: downlink_bps=nan: must be finite"),
        (HEAD + "0,1e6,fast,0\n", "line 2: downlink_bps='fast': must be a number"),
        (HEAD + "0,1e6,1e6,-0.1\n", "line 2: message_s=-0.1: must be finite and >= 0"),
    ],
)
def test_a_files_faults_are_named(text, message, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bad\.csv: .*{message}"):
        Scenario(trace=str(path))


def test_a_file_is_read_again_when_it_has_changed(steps):
    scenario = small(steps)
    steps.write_text(STEPS.replace("8e6", "9.5e6"))
    assert scenario.with_changes(n_ues=1).traces[0, 0, UP] == 9.5e6
    assert scenario.traces[0, 0, UP] == 8e6


def test_a_trace_may_be_given_in_place_of_a_file(steps, other):
    """The same scenario but for what can be written down."""
    loaded = [load_trace(str(file), 0.0) for file in (steps, other)]
    given = Scenario(trace=[GivenTrace(loaded[0]), str(other)], message_s=0.0)
    files = Scenario(trace=[str(steps), str(other)], message_s=0.0)
    assert np.array_equal(given.traces, files.traces)
    assert np.array_equal(given.link_limits, files.link_limits)
    alone = Scenario(trace=GivenTrace(loaded[0]))
    assert alone.traced
    assert np.array_equal(alone.with_changes(n_ues=2).traces[0], loaded[0])
    with pytest.raises(ValueError, match="trace holds objects"):
        alone.to_dict()
    with pytest.raises(ValueError, match="trace holds objects"):
        given.to_dict()


def test_chance_is_seeded_by_rates():
    dnn = mjoa_gym.DNN.load("alexnet")
    plans = [
        plan_with("random", Instance([UE(dnn, *np.ones((2, 12)), uplink_bps=up, downlink_bps=1e8)]))
        for up in (1e7, 1.1e7)
    ]
    assert not np.array_equal(*(plan.placements[0] for plan in plans))


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"none\.csv"):
        Scenario(trace=str(tmp_path / "none.csv"))


def test_packaged_traces_have_the_published_figures():
    assert trace_names() == tuple(sorted(make_trace.RECIPES)) == ("glasgow-like", "walking-like")
    glasgow = load_trace("glasgow-like", 0.0)
    _, up, down, message_s = mean_of(glasgow)
    assert up == pytest.approx(165.05e6, rel=1e-4)
    assert down == pytest.approx(670.63e6, rel=1e-4)
    assert 2 * message_s == pytest.approx(21.62e-3, rel=1e-3)
    walking = load_trace("walking-like", 0.003)[:-1]
    assert (walking[:, MESSAGE] == 0.003).all()
    most = np.quantile(walking[:, UP], (0.1, 0.9))
    assert most == pytest.approx([28e6, 42e6], rel=0.02)
    for name, recipe in make_trace.RECIPES.items():
        rows = load_trace(name, 0.0)[:-1]
        assert len(rows) == make_trace.ROWS
        level = np.log(rows[:, UP])
        assert level.std() == pytest.approx(recipe.sigma, rel=1e-3)
        assert rows[:, UP].mean() == pytest.approx(1e6 * recipe.uplink_mbps, rel=1e-4)


def test_packaged_traces_are_what_the_script_makes(tmp_path, capsys):
    assert make_trace.main(["--out", str(tmp_path)]) == 0
    for name in trace_names():
        made = load_trace(str(tmp_path / f"{name}.csv"), 0.0)
        np.testing.assert_allclose(made, load_trace(name, 0.0), rtol=1e-3, atol=1e-5)
