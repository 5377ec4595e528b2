"""Views that decide about shares alone: the placements are the best there are at what UEs bid."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import Plan, Scenario, decode_observation, evaluate
from mjoa_gym.envs import ENTRY_POINTS
from mjoa_gym.envs.actions import action_view
from mjoa_gym.envs.actions.response import Bids
from mjoa_gym.envs.actions.shares import EVEN, GREATEST_BID, LEVELS, centred, nearest_levels
from mjoa_gym.envs.actions.targets import NO_ROUND, PATIENCE
from mjoa_gym.model.instance import packed_link
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.menu import menu_of
from mjoa_gym.world.rounds import plan_of
from tests.responses import costs_of
from tests.test_outlook import SCENARIOS, played

DEAR = {"dear": {"energy_price_s_per_j": 0.5, "share_parameters": False}}
"""Energy at a price that decides about many targets."""
every_env = pytest.mark.parametrize("env_id", tuple(ENTRY_POINTS))
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


def rows_of(menu, scenario, ue):
    d = scenario.profiles.index(ue.dnn)
    return menu.placements[d, : menu.size[d], : ue.dnn.n_layers]


def expected(scenario, persists, instance, bids):
    """The plan that bids (N,) come to, slowly and from what is written about them."""
    menu = menu_of(scenario, persists)
    shares = np.array([bids.bandwidth, bids.compute]) * instance.local_cost
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
    menus = [rows_of(menu, scenario, ue) for ue in instance.ues]
    placements = [
        rows[costs_of(instance, i, rows, *shares[:, i]).argmin()] for i, rows in enumerate(menus)
    ]
    prefetch = retain = [np.zeros(ue.dnn.n_layers, np.int8) for ue in instance.ues]
    if persists:
        later = later_costs(instance, menus, shares)
        if scenario.energy_price_s_per_j > 0.0:
            sending = sending_costs(scenario, instance, menus, shares, placements)
            later = [costs + own for costs, own in zip(later, sending, strict=True)]
        targets = best_together(scenario, instance, menus, later)
        wanted = targets
        if scenario.retain:
            retain, memory = targets, scenario.server_memory_bytes
            alone = [
                rows[np.where(rows @ ue.dnn.parameter_bytes <= memory, costs, np.inf).argmin()]
                for ue, rows, costs in zip(instance.ues, menus, later, strict=True)
            ]
            wanted = [
                one if sends(ue, one, placed) else other
                for ue, one, other, placed in zip(
                    instance.ues, targets, alone, placements, strict=True
                )
            ]
        prefetch = [
            one if sends(ue, one, placed) else 0 * one
            for ue, one, placed in zip(instance.ues, wanted, placements, strict=True)
        ]
    needs = np.array([p.any() for p in placements])
    for share, needed in zip(shares, (needs | [p.any() for p in prefetch], needs), strict=True):
        share[~needed] = 0.0
        share /= max(share.sum(), 1e-300)
    for i in np.flatnonzero(needs):
        placements[i] = menus[i][costs_of(instance, i, menus[i], *shares[:, i]).argmin()]
    return Plan(placements, *shares, prefetch, retain)


def sends(ue, target, placed):
    """Whether a target misses bytes that a placement does not send."""
    return (target * (1 - placed)) @ (ue.dnn.parameter_bytes * (1.0 - ue.resident)) > 0


def later_costs(instance, menus, shares):
    """Per UE (M,) what each entry costs when it is on the server."""
    stocked = replace_ues(instance, [replace_resident(ue) for ue in instance.ues])
    return [
        costs_of(stocked, i, rows, shares[0, i], shares[1, i] or 1.0 / instance.n_ues)
        for i, rows in enumerate(menus)
    ]


def sending_costs(scenario, instance, menus, shares, placements):
    """Per UE (M,) the price of sending what an entry misses, by the rounds in which it pays."""
    rounds = max(PATIENCE * instance.horizon.expected_rounds, NO_ROUND)
    found = []
    for i, (ue, rows, placed) in enumerate(zip(instance.ues, menus, placements, strict=True)):
        sent = (rows * (1 - placed)) @ (ue.dnn.parameter_bytes * (1.0 - ue.resident))
        up = packed_link(instance.packed, i, *shares[:, i]).up  # seconds per byte
        busy_s = np.array([own * up if own > 0.0 else 0.0 for own in sent])
        joules = ue.power.transmit_w * busy_s
        found.append(ue.weight * scenario.energy_price_s_per_j * joules / rounds)
    return found


def best_together(scenario, instance, menus, later):
    """Per UE its target: of all prices at which some target changes, the lowest that will do."""
    names = [ue.dnn.name if scenario.share_parameters else i for i, ue in enumerate(instance.ues)]
    groups = {name: [i for i, own in enumerate(names) if own == name] for name in names}
    costs = {name: sum(later[i] for i in who) for name, who in groups.items()}
    sizes = {
        n: menus[who[0]] @ instance.ues[who[0]].dnn.parameter_bytes for n, who in groups.items()
    }
    prices = [0.0]
    for name in groups:
        finite = np.isfinite(costs[name])
        size, cost = sizes[name][finite], costs[name][finite]
        saved, more = cost[:, None] - cost, size - size[:, None]
        prices += list((saved[more > 0] / more[more > 0]) * (1.0 + 1e-9))
    least = sum(own[0] for own in later) / 1e15
    for price in sorted(0.0 if p <= 0.0 else max(p, least) for p in prices):
        chosen = {name: (costs[name] + price * sizes[name]).argmin() for name in groups}
        if sum(sizes[name][k] for name, k in chosen.items()) <= scenario.server_memory_bytes:
            return [menus[i][chosen[name]] for i, name in enumerate(names)]
    raise AssertionError("all-local targets always fit")


def replace_ues(instance, ues):
    return replace(instance, ues=tuple(ues))


def replace_resident(ue):
    return replace(ue, resident=np.ones(ue.dnn.n_layers))


@every_env
@pytest.mark.parametrize("scenario", (SCENARIOS | DEAR).values(), ids=SCENARIOS | DEAR)
def test_placements_are_the_best_at_what_is_bid(env_id, scenario):
    seen, core = played(env_id, "shares", scenario=scenario, n_envs=3)
    view, state = core.view, core.batch.state
    rng, shape = np.random.default_rng(0), state.population.dnn.shape
    bids = Bids(*rng.choice(LEVELS, (2, *shape)))
    decision = view.respond(bids, state, np.ones(shape[0], bool), threads=1)
    for e in range(shape[0]):
        instance = decode_observation({k: v[e] for k, v in seen.items()}, core.scenario)
        own = Bids(*(part[e] for part in bids))
        wanted = expected(core.scenario, core.persists, instance, own)
        found = plan_of(decision, e, instance)
        for name in ("placements", "prefetch", "retain"):
            for mine, theirs in zip(getattr(found, name), getattr(wanted, name), strict=True):
                np.testing.assert_array_equal(mine, theirs, name)
        np.testing.assert_allclose(found.bandwidth_share, wanted.bandwidth_share, rtol=1e-12)
        np.testing.assert_allclose(found.compute_share, wanted.compute_share, rtol=1e-12)


@every_env
def test_bids_of_nothing_leave_everything_on_the_ues(env_id):
    env = gym.make(env_id, action="shares")
    env.reset(seed=0)
    nothing = np.zeros(env.action_space.shape, np.int64)
    _, reward, _, _, info = env.step(nothing)
    assert reward == 0.0
    np.testing.assert_array_equal(info["latency_s"], info["local_s"])
    assert not env.unwrapped.core.decision.bandwidth_share.any()


def test_equal_bids_share_as_the_all_local_costs():
    env = gym.make("MJOA/ColdStart-v1", action="shares", observation="dict")
    seen, _ = env.reset(seed=0)
    instance = decode_observation(seen, env.unwrapped.scenario)
    env.step(np.full(10, EVEN))
    shares = env.unwrapped.core.decision.bandwidth_share[0]
    wants = shares > 0
    assert 2 <= wants.sum() <= 5
    costs = np.where(wants, instance.local_cost, 0.0)
    np.testing.assert_allclose(shares, costs / costs.sum(), rtol=1e-12)


@every_env
def test_real_and_whole_numbers_and_turns_say_the_same(env_id):
    """The same bids through the three views, and with any number of threads."""
    envs = {
        name: gym.make_vec(
            env_id, 40, vectorization_mode="vector_entry_point", action=name, threads=threads
        )
        for name, threads in (("shares", 1), ("shares-box", 2), ("shares-discrete", 2))
    }
    for env in envs.values():
        env.reset(seed=5)
    rng = np.random.default_rng(1)
    for _ in range(3):
        level = rng.integers(0, len(LEVELS), (40, 5))
        whole = np.stack([level, level], axis=-1).reshape(40, -1)
        exponent = np.where(level > 0, (level - EVEN) / (len(LEVELS) - 1 - EVEN), -1.0)
        exponent[level == 1] += 1e-6  # just above nothing
        real = np.stack([exponent, exponent], axis=-1).reshape(40, -1)
        rewards = [envs["shares"].step(whole)[1], envs["shares-box"].step(real)[1]]
        for turn in range(5):
            reward = envs["shares-discrete"].step(level[:, turn])[1]
        np.testing.assert_allclose(rewards[1], rewards[0], atol=1e-5)
        np.testing.assert_array_equal(reward, rewards[0])


@every_env
@pytest.mark.parametrize("action", ["shares", "shares-box", "shares-discrete"])
def test_a_plan_is_said_with_its_shares(env_id, action):
    """What is encoded has the plan's shares but for the levels, and costs little more."""
    scenario = Scenario()
    env = gym.make(env_id, action=action, observation="dict").unwrapped
    planner = "mjoa-mu-prefetch" if env.persists else "mjoa-mu"
    planned, said = [], []
    for seed in range(4):
        seen, _ = env.reset(seed=seed)
        for _ in range(3):
            instance = decode_observation(seen, scenario)
            plan = plan_with(planner, instance)
            coded = env.view.encode(plan, instance)
            for one in coded if env.view.one_by_one else [coded]:
                seen, *_ = env.step(one)
            again = plan_of(env.core.decision, 0, instance)
            planned.append(evaluate(instance, plan).sum())
            said.append(evaluate(instance, again).sum())
            used = (plan.bandwidth_share > 0) & (again.bandwidth_share > 0)
            bids = (
                plan.bandwidth_share[plan.bandwidth_share > 0]
                / instance.local_cost[plan.bandwidth_share > 0]
            )
            if action == "shares-box" and used.any() and bids.max() < GREATEST_BID**2 * bids.min():
                ratio = again.bandwidth_share[used] / plan.bandwidth_share[used]
                np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-5)
    assert sum(said) <= 1.03 * sum(planned)


def test_levels_of_bids():
    np.testing.assert_array_equal(nearest_levels(LEVELS), np.arange(len(LEVELS)))
    np.testing.assert_array_equal(nearest_levels(100.0 * LEVELS[3:6]), [3, 4, 5])
    np.testing.assert_array_equal(nearest_levels(np.array([0.0, 1e-9, 1.0]))[[0, 1]], [0, 1])
    for first in range(1, 8):
        for last in range(first + 1, 9):
            found = nearest_levels(LEVELS[first:last] * 7.3)
            np.testing.assert_array_equal(np.diff(found), 1)
    np.testing.assert_array_equal(nearest_levels(np.zeros(3)), [0, 0, 0])
    np.testing.assert_array_equal(centred(np.array([0.0, 5.0])), [-1.0, 0.0])


@every_env
def test_a_plan_without_its_instance_cannot_be_said(env_id):
    view = action_view("shares", Scenario(n_ues=2), "Streaming" in env_id)
    with pytest.raises(ValueError, match="instance=None"):
        view.encode(Plan([[1]] * 2, [0.5] * 2, [0.5] * 2))


@pytest.mark.parametrize("action", ["shares", "shares-box", "shares-discrete"])
def test_prefetching_alone_can_be_said(action):
    env = gym.make("MJOA/Streaming-v1", action=action, observation="dict").unwrapped
    seen, _ = env.reset(seed=1)
    instance = decode_observation(seen, env.scenario)
    nothing = [np.zeros(ue.dnn.n_layers, np.int8) for ue in instance.ues]
    everything = [np.ones(ue.dnn.n_layers, np.int8) for ue in instance.ues]
    plan = Plan(nothing, np.full(5, 0.2), np.zeros(5), everything)
    coded = env.view.encode(plan, instance)
    for one in coded if env.view.one_by_one else [coded]:
        *_, info = env.step(one)
    assert info["resident_bytes"] > 1e6
    if action != "shares-discrete":  # there a bid is for both
        np.testing.assert_array_equal(info["latency_s"], info["local_s"])


UNUSUAL = {
    "alone": {"n_ues": 1},
    "preinstalled": {"upload": "preinstalled"},
    "whole": {"upload": "whole"},
    "no memory": {"server_memory_bytes": 0.0},
    "out of reach": {"snr_max_db": -4000, "snr_min_db": -4000},
    "late": {"deadline_factor_min": 0.1, "deadline_factor_max": 0.9, "miss_price_s": 1.0},
}


@every_env
@pytest.mark.parametrize("scenario", UNUSUAL.values(), ids=UNUSUAL)
def test_nothing_is_worse_than_doing_nothing(env_id, scenario):
    """Unless energy has a price, whatever is bid; also where little can be gained."""
    for action in ("shares", "shares-box", "shares-discrete"):
        envs = gym.make_vec(
            env_id, 8, vectorization_mode="vector_entry_point", action=action, scenario=scenario
        )
        seen, _ = envs.reset(seed=0)
        envs.action_space.seed(0)
        for _ in range(10):
            assert np.isfinite(seen).all()
            seen, rewards, _, _, infos = envs.step(envs.action_space.sample())
            assert rewards.min() >= -1e-12
            assert np.isfinite(infos["latency_s"]).all()
