"""The UEs of a round: they arrive, move on, leave and are replaced.

A population holds E environments of N UEs each. Every round draws the same amount of random numbers
per UE, whatever happens; so environments with the same seed stay comparable under different plans.

In a scenario with a trace, links are what it says, and neither distance nor fading has an effect.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model import radio
from mjoa_gym.model.compiling import lean
from mjoa_gym.model.instance import UE, Horizon, Instance, Stored
from mjoa_gym.model.reference import by_reference
from mjoa_gym.world.randomness import fill_uniform, new_stream, normal
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.tables import FACTORS, NO_DEADLINES
from mjoa_gym.world.trace import DOWN, MESSAGE, UP, length_s, row_at, within_trace

(
    DNN, DEVICE, SPEED, WEIGHT, DISTANCE, FADE_UP, FADE_DOWN, SHADOW, SHADOW_TOO, TURN, DEPARTURE,
    OFFSET, DEADLINE, DRAWS,
) = range(14)  # fmt: skip
"""What a UE's random numbers of a round are for, and how many there are at most.

The offset is drawn only where links follow a trace, the deadline only where there are deadlines.
"""


@by_reference
class Population(NamedTuple):
    """The UEs of a round, each (E, N); or (N,), those of one environment."""

    dnn: NDArray[np.int64]  # index into the scenario's networks
    device: NDArray[np.int64]  # index into the scenario's UE devices
    speed: NDArray[np.float64]  # factor on the device's speed
    weight: NDArray[np.float64]  # in the objective
    distance_m: NDArray[np.float64]  # to the base station
    shadowing_db: NDArray[np.float64]  # loss above the log-distance model's, positive or negative
    up: NDArray[np.float64]  # linear uplink SNR at full band; of a trace, bit/s with all of it
    down: NDArray[np.float64]  # likewise of the downlink
    message_s: NDArray[np.float64]  # seconds of a message beside its bytes
    clock_s: NDArray[np.float64]  # where in its trace the UE is, from the start; 0 without one
    deadline_s: NDArray[np.float64]  # of each inference; inf without one

    def of(self, e: int) -> Population:
        """The population of one environment, copied."""
        return Population(*(values[e].copy() for values in self))


class Memory(NamedTuple):
    """What the server of one environment holds, in the rows of `memory`."""

    resident: NDArray[np.float64]  # (R, L) fractions
    idle: NDArray[Any]  # (R, L) rounds since each layer was used


def empty_population(n_envs: int, n_ues: int) -> Population:
    """Room for E x N UEs, all zeros and without deadlines."""
    dnn_and_device = np.zeros((2, n_envs, n_ues), dtype=np.int64)
    reals = np.zeros((9, n_envs, n_ues))
    reals[-1] = np.inf  # no deadlines
    return Population(*dnn_and_device, *reals)


def random_population(scenario: Scenario, n_ues: int, rng: np.random.Generator) -> Population:
    """N newcomers, arrays of shape (N,)."""
    population = empty_population(1, n_ues)
    streams, everywhere = np.array([new_stream(rng)]), np.ones(1, np.bool_)
    draws, given = np.empty(DRAWS), (scenario.constants, scenario.traces, scenario.tables.local_s)
    arrivals(population, streams, *given, everywhere, draws, 0, 1)
    return population.of(0)


def to_instance(
    scenario: Scenario,
    population: Population,
    resident: NDArray[np.float64] | None = None,
    memory: Memory | None = None,
    over: int = 0,
) -> Instance:
    """The problem that N UEs pose, arrays (N,), when so many rounds are over.

    Where parameters stay, `memory` is what the server holds, or just `resident` (N, L) what it
    holds of each UE, padded fractions.
    """
    tables, names = scenario.tables, link_names(scenario)
    if memory is not None:
        resident = memory.resident[_rows(scenario, population)]
    ues = []
    for i, (d, k) in enumerate(zip(population.dnn, population.device, strict=True)):
        n = int(tables.n_layers[d])
        ues.append(
            UE(
                dnn=scenario.profiles[d],
                ue_seconds=tables.ue_s[d, k, :n] / population.speed[i],
                edge_seconds=tables.edge_s[d, :n],
                resident=None if resident is None else resident[i, :n],
                weight=population.weight[i],
                **{key: getattr(population, name)[i] for key, name in names.items()},
                deadline_s=population.deadline_s[i],
                power=scenario.devices[k].power,
            )
        )
    horizon = None if memory is None else _horizon(scenario, population, memory, over)
    prices = scenario.energy_price_s_per_j, scenario.miss_price_s
    return Instance(
        ues, scenario.bandwidth_hz, scenario.upload, scenario.message_s, horizon, *prices
    )


def link_names(scenario: Scenario) -> dict[str, str]:
    """What a `UE` and an observation say of links, and what `Population` calls it."""
    if scenario.traced:
        return {"uplink_bps": "up", "downlink_bps": "down", "message_s": "message_s"}
    return {"snr_up": "up", "snr_down": "down"}


def _rows(scenario: Scenario, population: Population) -> NDArray[np.int64]:
    """(N,) the UEs' rows of memory."""
    return population.dnn if scenario.share_parameters else np.arange(len(population.dnn))


def _horizon(scenario: Scenario, population: Population, memory: Memory, over: int) -> Horizon:
    """What is known of later rounds."""
    n_layers, idle = scenario.tables.n_layers, memory.idle[_rows(scenario, population)]
    absent = set(range(len(n_layers)) if scenario.share_parameters else ()) - {*population.dnn}
    return Horizon(
        rounds_left=max(0, scenario.rounds - 1 - over),
        period_s=scenario.period_s,
        server_memory_bytes=scenario.server_memory_bytes,
        departure_probability=scenario.departure_probability,
        idle_rounds=tuple(map(_cut, idle, n_layers[population.dnn])),
        scenario=scenario,
        share_parameters=scenario.share_parameters,
        retain=scenario.retain,
        others=tuple(
            Stored(scenario.profiles[d], *(_cut(rows[d], n_layers[d]) for rows in memory))
            for d in sorted(absent)
            if memory.resident[d].any()
        ),
        **({} if scenario.traced else _expected_snrs(scenario, population)),
    )


def _cut(row: NDArray[Any], n: int) -> NDArray[Any]:
    return row[:n]


def _expected_snrs(scenario: Scenario, population: Population) -> dict[str, NDArray[np.float64]]:
    """SNRs of later rounds: without fades, which do not last.

    Both directions share the path loss, so the mean of their gains tells more than either.
    """
    powers = (scenario.ue_power_dbm, scenario.edge_power_dbm)
    up, down = (float(radio.from_db(power_dbm)) for power_dbm in powers)
    gain = 0.5 * (population.up / up + population.down / down)
    low, high = scenario.constants[0]["snr_min"], scenario.constants[0]["snr_max"]
    return {
        "snr_up": np.clip(gain * up, low, high),
        "snr_down": np.clip(gain * down, low, high),
    }


@lean
def arrivals(population, streams, numbers, traces, local_s, which, draws, first, last):
    """Fill the environments `first` to `last` that are of `which` (E,) with fresh UEs.

    Their streams move on; `numbers` (1,) is `Scenario.constants`, `traces` `Scenario.traces`,
    `local_s` (D, K) are all-local seconds at full speed, `draws` (DRAWS,) is overwritten.
    """
    constants = numbers[0]
    for e in range(first, last):
        if which[e]:
            for i in range(population.dnn.shape[1]):
                draw(streams, e, constants, draws)
                dnn = index(draws[DNN], constants.n_dnns)
                arrive(population, e, i, dnn, constants, traces, local_s, draws)
                connect(population, e, i, constants, traces, draws)


@lean
def next_round(population, e, streams, constants, traces, local_s, round_s, left, draws):
    """Move environment `e` on by a round.

    Those who stay walk for `round_s` seconds and see their shadowing drift, or their trace goes on
    for as long. Who leaves is replaced at once, by someone with another network if the scenario has
    more than one. `left` (N,) says who has left; the rest is as in `arrivals`.
    """
    for i in range(population.dnn.shape[1]):
        draw(streams, e, constants, draws)
        left[i] = draws[DEPARTURE] < constants.departure_probability
        if left[i]:
            n = constants.n_dnns
            another = (population.dnn[e, i] + 1 + index(draws[DNN], n - 1)) % n
            arrive(population, e, i, another, constants, traces, local_s, draws)
        else:
            stay(population, e, i, constants, traces, round_s, draws)
        connect(population, e, i, constants, traces, draws)


@njit(inline="always")
def draw(streams, e, constants, draws):
    """Draw a UE's random numbers of a round."""
    fill_uniform(streams, e, draws[:OFFSET])
    if constants.traced:
        fill_uniform(streams, e, draws[OFFSET:DEADLINE])
    if constants.deadlines != NO_DEADLINES:
        fill_uniform(streams, e, draws[DEADLINE:])


@njit(inline="always")
def arrive(population, e, i, dnn, constants, traces, local_s, draws):
    """Make UE `i` of environment `e` a newcomer with the given network, but for its link."""
    population.dnn[e, i] = dnn
    population.device[e, i] = index(draws[DEVICE], constants.n_devices)
    population.speed[e, i] = between(draws[SPEED], constants.ue_speed_min, constants.ue_speed_max)
    population.weight[e, i] = between(draws[WEIGHT], constants.weight_min, constants.weight_max)
    population.distance_m[e, i] = radio.disc_distance_m(
        draws[DISTANCE], constants.distance_min_m, constants.distance_max_m
    )
    shadow = normal(draws[SHADOW], draws[SHADOW_TOO])
    population.shadowing_db[e, i] = constants.shadowing_db * shadow
    if constants.traced:
        trace = traces[i % len(traces)]
        population.clock_s[e, i] = within_trace(trace, draws[OFFSET] * length_s(trace))
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
def stay(population, e, i, constants, traces, round_s, draws):
    """Move UE `i` of environment `e`, and its shadowing or its trace."""
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
    if constants.traced:
        trace = traces[i % len(traces)]
        population.clock_s[e, i] = within_trace(trace, population.clock_s[e, i] + round_s)


@njit(inline="always")
def connect(population, e, i, constants, traces, draws):
    """The link of UE `i` of environment `e` where it is now."""
    if constants.traced:
        trace = traces[i % len(traces)]
        row = trace[row_at(trace, population.clock_s[e, i])]
        population.up[e, i], population.down[e, i] = row[UP], row[DOWN]
        population.message_s[e, i] = row[MESSAGE]
    else:
        fade(population, e, i, constants, draws)
        population.message_s[e, i] = constants.message_s


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
    population.up[e, i] = radio.within(up, low, high)
    population.down[e, i] = radio.within(down, low, high)


@njit(inline="always")
def index(uniform, n):
    """A whole number from 0 to n - 1; 0 if n is 0."""
    return min(int(uniform * n), max(0, n - 1))


@njit(inline="always")
def between(uniform, low, high):
    """A number from `low` to `high`."""
    return radio.within(low + uniform * (high - low), low, high)
