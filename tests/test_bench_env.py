"""The throughput benchmark: actions are valid, the same each time, and transitions are counted."""

import sys
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete, MultiDiscrete
from gymnasium.vector import SyncVectorEnv
from gymnasium.vector.utils import batch_space

from tests.toy_envs import ToyEnv

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import bench_env
from throughput.players import ScalarPlayer, VectorPlayer, sample_valid


@pytest.mark.parametrize("n_envs", [0, 1, 3])
def test_masks_are_obeyed_for_one_choice(n_envs):
    rng = np.random.default_rng(0)
    single = Discrete(4)
    space = batch_space(single, n_envs) if n_envs else single
    seen = set()
    for _ in range(50):
        mask = rng.random((n_envs, 4) if n_envs else 4) < 0.5
        mask[..., 2] = True
        action = sample_valid(space, mask, rng)
        assert action in space
        chosen = np.take_along_axis(mask, np.asarray(action)[..., None], axis=-1)
        assert chosen.all()
        seen |= set(np.ravel(action).tolist())
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("n_envs", [0, 1, 3])
def test_masks_are_obeyed_for_several_choices(n_envs):
    rng = np.random.default_rng(0)
    single = MultiDiscrete([2, 3])
    space = batch_space(single, n_envs) if n_envs else single
    mask = np.array([True, False, False, True, True])
    mask = np.tile(mask, (n_envs, 1)) if n_envs else mask
    actions = np.array([sample_valid(space, mask, rng) for _ in range(50)])
    assert actions.shape[1:] == space.shape
    assert not actions[..., 0].any()
    assert set(actions[..., 1].ravel().tolist()) == {1, 2}


class CountingEnv(ToyEnv):
    """Keeps every action."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def step(self, action):
        self.kept.append(int(action))
        return super().step(action)


@pytest.mark.parametrize("vector", [False, True])
def test_each_pass_replays_the_record_and_counts_transitions(vector):
    if vector:
        player = VectorPlayer(SyncVectorEnv([CountingEnv] * 3))
        envs = player.env.envs
    else:
        player = ScalarPlayer(CountingEnv())
        envs = [player.env]
    player.prepare(0.01)
    recorded = [env.kept.copy() for env in envs]
    player.passes = 2
    for env in envs:
        env.kept.clear()
    seconds, steps = player.play()
    assert seconds > 0
    assert [env.kept for env in envs] == [2 * kept for kept in recorded]
    assert steps == 2 * sum(map(len, recorded))
    player.close()


def test_a_contender_that_cannot_start_is_named(capsys, monkeypatch):
    def refuse(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    contenders = sys.modules["throughput.contenders"]
    toy = contenders.Contender("toy", lambda: ScalarPlayer(ToyEnv()), ues=5)
    absent = contenders.Contender("absent", partial(refuse, "absent"))
    table = contenders.Group("Toys", [toy, absent], ("toy",))
    monkeypatch.setattr(bench_env, "scalar_group", lambda: table)
    assert bench_env.main(["--only", "scalar", "--seconds", "0.01", "--repetitions", "2"]) == 0
    printed = capsys.readouterr().out
    assert "skipped: absent: ModuleNotFoundError: No module named 'absent'" in printed
    (row,) = [line.split(" | ") for line in printed.splitlines() if line.startswith("| toy |")]
    assert row[-1] == "1.00 |"
    assert float(row[3].replace(",", "")) > 0


def test_the_simulator_is_measured_beside_the_reference():
    group = bench_env.simulator_group("alexnet")
    for contender in group.contenders:
        player = contender.make()
        player.prepare(0.001)
        seconds, inferences = player.play()
        assert seconds > 0
        assert inferences >= 10
        player.close()
    assert group.references[0] in {contender.name for contender in group.contenders}


def test_cartpole_takes_part():
    group = bench_env.vector_group(2, all_views=False)
    player = group.contenders[0].make()
    assert isinstance(player.env, gym.vector.VectorEnv)
    player.prepare(0.01)
    assert player.play()[1] > 0
    player.close()
