from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

from mjoa_gym import DNN, UE, Horizon, Instance, Plan, Scenario, decode_observation, evaluate
from mjoa_gym.devices import load_device
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.anytime import ALL
from mjoa_gym.planners.far_sighted import (
    DEFAULT,
    FarSightedSearch,
    far_sighted,
    plan_of,
    prospect_of,
)
from mjoa_gym.planners.prospect import EVERYONE, GAIN, NOW, drop, replay, search
from mjoa_gym.world import memory
from tests.random_instances import random_instance, varied

SCENARIO = Scenario(
    dnns=("alexnet", "resnet18"),
    granularity="block",
    n_ues=3,
    rounds=5,
    bandwidth_hz=20e6,
    parameter_bits=32,
    server_memory_bytes=60e6,
    share_parameters=False,
    retain=False,
    departure_probability=0.0,
)


def streaming(**changes):
    scenario = SCENARIO.with_changes(**changes)
    return gym.make("MJOA/Streaming-v1", scenario=scenario, disable_env_checker=True), scenario


def rounds_of(agent, env, seed):
    """Observation, action, info and the observation after it, for every round of an episode."""
    observation, _ = env.reset(seed=seed)
    over = False
    while not over:
        action, _ = agent.predict(observation, deterministic=True)
        after, _, _, over, info = env.step(action)
        yield observation, action, info, after
        observation = after


def test_actions_are_plans():
    env, scenario = streaming()
    for _, action, info, _ in rounds_of(PlannerAgent("far-sighted", scenario), env, 3):
        assert action in env.action_space
        assert np.all(np.isfinite(info["latency_s"]))
        assert not np.any(action["placements"] & action["prefetch"])


def test_batches():
    envs = gym.make_vec("MJOA/Streaming-v1", 3, scenario=SCENARIO)
    agent = PlannerAgent("far-sighted", SCENARIO)
    observation, _ = envs.reset(seed=0)
    for _ in range(2):
        actions, state = agent.predict(observation)
        assert actions in envs.action_space
        assert state is None
        alone, _ = agent.predict({key: values[1] for key, values in observation.items()})
        for key, values in alone.items():
            np.testing.assert_array_equal(values, actions[key][1])
        observation, *_ = envs.step(actions)


def play(prospect):
    """Play the prospect's decision, and return the length of the round."""
    return replay(prospect, EVERYONE, EVERYONE, np.inf)


def searched_rounds(**changes):
    """Prospect, what the search returned, info and the observation after it, for many rounds."""
    env, scenario = streaming(**changes)
    for seed in range(3):
        for observation, _, info, after in rounds_of(
            PlannerAgent("far-sighted", scenario), env, seed
        ):
            if observation["round"][0] == scenario.rounds - 1:
                continue  # nothing is searched
            instance = decode_observation(observation, scenario)
            plan = plan_with("mjoa-mu-prefetch", instance)
            ahead = DEFAULT.patience * instance.horizon.expected_rounds
            ours = prospect_of(instance, plan, ahead, DEFAULT.share)
            yield ours, search(ours, ALL)[:2], info, after


@pytest.mark.parametrize("shared", [False, True])
def test_the_search_knows_what_memory_will_keep(shared):
    """Shared or not, with what it retains: residency after a round is what the search computes."""
    dropped = 0.0
    for ours, _, info, after in searched_rounds(share_parameters=shared, retain=True):
        play(ours)
        drop(ours)
        rows = ours.row_of[: len(ours.placements)]
        kept, width = ours.trial.kept[NOW, rows], ours.tables.width
        np.testing.assert_allclose(kept, after["resident"][:, :width], rtol=1e-12)
        dropped += info["dropped_bytes"]
    assert dropped > 0


def test_the_search_replays_what_the_environment_does():
    """With everybody staying, residency after a round is exactly what the search computes."""
    dropped = 0.0
    for ours, (before, best), info, after in searched_rounds():
        assert best <= before
        round_s, seconds = play(ours), ours.trial.seconds
        np.testing.assert_array_equal(seconds, info["latency_s"])
        assert round_s == info["round_s"]
        state = ours.state
        lost, _ = memory.evict(
            state.resident[0], state.idle[0], state.population.dnn[0],
            ours.tables, False, ours.setting.server_memory_bytes, ours.room.of_rows,
        )  # fmt: skip
        width = ours.tables.width
        np.testing.assert_array_equal(state.resident[0], after["resident"][:, :width])
        np.testing.assert_array_equal(state.idle[0], after["idle_rounds"][:, :width])
        assert lost == info["dropped_bytes"]
        dropped += lost
    assert dropped > 0


def estimated_anew(prospect):
    """The objective of a prospect's decision, with nothing known before."""
    prospect.known.carried.fill(-1.0)
    prospect.known.valued.fill(False)
    prospect.progress.fill(0.0)
    return search(prospect, 0)[0]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("priced", [False, True])
def test_the_search_claims_no_more_than_its_plan_is_worth(shared, priced):
    """Its objective, updated with every change, equals a new estimate of the final decision."""
    changes = {"server_memory_bytes": 150e6, "departure_probability": 0.1, "rounds": 10}
    if priced:
        changes |= {"deadline_factor_min": 0.3, "deadline_factor_max": 0.7, "miss_price_s": 1.0}
        changes |= {"energy_price_s_per_j": 0.1}
    env, scenario = streaming(share_parameters=shared, retain=shared, **changes)
    improved = 0
    for seed in range(3):
        for observation, *_ in rounds_of(PlannerAgent("far-sighted", scenario), env, seed):
            instance = decode_observation(observation, scenario)
            ahead = DEFAULT.patience * instance.horizon.expected_rounds
            if ahead > 0.0:
                start = plan_with("mjoa-mu-prefetch", instance)
                ours = prospect_of(instance, start, ahead, DEFAULT.share)
                before, best, _ = search(ours, ALL)
                np.testing.assert_allclose(estimated_anew(ours), best, rtol=1e-12)
                improved += best < before
    assert improved > 10


@pytest.mark.parametrize("mode", UPLOAD_MODES)
def test_no_other_choice_of_one_ue_is_better(mode):
    """The bounds that spare estimates hide none, with messages that cost seconds."""
    changed = 0
    for seed in range(120):
        instance = staying_ues(np.random.default_rng(seed), mode)
        n_ues = instance.n_ues
        start = plan_with("mjoa-mu-prefetch", instance)
        ours = prospect_of(instance, start, 1.5, DEFAULT.share)
        before, best, _ = search(ours, ALL)
        changed += best < before
        first, decision = ours.first, ours.decision
        for i in range(n_ues):
            for chosen, end in (
                (decision.placement_of, first[i] + ours.placements[i]),
                (decision.prefetch_of, first[i + 1]),
            ):
                kept = chosen[0, i]
                for row in range(first[i], end):
                    chosen[0, i] = row
                    assert estimated_anew(ours) >= best * (1.0 - 2.0 * GAIN)
                chosen[0, i] = kept
    assert changed > 5 or mode == "preinstalled"


def staying_ues(rng, mode):
    """Two or three UEs with small networks, which stay for six more rounds, and little memory."""
    ues = []
    for _ in range(rng.integers(2, 4)):
        n = int(rng.integers(3, 6))
        parameter_bytes = rng.exponential(3e5, n) * (rng.random(n) < 0.7)
        chain = [[layer - 1] for layer in range(n)]
        dnn = DNN("chain", [1e6] * n, parameter_bytes, rng.exponential(2e5, n), chain, 3e5)
        seconds = rng.exponential(0.1, n)
        snr_up, snr_down = rng.exponential(30.0), rng.exponential(50.0)
        ues.append(UE(dnn, seconds, seconds / rng.uniform(5, 30), snr_up, snr_down))
    horizon = Horizon(6, 1.0, server_memory_bytes=rng.uniform(3e5, 1.5e6))
    return Instance(ues, rng.uniform(3e6, 3e7), mode, message_s=0.03, horizon=horizon)


@pytest.mark.parametrize("mode", UPLOAD_MODES)
def test_the_future_is_not_free_where_nothing_is_uploaded(mode):
    """UEs over a link on which nothing ever arrives stay local, now and later."""
    dnn = DNN("one", [1e6], [1e9], [1e5], [[-1]], 1e9)
    ues = [UE(dnn, [0.1], [0.01], uplink_bps=1.0, downlink_bps=1.0) for _ in range(2)]
    horizon = Horizon(rounds_left=3, period_s=1.0, server_memory_bytes=1e12)
    instance = Instance(ues, None, mode, horizon=horizon)
    prospect = prospect_of(instance, plan_with("mjoa-mu-prefetch", instance), 3.0, 1.0)
    assert search(prospect, ALL)[:2] == pytest.approx((0.2 * (1 + 3), 0.2 * (1 + 3)))


def test_who_uses_no_band_gets_some_if_uploads_pay_later():
    """A model that is too large for this round, and would be there for the next ten."""
    dnn = DNN("one", [1e6], [3e6], [1e3], [[-1]], 1e3)
    ues = [UE(dnn, [0.5], [0.01], uplink_bps=1.6e7, downlink_bps=1e8) for _ in range(2)]
    horizon = Horizon(rounds_left=10, period_s=4.0, server_memory_bytes=1e9)
    instance = Instance(ues, None, "parallel", horizon=horizon)
    nothing = np.zeros(2)
    local = Plan([[0], [0]], nothing, nothing)
    prospect = prospect_of(instance, local, 3.0, 1.0)
    before, best, _ = search(prospect, ALL)
    assert before == pytest.approx(1.0 * (1 + 3))
    assert best < 0.5 * before
    assert plan_of(prospect).bandwidth_share.sum() <= 1.0


def test_a_patient_search_does_not_forget_the_present():
    """What it gives up in this round is no more than what it expects to gain."""
    env, scenario = streaming()
    observation, _ = env.reset(seed=1)
    instance = decode_observation(observation, scenario)
    plan = plan_with("mjoa-mu-prefetch", instance)
    took = []
    for ahead in (1e-9, 100.0):
        prospect = prospect_of(instance, plan, ahead, 1.0)
        search(prospect, ALL)
        play(prospect)
        took.append(prospect.trial.seconds.sum())
        np.testing.assert_allclose(evaluate(instance, plan_of(prospect)), prospect.trial.seconds)
    assert took[0] <= took[1]


def test_with_a_budget_it_looks_ahead_before_the_first_trees():
    """Mostly to a better plan than that of MJOA-MU with prefetch; the last plan is the best."""
    scenario = Scenario.load("default")
    env = gym.make("MJOA/Streaming-v1", scenario=scenario, disable_env_checker=True)
    usual, early, last, unhurried = [], [], [], []
    for observation, *_ in rounds_of(PlannerAgent("mjoa-mu-prefetch", scenario), env, 4):
        if len(usual) == 10:
            break
        instance = decode_observation(observation, scenario)
        ahead = DEFAULT.patience * instance.horizon.expected_rounds
        start = prospect_of(instance, plan_with("mjoa-mu-prefetch", instance), ahead, DEFAULT.share)
        usual.append(search(start, 0)[0])
        unhurried.append(search(start, ALL)[1])
        hurried = FarSightedSearch(instance)
        for _ in hurried.steps(piece=1):
            if not hurried.start.joint.best.choice.any():  # PBT-DP's trees have not answered
                objective, prospect = hurried.best
        assert prospect is not None
        early.append(objective)
        last.append(hurried.best[0])
        assert last[-1] <= min(early[-1], unhurried[-1]) * (1.0 + 2.0 * GAIN)
    assert len(usual) == 10
    assert np.sum(early) < np.sum(usual)
    assert np.sum(np.less(early, usual)) >= 7
    assert np.sum(early) < 1.1 * np.sum(last)


def test_the_last_round_is_planned_as_if_it_were_the_last():
    env, scenario = streaming(rounds=1)
    agents = (PlannerAgent("far-sighted", scenario), PlannerAgent("mjoa-mu-prefetch", scenario))
    observation, _ = env.reset(seed=0)
    actions = [agent.predict(observation)[0] for agent in agents]
    for key, values in actions[0].items():
        np.testing.assert_array_equal(values, actions[1][key])


def test_it_is_mjoa_mu_where_nothing_persists():
    env = gym.make("MJOA/ColdStart-v1", scenario=SCENARIO)
    observation, _ = env.reset(seed=0)
    action, _ = PlannerAgent("far-sighted", SCENARIO).predict(observation)
    expected, _ = PlannerAgent("mjoa-mu", SCENARIO).predict(observation)
    assert action in env.action_space
    for key, values in expected.items():
        np.testing.assert_array_equal(values, action[key])


def test_looking_ahead_pays():
    env, scenario = streaming(rounds=8)
    agents = (PlannerAgent("far-sighted", scenario), PlannerAgent("mjoa-mu-prefetch", scenario))
    took = [
        np.mean([r[2]["latency_s"] for seed in range(6) for r in rounds_of(agent, env, seed)])
        for agent in agents
    ]
    assert took[0] < took[1]


def test_expected_rounds():
    horizons = [Horizon(left, 1.0, 1e6, departure_probability=0.5) for left in (3, 2, 1, 0)]
    assert [h.expected_rounds for h in horizons] == pytest.approx([0.875, 0.75, 0.5, 0.0])


@pytest.mark.parametrize("seed", range(4))
def test_instances_that_no_scenario_has_drawn(seed):
    """Its own proposals in place of menus, given rates, messages: a valid plan all the same."""
    instance = varied(random_instance(seed, n_ues=3, upload="parallel"), seed)
    alone = far_sighted(instance)
    horizon = Horizon(rounds_left=10, period_s=1.0, server_memory_bytes=1e8)
    plan = far_sighted(replace(instance, horizon=horizon))
    assert np.isfinite(evaluate(instance, plan)).all()
    np.testing.assert_array_equal(
        np.concatenate(alone.placements), np.concatenate(plan_with("mjoa-mu", instance).placements)
    )


def test_what_pays_later_only_is_uploaded_in_time():
    """A slow uplink: this inference stays on the UE, the parameters go up for later ones."""
    dnn = DNN.load("resnet18")
    seconds = [load_device(name).seconds(dnn) for name in ("odroid-xu4", "server-gpu")]
    ue = UE(dnn, *seconds, uplink_bps=5e6, downlink_bps=50e6)
    horizon = Horizon(rounds_left=100, period_s=2.0, server_memory_bytes=1e9)
    plan = far_sighted(Instance([ue], horizon=horizon))
    uploaded = plan.placements[0] | plan.prefetch[0]
    later = Instance([replace(ue, resident=uploaded)])
    assert dnn.parameter_bytes @ plan.prefetch[0] > 0
    assert evaluate(later, far_sighted(later))[0] < 0.8 * ue.local_s


def test_a_horizon_must_fit():
    instance = random_instance(0, n_ues=2)
    for wrong, message in (
        ({"rounds_left": -1}, "rounds_left=-1"),
        ({"period_s": 0.0}, "period_s=0.0"),
        ({"server_memory_bytes": np.nan}, "server_memory_bytes=nan"),
        ({"departure_probability": 2.0}, "departure_probability=2.0"),
        ({"idle_rounds": ([0],)}, "horizon.idle_rounds has 1 entries for 2 UEs"),
        ({"idle_rounds": ([0], [0] * 100)}, r"horizon.idle_rounds\[[01]\] has shape"),
        ({"snr_up": [1.0]}, "horizon.snr_up has shape"),
    ):
        good = {"rounds_left": 1, "period_s": 1.0, "server_memory_bytes": 1e6}
        with pytest.raises(ValueError, match=message):
            Instance(instance.ues, instance.bandwidth_hz, horizon=Horizon(**(good | wrong)))
