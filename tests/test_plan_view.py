import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space, iterate

from mjoa_gym import Plan, Scenario
from mjoa_gym.envs.actions import PlanView, Shares, action_view
from mjoa_gym.world.rounds import NOTHING, new_state

N = 5


def broken(key, change):
    """An otherwise good action with one entry changed."""

    def make(action):
        return action | {key: change(action[key])}

    return make


def negative(shares):
    return np.array([-0.1, *shares[1:]])


INVALID = [
    (broken("placements", lambda x: x[:, :-1]), "placements has shape"),
    (broken("placements", lambda x: x.astype(float)), "placements has dtype"),
    (broken("placements", lambda x: x + 1), "placements has entries other than 0 and 1"),
    (broken("prefetch", lambda x: x - 1), "prefetch has entries"),
    (broken("prefetch", lambda x: x[:2]), "prefetch has shape"),
    (broken("bandwidth_share", lambda x: x[:2]), "bandwidth_share has shape"),
    (broken("bandwidth_share", lambda x: x * np.nan), "bandwidth_share=.*must be >= 0"),
    (broken("bandwidth_share", lambda x: x + np.inf), "bandwidth_share sums"),
    (broken("compute_share", negative), "compute_share=.*must be >= 0"),
    (broken("compute_share", lambda x: x * (1 + 1e-5)), "compute_share sums to"),
    (broken("compute_share", lambda x: x.astype(str)), "compute_share has dtype"),
    (broken("bandwidth_share", lambda x: x * 0), r"bandwidth_share\[0\]=0.0: UE 0 has layers"),
    (broken("compute_share", lambda x: x * [1, 1, 1, 1, 0]), r"compute_share\[4\]=0.0: UE 4"),
    (broken("bandwidth_share", lambda x: x * 1e-320), r"bandwidth_share\[0\]"),
    (lambda action: action | {"power": 1}, "action: got .*'power'"),
    (lambda action: {"placements": action["placements"]}, "action: got"),
    (lambda action: list(action.values()), "action: got list"),
]


@pytest.mark.parametrize("env_id", ["MJOA/ColdStart-v1", "MJOA/Streaming-v1"])
@pytest.mark.parametrize(("breaking", "message"), INVALID)
def test_an_invalid_action_raises_and_changes_nothing(env_id, breaking, message):
    env, twin = (gym.make(env_id).unwrapped for _ in range(2))
    env.action_space.seed(0)
    good = env.action_space.sample() | {
        "placements": np.ones_like(env.action_space["placements"].sample())
    }
    if "prefetch" in message and "prefetch" not in good:
        return
    for e in (env, twin):
        e.reset(seed=0)
        e.step(good)
    with pytest.raises(ValueError, match=message):
        env.step(breaking(good))
    assert data_equivalence(env.step(good), twin.step(good), exact=True)


def test_shares_may_miss_one_by_rounding():
    env = gym.make("MJOA/ColdStart-v1").unwrapped
    env.reset(seed=0)
    action = env.action_space.sample()
    action["bandwidth_share"] = action["bandwidth_share"] * (1 + 1e-7)
    assert action in env.action_space
    env.step(action)


def test_padding_is_ignored():
    rewards = []
    for filler in (0, 1):
        env = gym.make("MJOA/Streaming-v1", scenario={"dnns": ["alexnet", "googlenet"]}).unwrapped
        env.reset(seed=0)
        action = {key: np.full(5, 0.2) for key in ("bandwidth_share", "compute_share")}
        for key in ("placements", "prefetch", "retain"):
            action[key] = np.full(env.action_space[key].shape, filler, np.int8)
            for row, d in zip(action[key], env.core.dnn[0], strict=True):
                row[: env.scenario.tables.n_layers[d]] = [1, 0] * (
                    env.scenario.tables.n_layers[d] // 2
                ) + [1] * (env.scenario.tables.n_layers[d] % 2)
        rewards += [[env.step(action)[1] for _ in range(1)]]
    assert rewards[0] == rewards[1]


def test_an_action_is_not_kept_or_changed():
    env = gym.make("MJOA/Streaming-v1").unwrapped
    observation, _ = env.reset(seed=0)
    action = env.action_space.sample()
    before = pickle.loads(pickle.dumps(action))
    for array in action.values():
        array.flags.writeable = False
    observation["snr_up"][:] = 1e-9  # nor is what the environment hands out its own
    env.step(action)
    assert data_equivalence(action, before, exact=True)


@pytest.mark.parametrize("streaming", [False, True])
def test_encode_and_decode_are_inverse(streaming):
    view = PlanView(Scenario(n_ues=2), streaming)
    rng = np.random.default_rng(0)
    state = new_state(view.scenario, 1)
    state.population.dnn[:] = dnn = [0, 3]
    depth = view.scenario.tables.n_layers[dnn]
    rows = [[rng.integers(0, 2, n) for n in depth] for _ in range(2)]
    plan = Plan(rows[0], [0.3, 0.7], [0.5, 0.1], rows[1] if streaming else None)
    action = view.encode(plan)
    assert action in view.space
    decision, complete = view.decode(view.single(action), state, np.ones(1, dtype=bool))
    assert complete.all()
    for i, n in enumerate(depth):
        placement = decision.placements[decision.placement_of[0, i]]
        np.testing.assert_array_equal(placement[:n], rows[0][i])
        assert not placement[n:].any()
        if streaming:
            marks = decision.placements[decision.prefetch_of[0, i]]
            np.testing.assert_array_equal(marks[:n], rows[1][i])
        else:
            assert decision.prefetch_of[0, i] == NOTHING
    np.testing.assert_array_equal(decision.bandwidth_share[0], plan.bandwidth_share)
    with pytest.raises(ValueError, match="3 entries for 2 UEs"):
        view.encode(Plan([[1]] * 3, [0.1] * 3, [0.1] * 3))
    with pytest.raises(ValueError, match="at most 81"):
        view.encode(Plan([[1] * 82] * 2, [0.1] * 2, [0.1] * 2))


def test_shares_space():
    space = Shares(N, seed=0)
    samples = [space.sample() for _ in range(2000)]
    assert all(sample in space for sample in samples)
    assert np.mean(samples, axis=0) == pytest.approx(np.full(N, 0.2), abs=0.02)
    np.testing.assert_array_equal(Shares(N, seed=0).sample(), samples[0])
    assert np.zeros(N) in space
    assert np.full(N, 0.21) not in space
    assert np.full(N, np.nan) not in space
    assert np.full(N - 1, 0.1) not in space
    assert space == Shares(N)
    assert space != Shares(N + 1)
    assert space != gym.spaces.Box(0.0, 1.0, (N,), np.float64)
    assert repr(space) == "Shares(5)"
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space
    np.testing.assert_array_equal(copy.sample(), space.sample())
    with pytest.raises(ValueError, match="mask"):
        space.sample(probability=samples[0])


def test_shares_in_batches():
    batch = batch_space(Shares(N), 3)
    assert batch == Shares(3, N)
    sample = batch.sample()
    assert sample in batch
    assert all(row in Shares(N) for row in iterate(batch, sample))
    assert np.full((3, N), 0.21) not in batch


def test_unknown_views_are_named():
    with pytest.raises(ValueError, match="allowed are"):
        action_view("joint", Scenario(), False)
