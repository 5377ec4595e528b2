"""The compiled round against the simulator it must agree with."""

import numpy as np
import pytest

from mjoa_gym import Scenario, evaluate, timelines
from mjoa_gym.envs.actions import PlanView
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.world.batch import Batch
from mjoa_gym.world.population import random_population
from mjoa_gym.world.rounds import NOTHING, plan_of

WHICH = np.ones(1, dtype=bool)


def a_round(seed, **changes):
    """A batch of one in a random state, and a random decision; memory enough, nobody leaves."""
    rng = np.random.default_rng(seed)
    quiet = {"departure_probability": 0.0, "server_memory_bytes": 1e12}
    quiet |= {"share_parameters": False, "retain": False}
    scenario = Scenario(weight_max=4.0, **quiet | changes)
    batch = Batch(scenario, True, 1)
    for mine, drawn in zip(
        batch.state.population, random_population(scenario, scenario.n_ues, rng), strict=True
    ):
        mine[0] = drawn
    dnn = batch.state.population.dnn
    shape = batch.state.resident.shape
    exists = np.arange(shape[2]) < scenario.tables.n_layers[dnn, None]
    held = scenario.tables.parameter_bytes[dnn] > 0
    batch.state.resident[:] = exists * held * np.clip(rng.uniform(-1, 2, shape), 0, 1)
    view = PlanView(scenario, True)
    action = {key: rng.integers(0, 2, shape) for key in ("placements", "prefetch")}
    for key in ("bandwidth_share", "compute_share"):
        action[key] = rng.dirichlet(np.ones(scenario.n_ues), 1)
    return batch, view.decode(action, batch.state, WHICH)[0]


def play(batch, decision, **changes):
    """The outcome, and the resident fractions at the round's end; the batch is left alone."""
    batch.scenario = batch.scenario.with_changes(**changes)
    before = [values.copy() for values in (*batch.state.population, *batch.state[1:])]
    outcome = batch.play(decision, WHICH, endless=True)
    resident = batch.state.resident[0].copy()
    for values, old in zip((*batch.state.population, *batch.state[1:]), before, strict=True):
        values[:] = old
    return outcome, resident


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_a_round_is_what_evaluate_and_timelines_say(seed, upload):
    batch, decision = a_round(seed, upload=upload, message_s=0.01 * seed)
    instance, people = batch.instance(0), batch.state.population.of(0)
    plan = plan_of(decision, 0, instance)
    outcome, resident = play(batch, decision)
    latency_s, local_s = outcome.latency_s[0], outcome.local_s[0]
    np.testing.assert_array_equal(latency_s, evaluate(instance, plan))
    np.testing.assert_allclose(local_s, instance.local_s, rtol=1e-12)
    assert outcome.round_s[0] == max(1.0, latency_s.max())
    weight = people.weight
    saved = 1 - (weight * latency_s).sum() / (weight * local_s).sum()
    assert outcome.reward[0] == pytest.approx(saved)
    assert not outcome.left.any()
    if upload != "preinstalled":  # there the simulator calls everything resident
        for i, timeline in enumerate(timelines(instance, plan, outcome.round_s[0])):
            n = len(timeline.resident)
            held = instance.ues[i].dnn.parameter_bytes > 0  # others count as there in timelines
            np.testing.assert_array_equal(resident[i, :n][held], timeline.resident[held])
            assert not resident[i, n:].any()


@pytest.mark.parametrize("seed", range(10))
def test_prefetching_delays_nobody_and_loses_nothing(seed):
    batch, decision = a_round(seed)
    start = batch.state.resident[0].copy()
    without = decision._replace(prefetch_of=np.full_like(decision.prefetch_of, NOTHING))
    (a, kept), (b, more) = (play(batch, d) for d in (without, decision))
    np.testing.assert_array_equal(a.latency_s, b.latency_s)
    assert np.all(start <= kept)
    assert np.all(kept <= more)
    assert np.all(more <= 1.0)
    assert more.sum() > kept.sum()


def test_nothing_at_the_edge_earns_exactly_nothing():
    batch, decision = a_round(3)
    start = batch.state.resident[0].copy()
    idle = decision._replace(
        placements=decision.placements * 0,
        outlines=decision.outlines & 8,  # only that outputs are outputs
        bandwidth_share=np.zeros((1, 5)),
        compute_share=np.zeros((1, 5)),
    )
    outcome, resident = play(batch, idle)
    assert outcome.reward[0] == 0.0
    np.testing.assert_array_equal(resident, start)


def test_a_longer_period_lets_more_arrive():
    batch, decision = a_round(5)
    (short, few), (long, many) = (play(batch, decision, period_s=p) for p in (0.0, 1e5))
    assert short.round_s[0] == short.latency_s.max()
    assert long.round_s[0] == 1e5
    assert many.sum() > few.sum()


def test_those_who_do_not_play_are_left_alone():
    batch, decision = a_round(6)
    before = [values.copy() for values in (*batch.state.population, *batch.state[1:])]
    outcome = batch.play(decision, ~WHICH, endless=False)
    assert not outcome.latency_s.any()
    for values, old in zip((*batch.state.population, *batch.state[1:]), before, strict=True):
        np.testing.assert_array_equal(values, old)
