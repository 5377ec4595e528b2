"""The UEs of a round: they arrive, move on, leave and are replaced.

A population holds E environments of N UEs each. Every round draws the same number of random numbers
per UE, whatever happens, so environments with the same seed stay comparable under different plans.

In a scenario with a trace, links follow the trace, and distance and fading have no effect.
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
"""Purposes of a UE's random numbers of a round, and their maximum number.

The offset is drawn only if links follow a trace, and the deadline only if there are deadlines.
"""


@by_reference
class Population(NamedTuple):
    """The UEs of a round; each array is (E, N), or (N,) for one environment."""

    dnn: NDArray[np.int64]  # index into the scenario's networks
    device: NDArray[np.int64]  # index into the scenario's UE devices
    speed: NDArray[np.float64]  # factor on the device's speed
    weight: NDArray[np.float64]  # in the objective
    distance_m: NDArray[np.float64]  # to the base station
    shadowing_db: NDArray[np.float64]  # loss above the log-distance model's, positive or negative
    up: NDArray[np.float64]  # linear uplink SNR at full band; with a trace, bit/s at full band
    down: NDArray[np.float64]  # likewise for the downlink
    message_s: NDArray[np.float64]  # seconds that a message takes in addition to its bytes
    clock_s: NDArray[np.float64]  # the UE's position in its trace, from the start; 0 without one
    deadline_s: NDArray[np.float64]  # of each inference; inf without a deadline

    def of(self, e: int) -> Population:
        """Return a copy of the population of one environment."""
        return Population(*(values[e].copy() for values in self))


class Memory(NamedTuple):
    """The memory of one environment's server, in the rows of `memory`."""

    resident: NDArray[np.float64]  # (R, L) fractions
    idle: NDArray[Any]  # (R, L) rounds since each layer was used


def empty_population(n_envs: int, n_ues: int) -> Population:
    """Allocate E x N UEs, all zeros and without deadlines."""
    dnn_and_device = np.zeros((2, n_envs, n_ues), dtype=np.int64)
    reals = np.zeros((9, n_envs, n_ues))
    reals[-1] = np.inf  # no deadlines
    return Population(*dnn_and_device, *reals)


def random_population(scenario: Scenario, n_ues: int, rng: np.random.Generator) -> Population:
    """Draw N new UEs, arrays of shape (N,)."""
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
    """Return the problem of N UEs, arrays (N,), when `over` rounds are over.

    Where parameters stay, pass the server's `memory`, or only `resident` (N, L), the padded
    resident fractions of each UE.
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
    """Map what a `UE` and an observation say about links to the names in `Population`."""
    if scenario.traced:
        return {"uplink_bps": "up", "downlink_bps": "down", "message_s": "message_s"}
    return {"snr_up": "up", "snr_down": "down"}


def _rows(scenario: Scenario, population: Population) -> NDArray[np.int64]:
    """Return (N,) the UEs' rows of memory."""
    return population.dnn if scenario.share_parameters else np.arange(len(population.dnn))


def _horizon(scenario: Scenario, population: Population, memory: Memory, over: int) -> Horizon:
    """Return what is known about later rounds."""
    n_layers, idle = scenario.tables.n_layers, memory.idle[_rows(scenario, population)]
    absent = set(range(len(n_layers)) if scenario.share_parameters else ()) - {*population.dnn}
    return Horizon(
        rounds_left=max(0, scenario.rounds - 1 - over),
        period_s=scenario.period_s,
        server_memory_bytes=scenario.server_memory_bytes,
        departure_probability=scenario.departure_probability,
        idle_rounds=tuple(row[:n] for row, n in zip(idle, n_layers[population.dnn], strict=True)),
        scenario=scenario,
        share_parameters=scenario.share_parameters,
        retain=scenario.retain,
        others=tuple(
            Stored(
                scenario.profiles[d],
                memory.resident[d, : n_layers[d]],
                memory.idle[d, : n_layers[d]],
            )
            for d in sorted(absent)
            if memory.resident[d].any()
        ),
        **({} if scenario.traced else _expected_snrs(scenario, population)),
    )


def _expected_snrs(scenario: Scenario, population: Population) -> dict[str, NDArray[np.float64]]:
    """Return SNRs of later rounds, without fades, which do not last.

    Both directions share the path loss, so the mean of their gains estimates it better than either.
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
    """Fill the environments `first` to `last` that are in `which` (E,) with fresh UEs.

    Their streams advance. `numbers` (1,) is `Scenario.constants`, `traces` is `Scenario.traces`,
    `local_s` (D, K) are all-local seconds at full speed, and `draws` (DRAWS,) is overwritten.
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
    """Advance environment `e` by a round.

    UEs that stay walk for `round_s` seconds and their shadowing drifts, or their trace advances by
    that time. A UE that leaves is replaced at once, by a UE with another network if the scenario
    has more than one. `left` (N,) marks the UEs that left. The rest is as in `arrivals`.
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
    """Make UE `i` of environment `e` a new UE with the given network; its link is not set."""
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
    """Return the unit of the drawn deadline of UE `i`: its all-local seconds, or one second."""
    if constants.deadlines == FACTORS:
        return local_s[population.dnn[e, i], population.device[e, i]] / population.speed[e, i]
    return 1.0


@njit(inline="always")
def stay(population, e, i, constants, traces, round_s, draws):
    """Move UE `i` of environment `e`, and update its shadowing or its position in the trace."""
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
    """Set the link of UE `i` of environment `e` at its current position."""
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
    """Set the SNRs of UE `i` of environment `e` at its current position."""
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
    """Map a uniform to a whole number from 0 to n - 1; 0 if n is 0."""
    return min(int(uniform * n), max(0, n - 1))


@njit(inline="always")
def between(uniform, low, high):
    """Map a uniform to a number from `low` to `high`."""
    return radio.within(low + uniform * (high - low), low, high)
