"""Training runs can be interrupted in every way, and repeat themselves bit for bit."""

import importlib.util
import json
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from agents.demonstrated_dqn import returns_of  # noqa: E402
from agents.learned_agent import LearnedAgent  # noqa: E402
from agents.training import checkpoints  # noqa: E402
from agents.training.config import (  # noqa: E402
    ALGORITHMS,
    algorithm_arguments,
    load_config,
)
from agents.training.run import RunOptions, _begin, train  # noqa: E402
from agents.training.warm_start import FIRST_SEED, demonstrations_for  # noqa: E402
from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env  # noqa: E402
from tests.forked import Running, run  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "scripts" / "train.py"
COMMON = ["n_envs=4", "learning_rate=0.001"]
SMALL = {
    "ppo": [*COMMON, "copies=2", "n_steps=10", "batch_size=20", "n_epochs=2", "n_timesteps=480"],
    "dqn": [*COMMON, "learning_starts=60", "batch_size=16", "buffer_size=500",
            "target_update_interval=50", "gradient_steps=2", "n_timesteps=480"],
}  # fmt: skip
CASES = pytest.mark.parametrize("algorithm", ["ppo", "dqn"])


def command(algorithm, out, *more, env="MJOA/Streaming-v1", seed=0):
    """A small run, without validations (they would need MJOA-MU)."""
    return [
        str(TRAIN), "--algo", algorithm, "--env", env, "--seed", str(seed),
        "--from-scratch", "--episodes", "0", "--every", "80", "--out", str(out), "--quiet",
        "--set", *SMALL[algorithm], *more,
    ]  # fmt: skip


def folder(algorithm, out, env="streaming", seed=0):
    return out / f"{algorithm}-{env}-seed{seed}"


def weights(at):
    return torch.load(at / "agent" / "policy.pt", weights_only=True)


def equal(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def begun(algorithm, out, least=160):
    """A run in a process of its own, with a checkpoint of so many steps, and its folder."""
    process = Running(*command(algorithm, out))
    at = folder(algorithm, out)
    for _ in range(6000):
        assert process.poll() is None, process.wait().stderr[-2000:]
        found = checkpoints.latest(at)
        if found is not None and int(found.name.removeprefix(checkpoints.PREFIX)) >= least:
            return process, at
        time.sleep(0.01)
    raise AssertionError("no checkpoint within a minute")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights of runs that nothing has happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    for algorithm in SMALL:
        run(*command(algorithm, out), check=True)
    return {algorithm: weights(folder(algorithm, out)) for algorithm in SMALL}


@CASES
def test_a_killed_run_goes_on_to_the_very_same_end(algorithm, undisturbed, tmp_path):
    process, at = begun(algorithm, tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (at / "agent").exists(), "killed too late to show anything"
    run(*command(algorithm, tmp_path), check=True)
    assert equal(weights(at), undisturbed[algorithm])
    rows = (at / "log.csv").read_text().splitlines()[1:]
    steps = [int(row.split(",")[0]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[-1] >= 480


@CASES
def test_an_interrupted_run_says_so_and_goes_on(algorithm, undisturbed, tmp_path):
    process, at = begun(algorithm, tmp_path)
    process.send_signal(signal.SIGINT)
    done = process.wait(60)
    assert done.returncode == 130, done.stderr
    assert "run the same command again to continue" in done.stderr
    assert "Traceback" not in done.stderr
    run(*command(algorithm, tmp_path), check=True)
    assert equal(weights(at), undisturbed[algorithm])


def test_another_seed_learns_something_else(undisturbed, tmp_path):
    run(*command("ppo", tmp_path, seed=1), check=True)
    assert not equal(weights(folder("ppo", tmp_path, seed=1)), undisturbed["ppo"])


def no_space():
    """Have every write beyond this size fail, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_leaves_the_last_checkpoint(undisturbed, tmp_path):
    process, at = begun("ppo", tmp_path, least=80)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = checkpoints.latest(at)
    failed = run(*command("ppo", tmp_path), before=no_space)
    assert failed.returncode == 1, failed.stderr
    assert "The last checkpoint is intact" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert checkpoints.latest(at) == before
    run(*command("ppo", tmp_path), check=True)
    assert equal(weights(at), undisturbed["ppo"])


def test_a_damaged_checkpoint_is_not_used(tmp_path):
    for steps in (1, 2):
        checkpoint = tmp_path / f"{checkpoints.PREFIX}{steps:010d}"
        checkpoint.mkdir()
        (checkpoint / "rest.pkl").write_bytes(b"whole")
        sums = {"rest.pkl": checkpoints._sum(checkpoint / "rest.pkl")}
        (checkpoint / "sums.json").write_text(json.dumps(sums))
    assert checkpoints.latest(tmp_path).name.endswith("2")
    (tmp_path / f"{checkpoints.PREFIX}{2:010d}" / "rest.pkl").write_bytes(b"hal")
    assert checkpoints.latest(tmp_path).name.endswith("1")


def test_a_folder_is_not_used_for_two_different_runs(tmp_path):
    run(*command("ppo", tmp_path, "n_timesteps=40"), check=True)
    failed = run(*command("ppo", tmp_path, "n_timesteps=40", "learning_rate=0.5"))
    assert failed.returncode == 1
    assert "holds a run with hyperparameters" in failed.stderr


def test_several_seeds_at_once(tmp_path):
    several = command("ppo", tmp_path, "n_timesteps=40")
    several[several.index("--seed") : several.index("--seed") + 2] = ["--seeds", "3", "4"]
    run(*several, "--jobs", "2", check=True)
    assert (folder("ppo", tmp_path, seed=3) / "agent" / "card.yaml").is_file()
    assert (folder("ppo", tmp_path, seed=4) / "agent" / "card.yaml").is_file()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_several_seeds_on_ray(undisturbed, tmp_path):
    several = command("ppo", tmp_path)
    several[several.index("--seed") : several.index("--seed") + 2] = ["--seeds", "0", "5"]
    subprocess.run([sys.executable, *several, "--ray"], check=True, capture_output=True)
    assert equal(weights(folder("ppo", tmp_path)), undisturbed["ppo"])
    assert not equal(weights(folder("ppo", tmp_path, seed=5)), undisturbed["ppo"])


@pytest.mark.parametrize("env_id", ["MJOA/ColdStart-v1", "MJOA/Streaming-v1"])
@CASES
def test_every_configuration_trains_and_its_agent_loads(algorithm, env_id, tmp_path):
    changes = yaml.safe_load("{" + ", ".join(SMALL[algorithm]).replace("=", ": ") + "}")
    config = load_config(algorithm, env_id, scenario={"dnns": ["alexnet", "nin"]},
                    **{**changes, "n_timesteps": 120})  # fmt: skip
    config = replace(config, cloning=None)
    train(config, tmp_path / "run", RunOptions(every=40, episodes=2, progress=False))
    agent = LearnedAgent.load(tmp_path / "run" / "agent")
    assert agent.card["timesteps"] >= 120
    assert agent.card["scenario"]["dnns"] == ["alexnet", "nin"]
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert rows[0].endswith("against_mjoa_mu")
    assert np.isfinite(float(rows[-1].split(",")[-1]))
    assert list((tmp_path / "run").glob("events.*")), "nothing for TensorBoard"


@pytest.mark.parametrize(
    "action", [pytest.param("multidiscrete", marks=pytest.mark.slow), "shares"]
)
def test_cloning_is_kept_and_the_critic_follows(action, tmp_path):
    scenario = {"dnns": ["alexnet", "nin"], "n_ues": 2, "rounds": 5}
    config = load_config("ppo", "MJOA/Streaming-v1", scenario=scenario, n_envs=4, copies=2,
                         n_steps=5, batch_size=20, n_timesteps=20)  # fmt: skip
    config.env_kwargs["action"] = action
    few = {"planner": "far-sighted", "rounds": 160, "epochs": 200, "critic_timesteps": 40}
    config = replace(config, cloning=few)
    options = RunOptions(every=100, episodes=0, tensorboard=False, progress=False)
    agents = [train(config, tmp_path / name, options) for name in ("one", "two")]
    kept = list(tmp_path.glob("demonstrations-far-sighted-*/*.npz"))
    assert len(kept) == 1
    assert equal(agents[0].policy.state_dict(), agents[1].policy.state_dict())
    assert agents[0].card["timesteps"] == 20
    with np.load(kept[0]) as seen:
        shown, expert = seen["tokens"], seen["actions"].reshape(160, 2, -1)
    cloned = agents[0].policy.predict(shown, deterministic=True)[0].reshape(160, 2, -1)
    off = np.abs(cloned[..., 0] - expert[..., 0])
    likely = off == 0 if action == "multidiscrete" else off <= 1  # a placement, or a bid's level
    assert likely.mean() > 0.7, "not what the planner does"


@pytest.fixture
def small_dqn():
    """DQN for two UEs that clones the planner that is quickest."""
    scenario = {"dnns": ["alexnet", "nin"], "n_ues": 2, "rounds": 5}
    config = load_config("dqn", "MJOA/Streaming-v1", scenario=scenario, n_envs=4, buffer_size=500,
                         learning_starts=100, batch_size=32, n_timesteps=400)  # fmt: skip
    few = {"planner": "mjoa-mu-prefetch", "rounds": 320, "updates": 400}
    return replace(config, cloning=few)


def test_dqn_clones_and_goes_on_with_the_demonstrations(small_dqn, tmp_path):
    options = RunOptions(every=100, episodes=0, tensorboard=False, progress=False)
    whole = train(small_dqn, tmp_path / "whole", options)
    (kept,) = tmp_path.glob("demonstrations-mjoa-mu-prefetch-*/*.npz")
    with np.load(kept) as seen:
        tokens, expert = seen["tokens"], seen["actions"]
    cloned, _ = whole.policy.predict(tokens, deterministic=True)
    assert (cloned == expert[:, 0]).mean() > 0.6, "not what the planner did with the first UE"
    half = replace(small_dqn, n_timesteps=200)
    train(half, tmp_path / "half", options)
    (tmp_path / "half" / "agent" / "card.yaml").unlink()
    run = yaml.safe_load((tmp_path / "half" / "run.yaml").read_text())
    (tmp_path / "half" / "run.yaml").write_text(yaml.safe_dump(run | {"n_timesteps": 400}))
    resumed = train(small_dqn, tmp_path / "half", options)
    assert resumed.card["timesteps"] == whole.card["timesteps"]


def test_demonstrated_turns_are_those_of_the_environment(small_dqn, tmp_path):
    """With the UEs in their own order, what is shown is what the environment shows."""
    scenario = small_dqn.setting.scenario
    model = _begin(replace(small_dqn, cloning=None), tmp_path, RunOptions(progress=False))
    seen = demonstrations_for(small_dqn, tmp_path, progress=False)
    model.show(seen)
    envs = make_vec_env(small_dqn.env_id, 16, seed=FIRST_SEED, scenario=scenario.to_dict(),
                        **small_dqn.env_kwargs)  # fmt: skip
    real = [envs.reset()]
    for turn in range(3):  # the first round, and the first turn of the second
        row = seen.actions[16 * (turn // 2) :][:16, turn % 2]
        real.append(envs.step(row)[0])
    with_first = {tuple(np.round(tokens[0], 5)) for step in real for tokens in step}
    shown = model._shown(4000)
    matching = sum(tuple(np.round(tokens[0], 5)) in with_first for tokens in shown.tokens.numpy())
    assert matching > 4000 / (320 / 16) / 3, "turns of the environment never come up"
    values = returns_of(seen, 0.5)
    last = np.flatnonzero(seen.follows < 0)
    np.testing.assert_allclose(values[last], seen.rewards[last])
    before = np.flatnonzero(np.isin(seen.follows, last))
    np.testing.assert_allclose(
        values[before], seen.rewards[before] + 0.5 * seen.rewards[seen.follows[before]]
    )
    assert (seen.follows >= 0).sum() == 320 * 4 / 5


def test_schedules_are_rl_zoos():
    config = load_config("ppo", "MJOA/Streaming-v1", learning_rate="lin_0.5")
    schedule = algorithm_arguments(config)["learning_rate"]
    assert (schedule(1.0), schedule(0.25)) == (0.5, 0.125)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "pp0"}, "did you mean 'ppo'"),
        ({"env_id": "MJOA/Streeming-v1"}, "did you mean 'MJOA/Streaming-v1'"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"n_envs": 0}, "n_envs=0"),
    ],
)
def test_mistakes_in_a_configuration_are_named(changes, message):
    arguments = {"algorithm": "ppo", "env_id": "MJOA/Streaming-v1"} | changes
    with pytest.raises(ValueError, match=message):
        load_config(**arguments)


def test_all_configurations_are_accepted_by_their_algorithms():
    for algorithm in ALGORITHMS:
        for env_id in ("MJOA/ColdStart-v1", "MJOA/Streaming-v1"):
            arguments = algorithm_arguments(load_config(algorithm, env_id))
            assert callable(arguments["learning_rate"])
