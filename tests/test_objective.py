"""What inferences cost: latency, and energy and missed deadlines where they have a price."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import mjoa_gym
from mjoa_gym import (
    DNN,
    UE,
    Instance,
    Plan,
    Scenario,
    decode_observation,
    evaluate,
    evaluate_cost,
    evaluate_energy,
)
from mjoa_gym.devices import FlopsDevice, Power
from mjoa_gym.envs.api_test import api_test
from mjoa_gym.model import objective
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.menu import menu_of
from mjoa_gym.world.population import (
    DRAWS,
    arrivals,
    empty_population,
    random_population,
    to_instance,
)
from mjoa_gym.world.randomness import STEP
from mjoa_gym.world.rounds import plan_of

IDS = ("MJOA/ColdStart-v1", "MJOA/Streaming-v1")
every_env = pytest.mark.parametrize("env_id", IDS)
FACTORS = {"deadline_factor_min": 0.2, "deadline_factor_max": 1.5}
SECONDS = {"deadline_min_s": 0.1, "deadline_max_s": 3.0}
PRICES = {"energy_price_s_per_j": 0.05, "miss_price_s": 0.4}
POWER = Power(5.0, 2.0, 3.0, 1.0)
TOY = DNN("toy", [1, 1], [8, 8], [8, 8], [[-1], [0]], 8)


def toy_ue(**changes):
    given = {"uplink_bps": 64.0, "downlink_bps": 64.0, "weight": 2.0, "power": POWER}
    return UE(TOY, [2.0, 2.0], [0.5, 0.5], **given | changes)


# --- Instances -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prices", "cost", "local"),
    [
        # at the edge: 1 s of input, 2 s of parameters, 1 s of work, 1 s of output; one overlaps
        ({}, 2 * 4.5, 2 * 4),
        ({"miss_price_s": 10.0}, 2 * (4.5 + 10), 2 * 4),
        ({"energy_price_s_per_j": 0.5}, 2 * (4.5 + 0.5 * 19), 2 * (4 + 0.5 * 20)),
        (
            {"miss_price_s": 10.0, "energy_price_s_per_j": 0.5},
            2 * (4.5 + 0.5 * 19 + 10),
            2 * (4 + 0.5 * 20),
        ),
    ],
)
def test_costs_by_hand(prices, cost, local):
    """Uplink 0bb, then 0.5 s of work (the other 0.5 s overlap), then 1 s of downlink: 4.5 s."""
    instance = Instance([toy_ue(deadline_s=4.2)], **prices)
    plan = Plan([[1, 1]], [1.0], [1.0])
    assert evaluate(instance, plan).tolist() == [4.5]
    assert evaluate_energy(instance, plan).tolist() == [4.5 * 2 + 3 * 3 + 1]
    assert evaluate_cost(instance, plan).tolist() == [cost]
    assert instance.local_cost.tolist() == [local]


def test_a_result_at_the_deadline_is_in_time():
    for deadline_s, missed in ((4.5, 0), (np.nextafter(4.5, 0), 1), (np.inf, 0)):
        instance = Instance([toy_ue(deadline_s=deadline_s, power=None)], miss_price_s=1.0)
        assert evaluate_cost(instance, Plan([[1, 1]], [1], [1])).tolist() == [2 * (4.5 + missed)]


def test_without_prices_nothing_changes_even_with_what_is_not_known():
    assert objective.priced(3.0, np.nan, 2.0, 0.0, 0.0) == 3.0
    assert objective.priced(np.inf, np.inf, 2.0, 0.0, 1.0) == np.inf
    instance = Instance([toy_ue(power=None)])
    plan = Plan([[1, 1]], [0.0], [0.0])
    assert evaluate_cost(instance, plan).tolist() == [np.inf]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: toy_ue(deadline_s=0), "deadline_s=0: must be above 0"),
        (lambda: toy_ue(deadline_s=np.nan), "deadline_s=nan: must be >= 0"),
        (lambda: toy_ue(deadline_s="soon"), "deadline_s='soon': must be a number"),
        (lambda: Instance([toy_ue()], miss_price_s=-1), "miss_price_s=-1: must be finite and >="),
        (lambda: Instance([toy_ue()], energy_price_s_per_j=np.inf), "energy_price_s_per_j=inf"),
        (lambda: Scenario(miss_price_s=-1), "miss_price_s=-1: must be finite and >= 0"),
        (lambda: Scenario(energy_price_s_per_j=-1), "energy_price_s_per_j=-1: must be finite"),
        (
            lambda: Scenario(energy_price_s_per_j=1, ue_devices=["phone-cpu", "server-cpu"]),
            "energy_price_s_per_j=1.0: the UE device 'server-cpu' has no power",
        ),
        (lambda: Scenario(**FACTORS | SECONDS), r"deadlines: got \['deadline_factor_min', "),
        (lambda: Scenario(deadline_min_s=1), r"got \['deadline_min_s'\]; they must be .* or none"),
        (lambda: Scenario(deadline_factor_max=1), r"deadlines: got \['deadline_factor_max'\]"),
        (lambda: Scenario(deadline_min_s=0, deadline_max_s=1), "deadline_min_s=0: must be above 0"),
        (
            lambda: Scenario(deadline_min_s=2, deadline_max_s=1),
            "deadline_min_s=2.0: must be at most deadline_max_s=1.0",
        ),
        (
            lambda: Scenario(deadline_factor_min=1, deadline_factor_max="x"),
            "deadline_factor_max='x': must be a number",
        ),
    ],
)
def test_what_is_not_allowed_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- Populations ---------------------------------------------------------------------------------


def draws_of(**fields) -> int:
    """How many random numbers a newcomer takes."""
    scenario, streams = Scenario(**fields), np.zeros(1, np.uint64)
    given = scenario.constants, scenario.traces, scenario.tables.local_s
    which = np.ones(1, np.bool_)
    arrivals(empty_population(1, 1), streams, *given, which, np.empty(DRAWS), 0, 1)
    return next(n for n in range(99) if n * int(STEP) % 2**64 == int(streams[0]))


def test_deadlines_are_drawn_after_all_else():
    """The first UE of a stream is the same with deadlines; without, nothing more is drawn."""
    assert draws_of() + 1 == draws_of(**FACTORS) == draws_of(**SECONDS)
    without, *others = (
        random_population(Scenario(**given), 3, np.random.default_rng(1))
        for given in ({}, FACTORS, SECONDS)
    )
    assert np.all(without.deadline_s == np.inf)
    for population in others:
        for name in set(without._fields) - {"deadline_s"}:
            assert getattr(population, name)[0] == getattr(without, name)[0]
        assert population.up[1] != without.up[1]  # the second one's numbers have moved on


def test_deadlines_cover_their_range():
    rng = np.random.default_rng(2)
    scenario = Scenario(**SECONDS)
    deadline_s = random_population(scenario, 4000, rng).deadline_s
    assert 0.1 <= deadline_s.min() < 0.11
    assert 2.99 < deadline_s.max() <= 3.0 == scenario.most_deadline_s
    scenario = Scenario(**FACTORS)
    people = random_population(scenario, 4000, rng)
    local_s = scenario.tables.local_s[people.dnn, people.device] / people.speed
    factor = people.deadline_s / local_s
    assert 0.2 - 1e-9 <= factor.min() < 0.21
    assert 1.49 < factor.max() <= 1.5 + 1e-9
    assert people.deadline_s.max() <= scenario.most_deadline_s
    instance = to_instance(scenario, people)
    assert [ue.deadline_s for ue in instance.ues] == people.deadline_s.tolist()
    assert all(
        ue.power == scenario.devices[k].power
        for ue, k in zip(instance.ues, people.device, strict=True)
    )


def test_a_ue_keeps_its_deadline_while_it_stays():
    env = gym.make("MJOA/Streaming-v1", scenario=FACTORS | {"departure_probability": 0.3})
    observation, _ = env.reset(seed=4)
    stayed = left = 0
    for _ in range(10):
        before = observation["deadline_s"]
        observation, _, _, _, info = env.step(env.action_space.sample())
        same = before == observation["deadline_s"]
        assert np.array_equal(same, ~info["left"])
        stayed, left = stayed + same.sum(), left + (~same).sum()
    assert stayed > 10
    assert left > 5


def test_menus_do_not_depend_on_deadlines_and_prices():
    plain, other = (menu_of(Scenario(**given), True) for given in ({}, FACTORS | PRICES))
    assert plain is other


# --- Environments --------------------------------------------------------------------------------


@every_env
@pytest.mark.parametrize("deadlines", [FACTORS, SECONDS])
@pytest.mark.parametrize("action", ["plan", "multidiscrete", "discrete"])
def test_priced_environments_pass_the_public_check(env_id, deadlines, action):
    scenario = deadlines | PRICES | {"weight_max": 3.0, "departure_probability": 0.2}
    for observation in ("dict", "flat"):
        env = gym.make(
            env_id, action=action, scenario=scenario, observation=observation, n_ues=3, rounds=4
        )
        api_test(env, episodes=1)


@every_env
def test_prefetching_costs_energy_and_everything_is_as_evaluated(env_id):
    scenario = SECONDS | PRICES | {"departure_probability": 0.0}
    env = gym.make(env_id, scenario=scenario, rounds=12)
    env.action_space.seed(7)
    env.reset(seed=7)
    core, more = env.unwrapped.core, 0
    for _ in range(12):
        instance = core.batch.instance(0)
        _, reward, _, _, info = env.step(env.action_space.sample())
        plan = plan_of(core.decision, 0, instance)
        joules = evaluate_energy(instance, plan)
        np.testing.assert_array_equal(info["energy_j"], joules)
        unprefetched = Plan(plan.placements, plan.bandwidth_share, plan.compute_share)
        more += (joules > evaluate_energy(instance, unprefetched)).sum()
        deadlines = np.array([ue.deadline_s for ue in instance.ues])
        np.testing.assert_array_equal(info["missed"], info["latency_s"] > deadlines)
        costs = evaluate_cost(instance, plan)
        assert reward == pytest.approx(1 - costs.sum() / instance.local_cost.sum(), rel=1e-12)
        by_hand = info["latency_s"] + 0.05 * info["energy_j"] + 0.4 * info["missed"]
        np.testing.assert_allclose(costs, by_hand, rtol=1e-12)
    assert (more > 5) == (env_id == IDS[1])


@every_env
def test_doing_nothing_earns_exactly_nothing_whatever_the_prices(env_id):
    env = gym.make(env_id, scenario=FACTORS | PRICES, rounds=5)
    env.reset(seed=1)
    shape = env.action_space["placements"].shape
    nothing = {
        "placements": np.zeros(shape, np.int8),
        "bandwidth_share": np.zeros(5),
        "compute_share": np.zeros(5),
    }
    if env_id == IDS[1]:
        nothing |= dict.fromkeys(("prefetch", "retain"), np.zeros(shape, np.int8))
    for _ in range(5):
        _, reward, _, _, info = env.step(nothing)
        assert reward == 0.0
        assert info["missed"].any()  # factors below 1: no UE manages alone


@every_env
def test_prices_and_deadlines_change_nothing_else(env_id):
    """The same seconds in the same rounds, as far as the first UE goes; deadlines draw more."""
    infos = []
    for scenario in ({}, PRICES):
        env = gym.make(env_id, action="multidiscrete", scenario=scenario, rounds=6)
        env.action_space.seed(2)
        env.reset(seed=2)
        infos.append([env.step(env.action_space.sample())[4] for _ in range(6)])
    for one, other in zip(*infos, strict=True):
        for key in ("latency_s", "energy_j", "missed", "round_s"):
            np.testing.assert_array_equal(one[key], other[key])


@every_env
def test_energy_is_told_where_it_is_known(env_id):
    unknown = FlopsDevice("unknown", 1e10)
    known = FlopsDevice("known", 1e10, power=POWER)
    for devices, told in (([known], True), ([known, unknown], False), ([unknown], False)):
        env = gym.make(env_id, scenario={"ue_devices": devices}, rounds=3)
        assert ("energy_j" in env.reset(seed=0)[1]) == told
        info = env.step(env.action_space.sample())[4]
        assert ("energy_j" in info) == told
        assert not told or np.all(info["energy_j"] > 0)
        api_test(env, episodes=1)
    with pytest.raises(ValueError, match="UE device 'unknown' has no power"):
        gym.make(env_id, scenario={"ue_devices": [known, unknown], "energy_price_s_per_j": 1.0})


@every_env
@pytest.mark.parametrize("deadlines", [{}, FACTORS, SECONDS])
def test_observations_give_deadlines_and_prices_back(env_id, deadlines):
    scenario = Scenario(**deadlines, **PRICES, rounds=4)
    shown = [
        gym.make(env_id, action="plan", scenario=scenario, observation=observation)
        for observation in ("dict", "flat")
    ]
    observations = [env.reset(seed=5)[0] for env in shown]
    assert ("deadline_s" in observations[0]) == bool(deadlines)
    action = shown[0].action_space.sample()
    for _ in range(3):
        exact = shown[0].unwrapped.core.batch.instance(0)
        for observation, rtol in zip(observations, (0, 1e-5), strict=True):
            instance = decode_observation(observation, scenario)
            for name in ("energy_price_s_per_j", "miss_price_s"):
                assert getattr(instance, name) == PRICES[name]
            for ue, own in zip(instance.ues, exact.ues, strict=True):
                np.testing.assert_allclose(ue.deadline_s, own.deadline_s, rtol=rtol)
                np.testing.assert_allclose(ue.resident, own.resident, rtol=rtol, atol=1e-6)
                assert ue.power == own.power
        observations = [env.step(action)[0] for env in shown]
    if deadlines:
        del observations[0]["deadline_s"]
        with pytest.raises(ValueError, match="no entry 'deadline_s'"):
            decode_observation(observations[0], scenario)


@every_env
@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP"])
def test_a_vector_says_the_same(env_id, mode):
    arguments = {"action": "multidiscrete", "n_ues": 3, "rounds": 3, "scenario": FACTORS | PRICES}
    native, looped = (
        gym.make_vec(env_id, 4, vectorization_mode=kind, **more, **arguments)
        for kind, more in (
            ("vector_entry_point", {"autoreset_mode": mode}),
            ("sync", {"vector_kwargs": {"autoreset_mode": gym.vector.AutoresetMode[mode]}}),
        )
    )
    native.action_space.seed(3)
    native.reset(seed=3)
    looped.reset(seed=3)
    for _ in range(8):
        actions = native.action_space.sample()
        one, other = native.step(actions), looped.step(actions)
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        for key in ("energy_j", "missed"):
            np.testing.assert_array_equal(one[4][key], other[4][key])
            last, looped_last = (step[4].get("final_info", {key: 0})[key] for step in (one, other))
            np.testing.assert_array_equal(last, looped_last)


@every_env
def test_agents_of_their_own(env_id):
    pytest.importorskip("pettingzoo")
    scenario = FACTORS | PRICES | {"weight_max": 3.0}
    env = mjoa_gym.parallel_env(env_id, n_ues=3, rounds=4, scenario=scenario, reward="own")
    for k, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(k)
    env.reset(seed=6)
    while env.agents:
        core = env.env.core
        instance = core.batch.instance(0)
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        _, rewards, _, _, infos = env.step(actions)
        plan = plan_of(core.decision, 0, instance)
        own = 1 - evaluate_cost(instance, plan) / instance.local_cost
        np.testing.assert_allclose(list(rewards.values()), own, rtol=1e-12, atol=1e-15)
        joules = evaluate_energy(instance, plan)
        assert [infos[agent]["energy_j"] for agent in rewards] == joules.tolist()
        assert all(type(infos[agent]["missed"]) is bool for agent in rewards)


@every_env
def test_stable_baselines3_gets_it_too(env_id):
    adapter = pytest.importorskip("mjoa_gym.envs.adapters.stable_baselines3")
    arguments = {"action": "multidiscrete", "n_ues": 3, "rounds": 2, "scenario": FACTORS | PRICES}
    envs = adapter.make_vec_env(env_id, 2, seed=0, infos="full", **arguments)
    envs.reset()
    for _ in range(3):
        actions = np.stack([envs.action_space.sample() for _ in range(2)])
        *_, infos = envs.step(actions)
        for info in infos:
            assert info["energy_j"].shape == info["missed"].shape == (3,)
            assert np.all(info["energy_j"] > 0)


@pytest.mark.parametrize("planner", ["dads-serial", "ionn", "efficiency"])
def test_earlier_systems_keep_their_aim(planner):
    """They plan as they do without prices; `tests/test_costs.py` has those that mind them."""
    scenario = Scenario(**FACTORS, **PRICES, n_ues=2)
    env = gym.make("MJOA/Streaming-v1", scenario=scenario)
    observation, _ = env.reset(seed=1)
    instance = decode_observation(observation, scenario)
    plain = decode_observation(observation, Scenario(n_ues=2))
    one, other = plan_with(planner, instance), plan_with(planner, plain)
    for mine, theirs in zip(one.placements, other.placements, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(one.bandwidth_share, other.bandwidth_share)
