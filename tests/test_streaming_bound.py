"""The bound that no policy may beat where UEs and their parameters stay."""

import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from mjoa_gym import DNN, Scenario
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.episodes import Setting, play
from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import seconds_for
from mjoa_gym.planners import lower_bound, planner_names
from mjoa_gym.planners.pbt_dp import FRONT, WIDTH, partition_bound, priced_bound
from mjoa_gym.planners.streaming_bound import streaming_bound
from mjoa_gym.planners.trivial import local_only
from mjoa_gym.world.batch import Batch
from mjoa_gym.world.rounds import NOTHING, Decision, outlines_of
from tests.exhaustive import kernel_arguments
from tests.random_dnns import UPLOAD_MODES, random_case, random_dnn_arrays

ROUNDING = 1 + 1e-9
PRICES = (0.0, 0.1, 0.45, 0.8, 0.99)


def all_placements(n):
    return (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(np.int8)


def cases(count, chain, max_layers=6):
    for seed in range(count):
        rng = np.random.default_rng(seed)
        case = random_case(rng, int(rng.integers(1, max_layers + 1)), chain, "parallel", True)
        inference, link = kernel_arguments(case)
        yield rng, inference, link


@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_no_placement_with_anything_there_beats_the_priced_bound(chain):
    """Latency, and a price for what is there: all placements, random fractions and all corners."""
    for rng, inference, link in cases(60, chain):
        n = len(inference.ue_s)
        fractions = [*all_placements(n)[:32].astype(float), *rng.random((24, n))]
        seconds = np.array([seconds_for(size, link.up) for size in inference.missing_bytes])
        bounds = [priced_bound(inference, link, WIDTH, FRONT, np.inf, p) for p in PRICES]
        for there in fractions:
            missing = inference.missing_bytes * (1.0 - there)
            left = inference._replace(missing_bytes=missing)
            latency = kernel.run_many(all_placements(n), left, link)
            paid = (all_placements(n) * there) @ seconds  # only for what is used
            for price, bound in zip(PRICES, bounds, strict=True):
                assert bound <= (latency + price * paid).min() * ROUNDING


def test_the_priced_bound_is_exact_on_chains():
    """A placement's least is a mean of its latencies with everything there and with nothing."""
    for _, inference, link in cases(80, True, 8):
        placements = all_placements(len(inference.ue_s))
        empty = kernel.run_many(placements, inference, link)
        full = kernel.run_many(placements, inference._replace(mode=int(Upload.PREINSTALLED)), link)
        for price in PRICES:
            best = ((1.0 - price) * full + price * empty).min()
            bound = priced_bound(inference, link, WIDTH, FRONT, np.inf, price)
            assert bound == pytest.approx(best, rel=1e-9)


def test_at_a_price_of_one_nothing_is_worth_having():
    for _, inference, link in cases(40, False):
        bound = partition_bound(inference, link, WIDTH, FRONT, np.inf)
        assert priced_bound(inference, link, WIDTH, FRONT, np.inf, 1.0) == bound
        nearly = priced_bound(inference, link, WIDTH, FRONT, np.inf, 1.0 - 1e-12)
        assert nearly == pytest.approx(bound, rel=1e-6)


def random_network(rng, name, chain):
    arrays = random_dnn_arrays(rng, int(rng.integers(1, 4)), chain)
    del arrays["ue_seconds"], arrays["edge_seconds"]
    return DNN(name, **arrays)


def tiny_scenario(seed, chain=True, **changes):
    """Two UEs with small random networks; memory holds all, some or none of them."""
    rng = np.random.default_rng(seed)
    dnns = tuple(random_network(rng, name, chain) for name in ("a", "b"))
    total = max(1.0, sum(float(dnn.parameter_bytes.sum()) for dnn in dnns))
    settings = {
        "dnns": dnns, "n_ues": 2, "rounds": 2, "speed_m_per_s": 0.0, "departure_probability": 0.3,
        "share_parameters": bool(rng.random() < 0.5), "retain": False,
        "server_memory_bytes": total * float(rng.choice([0.0, 0.2, 0.6, 2.0])),
        "period_s": float(rng.choice([0.05, 0.5])), "message_s": float(rng.choice([0.0, 0.01])),
        "bandwidth_hz": 10.0 ** rng.uniform(5.5, 7.5), "weight_min": 0.5, "weight_max": 2.0,
    }  # fmt: skip
    return Scenario(**settings | changes)


def rounds_of(scenario, seed):
    """What every policy meets, played by the one that leaves all on the UE."""
    batch = Batch(scenario, True, 1)
    batch.seed(0, np.random.default_rng(seed))
    batch.begin(np.ones(1, np.bool_))
    idle = decisions(scenario, batch.state.population.dnn[0], [(0, 0)], [(-1, -1)], [(0.5, 0.5)])
    instances = []
    for _ in range(scenario.rounds):
        instances.append(batch.instance(0))
        batch.play(decide(idle, batch.state.population.dnn), np.ones(1, np.bool_), False)
    return instances


class Choices(NamedTuple):
    """All combinations of placements, prefetches and shares, by code: bit l is layer l's."""

    tables: Any
    placement: np.ndarray  # (E, 2) codes
    prefetch: np.ndarray  # (E, 2) codes, -1 for none
    band: np.ndarray  # (E, 2)
    server: np.ndarray  # (E, 2)


def decisions(scenario, dnn, placements, prefetches, shares):
    every = list(itertools.product(placements, prefetches, shares, shares))
    columns = [np.array(column) for column in zip(*every, strict=True)]
    return Choices(scenario.tables, *columns)


def decide(choices, dnn):
    """The environment's decision; networks `dnn` (E, 2) need not be the same everywhere."""
    tables, n_codes = choices.tables, 1 << choices.tables.width
    rows = np.concatenate([all_placements(tables.width)] * len(tables.n_layers))
    of_row = np.repeat(np.arange(len(tables.n_layers)), n_codes)
    rows[np.arange(tables.width) >= tables.n_layers[of_row][:, None]] = 0
    marks = np.where(choices.prefetch < 0, NOTHING, dnn * n_codes + choices.prefetch)
    return Decision(
        rows, outlines_of(rows, of_row, tables), dnn * n_codes + choices.placement, marks,
        np.full_like(marks, NOTHING), choices.band, choices.server,
    )  # fmt: skip


def spread(source, target, of):
    """Copy the environments `of` of a state into the state of another batch."""
    for own, theirs in zip(target, source, strict=True):
        if isinstance(own, np.ndarray):
            own[:] = theirs[of]
        else:
            spread(theirs, own, of)


def best_policy(scenario, seed, levels=2):
    """The least mean latency over all placements, prefetches and shares in steps of 1 / levels.

    Draws do not depend on what is decided, so the best sequence of decisions is the best policy
    with hindsight. Layers that memory drops are those that the environment drops.
    """
    batch = Batch(scenario, True, 1)
    batch.seed(0, np.random.default_rng(seed))
    batch.begin(np.ones(1, np.bool_))
    spent, part = np.zeros(1), 1.0 / scenario.rounds
    sizes = scenario.tables.n_layers
    shares = [(k / levels, 1.0 - k / levels) for k in range(levels + 1)]
    for r in range(scenario.rounds):
        dnn = batch.state.population.dnn[0]
        codes = [range(1 << sizes[d]) for d in dnn]
        last = r == scenario.rounds - 1
        prefetches = [(-1, -1)] if last else list(itertools.product(*codes))
        choices = decisions(scenario, dnn, list(itertools.product(*codes)), prefetches, shares)
        n_states, n_choices = batch.n_envs, len(choices.placement)
        of = np.repeat(np.arange(n_states), n_choices)
        after = Batch(scenario, True, len(of))
        spread(batch.state, after.state, of)
        every = Choices(choices.tables, *(np.tile(c, (n_states, 1)) for c in choices[1:]))
        weight = after.state.population.weight.copy()
        outcome = after.play(
            decide(every, after.state.population.dnn), np.ones(len(of), np.bool_), False
        )
        spent = spent[of] + part * (weight * outcome.latency_s).sum(1) / weight.sum(1)
        ends = np.isfinite(spent)
        if last:
            return spent[ends].min()
        keys = np.concatenate([after.state.resident, after.state.idle], axis=2)
        keys = np.round(keys.reshape(len(of), -1), 9)
        order = np.lexsort((spent, *keys.T))
        order = order[ends[order]]
        fresh = np.ones(len(order), np.bool_)
        fresh[1:] = (keys[order][1:] != keys[order][:-1]).any(axis=1)
        kept = order[fresh]
        batch = Batch(scenario, True, len(kept))
        spread(after.state, batch.state, kept)
        spent = spent[kept]
    raise AssertionError


@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_no_policy_beats_the_bound_of_tiny_episodes(chain, capsys):
    """Dynamic programming over every placement and prefetch, with hindsight."""
    distances = []
    for seed in range(8):
        scenario = tiny_scenario(seed, chain)
        best = best_policy(scenario, seed)
        bound = streaming_bound(rounds_of(scenario, seed)).latency_s
        assert 0.0 < bound <= best * ROUNDING
        distances.append(best / bound - 1.0)
    with capsys.disabled():
        print(f"\nbest of all policies above the bound: {np.mean(distances):.1%}", end=" ")
    assert np.mean(distances) < 0.15


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("chain", [True, False], ids=["chains", "dags"])
def test_no_policy_beats_the_bound_of_three_rounds(chain):
    for seed in range(100, 104):
        scenario = tiny_scenario(seed, chain, rounds=3, retain=False)
        best = best_policy(scenario, seed)
        assert streaming_bound(rounds_of(scenario, seed)).latency_s <= best * ROUNDING


SEVERAL = ("local-only", "dads-serial", "ionn", "mjoa-mu", "mjoa-mu-prefetch", "far-sighted")


def check_planners(names, upload, seed):
    """No planner's episode is below the bound, in a random scenario."""
    rng = np.random.default_rng([seed, 1])
    settings = {"rounds": 6, "upload": upload, "retain": bool(seed % 2), "n_ues": 2 + seed % 3}
    scenario = tiny_scenario(seed, seed % 2 == 0, period_s=10.0 ** rng.uniform(-3, 0), **settings)
    bound = streaming_bound(played_instances(scenario, seed)).latency_s
    for name in names:
        rows = play(PlannerAgent(name, scenario), Setting("streaming", scenario), [seed])[0]
        assert bound <= np.mean([row["latency_s"] for row in rows]) * ROUNDING


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))]
)
def test_no_planner_beats_the_bound(seed):
    check_planners(SEVERAL, "parallel", seed)


@pytest.mark.slow
@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_none_of_all_planners_beats_the_bound(upload):
    for seed in range(8, 14):
        check_planners(planner_names(), upload, seed)


def played_instances(scenario, seed):
    """The rounds of the evaluation's episode of a seed."""
    seen = []

    def watched(instance):
        seen.append(instance)
        return local_only(instance)

    play(PlannerAgent(watched, scenario), Setting("streaming", scenario), [seed])
    return seen


def test_with_all_memory_the_bound_is_that_of_a_server_that_has_everything():
    """From the second round on, if nobody is new then and any amount can have arrived."""
    settings = {"period_s": 1e6, "server_memory_bytes": 1e12, "departure_probability": 0.0}
    for seed in range(4):
        scenario = tiny_scenario(seed, True, rounds=3, **settings)
        rounds = rounds_of(scenario, seed)
        bound = streaming_bound(rounds)
        for r, instance in enumerate(rounds):
            alone = instance if r == 0 else replace(instance, upload="preinstalled")
            free = lower_bound(alone) / alone.weights.sum()
            assert bound.rounds_s[r] == pytest.approx(free, rel=0.02)


def test_more_memory_never_raises_the_bound_by_more_than_its_slack():
    for seed in range(3):
        rounds = rounds_of(tiny_scenario(seed, True, rounds=4), seed)
        found = []
        for memory in (0.0, 1e6, 1e7, 1e12):
            horizons = [replace(r.horizon, server_memory_bytes=memory) for r in rounds]
            pairs = zip(rounds, horizons, strict=True)
            own = [replace(instance, horizon=horizon) for instance, horizon in pairs]
            found.append(streaming_bound(own).latency_s)
        assert all(b <= a * 1.01 for a, b in itertools.pairwise(found))


def test_what_depends_on_decisions_is_refused():
    scenario = tiny_scenario(0, speed_m_per_s=1.0)
    with pytest.raises(ValueError, match=r"speed_m_per_s=1\.0.*must be 0"):
        streaming_bound(rounds_of(scenario, 0))
    with pytest.raises(ValueError, match=r"rounds\[0\]\.horizon=None"):
        streaming_bound([replace(rounds_of(tiny_scenario(0), 0)[0], horizon=None)])


def test_rounds_that_are_not_of_one_episode_are_refused():
    first = rounds_of(tiny_scenario(0), 0)[0]
    more = replace(first, horizon=replace(first.horizon, server_memory_bytes=7.0))
    with pytest.raises(ValueError, match=r"rounds\[1\]\.horizon\.server_memory_bytes=7\.0.*must"):
        streaming_bound([first, more])
    horizon = replace(first.horizon, idle_rounds=None, snr_up=None, snr_down=None)
    alone = replace(first, ues=first.ues[:1], horizon=horizon)
    with pytest.raises(ValueError, match=r"rounds\[1\] has 1 UEs: must be 2"):
        streaming_bound([first, alone])
