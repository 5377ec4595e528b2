"""Episodes that are written as Minari datasets lead to the same observations and rewards again."""

import numpy as np
import pytest

from mjoa_gym import Scenario
from mjoa_gym.cli.main import main
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.dataset import export
from mjoa_gym.evaluation.episodes import Setting, play

minari = pytest.importorskip("minari", reason="needs the extra `minari`")

SCENARIO = Scenario(dnns=("alexnet", "squeezenet1_1"), granularity="block", n_ues=2, rounds=3)
SEEDS = range(500_000, 500_002)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def replayed(dataset):
    """Play all episodes again in the environment that the dataset describes; yields both."""
    env = dataset.recover_environment()
    for episode in dataset.iterate_episodes():
        seed = int(next(iter(dataset.storage.get_episode_metadata([episode.id])))["seed"])
        observations, rewards, over = [env.reset(seed=seed)[0]], [], False
        for k in range(len(episode.rewards)):
            action = pick(episode.actions, k)
            observation, reward, _, over, _ = env.step(action)
            observations.append(observation)
            rewards.append(reward)
        assert over
        yield episode, observations, rewards


def pick(values, k):
    return {key: each[k] for key, each in values.items()} if isinstance(values, dict) else values[k]


@pytest.mark.parametrize(
    ("environment", "action", "observation"),
    [
        ("streaming", None, "dict"),
        ("streaming", "shares", "outlook"),
        ("streaming", "discrete", "flat"),
        ("cold-start", "box", "flat"),
    ],
)
def test_round_trip(environment, action, observation):
    setting = Setting(environment, SCENARIO)
    dataset = export(source_of("ionn"), setting, SEEDS, "test/ionn-v0", action, observation)
    found = list(replayed(minari.load_dataset("test/ionn-v0")))
    assert len(found) == dataset.total_episodes == len(SEEDS)
    for episode, observations, rewards in found:
        np.testing.assert_array_equal(episode.rewards, rewards)
        for k, shown in enumerate(observations):
            np.testing.assert_equal(pick(episode.observations, k), shown)
        assert episode.truncations[-1]
        assert not np.any(episode.terminations)
        steps = SCENARIO.rounds * (SCENARIO.n_ues if action == "discrete" else 1)
        assert len(episode.rewards) == steps


def test_the_plans_rewards_are_those_of_an_evaluation():
    setting = Setting("streaming", SCENARIO)
    dataset = export(source_of("mjoa-mu-prefetch"), setting, SEEDS, "test/plans-v0")
    played = play(source_of("mjoa-mu-prefetch").agent(setting), setting, SEEDS)
    for episode, rows in zip(dataset.iterate_episodes(), played, strict=True):
        np.testing.assert_allclose(episode.rewards, [row["reward"] for row in rows], rtol=1e-12)


def test_trained_agents_are_recorded_as_they_act():
    pytest.importorskip("stable_baselines3")
    source = source_of("results/agents/dqn-coldstart-seed0")
    setting = Setting("cold-start", Scenario(n_ues=2, rounds=1))
    dataset = export(source, setting, SEEDS[:1], "test/dqn-v0", observation="outlook")
    ((_, observations, rewards),) = replayed(dataset)
    assert len(observations) == 3
    assert rewards[-1] > 0
    with pytest.raises(ValueError, match="only planners can be recorded through another view"):
        export(source, setting, SEEDS[:1], "test/other-v0", "multidiscrete")


def test_the_command(capsys):
    command = ["export", "local-only", "--env", "cold-start", "--n-ues", "1", "--rounds", "2",
               "--episodes", "2"]  # fmt: skip
    assert main(command) == 0
    assert "2 episodes, 4 steps in mjoa/cold-start-local-only-v0" in capsys.readouterr().out
    assert minari.load_dataset("mjoa/cold-start-local-only-v0").total_steps == 4
    assert main(command) == 1
    assert "exists already" in capsys.readouterr().err
