import numpy as np
import pytest

from mjoa_gym import Scenario
from mjoa_gym.population import Draws, Population, draw, newcomers, next_round


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def within(scenario, population):
    assert np.all((population.dnn >= 0) & (population.dnn < len(scenario.dnns)))
    assert np.all((population.device >= 0) & (population.device < len(scenario.ue_devices)))
    for values, low, high in (
        (population.speed, scenario.ue_speed_min, scenario.ue_speed_max),
        (population.weight, scenario.weight_min, scenario.weight_max),
        (population.distance_m, scenario.distance_min_m, scenario.distance_max_m),
        (population.snr_up, 10 ** (scenario.snr_min_db / 10), 10 ** (scenario.snr_max_db / 10)),
        (population.snr_down, 10 ** (scenario.snr_min_db / 10), 10 ** (scenario.snr_max_db / 10)),
    ):
        assert low <= values.min() <= values.max() <= high


def test_newcomers_cover_the_scenario_and_stay_within(rng):
    scenario = Scenario(n_ues=4000, weight_max=3.0, snr_min_db=0.0, snr_max_db=30.0)
    population = newcomers(scenario, draw(rng, 4000))
    within(scenario, population)
    assert set(population.dnn) == set(range(5))
    assert set(population.device) == set(range(3))
    assert population.snr_up.min() == 1.0  # clipped: Rayleigh fades are deep
    assert population.snr_up.max() == 1000.0


def test_snr_without_randomness_is_the_link_budget(rng):
    scenario = Scenario(
        distance_min_m=100.0, distance_max_m=100.0, shadowing_db=0.0, rayleigh_fading=False
    )
    population = newcomers(scenario, draw(rng, 5))
    assert population.snr_up == pytest.approx(10**1.37)  # 23 - 103.3 + 94 dB
    assert population.snr_down == pytest.approx(10**2.07)  # 30 - 103.3 + 94 dB


def test_without_departures_everyone_stays(rng):
    scenario = Scenario(n_ues=50, departure_probability=0.0)
    population = newcomers(scenario, draw(rng, 50))
    later, left = next_round(scenario, population, 2.0, draw(rng, 50))
    within(scenario, later)
    assert not left.any()
    for name in ("dnn", "device", "speed", "weight"):
        np.testing.assert_array_equal(getattr(later, name), getattr(population, name))
    assert np.all(np.abs(later.distance_m - population.distance_m) <= 2.0 * 1.4 + 1e-9)
    assert np.all(later.distance_m != population.distance_m)


def test_a_successor_runs_another_network(rng):
    scenario = Scenario(n_ues=500, departure_probability=1.0)
    population = newcomers(scenario, draw(rng, 500))
    later, left = next_round(scenario, population, 1.0, draw(rng, 500))
    within(scenario, later)
    assert left.all()
    assert not np.any(later.dnn == population.dnn)
    assert set(later.dnn) == set(range(5))


def test_with_one_network_the_successor_runs_it_too(rng):
    scenario = Scenario(n_ues=9, dnns=("alexnet",), departure_probability=1.0)
    population = newcomers(scenario, draw(rng, 9))
    assert not next_round(scenario, population, 1.0, draw(rng, 9))[0].dnn.any()


def test_the_departure_rate_is_the_scenarios(rng):
    scenario = Scenario(n_ues=20_000, departure_probability=0.1)
    population = newcomers(scenario, draw(rng, 20_000))
    _, left = next_round(scenario, population, 1.0, draw(rng, 20_000))
    assert left.mean() == pytest.approx(0.1, abs=0.01)


def test_leading_axes_are_allowed(rng):
    """A batch of environments gives what each of them gives."""
    scenario = Scenario(departure_probability=0.5)

    def play(first, second, round_s):
        return next_round(scenario, newcomers(scenario, first), round_s, second)[0]

    def stacked(pair):
        return Draws(*map(np.stack, zip(*pair, strict=True)))

    firsts, seconds = ([draw(rng, 5) for _ in range(2)] for _ in "ab")
    batch = play(stacked(firsts), stacked(seconds), np.full((2, 1), 1.5))
    singles = [play(a, b, 1.5) for a, b in zip(firsts, seconds, strict=True)]
    for name in Population._fields:
        together = [getattr(single, name) for single in singles]
        np.testing.assert_allclose(getattr(batch, name), together, rtol=1e-12)
