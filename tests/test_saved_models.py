"""Models saved by Stable-Baselines3 and sb3-contrib, evaluated as they were trained."""

import gymnasium as gym
import numpy as np
import pytest

sb3 = pytest.importorskip("stable_baselines3")
contrib = pytest.importorskip("sb3_contrib")

from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

from mjoa_gym import Scenario  # noqa: E402
from mjoa_gym.evaluation import compare  # noqa: E402
from mjoa_gym.evaluation.agent_source import source_of  # noqa: E402
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, Setting, play  # noqa: E402
from mjoa_gym.evaluation.saved_model import model_files  # noqa: E402

SCENARIO = Scenario(dnns=("alexnet", "nin"), granularity="block", n_ues=2, rounds=3)
SETTING = Setting("streaming", SCENARIO)
SEEDS = (1_000_000, 1_000_001)
ON_POLICY = {"n_steps": 8, "batch_size": 4, "n_epochs": 1}
OFF_POLICY = {"learning_starts": 4, "buffer_size": 1000, "batch_size": 4}
CASES = {
    "ppo": (sb3.PPO, "multidiscrete", "flat", ON_POLICY),
    "a2c": (sb3.A2C, "box", "dict", {"n_steps": 4}),
    "dqn": (sb3.DQN, "discrete", "flat", OFF_POLICY),
    "sac": (sb3.SAC, "box", "flat", OFF_POLICY),
    "td3": (sb3.TD3, "box", "dict", OFF_POLICY),
    "maskable-ppo": (contrib.MaskablePPO, "discrete", "flat", ON_POLICY),
    "recurrent-ppo": (contrib.RecurrentPPO, "multidiscrete", "flat", ON_POLICY),
    "trpo": (contrib.TRPO, "box", "outlook", {"n_steps": 8, "batch_size": 4}),
    "qrdqn": (contrib.QRDQN, "discrete", "dict", OFF_POLICY),
}


def env(view, observation="flat", environment="streaming", **changes):
    return gym.make(
        ENVIRONMENTS[environment], action=view, observation=observation,
        scenario=SCENARIO.with_changes(**changes),
    )  # fmt: skip


def trained(name, normalise=False, **changes):
    """A model that has seen a few steps, and its environments."""
    kind, view, observation, settings = CASES[name]
    kind_of_policy = "MultiInput" if observation == "dict" else "Mlp"
    policy = f"{kind_of_policy}{'Lstm' if name == 'recurrent-ppo' else ''}Policy"
    envs = DummyVecEnv([lambda: env(view, observation, **changes)])
    if normalise:
        keys = ["snr_up", "speed", "weight"] if observation == "dict" else None
        envs = VecNormalize(envs, norm_reward=False, norm_obs_keys=keys)
    small = {"policy_kwargs": {"net_arch": [8]}} if name != "recurrent-ppo" else {}
    model = kind(policy, envs, seed=0, device="cpu", **settings, **small)
    return model.learn(16), envs


def rewards_of(model, name, envs=None):
    """What the library's own loop makes of the episodes."""
    _, view, observation, _ = CASES[name]
    found = []
    for seed in SEEDS:
        single = env(view, observation)
        seen, _ = single.reset(seed=seed)
        over, state, start = False, None, np.ones(1, dtype=bool)
        found.append([])
        while not over:
            shown = seen if envs is None else envs.normalize_obs(seen)
            aside = {"action_masks": single.unwrapped.action_masks()} if "mask" in name else {}
            action, state = model.predict(
                shown, state=state, episode_start=start, deterministic=True, **aside
            )
            seen, reward, _, over, info = single.step(action)
            start = np.zeros(1, dtype=bool)
            if info.get("round_complete", "latency_s" in info):
                found[-1].append(reward)
    return found


def played(text):
    agent = source_of(text).agent(SETTING)
    return [[row["reward"] for row in rows] for rows in play(agent, SETTING, SEEDS)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("normalise", [False, True], ids=["plain", "normalised"])
def test_a_saved_model_does_what_it_does_in_its_library(name, normalise, tmp_path):
    model, envs = trained(name, normalise)
    model.save(tmp_path / "best")
    if normalise:
        envs.save(str(tmp_path / "vecnormalize.pkl"))
        envs.training = False
    own = rewards_of(model, name, envs if normalise else None)
    together = played(f"{name}:{tmp_path / 'best.zip'}")  # which rounds otherwise
    np.testing.assert_allclose(together, own, rtol=1e-5, atol=1e-6)
    assert source_of(f"mine={name.replace('-', '_')}:{tmp_path / 'best'}").label == "mine"


def test_models_are_compared_as_objects_and_as_files(tmp_path):
    """Objects go to other processes with their weights and their statistics."""
    model, envs = trained("ppo", normalise=True)
    model.save(tmp_path / "a_model.zip")
    envs.save(str(tmp_path / "a_model_vecnormalize.pkl"))
    agents = {
        "object": model,
        "file": f"ppo:{tmp_path / 'a_model.zip'}",
        "local-only": "local-only",
    }
    found = compare(agents, episodes=2, scenario=SCENARIO, processes=1, progress=False)
    assert not found.failures
    envs.training = False
    own = [np.mean(rewards) for rewards in rewards_of(model, "ppo", envs)]
    for label in ("object", "file"):
        assert [row["reward"] for row in found.rows if row["agent"] == label] == own


@pytest.mark.parametrize(
    ("model", "statistics"),
    [
        ("m.zip", None),
        ("m.zip", "vecnormalize.pkl"),
        ("m.zip", "vec_normalize.pkl"),
        ("m.zip", "m_vecnormalize.pkl"),
        ("rl_model_200_steps.zip", "rl_model_vecnormalize_200_steps.pkl"),
        ("best_model.zip", "MJOA-Streaming-v1/vecnormalize.pkl"),
    ],
)
def test_where_statistics_are_looked_for(model, statistics, tmp_path):
    (tmp_path / model).touch()
    (tmp_path / "other_vecnormalize.pkl").touch()
    if statistics is not None:
        (tmp_path / statistics).parent.mkdir(exist_ok=True)
        (tmp_path / statistics).touch()
    expected = [tmp_path / model] + ([tmp_path / statistics] if statistics else [])
    assert list(model_files(str(tmp_path / model))) == expected
    assert list(model_files(str(tmp_path / model).removesuffix(".zip"))) == expected
    assert list(model_files(str(tmp_path))) == expected  # RL-Zoo's folder


def test_files_that_could_be_meant_are_named(tmp_path):
    for name in ("a.zip", "b.zip"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"a\.zip, b\.zip: name one file"):
        model_files(str(tmp_path))
    with pytest.raises(ValueError, match="there is no file"):
        source_of(f"ppo:{tmp_path / 'c.zip'}")
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vecnormalize.pkl").touch()
    with pytest.raises(ValueError, match="which statistics"):
        model_files(str(tmp_path / "a.zip"))


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.zip").write_text("no model")
    with pytest.raises(ValueError, match=r"text\.zip is not a model of PPO"):
        source_of(f"ppo:{tmp_path / 'text.zip'}").check(SETTING)
    with pytest.raises(ValueError, match="which algorithm"):
        source_of(str(tmp_path / "text.zip"))


@pytest.mark.parametrize("name", ["ppo", "a2c", "dqn", "trpo"])
def test_a_model_for_another_number_of_ues_is_refused_with_both_spaces(name, tmp_path):
    model, _ = trained(name, n_ues=3)
    model.save(tmp_path / "three.zip")
    with pytest.raises(ValueError) as error:
        compare({"three": f"{name}:{tmp_path / 'three.zip'}"}, scenario=SCENARIO)
    text = str(error.value)
    assert "\n" not in text
    assert "with n_ues=3 it might" in text
    own, needed = (str(space) for space in (model.action_space, env(CASES[name][1]).action_space))
    for space in (own, needed):
        assert " ".join(space.split()) in text
    assert text.count("Box(") >= 2


def test_a_model_of_the_other_environment_is_refused():
    model, _ = trained("ppo", environment="cold-start")
    with pytest.raises(ValueError, match=r"does not fit MJOA/Streaming-v. with 2 UEs: it acts in"):
        compare({"cold": model}, scenario=SCENARIO)


def test_any_object_with_spaces_is_recognised():
    single = env("multidiscrete")

    class Constant:
        observation_space, action_space = single.observation_space, single.action_space

        def predict(self, observation):
            assert observation.shape == self.observation_space.shape
            return np.zeros(self.action_space.shape, dtype=np.int64)

    found = compare({"constant": Constant}, episodes=2, scenario=SCENARIO, processes=0)
    assert [row["reward"] for row in found.rows] == [0.0, 0.0]
