"""The padded round against the simulator it must agree with."""

import numpy as np
import pytest

from mjoa_gym import Plan, Scenario, evaluate, timelines
from mjoa_gym.kernel import UPLOAD_MODES
from mjoa_gym.population import draw, newcomers, to_instance
from mjoa_gym.rounds import Decision, play, reward_of


def a_round(seed, **changes):
    """A random population with random residency, and a random decision."""
    rng = np.random.default_rng(seed)
    scenario = Scenario(weight_max=4.0, **changes)
    population = newcomers(scenario, draw(rng, scenario.n_ues))
    shape = (scenario.n_ues, scenario.tables.width)
    exists = np.arange(shape[1]) < scenario.tables.n_layers[population.dnn, None]
    resident = exists * np.clip(rng.uniform(-1, 2, shape), 0, 1)
    placements, prefetch = ((exists & (rng.random(shape) < 0.5)).astype(np.int8) for _ in "ab")
    shares = rng.dirichlet(np.ones(scenario.n_ues), 2)
    return scenario, population, resident, Decision(placements, prefetch, *shares)


def as_plan(scenario, population, decision):
    depth = scenario.tables.n_layers[population.dnn]
    rows = [[m[:n] for m, n in zip(marks, depth, strict=True)] for marks in decision[:2]]
    return Plan(rows[0], decision.bandwidth_share, decision.compute_share, rows[1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_a_round_is_what_evaluate_and_timelines_say(seed, upload):
    scenario, population, resident, decision = a_round(seed, upload=upload)
    outcome = play(scenario, population, resident, decision, 1.0)
    instance = to_instance(scenario, population, resident)
    plan = as_plan(scenario, population, decision)
    np.testing.assert_array_equal(outcome.latency_s, evaluate(instance, plan))
    np.testing.assert_allclose(outcome.local_s, instance.local_s, rtol=1e-12)
    assert outcome.round_s == max(1.0, outcome.latency_s.max())
    if upload != "preinstalled":  # there the simulator calls everything resident
        for i, timeline in enumerate(timelines(instance, plan, outcome.round_s)):
            n = len(timeline.resident)
            held = instance.ues[i].dnn.parameter_bytes > 0  # others count as there in timelines
            np.testing.assert_array_equal(outcome.resident[i, :n][held], timeline.resident[held])
            assert not outcome.resident[i, n:].any()


@pytest.mark.parametrize("seed", range(10))
def test_prefetching_delays_nobody_and_loses_nothing(seed):
    scenario, population, resident, decision = a_round(seed)
    without = decision._replace(prefetch=np.zeros_like(decision.prefetch))
    a, b = (play(scenario, population, resident, d, 1.0) for d in (without, decision))
    np.testing.assert_array_equal(a.latency_s, b.latency_s)
    assert np.all(resident <= a.resident)
    assert np.all(a.resident <= b.resident)
    assert np.all(b.resident <= 1.0)
    assert b.resident.sum() > a.resident.sum()


def test_nothing_at_the_edge_earns_exactly_nothing():
    scenario, population, resident, decision = a_round(3)
    nobody = np.zeros(scenario.n_ues)
    idle = Decision(decision.placements * 0, decision.prefetch * 0, nobody, nobody)
    outcome = play(scenario, population, resident, idle, 1.0)
    assert reward_of(outcome, population.weight) == 0.0
    np.testing.assert_array_equal(outcome.resident, resident)


def test_reward_is_weighted():
    scenario, population, resident, decision = a_round(4)
    outcome = play(scenario, population, resident, decision, 1.0)
    w, t, local = population.weight, outcome.latency_s, outcome.local_s
    assert reward_of(outcome, w) == pytest.approx(1 - (w * t).sum() / (w * local).sum())


def test_a_longer_period_lets_more_arrive():
    scenario, population, resident, decision = a_round(5)
    short, long = (play(scenario, population, resident, decision, p) for p in (0.0, 100.0))
    assert short.round_s == short.latency_s.max()
    assert long.round_s == 100.0
    assert long.resident.sum() > short.resident.sum()
