"""What holds for every way to say a decision."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector.utils import batch_space
from hypothesis import given, settings
from hypothesis import strategies as st

from mjoa_gym import Scenario, evaluate
from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.actions import ACTION_VIEWS, action_view
from mjoa_gym.envs.actions.discrete import OWN_BIDS
from mjoa_gym.envs.actions.one_by_one import UNDECIDED
from mjoa_gym.planners import plan_with
from mjoa_gym.world.population import Population, random_population, to_instance
from mjoa_gym.world.rounds import new_state, plan_of

every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
every_view = pytest.mark.parametrize("action", tuple(ACTION_VIEWS))
learned_view = pytest.mark.parametrize("action", [name for name in ACTION_VIEWS if name != "plan"])
persisting = pytest.mark.parametrize("persists", [False, True])
DNNS = ("alexnet", "nin", "squeezenet1_1")


def decided(view, actions, state):
    """The decision of one round: from one action, or from one for each UE."""
    which = np.ones(1, dtype=bool)
    for action in actions if view.one_by_one else [actions]:
        decision, complete = view.decode(view.single(action), state, which)
    assert complete.all()
    return decision


def sampled(view):
    if view.one_by_one:
        return np.array([view.space.sample() for _ in range(view.scenario.n_ues)])
    return view.space.sample()


def an_instance(scenario, seed):
    """A random round, as a state and as an instance."""
    people = random_population(scenario, scenario.n_ues, np.random.default_rng(seed))
    return a_state(scenario, people), to_instance(scenario, people, None)


def a_state(scenario, *several):
    """The state of as many environments, with these UEs and nothing on the server."""
    people = Population(*map(np.stack, zip(*several, strict=True)))
    return new_state(scenario, len(several))._replace(population=people)


def networks(scenario, *dnn):
    """A state of which only the networks matter."""
    state = new_state(scenario, 1)
    state.population.dnn[:] = dnn
    return state


@pytest.mark.parametrize("action", [name for name in ACTION_VIEWS if "shares" not in name])
@persisting
@given(seed=st.integers(0, 10**6), n_ues=st.integers(1, 7), n_dnns=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_what_is_decoded_encodes_to_the_same_decision(action, persists, seed, n_ues, n_dnns):
    scenario = Scenario(n_ues=n_ues, dnns=DNNS[:n_dnns], ue_devices=("odroid-xu4",))
    view = action_view(action, scenario, persists)
    view.space.seed(seed)
    state, instance = an_instance(scenario, seed)
    plan = plan_of(decided(view, sampled(view), state), 0, instance)
    again = plan_of(decided(view, view.encode(plan, instance), state), 0, instance)
    for i, (mine, theirs) in enumerate(zip(plan.placements, again.placements, strict=True)):
        np.testing.assert_array_equal(mine, theirs)
        useful = mine == 0  # what is placed at the edge goes up anyway, and only bytes count
        held = instance.ues[i].dnn.parameter_bytes > 0
        prefetched = [p.prefetch[i][useful & held] for p in (plan, again)]
        np.testing.assert_array_equal(*prefetched)
    np.testing.assert_allclose(again.bandwidth_share, plan.bandwidth_share, rtol=1e-5)
    np.testing.assert_allclose(again.compute_share, plan.compute_share, rtol=1e-5)


@learned_view
@persisting
@given(seed=st.integers(0, 10**6), upload=st.sampled_from(["parallel", "serial", "whole"]))
@settings(max_examples=25, deadline=None)
def test_whatever_is_sampled_is_a_plan_in_which_everything_ends(action, persists, seed, upload):
    scenario = Scenario(n_ues=4, dnns=DNNS, upload=upload)
    view = action_view(action, scenario, persists)
    view.space.seed(seed)
    state, instance = an_instance(scenario, seed)
    plan = plan_of(decided(view, sampled(view), state), 0, instance)  # checks the shares
    assert np.isfinite(evaluate(instance, plan)).all()
    for share, needed in (
        (plan.compute_share, [p.any() for p in plan.placements]),
        (
            plan.bandwidth_share,
            [(p | q).any() for p, q in zip(plan.placements, plan.prefetch, strict=True)],
        ),
    ):
        np.testing.assert_array_equal(share > 0, needed)
        assert share.sum() == pytest.approx(1.0 if any(needed) else 0.0)


@learned_view
@pytest.mark.parametrize("seed", range(8))
def test_the_expert_can_be_said_almost_as_it_is(action, seed):
    """A learned view can say MJOA-MU's plan at a small loss, and never does worse than local."""
    scenario = Scenario()
    state, instance = an_instance(scenario, seed)
    plan = plan_with("mjoa-mu", instance)
    view = action_view(action, scenario, False)
    said = plan_of(decided(view, view.encode(plan, instance), state), 0, instance)
    expert, learned = (evaluate(instance, p).sum() for p in (plan, said))
    assert expert * (1 - 1e-9) <= learned * 1.02  # MJOA-MU is a heuristic: it may be beaten
    assert learned <= 1.15 * expert
    assert learned <= instance.local_s.sum() * (1 + 1e-9)


def test_discrete_masks_are_sound_and_complete():
    """Every decision a UE can say has exactly one unmasked action; masked ones say no other."""
    scenario = Scenario(n_ues=1, dnns=("alexnet", "nin"), ue_devices=("odroid-xu4",))
    for persists in (False, True):
        view = action_view("discrete", scenario, persists)
        for d in range(2):
            state = networks(scenario, d)
            mask = view.masks(state.population.dnn)[0]
            assert mask.dtype == np.int8
            meanings = {0: set(), 1: []}
            for code in range(view.space.n):
                decision = decided(view, [code], state)
                placement = decision.placements[decision.placement_of[0, 0]]
                row, kept = decision.prefetch_of[0, 0], decision.retain_of[0, 0]
                extra = decision.placements[row] * (1 - placement) if row >= 0 else placement * 0
                needs = bool((placement | extra).any())
                level = code % len(OWN_BIDS) if needs else None
                meaning = (placement.tobytes(), extra.tobytes(), kept >= 0, level)
                if mask[code]:
                    meanings[1].append(meaning)
                else:
                    meanings[0].add(meaning)
            assert len(meanings[1]) == len(set(meanings[1]))
            assert meanings[0] <= set(meanings[1])


@persisting
def test_multidiscrete_masks_leave_one_number_for_each_entry(persists):
    scenario = Scenario(n_ues=3, dnns=("alexnet", "nin", "vgg16"))
    view = action_view("multidiscrete", scenario, persists)
    nvec = view.space.nvec
    for dnn in ([[0, 1, 2]], [[2, 2, 0]]):
        dnn = np.array(dnn)
        parts = np.split(view.masks(dnn)[0], np.cumsum(nvec)[:-1])
        per_ue = 5 if persists else 3
        for k, part in enumerate(parts):
            if k % per_ue >= per_ue - 2:
                assert part.all()
                continue
            size = view.sizes[dnn[0, k // per_ue]]
            np.testing.assert_array_equal(part, np.arange(nvec[k]) < size)
            np.testing.assert_array_equal(
                view.wrapped[dnn[0, k // per_ue], size:], np.arange(nvec[k] - size) % size
            )


@every_env
@pytest.mark.parametrize("action", ["discrete", "multidiscrete"])
def test_masks_reach_info_and_sampling(env_id, action):
    env = gym.make(env_id, action=action, n_ues=3, rounds=3)
    _, info = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(9 if action == "discrete" else 3):
        mask = info["action_mask"]
        parts = mask if action == "multidiscrete" else (mask,)
        together = np.concatenate(parts) == 1
        np.testing.assert_array_equal(together, env.unwrapped.action_masks())
        np.testing.assert_array_equal(together, env.get_wrapper_attr("action_masks")())
        chosen = env.action_space.sample(mask)
        assert all(part[k] for part, k in zip(parts, np.atleast_1d(chosen), strict=True))
        _, _, _, truncated, info = env.step(chosen)
    assert truncated


@every_env
def test_one_ue_after_the_other(env_id):
    """N actions make a round; its whole reward comes with the last; all see what was chosen."""
    env = gym.make(env_id, action="discrete", observation="dict", n_ues=3, rounds=2)
    flat = gym.make(env_id, action="discrete", n_ues=3, rounds=2)
    joint = gym.make(env_id, action="multidiscrete", n_ues=3, rounds=2)
    observation, _ = env.reset(seed=1)
    blocks = flat.reset(seed=1)[0]
    joint.reset(seed=1)
    streaming = "Streaming" in env_id
    env.action_space.seed(3)
    for _ in range(2):
        actions, rewards = [], []
        for turn in range(3):
            assert observation["turn"] == [turn]
            np.testing.assert_array_equal(observation["chosen"][turn:], UNDECIDED)
            np.testing.assert_array_equal(observation["chosen"][:turn], actions)
            of_ues = len(blocks) - 1 - (5 if streaming else 0)  # then how much memory holds
            rows = blocks[:of_ues].reshape(3, -1)  # begins with the UE whose turn it is
            np.testing.assert_array_equal(rows[0, :5], np.eye(5)[observation["dnn"][turn]])
            decided_before = np.roll(np.arange(3) < turn, -turn)
            np.testing.assert_array_equal(rows[:, -5 if streaming else -4] == 1, decided_before)
            actions.append(int(env.action_space.sample()))
            observation, reward, _, truncated, info = env.step(actions[-1])
            blocks = flat.step(actions[-1])[0]
            rewards.append(reward)
            assert info["round_complete"] == (turn == 2)
            assert info["latency_s"].all() == (turn == 2)
        assert rewards[:2] == [0.0, 0.0]
        view = env.unwrapped.view
        entry, prefetch, *_, level = np.unravel_index(actions, view.parts)
        last = view.sizes[env.unwrapped.core.dnn[0]] - 1
        if not streaming:  # there the next round's networks are other ones
            parts = np.stack([entry, 2 * level, 2 * level], axis=1)
            assert joint.step(parts.ravel())[1] == rewards[2]
        else:
            assert prefetch.max() <= 1
            assert last.min() >= 1
    assert truncated


@every_env
@every_view
def test_an_unusual_action_does_not_disturb_the_episode(env_id, action):
    env, twin = (gym.make(env_id, action=action, n_ues=2).unwrapped for _ in range(2))
    for e in (env, twin):
        e.reset(seed=0)
        e.action_space.seed(0)
    bad = {
        "plan": [{}, "plan", None],
        "box": [np.full(6 + 4 * env.persists, np.nan), np.zeros(3), "box", None],
        "multidiscrete": [np.full(6 + 4 * env.persists, 99), np.zeros(6 + 4 * env.persists), -1],
        "discrete": [-1, 10**6, 0.5, np.zeros(2, int), "first", None],
        "shares": [np.full(4, 8), np.zeros(4), -1],
        "shares-box": [np.full(4, np.nan), np.zeros(3), "box", None],
        "shares-discrete": [-1, 8, 0.5, np.zeros(2, int), "first", None],
    }[action]
    for _ in range(3):
        for one in bad:
            with pytest.raises(ValueError, match=r"action"):
                env.step(one)
        good = env.action_space.sample()
        mine, theirs = env.step(good), twin.step(good)
        assert mine[1] == theirs[1]
        assert mine[4].keys() == theirs[4].keys()


def test_box_cuts_what_is_beyond():
    scenario = Scenario(n_ues=2, dnns=DNNS)
    view = action_view("box", scenario, True)
    state = networks(scenario, 0, 2)
    inside = decided(view, np.array([1, -1, 1, 1, 1, -1, 1, -1, -1, 0], np.float32), state)
    outside = decided(view, np.array([7, -2, 1.1, 1.5, 9, -1.01, np.inf, -np.inf, -4, 0]), state)
    for a, b in zip(inside, outside, strict=True):
        np.testing.assert_array_equal(a, b)


@every_view
def test_batches_decode_like_singles(action):
    scenario = Scenario(n_ues=3, dnns=DNNS)
    many = action_view(action, scenario, True, 4)
    space = batch_space(many.space, 4)
    space.seed(0)
    several = [random_population(scenario, 3, np.random.default_rng(e)) for e in range(4)]
    state, which = a_state(scenario, *several), np.ones(4, dtype=bool)
    actions = [space.sample() for _ in range(3 if many.one_by_one else 1)]
    for action_of_all in actions:
        together, _ = many.decode(action_of_all, state, which)
    for e in range(4):
        one = action_view(action, scenario, True, 1)
        rows = [{k: v[e] for k, v in a.items()} if isinstance(a, dict) else a[e] for a in actions]
        own = a_state(scenario, several[e])
        alone = decided(one, rows if one.one_by_one else rows[0], own)
        np.testing.assert_array_equal(alone.bandwidth_share[0], together.bandwidth_share[e])
        np.testing.assert_array_equal(alone.compute_share[0], together.compute_share[e])
        np.testing.assert_array_equal(
            alone.placements[alone.placement_of[0]],
            together.placements[together.placement_of[e]],
        )
