import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from agents import cards, decision_time, evaluation, evaluation_runner
from agents.benchmark.statistics import reduction
from agents.evaluation import Setting, agent_of, label_of, play, version_of
from agents.evaluation_report import (
    learned_against_planners,
    publish,
    score,
    signed,
    table,
)
from agents.evaluation_results import Results, kept_results
from agents.evaluation_runner import Episodes, run
from agents.planner_agent import PlannerAgent
from mjoa_gym import Scenario

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = Scenario(dnns=("alexnet", "squeezenet1_1"), granularity="block", n_ues=3, rounds=3)
SETTINGS = {name: Setting(name, SCENARIO) for name in ("streaming", "cold-start")}
SEEDS = (1_000_000, 1_000_004, 1_000_002)


class FirstChoice:
    """An agent of a learned view: always the same number."""

    def __init__(self, action_view, choice):
        self.action_view = action_view
        self.choice = choice
        self.calls = 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.calls += 1
        n = len(observation["dnn"])
        shape = n if self.action_view == "discrete" else (n, 4 * SCENARIO.n_ues)
        return np.full(shape, self.choice, dtype=np.int64), state


@pytest.mark.parametrize("name", SETTINGS)
def test_episodes_are_those_of_single_environments(name):
    """Played together, every episode is what it would be alone."""
    agent = PlannerAgent("ionn", SCENARIO)
    episodes = play(agent, SETTINGS[name], SEEDS)
    env = gym.make(evaluation.ENVIRONMENTS[name], scenario=SCENARIO)
    for seed, rows in zip(SEEDS, episodes, strict=True):
        observation, _ = env.reset(seed=seed)
        assert [row["round"] for row in rows] == [0, 1, 2]
        for row in rows:
            weight = observation["weight"]
            observation, reward, *_, info = env.step(agent.predict(observation)[0])
            assert row["latency_s"] == pytest.approx(weight @ info["latency_s"] / weight.sum())
            assert row["local_s"] == pytest.approx(weight @ info["local_s"] / weight.sum())
            assert row["reward"] == pytest.approx(reward)
            assert row["planning_s"] > 0


@pytest.mark.parametrize(("view", "steps"), [("multidiscrete", 1), ("discrete", 3)])
def test_views_with_one_and_with_several_actions_per_round(view, steps):
    agent = FirstChoice(view, 0)  # all on the UE
    episodes = play(agent, SETTINGS["streaming"], SEEDS)
    assert agent.calls == 1 + steps * SCENARIO.rounds
    for rows in episodes:
        assert len(rows) == SCENARIO.rounds
        assert all(row["latency_s"] == row["local_s"] and row["reward"] == 0 for row in rows)


@pytest.mark.parametrize("view", ["plan", "box", "discrete"])
def test_decisions_are_timed_in_all_rounds_of_an_episode(view, monkeypatch):
    class Everything:
        """In the plan view everybody to the edge; remembers what was resident when it was asked."""

        action_view = view

        def __init__(self):
            self.asked = []

        def predict(self, observation, deterministic):
            n = len(observation["dnn"])
            if n == 1:
                self.asked.append(float(observation["resident"].sum()))
            if view == "plan":
                return PlannerAgent("edge-only", SCENARIO).predict(observation)
            shape = n if view == "discrete" else (n, 4 * SCENARIO.n_ues)
            return np.ones(shape, dtype=np.int64 if view == "discrete" else np.float64), None

    agent = Everything()
    monkeypatch.setattr(decision_time, "agent_of", lambda *_: agent)
    table = decision_time.decision_times(["edge-only"], SETTINGS["streaming"], 1_000_000)
    assert len(table.rows) == 1
    turns = SCENARIO.n_ues if view == "discrete" else 1
    decided = decision_time.EPISODES * SCENARIO.rounds * turns
    assert len(agent.asked) == 1 + decided  # one compiles
    if view == "plan":
        assert max(agent.asked) > 0, "what earlier rounds have uploaded is there"


def test_names_and_paths(tmp_path):
    assert isinstance(agent_of("mjoa-mu", SCENARIO, True), PlannerAgent)
    with pytest.raises(ValueError, match="did you mean 'mjoa-mu'"):
        agent_of("mjoa-um", SCENARIO, True)
    assert len({version_of(name) for name in ("far-sighted", "mjoa-mu", "ionn")}) == 3
    card = dict.fromkeys(cards.REQUIRED, "") | {"format": cards.FORMAT, "name": "a-seed1"}
    cards.write(card, tmp_path)
    before = version_of(str(tmp_path))
    assert label_of(str(tmp_path)) == "a-seed1"
    cards.write(card | {"name": ""}, tmp_path)
    assert version_of(str(tmp_path)) != before
    assert label_of(str(tmp_path)) == tmp_path.name


def test_learned_agents_are_loaded_by_path(tmp_path):
    pytest.importorskip("torch")
    from agents.learned_agent import LearnedAgent, new_policy, outlook_of

    card = {"format": 1, "algorithm": "dqn", "environment": "MJOA/Streaming-v0", "persists": True}
    card |= {"scenario": SCENARIO.to_dict(), "width": 8}
    outlook = outlook_of("dqn", SCENARIO, True)
    LearnedAgent(new_policy("dqn", outlook, 8), outlook, card).save(tmp_path)
    agent = agent_of(str(tmp_path), SCENARIO, True)
    assert len(play(agent, SETTINGS["streaming"], SEEDS)[0]) == SCENARIO.rounds
    with pytest.raises(ValueError, match="was trained for streaming"):
        agent_of(str(tmp_path), SCENARIO, False)


def test_a_killed_evaluation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    names, setting = ("local-only", "ionn"), SETTINGS["streaming"]
    run(Episodes(tmp_path, setting), names, SEEDS[:2], together=1, progress=False)
    file = tmp_path / evaluation_runner.FILE
    content = file.read_bytes()
    file.write_bytes(content[:-20])  # killed while writing the last one
    played = []

    def noting(agent, setting, seeds):
        played.append((agent.planner_name, tuple(seeds)))
        return play(agent, setting, seeds)

    monkeypatch.setattr(evaluation_runner, "play", noting)
    run(Episodes(tmp_path, setting), names, SEEDS, together=5, progress=False)
    assert played == [("local-only", SEEDS[2:]), ("ionn", SEEDS[1:])]
    episodes = Episodes(tmp_path, setting)
    assert episodes.missing(names, SEEDS, 5) == []
    assert episodes.of("ionn", SEEDS) != episodes.of("local-only", SEEDS)
    assert [len(rows) for rows in episodes.of("ionn", SEEDS)] == [3, 3, 3]
    with pytest.raises(ValueError, match="another configuration"):
        Episodes(tmp_path, setting.shortened(2))
    assert Episodes(tmp_path, setting.shortened(2), fresh=True).rows == {}


def test_labels_are_unique(tmp_path):
    with pytest.raises(ValueError, match="several agents are called ionn"):
        run(Episodes(tmp_path, SETTINGS["streaming"]), ("ionn", "ionn"), SEEDS, progress=False)


def made_up():
    """A base that takes 1 to 40 s, an agent that takes 20 % less but in the first episode."""
    base = np.arange(1.0, 41.0)
    better = np.where(base == 1.0, 2.0, 0.8 * base)

    def rows(seconds):
        row = {"local_s": 50.0, "reward": 0.5, "planning_s": 0.001}
        return [[{"round": k, "latency_s": s + k, **row} for k in (-1, 1)] for s in seconds]

    found = Results.of(range(40), {"base": rows(base), "better": rows(better)}, "base")
    return found, base, better


def test_scores():
    results, base, better = made_up()
    own = score(results, "better")
    assert own.latency_s == pytest.approx(better.mean())
    assert own.change.value == pytest.approx(better.mean() / base.mean() - 1)
    less = reduction(better, base).mean
    assert own.change == pytest.approx((-less.value, -less.high, -less.low))
    assert own.change.low < own.change.value < own.change.high < 0
    assert own.improvement == pytest.approx(39 / 40)
    assert own.middle_s == pytest.approx(np.sort(better)[10:30].mean())
    assert score(results, "base").change == pytest.approx((0, 0, 0))
    assert score(results, "base").improvement == 0.5


def test_training_seeds_are_one_family():
    """Their mean counts, and how far they differ widens the interval."""
    results, base, better = made_up()
    episodes, rounds = dict(results.episodes), dict(results.rounds)
    for each in (episodes, rounds):
        each["ppo-seed0"] = each.pop("better")
    one = Results(results.seeds, episodes, rounds, "base")
    alone = score(one, "ppo")
    again = {"ppo-seed1": episodes["base"]}, {"ppo-seed1": rounds["base"]}
    both = one.with_more(Results(results.seeds, *again, "base"), [*episodes, "ppo-seed1"])
    own = score(both, "ppo")
    assert (alone.runs, own.runs) == (1, 2)
    assert own.latency_s == pytest.approx((better.mean() + base.mean()) / 2)
    assert own.improvement == pytest.approx((39 / 40 + 1 / 2) / 2)
    width, narrow = (c.high - c.low for c in (own.change, alone.change))
    assert width > 2 * narrow
    assert own.change.low == pytest.approx(alone.change.value, abs=0.02)
    assert [row[:2] for row in table(both).rows] == [("ppo", "2"), ("base", "")]
    (versus,) = learned_against_planners(both).rows
    assert versus == ("ppo", signed(own.change))


def test_publishing(tmp_path):
    results, *_ = made_up()
    assert [row[0] for row in table(results).rows] == ["better", "base"]
    page = publish(results, tmp_path, persists=True)
    assert "40 episodes of 2 rounds (seeds 0 to 39)" in page.read_text()
    assert {file.name for file in tmp_path.iterdir()} == {
        "latency.svg", "latency.png", "rounds.svg", "rounds.png", "episodes.csv", "by_round.csv",
        "table.md",
    }  # fmt: skip
    kept = kept_results(tmp_path, range(40), ["better", "nobody"])
    assert list(kept.episodes) == ["better"]
    np.testing.assert_allclose(kept.episodes["better"], results.episodes["better"], rtol=1e-8)
    np.testing.assert_allclose(kept.rounds["better"], results.rounds["better"], rtol=1e-8)
    assert not kept_results(tmp_path, range(41), ["better"]).episodes, "of other seeds"
    assert not kept_results(tmp_path / "nowhere", range(40), ["better"]).episodes


def test_the_command(tmp_path):
    command = [sys.executable, "scripts/evaluate.py", "local-only", "--reference", "edge-only"]
    command += ["--environment", "cold-start", "--n-ues", "2", "--rounds", "2", "--episodes", "4"]
    command += ["--together", "2", "--processes", "2", "--out", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert "| local-only |" in done.stdout
    assert len((tmp_path / "episodes.csv").read_text().splitlines()) == 1 + 2 * 4
    wrong = subprocess.run(
        [*command[:2], "mjoa-um", "--out", str(tmp_path / "none")], cwd=ROOT, capture_output=True,
        text=True, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert wrong.returncode == 1
    assert "did you mean 'mjoa-mu'" in wrong.stderr
    assert not (tmp_path / "none").exists()
