"""The UEs of a round: they arrive, move on, leave and are replaced.

A population holds E environments of N UEs each. Every round draws the same amount of random numbers
per UE, whatever happens; so environments with the same seed stay comparable under different plans.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model import radio
from mjoa_gym.model.compiling import lean
from mjoa_gym.model.instance import UE, Horizon, Instance
from mjoa_gym.world.randomness import fill_uniform, new_stream, normal
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.tables import FACTORS, NO_DEADLINES

(
    DNN, DEVICE, SPEED, WEIGHT, DISTANCE, FADE_UP, FADE_DOWN, SHADOW, SHADOW_TOO, TURN, DEPARTURE,
    DRAWS,
) = range(12)  # fmt: skip
"""What a UE's random numbers of a round are for, and how many there are."""
DEADLINE = DRAWS
"""The one that comes after them in scenarios that draw deadlines (`draws_of`)."""


class Population(NamedTuple):
    """The UEs of a round, each (E, N); or (N,), those of one environment."""

    dnn: NDArray[np.int64]  # index into the scenario's networks
    device: NDArray[np.int64]  # index into the scenario's UE devices
    speed: NDArray[np.float64]  # factor on the device's speed
    weight: NDArray[np.float64]  # in the objective
    distance_m: NDArray[np.float64]  # to the base station
    shadowing_db: NDArray[np.float64]  # loss above the log-distance model's, positive or negative
    snr_up: NDArray[np.float64]  # linear uplink SNR at full band
    snr_down: NDArray[np.float64]  # linear downlink SNR at full band
    deadline_s: NDArray[np.float64]  # of each inference; inf without one

    def of(self, e: int) -> Population:
        """The population of one environment, copied."""
        return Population(*(values[e].copy() for values in self))


def empty_population(n_envs: int, n_ues: int) -> Population:
    """Room for E x N UEs, all zeros and without deadlines."""
    dnn_and_device = np.zeros((2, n_envs, n_ues), dtype=np.int64)
    reals = np.zeros((7, n_envs, n_ues))
    reals[-1] = np.inf  # no deadlines
    return Population(*dnn_and_device, *reals)


def draws_of(scenario: Scenario) -> int:
    """How many random numbers a UE takes in a round."""
    return DRAWS + scenario.has_deadlines


def random_population(scenario: Scenario, n_ues: int, rng: np.random.Generator) -> Population:
    """N newcomers, arrays of shape (N,)."""
    population = empty_population(1, n_ues)
    streams, everywhere = np.array([new_stream(rng)]), np.ones(1, np.bool_)
    draws, local_s = np.empty(draws_of(scenario)), scenario.tables.local_s
    arrivals(population, streams, scenario.constants, local_s, everywhere, draws, 0, 1)
    return population.of(0)


def to_instance(
    scenario: Scenario,
    population: Population,
    resident: NDArray[np.float64] | None = None,
    idle: NDArray[Any] | None = None,
    over: int = 0,
) -> Instance:
    """The problem that N UEs pose, arrays (N,), when so many rounds are over.

    Where parameters stay, `resident` (N, L) are padded fractions, and `idle` (N, L) padded rounds
    since each layer was used.
    """
    tables = scenario.tables
    ues = []
    for i, (d, k) in enumerate(zip(population.dnn, population.device, strict=True)):
        n = int(tables.n_layers[d])
        ues.append(
            UE(
                dnn=scenario.profiles[d],
                ue_seconds=tables.ue_s[d, k, :n] / population.speed[i],
                edge_seconds=tables.edge_s[d, :n],
                snr_up=population.snr_up[i],
                snr_down=population.snr_down[i],
                resident=None if resident is None else resident[i, :n],
                weight=population.weight[i],
                deadline_s=population.deadline_s[i],
                power=scenario.devices[k].power,
            )
        )
    horizon = None if idle is None else _horizon(scenario, population, idle, over)
    prices = scenario.energy_price_s_per_j, scenario.miss_price_s
    return Instance(
        ues, scenario.bandwidth_hz, scenario.upload, scenario.message_s, horizon, *prices
    )


def _horizon(scenario: Scenario, population: Population, idle: NDArray[Any], over: int) -> Horizon:
    """What is known of later rounds. Fades do not last, so SNRs are expected without them.

    Both directions share the path loss, so the mean of their gains tells more than either.
    """
    powers = (scenario.ue_power_dbm, scenario.edge_power_dbm)
    up, down = (float(radio.from_db(power_dbm)) for power_dbm in powers)
    gain = 0.5 * (population.snr_up / up + population.snr_down / down)
    (constants,) = scenario.constants
    low, high = constants["snr_min"], constants["snr_max"]
    n_layers = scenario.tables.n_layers[population.dnn]
    return Horizon(
        rounds_left=max(0, scenario.rounds - 1 - over),
        period_s=scenario.period_s,
        server_memory_bytes=scenario.server_memory_bytes,
        departure_probability=scenario.departure_probability,
        idle_rounds=tuple(row[:n] for row, n in zip(idle, n_layers, strict=True)),
        snr_up=np.clip(gain * up, low, high),
        snr_down=np.clip(gain * down, low, high),
        scenario=scenario,
    )


@lean
def arrivals(population, streams, numbers, local_s, which, draws, first, last):
    """Fill the environments `first` to `last` that are of `which` (E,) with fresh UEs.

    Their streams move on; `numbers` (1,) is `Scenario.constants`, `local_s` (D, K) are all-local
    seconds at full speed, `draws` (`draws_of`,) is overwritten.
    """
    constants = numbers[0]
    for e in range(first, last):
        if which[e]:
            for i in range(population.dnn.shape[1]):
                fill_uniform(streams, e, draws)
                dnn = index(draws[DNN], constants.n_dnns)
                arrive(population, e, i, dnn, constants, local_s, draws)
                fade(population, e, i, constants, draws)


@lean
def next_round(population, e, streams, constants, local_s, round_s, left, draws):
    """Move environment `e` on by a round.

    Those who stay walk for `round_s` seconds and see their shadowing drift. Who leaves is replaced
    at once, by someone with another network if the scenario has more than one. `left` (N,) says who
    has left; `local_s` and `draws` are as in `arrivals`.
    """
    for i in range(population.dnn.shape[1]):
        fill_uniform(streams, e, draws)
        left[i] = draws[DEPARTURE] < constants.departure_probability
        if left[i]:
            n = constants.n_dnns
            another = (population.dnn[e, i] + 1 + index(draws[DNN], n - 1)) % n
            arrive(population, e, i, another, constants, local_s, draws)
        else:
            stay(population, e, i, constants, round_s, draws)
        fade(population, e, i, constants, draws)


@njit(inline="always")
def arrive(population, e, i, dnn, constants, local_s, draws):
    """Make UE `i` of environment `e` a newcomer with the given network, but for its fading."""
    population.dnn[e, i] = dnn
    population.device[e, i] = index(draws[DEVICE], constants.n_devices)
    population.speed[e, i] = between(draws[SPEED], constants.ue_speed_min, constants.ue_speed_max)
    population.weight[e, i] = between(draws[WEIGHT], constants.weight_min, constants.weight_max)
    population.distance_m[e, i] = radio.disc_distance_m(
        draws[DISTANCE], constants.distance_min_m, constants.distance_max_m
    )
    shadow = normal(draws[SHADOW], draws[SHADOW_TOO])
    population.shadowing_db[e, i] = constants.shadowing_db * shadow
    if constants.deadlines != NO_DEADLINES:
        least, most = constants.deadline_min, constants.deadline_max
        unit_s = deadline_unit_s(population, e, i, constants, local_s)
        population.deadline_s[e, i] = between(draws[DEADLINE], least, most) * unit_s


@njit(inline="always")
def deadline_unit_s(population, e, i, constants, local_s):
    """The seconds in which the deadline of UE `i` is drawn: its all-local ones, or one."""
    if constants.deadlines == FACTORS:
        return local_s[population.dnn[e, i], population.device[e, i]] / population.speed[e, i]
    return 1.0


@njit(inline="always")
def stay(population, e, i, constants, round_s, draws):
    """Move UE `i` of environment `e`, and its shadowing."""
    population.distance_m[e, i] = radio.moved_distance_m(
        population.distance_m[e, i],
        constants.speed_m_per_s * round_s,
        draws[TURN],
        constants.distance_min_m,
        constants.distance_max_m,
    )
    population.shadowing_db[e, i] = radio.next_shadowing_db(
        population.shadowing_db[e, i],
        constants.shadowing_correlation,
        constants.shadowing_db,
        normal(draws[SHADOW], draws[SHADOW_TOO]),
    )


@njit(inline="always")
def fade(population, e, i, constants, draws):
    """The SNRs of UE `i` of environment `e` where it stands now."""
    loss_db = population.shadowing_db[e, i] + radio.path_loss_db(
        population.distance_m[e, i], constants.path_loss_exponent, constants.reference_loss_db
    )
    gain_up = gain_down = 1.0
    if constants.rayleigh_fading:
        gain_up = radio.rayleigh_gain(draws[FADE_UP])
        gain_down = radio.rayleigh_gain(draws[FADE_DOWN])
    noise_dbm, low, high = constants.noise_power_dbm, constants.snr_min, constants.snr_max
    up = radio.received_snr(constants.ue_power_dbm, loss_db, noise_dbm, gain_up)
    down = radio.received_snr(constants.edge_power_dbm, loss_db, noise_dbm, gain_down)
    population.snr_up[e, i] = radio.within(up, low, high)
    population.snr_down[e, i] = radio.within(down, low, high)


@njit(inline="always")
def index(uniform, n):
    """A whole number from 0 to n - 1; 0 if n is 0."""
    return min(int(uniform * n), max(0, n - 1))


@njit(inline="always")
def between(uniform, low, high):
    """A number from `low` to `high`."""
    return radio.within(low + uniform * (high - low), low, high)
