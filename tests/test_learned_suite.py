"""Trained agents as they are kept, and the suite that holds them against their yardsticks."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

pytest.importorskip("torch")

from agents import cards
from agents.learned_agent import LearnedAgent, new_policy, outlook_of
from agents.learned_suite import (
    AGENTS,
    load_entries,
    markdown,
    run_suite,
    trained_for,
)
from agents.learning_curves import curves, curves_figure, half_width
from mjoa_gym import Scenario
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.episodes import Setting, play
from mjoa_gym.evaluation.processes import Playing
from tests.forked import run

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = {"dnns": ["alexnet", "squeezenet1_1"], "granularity": "block", "n_ues": 2, "rounds": 3}
KEPT = sorted(path.parent for path in AGENTS.glob("*/card.yaml"))


def untrained(folder, seed):
    """A finished run whose agent has learned nothing."""
    scenario = Scenario.of(SCENARIO)
    outlook = outlook_of("multidiscrete", scenario, True)
    card = {"format": cards.FORMAT, "algorithm": "ppo", "environment": "MJOA/Streaming-v1"}
    card |= {"persists": True, "scenario": scenario.to_dict(), "width": 8}
    LearnedAgent(new_policy("ppo", outlook, 8), outlook, card).save(folder / "agent")
    rows = [f"{step},{step / 1000 + seed}" for step in (100, 200, 300 + seed)]
    (folder / "run.yaml").write_text(f"seed: {seed}")
    (folder / "log.csv").write_text("\n".join(["timesteps,against_mjoa_mu", *rows]))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    for seed in (0, 1):
        untrained(out / "runs" / f"ppo-seed{seed}", seed)
    runs = sorted((out / "runs").iterdir())
    run("scripts/keep_agents.py", "--episodes", "2", "--out", out / "a", *runs, check=True)
    return out / "a"


def test_kept_agents_have_a_name_results_and_a_log(kept):
    paths = trained_for("streaming", kept)
    assert [source_of(path).label for path in paths] == ["ppo-seed0", "ppo-seed1"]
    assert trained_for("cold-start", kept) == []
    for path in map(Path, paths):
        assert cards.read(path)["results"]["episodes"] == 2
        assert (path / "log.csv").is_file()
        assert (path / "run.yaml").is_file()


def test_a_run_without_an_agent_is_refused(tmp_path):
    done = run("scripts/keep_agents.py", tmp_path, "--out", tmp_path)
    assert done.returncode == 1
    assert "holds no agent" in done.stderr


def test_a_suite_of_settings(kept, tmp_path):
    file = tmp_path / "suite.yaml"
    entry = {"title": "A title", "environment": "streaming", "scenario": SCENARIO, "episodes": 3}
    entry["planners"] = ["edge-only", "local-only"]
    file.write_text(yaml.safe_dump({"here": entry}))
    how = Playing(0, progress=False)
    section, decisions, learning = run_suite(file, tmp_path / "out", how, trained=kept)
    assert section.title == "A title"
    assert next(caption.split(";")[0] for caption, _ in section.figures) == "Mean latency"
    assert {row[0] for row in section.tables[0].rows} == {"ppo", "edge-only", "local-only"}
    assert section.tables[1].header == (
        "Mean latency of",
        "against edge-only",
        "against local-only",
    )
    alone, batch = (float(decisions.tables[0].rows[2][column]) for column in (1, 3))
    assert 0 < batch < alone
    assert learning.figures[0][1].startswith(b"\x89PNG")
    assert "**A title**" in markdown([section, decisions, learning])
    assert (tmp_path / "out" / "here" / "by_round.csv").is_file()
    assert (tmp_path / "out" / "learning_curves.png").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episode": 3}, "did you mean 'episodes'"),
        ({"environment": "streeming"}, "did you mean 'streaming'"),
        ({"planners": []}, "planners"),
        ({"planners": ["mjoa-mu", "iont"]}, "did you mean 'ionn'"),
        ({"title": None}, "title is missing"),
        ({"episodes": 0}, "episodes=0"),
    ],
)
def test_mistakes_in_a_suite_are_named(change, message, tmp_path):
    entry = {"title": "t", "environment": "streaming", "episodes": 3, "planners": ["ionn"]}
    entry = {key: value for key, value in (entry | change).items() if value is not None}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"here": entry}))
    with pytest.raises(ValueError, match=message):
        load_entries(tmp_path / "suite.yaml")


@pytest.mark.parametrize("name", ["quick", "full", "elsewhere"])
def test_the_suites_of_the_repository_are_well_formed(name):
    entries = load_entries(ROOT / "configs" / "learned" / f"{name}.yaml")
    assert {"streaming"} <= {entry.setting.environment for entry in entries}
    assert all("mjoa-mu" in entry.planners for entry in entries)


def test_learning_curves(kept, tmp_path):
    steps, values = curves(kept)["ppo"]
    assert steps.tolist() == [100, 200]  # both have validated there
    np.testing.assert_allclose(values, [[0.1, 0.2], [1.1, 1.2]])
    low, high = stats.t.interval(0.95, 1, values.mean(0), stats.sem(values))
    np.testing.assert_allclose(half_width(values), (high - low) / 2)
    assert half_width(values[:1]).tolist() == [0, 0]
    assert curves_figure(kept) is not None
    assert curves_figure(tmp_path) is None


@pytest.mark.parametrize("folder", KEPT, ids=lambda path: path.name)
def test_stored_agents_repeat_what_their_cards_say(folder):
    """Rounding differs between machines and can tip a choice between two nearly equal entries."""
    agent = LearnedAgent.load(folder)
    said = agent.card["results"]
    setting = Setting("streaming" if agent.persists else "cold-start", agent.outlook.view.scenario)
    seeds = range(said["first_seed"], said["first_seed"] + said["episodes"])
    rows = [row for episode in play(agent, setting, seeds) for row in episode]
    for key in ("latency_s", "local_s", "reward"):
        assert np.mean([row[key] for row in rows]) == pytest.approx(said[key], rel=3e-3), key
    assert (folder / "policy.pt").stat().st_size < 2**20
