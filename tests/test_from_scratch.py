"""Stock algorithms train through our script, resume, and end in a table."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from agents.training.config import STOCK, new_config  # noqa: E402
from agents.training.run import RunOptions, train  # noqa: E402
from scripts.tune_from_scratch import trials_of  # noqa: E402
from tests.forked import run  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "train_from_scratch.py"
SCENARIO = {"dnns": ["alexnet", "nin"], "n_ues": 2, "rounds": 4}
QUIET = RunOptions(every=40, episodes=0, tensorboard=False, progress=False)
ON_POLICY = {"n_steps": 10, "batch_size": 20, "n_epochs": 2}
OFF_POLICY = {"learning_starts": 20, "batch_size": 16, "buffer_size": 300, "train_freq": 1}
SMALL = {
    "ppo": ("shares", ON_POLICY),
    "maskable-ppo": ("multidiscrete", ON_POLICY),
    "dqn": ("shares-discrete", OFF_POLICY),
    "sac": ("shares-box", OFF_POLICY),
}
ROWS = {
    "ppo-shares": {
        "title": "PPO", "algorithm": "ppo", "n_envs": 4, "n_steps": 10, "batch_size": 20,
        "env_kwargs": {"action": "shares"},
    }
}  # fmt: skip


def small(algorithm, timesteps=160):
    action, settings = SMALL[algorithm]
    return new_config(
        algorithm, "MJOA/Streaming-v1", scenario=SCENARIO, n_envs=4, n_timesteps=timesteps,
        env_kwargs={"action": action}, **settings,
    )  # fmt: skip


def weights(folder, algorithm):
    model = STOCK[algorithm].load(folder / "agent.zip", device="cpu")
    return model.policy.state_dict()


@pytest.mark.parametrize("algorithm", STOCK)
def test_a_stopped_run_ends_as_if_it_had_not_been_stopped(algorithm, tmp_path):
    agent = train(small(algorithm), tmp_path / "whole", QUIET)
    assert agent.action_view == SMALL[algorithm][0]
    half, whole = small(algorithm, 80), small(algorithm)
    train(half, tmp_path / "half", QUIET)
    file = tmp_path / "half" / "run.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"n_timesteps": 160}))
    train(whole, tmp_path / "half", QUIET)
    one, other = (weights(tmp_path / name, algorithm) for name in ("whole", "half"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    train(replace(whole, seed=1), tmp_path / "other", QUIET)
    other = weights(tmp_path / "other", algorithm)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_unknown_algorithms_and_arguments_are_named():
    with pytest.raises(ValueError, match="did you mean 'ppo'"):
        new_config("pp0", "MJOA/Streaming-v1", n_timesteps=10)
    with pytest.raises(ValueError, match="did you mean 'train_freq'"):
        new_config("sac", "MJOA/Streaming-v1", n_timesteps=10, train_frequ=4)


def test_all_rows_are_configurations():
    given = yaml.safe_load((ROOT / "configs" / "from_scratch.yaml").read_text())
    found = script().configs(given, 10)
    assert len(found) == len(given["rows"]) * 2 * given["seeds"]


def script():
    spec = importlib.util.spec_from_file_location("train_from_scratch", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_table_and_curves_come_out(tmp_path):
    settings = {"MJOA/ColdStart-v1": {"gamma": 0.0}}
    given = {"seeds": 2, "timesteps": 80, "rows": ROWS, "settings": settings}
    config, page = tmp_path / "rows.yaml", tmp_path / "page.md"
    config.write_text(yaml.safe_dump(given))
    page.write_text("<!-- rows:begin -->\n<!-- rows:end -->\n")
    command = [
        SCRIPT, "--config", config, "--episodes", 2, "--runs", tmp_path / "runs", "--out",
        tmp_path / "out", "--pages", page,
    ]  # fmt: skip
    done = run(*map(str, command))
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in page.read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "equal bids, no learning", "random bids, no learning", "`dads-serial`", "`mjoa-mu`", "PPO",
    ]  # fmt: skip
    assert (tmp_path / "out" / "coldstart.svg").is_file()
    logs = sorted((tmp_path / "out").glob("*/log.csv"))
    assert [log.parent.name for log in logs] == [f"ppo-shares-coldstart-seed{k}" for k in (0, 1)]
    before = [log.read_bytes() for log in logs]
    assert run(*map(str, [*command, "--report"])).returncode == 0  # trains nothing again
    assert [log.read_bytes() for log in logs] == before
    done = run(*map(str, [*command, "--timesteps", 120]))
    assert done.returncode != 0
    assert "holds a run with n_timesteps=80, not 120" in done.stderr


def test_draws_are_in_their_ranges_and_fit_every_algorithm():
    given, tuning = (
        yaml.safe_load((ROOT / "configs" / name).read_text())
        for name in ("from_scratch.yaml", "tuning.yaml")
    )
    trials = trials_of(given, tuning, 30, 1e4)
    assert len(trials) == len(given["rows"]) * 2 * 30
    for trial in trials:
        ranges = tuning["algorithms"][trial.config.algorithm]
        assert (trial.drawn == {}) == (trial.number == 0)
        for name, value in trial.drawn.items():
            values = ranges.get(name) or tuning["environments"][trial.env_id][name]
            if isinstance(values, dict):
                assert values["low"] <= value <= values["high"]
            else:
                assert value in values
            assert trial.config.hyperparameters[name] == value
    rates = {trial.drawn.get("learning_rate") for trial in trials if trial.row == "sac-box-flat"}
    assert len(rates) > 25


@pytest.mark.slow
def test_the_best_trial_becomes_a_row(tmp_path):
    given = {"seeds": 1, "timesteps": 80, "rows": ROWS, "settings": {"MJOA/ColdStart-v1": {}}}
    ranges = {"algorithms": {"ppo": {"n_epochs": [2, 3], "batch_size": [20, 40]}}}
    config, file = tmp_path / "rows.yaml", tmp_path / "ranges.yaml"
    config.write_text(yaml.safe_dump(given))
    file.write_text(yaml.safe_dump(ranges | {"environments": {}}))
    command = [
        "--config", config, "--ranges", file, "--trials", 3, "--episodes", 2, "--jobs", 2,
        "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--tuned", tmp_path / "tuned.yaml",
    ]  # fmt: skip
    done = run(ROOT / "scripts" / "tune_from_scratch.py", *map(str, command))
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "trials.jsonl").read_text().splitlines()
    trials = [json.loads(line) for line in lines]
    assert [trial["trial"] for trial in trials] == [
        f"ppo-shares-coldstart-trial{k}" for k in range(3)
    ]
    best = max(trials, key=lambda trial: trial["reward"])
    row = yaml.safe_load((tmp_path / "tuned.yaml").read_text())["rows"]["ppo-shares"]
    chosen = row["by_environment"]["MJOA/ColdStart-v1"]
    assert {"trial": best["trial"], "reward": best["reward"], **chosen} == best
    (config,) = script().configs(yaml.safe_load((tmp_path / "tuned.yaml").read_text()), 80).values()
    assert config.hyperparameters == {"n_steps": 10, "batch_size": 20} | chosen
    shown = (tmp_path / "out" / "table.md").read_text()
    assert f"| 3 | 80 | {trials[0]['reward']:.3f} | {best['reward']:.3f} |" in shown
