"""Our environments under Stable-Baselines3: the adapted vector form is the scalar one."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import VectorizeMode
from gymnasium.vector.utils import iterate

pytest.importorskip("stable_baselines3")
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env
from tests.pairs import every_pair
from tests.test_adapter_sb3 import assert_same

N_ENVS = 3
every_env = pytest.mark.parametrize("env_id", ENTRY_POINTS)


@every_env
@pytest.mark.parametrize("infos", ["lean", "full"])
@every_pair
def test_equals_dummy_vec_env_of_scalar_environments(env_id, action, observation, infos):
    settings = {"action": action, "observation": observation, "rounds": 3, "n_ues": 2}
    ours = make_vec_env(env_id, N_ENVS, seed=4, infos=infos, **settings)
    theirs = DummyVecEnv([lambda: gym.make(env_id, **settings)] * N_ENVS)
    theirs.seed(4)
    actions = ours.env.action_space
    actions.seed(0)
    assert ours.observation_space == theirs.observation_space
    assert_same(ours.reset(), theirs.reset())
    ends = 0
    for _ in range(20):
        batch = actions.sample()
        mine = ours.step(batch)
        expected = theirs.step(list(iterate(actions, batch)))
        for one, other in zip(mine[:3], expected[:3], strict=True):
            assert_same(one, other)
        for done, info, full in zip(mine[2], mine[3], expected[3], strict=True):
            ends += done
            if infos == "full":
                assert_same(info, full)
            elif done:
                assert_same(info, {key: full[key] for key in info})
                assert info["TimeLimit.truncated"]
                assert "terminal_observation" in info
            else:
                assert info == {}
    assert ends >= N_ENVS


@pytest.mark.parametrize("mode", ["vector_entry_point", *VectorizeMode])
def test_modes_attributes_and_methods(mode):
    settings = {"vectorization_mode": mode, "action": "multidiscrete", "n_ues": 2}
    envs = make_vec_env("MJOA/Streaming-v1", N_ENVS, **settings)
    try:
        envs.reset()
        assert [each.n_ues for each in envs.get_attr("scenario")] == [2] * N_ENVS
        assert np.shape(envs.env_method("action_masks"))[0] == N_ENVS
        envs.set_attr("bonus", 2.0)
        assert envs.get_attr("bonus", indices=[0]) == [2.0]
    finally:
        envs.close()


@every_env
@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "SAC", "DQN", "MaskablePPO"])
@pytest.mark.parametrize(
    ("view", "observation"),
    [("box", "flat"), ("multidiscrete", "flat"), ("discrete", "flat"), ("discrete", "outlook")],
)
def test_learning(env_id, view, observation, algorithm):
    torch = pytest.importorskip("torch")
    contrib = pytest.importorskip("sb3_contrib")
    import stable_baselines3

    takes = {"SAC": ["box"], "DQN": ["discrete"], "MaskablePPO": ["discrete", "multidiscrete"]}
    if view not in takes.get(algorithm, [view]):
        pytest.skip(f"{algorithm} has no use for a {view} action")
    torch.set_num_threads(1)
    given = {"action": view, "observation": observation, "rounds": 4}
    envs = VecMonitor(make_vec_env(env_id, 4, seed=0, **given))
    on_policy = {"n_steps": 8, "batch_size": 16} if "PPO" in algorithm else {}
    off_policy = {"learning_starts": 20} if algorithm in ("SAC", "DQN") else {}
    kind = getattr(contrib if algorithm == "MaskablePPO" else stable_baselines3, algorithm)
    model = kind("MlpPolicy", envs, device="cpu", seed=0, **on_policy, **off_policy).learn(128)
    assert len(model.ep_info_buffer) >= 4
    assert np.isfinite([episode["r"] for episode in model.ep_info_buffer]).all()
