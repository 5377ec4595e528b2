"""RL-Zoo's files hold what Stable-Baselines3's algorithms take, for both environments."""

from pathlib import Path

import gymnasium as gym
import pytest
import yaml

sb3 = pytest.importorskip("stable_baselines3")

from mjoa_gym.envs import ENTRY_POINTS  # noqa: E402

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "rl_zoo"
CASES = {"ppo": (sb3.PPO, "multidiscrete"), "dqn": (sb3.DQN, "discrete"), "sac": (sb3.SAC, "box")}


def test_there_is_a_case_for_each_file():
    assert {file.stem for file in FOLDER.glob("*.yml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
def test_hyperparameters_fit(name, env_id):
    algorithm, action = CASES[name]
    settings = yaml.safe_load((FOLDER / f"{name}.yml").read_text("utf-8"))[env_id]
    assert settings.pop("n_timesteps") >= 1e5
    settings.pop("n_envs", None)
    rate = settings["learning_rate"]
    if isinstance(rate, str):  # RL-Zoo's way to write a schedule
        assert rate.startswith("lin_")
        settings["learning_rate"] = float(rate.removeprefix("lin_"))
    small = {"learning_starts": 10, "buffer_size": 100, "n_steps": 8, "batch_size": 8}
    settings |= {key: value for key, value in small.items() if key in settings}
    env = gym.make(env_id, action=action, n_ues=2, rounds=4)
    model = algorithm(env=env, device="cpu", **settings).learn(24)
    assert model.num_timesteps >= 24
