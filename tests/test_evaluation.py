"""Episodes that agents play, and what a comparison of them says."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from agents import cards
from mjoa_gym import Scenario
from mjoa_gym.cli.main import main
from mjoa_gym.evaluation import Comparison, decision_time, processes
from mjoa_gym.evaluation.agent import LowerBoundAgent, PlannerAgent
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.comparison import (
    learned_against_planners,
    play_comparison,
    standing,
    table,
)
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, Setting, play
from mjoa_gym.evaluation.journal import FILE
from mjoa_gym.evaluation.statistics import reduction
from mjoa_gym.evaluation.table import percent

SCENARIO = Scenario(dnns=("alexnet", "squeezenet1_1"), granularity="block", n_ues=3, rounds=3)
SETTINGS = {name: Setting(name, SCENARIO) for name in ("streaming", "cold-start")}
SEEDS = (1_000_000, 1_000_004, 1_000_002)


class FirstChoice:
    """An agent of a learned view: always the same number."""

    batches = True
    observation = "dict"

    def __init__(self, action_view, choice):
        self.action_view = action_view
        self.choice = choice
        self.calls = 0

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.calls += 1
        n = len(observation["dnn"])
        shape = n if self.action_view == "discrete" else (n, 5 * SCENARIO.n_ues)
        return np.full(shape, self.choice, dtype=np.int64), state


@pytest.mark.parametrize("name", SETTINGS)
def test_episodes_are_those_of_single_environments(name):
    """Played together, every episode is what it would be alone."""
    agent = PlannerAgent("ionn", SCENARIO)
    episodes = play(agent, SETTINGS[name], SEEDS)
    env = gym.make(ENVIRONMENTS[name], scenario=SCENARIO)
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

        action_view, observation, batches = view, "dict", True

        def __init__(self):
            self.asked = []

        def predict(self, observation, deterministic):
            n = len(observation["dnn"])
            if n == 1:
                self.asked.append(float(observation["resident"].sum()))
            if view == "plan":
                return PlannerAgent("edge-only", SCENARIO).predict(observation)
            shape = n if view == "discrete" else (n, 5 * SCENARIO.n_ues)
            return np.ones(shape, dtype=np.int64 if view == "discrete" else np.float64), None

    agent = Everything()
    monkeypatch.setattr(decision_time, "MANY", 4)
    monkeypatch.setattr(decision_time, "source_of", lambda _: source_of(agent, "everything"))
    table = decision_time.decision_times(["everything"], SETTINGS["streaming"], 1_000_000)
    assert len(table.rows) == 1
    turns = SCENARIO.n_ues if view == "discrete" else 1
    decided = decision_time.EPISODES * (1 + SCENARIO.rounds * turns)
    assert len(agent.asked) == decided  # one of each episode compiles
    if view == "plan":
        assert max(agent.asked) > 0, "what earlier rounds have uploaded is there"


def test_the_lower_bound_plays_the_same_instances():
    setting = SETTINGS["cold-start"]
    (bounds,), (planned,) = (
        play(agent, setting, [5])
        for agent in (LowerBoundAgent(SCENARIO), PlannerAgent("mjoa-mu", SCENARIO))
    )
    for bound, row in zip(bounds, planned, strict=True):
        assert bound["local_s"] == row["local_s"]
        assert 0 < bound["latency_s"] <= row["latency_s"] * (1 + 1e-9)
        assert bound["reward"] == pytest.approx(1 - bound["latency_s"] / bound["local_s"])
    assert "placement" not in bounds[0]
    with pytest.raises(ValueError, match="cold start"):
        source_of("lower-bound").check(SETTINGS["streaming"])


def test_names_and_paths(tmp_path):
    setting = SETTINGS["streaming"]
    assert isinstance(source_of("mjoa-mu").agent(setting), PlannerAgent)
    with pytest.raises(ValueError, match="did you mean 'mjoa-mu'"):
        source_of("mjoa-um")
    assert len({source_of(name).version for name in ("far-sighted", "mjoa-mu", "ionn")}) == 3
    card = dict.fromkeys(cards.REQUIRED, "") | {"format": cards.FORMAT, "name": "a-seed1"}
    cards.write(card, tmp_path)
    before = source_of(str(tmp_path)).version
    assert source_of(str(tmp_path)).label == "a-seed1"
    assert source_of(f"mine={tmp_path}").label == "mine"
    cards.write(card | {"name": ""}, tmp_path)
    assert source_of(str(tmp_path)).version != before
    assert source_of(tmp_path).label == tmp_path.name


def test_learned_agents_are_loaded_by_path(tmp_path):
    pytest.importorskip("torch")
    from agents.learned_agent import LearnedAgent, new_policy, outlook_of

    card = {"format": 1, "algorithm": "dqn", "environment": "MJOA/Streaming-v1", "persists": True}
    card |= {"scenario": SCENARIO.to_dict(), "width": 8}
    outlook = outlook_of("discrete", SCENARIO, True)
    LearnedAgent(new_policy("dqn", outlook, 8), outlook, card).save(tmp_path)
    source = source_of(str(tmp_path))
    agent = source.agent(SETTINGS["streaming"])
    assert len(play(agent, SETTINGS["streaming"], SEEDS)[0]) == SCENARIO.rounds
    with pytest.raises(ValueError, match="was trained for streaming"):
        source.check(SETTINGS["cold-start"])


def compared(names, setting, seeds, folder=None, **options):
    sources = [source_of(name) for name in names]
    how = processes.Playing(0, progress=False)
    return play_comparison(sources, setting, seeds, how, None, folder, **options)


def test_a_killed_evaluation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    names, setting = ("local-only", "ionn"), SETTINGS["streaming"]
    compared(names, setting, SEEDS[:2], tmp_path)
    file = tmp_path / FILE
    content = file.read_bytes()
    file.write_bytes(content[:-20])  # killed while writing the last one
    played = []

    def noting(agent, setting, seeds, watch):
        played.append((agent.planner.__name__, tuple(seeds)))
        return play(agent, setting, seeds, watch)

    monkeypatch.setattr(processes, "play", noting)
    whole = compared(names, setting, SEEDS, tmp_path)
    assert played == [("local_only", SEEDS[2:]), ("ionn", SEEDS[1:2]), ("ionn", SEEDS[2:])]
    again = compared(names, setting, SEEDS, tmp_path)
    assert len(played) == 3
    assert again.rows == whole.rows
    assert len(again.rounds["ionn"]) == SCENARIO.rounds
    shorter = Setting("streaming", SCENARIO.with_changes(rounds=2))
    with pytest.raises(ValueError, match="another configuration"):
        compared(names, shorter, SEEDS, tmp_path)
    assert len(compared(names, shorter, SEEDS, tmp_path, fresh=True).rounds["ionn"]) == 2


def test_labels_are_unique():
    with pytest.raises(ValueError, match="several agents are called ionn"):
        compared(("ionn", "ionn"), SETTINGS["streaming"], SEEDS)


def made_up():
    """A base that takes 1 to 40 s, an agent that takes 20 % less but in the first episode."""
    base = np.arange(1.0, 41.0)
    better = np.where(base == 1.0, 2.0, 0.8 * base)

    def rows(seconds):
        row = {"local_s": 50.0, "reward": 0.5, "planning_s": 0.001}
        episodes = ([{"round": k, "latency_s": s + k, **row} for k in (-1, 1)] for s in seconds)
        return dict(enumerate(episodes))

    found = Comparison.of(range(40), {"base": rows(base), "better": rows(better)}, "base")
    return found, base, better


def test_standings():
    results, base, better = made_up()
    own = standing(results, "better")
    assert own.latency_s == pytest.approx(better.mean())
    assert own.change.value == pytest.approx(better.mean() / base.mean() - 1)
    less = reduction(better, base).mean
    assert own.change == pytest.approx((-less.value, -less.high, -less.low))
    assert own.change.low < own.change.value < own.change.high < 0
    assert own.improvement == pytest.approx(39 / 40)
    assert own.middle_s == pytest.approx(np.sort(better)[10:30].mean())
    assert standing(results, "base").change == pytest.approx((0, 0, 0))
    assert standing(results, "base").improvement == 0.5


def test_prices_are_compared_where_there_are_any():
    """The cost is `1 - reward`, in units of all-local; without prices it says nothing new."""
    results, *_ = made_up()
    episodes = {name: each.copy() for name, each in results.episodes.items()}
    episodes["better"][:, 2] = 0.6  # its reward, where the base's is 0.5
    results = replace(results, episodes=episodes)
    priced = replace(SCENARIO, energy_price_s_per_j=0.1)
    for scenario, shown in ((SCENARIO, False), (priced, True)):
        found = table(replace(results, setting=Setting("streaming", scenario)))
        assert ("Cost against base" in found.header) is shown
        assert ("in units of all-local" in found.caption) is shown
        assert all(len(row) == len(found.header) for row in found.rows)
    column = found.header.index("Cost against base")
    assert {row[0]: row[column] for row in found.rows} == {
        "better": "-20.0 % [-20.0, -20.0]", "base": "",
    }  # fmt: skip


def test_training_seeds_are_one_family():
    """Their mean counts, and how far they differ widens the interval."""
    results, base, better = made_up()
    episodes, rounds = dict(results.episodes), dict(results.rounds)
    for each in (episodes, rounds):
        each["ppo-seed0"] = each.pop("better")
    one = Comparison(results.seeds, episodes, rounds, "base")
    alone = standing(one, "ppo")
    again = {"ppo-seed1": episodes["base"]}, {"ppo-seed1": rounds["base"]}
    both = one.with_more(Comparison(results.seeds, *again, "base"), [*episodes, "ppo-seed1"])
    own = standing(both, "ppo")
    assert (alone.runs, own.runs) == (1, 2)
    assert own.latency_s == pytest.approx((better.mean() + base.mean()) / 2)
    assert own.improvement == pytest.approx((39 / 40 + 1 / 2) / 2)
    width, narrow = (c.high - c.low for c in (own.change, alone.change))
    assert width > 2 * narrow
    assert own.change.low == pytest.approx(alone.change.value, abs=0.02)
    assert [row[:2] for row in table(both).rows] == [("ppo", "2"), ("base", "")]
    (versus,) = learned_against_planners(both).rows
    assert versus == ("ppo", percent(own.change, "+"))


def test_saving(tmp_path):
    results, *_ = made_up()
    assert [row[0] for row in table(results).rows] == ["better", "base"]
    assert results.save(tmp_path) == tmp_path
    page = (tmp_path / "table.md").read_text()
    assert "40 episodes of 2 rounds (seeds 0 to 39)" in page
    assert {file.name for file in tmp_path.iterdir()} == {
        "latency.svg", "latency.png", "rounds.svg", "rounds.png", "episodes.csv", "by_round.csv",
        "table.md", "report.html",
    }  # fmt: skip
    kept = Comparison.kept(tmp_path, range(40), ["better", "nobody"])
    assert list(kept.episodes) == ["better"]
    np.testing.assert_allclose(kept.episodes["better"], results.episodes["better"], rtol=1e-8)
    np.testing.assert_allclose(kept.rounds["better"], results.rounds["better"], rtol=1e-8)
    assert not Comparison.kept(tmp_path, range(41), ["better"]).episodes, "of other seeds"
    assert not Comparison.kept(tmp_path / "nowhere", range(40), ["better"]).episodes
    report = (tmp_path / "report.html").read_text("utf-8")
    assert report.count("data:image/png;base64,") == 2
    assert "<td>better</td>" in report


def test_the_text_of_a_table():
    results, base, better = made_up()
    head, _, first, second, *_ = results.table().splitlines()
    assert head.split() == [
        "Agent", "Latency,", "ms", "Against", "base", "Interquartile", "mean,", "ms",
        "Probability", "of", "improvement", "Reward", "Planning,", "ms",
    ]  # fmt: skip
    assert first.split()[:3] == ["better", f"{1e3 * better.mean():.1f}", "-19.9"]
    assert second.split()[:2] == ["base", f"{1e3 * base.mean():.1f}"]
    assert len(results.rows) == 80
    assert results.rows[0] == {
        "agent": "base", "seed": 0, "latency_s": 1.0, "local_s": 50.0, "reward": 0.5,
        "planning_s": 0.001,
    }  # fmt: skip


def test_without_matplotlib_there_are_no_figures(tmp_path, monkeypatch):
    results, *_ = made_up()
    monkeypatch.setattr("mjoa_gym.evaluation.comparison.find_spec", lambda _: None)
    results.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "episodes.csv", "by_round.csv", "table.md", "report.html",
    }  # fmt: skip
    assert replace(results, reference="").table()


def test_the_command(tmp_path, capsys):
    command = ["evaluate", "local-only", "--reference", "edge-only", "--env", "cold-start"]
    command += ["--n-ues", "2", "--rounds", "2", "--episodes", "4", "--processes", "0"]
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert {"local-only", "edge-only"} <= set(lines)
    rows = (out / "episodes.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [
        [name, str(1_000_000 + k)] for name in ("edge-only", "local-only") for k in range(4)
    ]
    wrong = ["evaluate", "mjoa-um", "--out", str(tmp_path / "none")]
    assert main(wrong) == 1
    assert "did you mean 'mjoa-mu'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
