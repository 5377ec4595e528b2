import numpy as np
import pytest

from mjoa_gym import Scenario
from mjoa_gym.world.population import (
    DRAWS,
    Population,
    arrivals,
    empty_population,
    random_population,
)
from mjoa_gym.world.population import next_round as move_on


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def next_round(scenario, population, round_s, rng):
    """The population of the next round, and who left."""
    batch = Population(*(values[None].copy() for values in population))
    left = np.zeros(len(population.dnn), dtype=bool)
    stream = rng.integers(0, 1 << 64, size=1, dtype=np.uint64)
    given, draws = (scenario.traces, scenario.tables.local_s), np.empty(DRAWS)
    move_on(batch, 0, stream, scenario.constants[0], *given, round_s, left, draws)
    return batch.of(0), left


def within(scenario, population):
    assert np.all((population.dnn >= 0) & (population.dnn < len(scenario.dnns)))
    assert np.all((population.device >= 0) & (population.device < len(scenario.ue_devices)))
    for values, low, high in (
        (population.speed, scenario.ue_speed_min, scenario.ue_speed_max),
        (population.weight, scenario.weight_min, scenario.weight_max),
        (population.distance_m, scenario.distance_min_m, scenario.distance_max_m),
        (population.up, 10 ** (scenario.snr_min_db / 10), 10 ** (scenario.snr_max_db / 10)),
        (population.down, 10 ** (scenario.snr_min_db / 10), 10 ** (scenario.snr_max_db / 10)),
    ):
        assert low <= values.min() <= values.max() <= high


def test_newcomers_cover_the_scenario_and_stay_within(rng):
    scenario = Scenario(n_ues=4000, weight_max=3.0, snr_min_db=0.0, snr_max_db=30.0)
    population = random_population(scenario, 4000, rng)
    within(scenario, population)
    assert set(population.dnn) == set(range(5))
    assert set(population.device) == set(range(2))
    assert population.up.min() == 1.0  # clipped: Rayleigh fades are deep
    assert population.up.max() == 1000.0


def test_snr_without_randomness_is_the_link_budget(rng):
    scenario = Scenario(
        distance_min_m=100.0, distance_max_m=100.0, shadowing_db=0.0, rayleigh_fading=False,
        bandwidth_hz=100e6,
    )  # fmt: skip
    population = random_population(scenario, 5, rng)
    assert population.up == pytest.approx(10**1.37)  # 23 - 103.3 + 94 dB
    assert population.down == pytest.approx(10**2.07)  # 30 - 103.3 + 94 dB


def test_without_departures_everyone_stays(rng):
    scenario = Scenario(n_ues=50, departure_probability=0.0)
    population = random_population(scenario, 50, rng)
    later, left = next_round(scenario, population, 2.0, rng)
    within(scenario, later)
    assert not left.any()
    for name in ("dnn", "device", "speed", "weight"):
        np.testing.assert_array_equal(getattr(later, name), getattr(population, name))
    assert np.all(np.abs(later.distance_m - population.distance_m) <= 2.0 * 1.4 + 1e-9)
    assert np.all(later.distance_m != population.distance_m)


def test_a_successor_runs_another_network(rng):
    scenario = Scenario(n_ues=500, departure_probability=1.0)
    population = random_population(scenario, 500, rng)
    later, left = next_round(scenario, population, 1.0, rng)
    within(scenario, later)
    assert left.all()
    assert not np.any(later.dnn == population.dnn)
    assert set(later.dnn) == set(range(5))


def test_with_one_network_the_successor_runs_it_too(rng):
    scenario = Scenario(n_ues=9, dnns=("alexnet",), departure_probability=1.0)
    population = random_population(scenario, 9, rng)
    assert not next_round(scenario, population, 1.0, rng)[0].dnn.any()


def test_the_departure_rate_is_the_scenarios(rng):
    scenario = Scenario(n_ues=20_000, departure_probability=0.1)
    population = random_population(scenario, 20_000, rng)
    _, left = next_round(scenario, population, 1.0, rng)
    assert left.mean() == pytest.approx(0.1, abs=0.01)


def test_streams_are_independent_and_repeatable():
    """An environment in a batch draws what it draws alone; the others differ."""
    scenario = Scenario()
    streams = np.array([3, 4, 5], dtype=np.uint64)
    batch = empty_population(3, 5)
    given = scenario.constants, scenario.traces, scenario.tables.local_s
    draws = np.empty(DRAWS)
    arrivals(batch, streams, *given, np.ones(3, np.bool_), draws, 0, 3)
    alone, stream = empty_population(1, 5), np.array([4], dtype=np.uint64)
    arrivals(alone, stream, *given, np.ones(1, np.bool_), draws, 0, 1)
    for one, several in zip(alone.of(0), batch, strict=True):
        np.testing.assert_array_equal(one, several[1])
    assert stream[0] == streams[1]
    assert len({tuple(row) for row in batch.up}) == 3


def test_the_shadowing_is_normal(rng):
    scenario = Scenario(shadowing_db=6.0)
    shadowing = random_population(scenario, 50_000, rng).shadowing_db
    assert shadowing.mean() == pytest.approx(0.0, abs=0.1)
    assert shadowing.std() == pytest.approx(6.0, rel=0.02)
    assert (shadowing > 12.0).mean() == pytest.approx(0.0228, abs=0.003)
