"""PPO in groups of environments that meet the same UEs."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO

from agents.paired_ppo import PairedPPO, beyond_the_others
from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env

SMALL = {"dnns": ["alexnet", "nin"], "n_ues": 2, "rounds": 4, "departure_probability": 0.5}


def environments(copies, n_envs=6, **arguments):
    return make_vec_env(
        "MJOA/Streaming-v1", n_envs, seed=3, copies=copies, action="shares", scenario=SMALL,
        **arguments,
    )  # fmt: skip


def learned(kind, **arguments):
    envs = environments(arguments.get("copies", 1))
    model = kind("MlpPolicy", envs, n_steps=4, batch_size=12, n_epochs=2, seed=0, **arguments)
    return model.learn(48)


def test_an_advantage_is_relative_to_the_others_of_its_group():
    advantages = np.array([[1.0, 2.0, 6.0, 5.0, 5.0, 5.0]])
    np.testing.assert_allclose(beyond_the_others(advantages, 3), [[-3.0, -1.5, 4.5, 0, 0, 0]])
    luck = np.repeat(np.random.default_rng(0).normal(size=(1, 2)), 3, axis=1)
    np.testing.assert_allclose(
        beyond_the_others(advantages + luck, 3), beyond_the_others(advantages, 3)
    )


def test_groups_meet_the_same_ues_whatever_is_done():
    envs = environments(3, observation="dict", infos="full")
    rng = np.random.default_rng(0)
    seen = envs.reset()
    for _ in range(9):  # beyond the end of two episodes
        for key in ("dnn", "ue_device", "weight"):
            if key in seen:
                groups = seen[key].reshape(2, 3, -1)
                np.testing.assert_array_equal(groups, groups[:, :1].repeat(3, axis=1), key)
        actions = rng.integers(envs.action_space.nvec, size=(6, 4))
        seen, rewards, _, _ = envs.step(actions)
    assert len(set(rewards[:3])) > 1, "the same whatever is done?"
    apart = environments(1, observation="dict").reset()["dnn"]
    np.testing.assert_array_equal(
        apart[:2], environments(3, observation="dict").reset()["dnn"][::3]
    )


def test_one_copy_is_the_librarys_ppo():
    ours, theirs = learned(PairedPPO), learned(PPO)
    for key, own in ours.policy.state_dict().items():
        np.testing.assert_array_equal(own, theirs.policy.state_dict()[key])
    grouped = learned(PairedPPO, copies=3)
    assert any(
        (own != theirs.policy.state_dict()[k]).any()
        for k, own in grouped.policy.state_dict().items()
    )


def test_groups_must_be_whole():
    with pytest.raises(ValueError, match="copies=4: must divide n_envs=6"):
        environments(4)
    with pytest.raises(ValueError, match="copies=4: must divide n_envs=6"):
        PairedPPO("MlpPolicy", environments(1), copies=4)
