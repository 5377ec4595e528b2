"""The UEs of a round: drawn afresh, moved on, replaced; every array's last axis is the UE.

All randomness of a round is one block of numbers per environment (`Draws`), the same amount
whatever happens; everything after it is deterministic and works on any leading axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import radio
from mjoa_gym.instance import UE, Instance
from mjoa_gym.scenario import Scenario


class Draws(NamedTuple):
    """A round's random numbers, each (..., N): uniforms in [0, 1), and a standard normal."""

    dnn: NDArray[np.float64]
    device: NDArray[np.float64]
    speed: NDArray[np.float64]
    weight: NDArray[np.float64]
    distance: NDArray[np.float64]
    fade_up: NDArray[np.float64]
    fade_down: NDArray[np.float64]
    turn: NDArray[np.float64]
    departure: NDArray[np.float64]
    shadowing: NDArray[np.float64]


class Population(NamedTuple):
    """The UEs of a round, each (..., N).

    Attributes:
        dnn: Index into the scenario's networks.
        device: Index into the scenario's UE devices.
        speed: Factor on the device's speed.
        weight: In the objective.
        distance_m: To the base station.
        shadowing_db: Loss above the log-distance model's, positive or negative.
        snr_up: Linear uplink SNR at full band.
        snr_down: Linear downlink SNR at full band.
    """

    dnn: NDArray[np.int64]
    device: NDArray[np.int64]
    speed: NDArray[np.float64]
    weight: NDArray[np.float64]
    distance_m: NDArray[np.float64]
    shadowing_db: NDArray[np.float64]
    snr_up: NDArray[np.float64]
    snr_down: NDArray[np.float64]


def draw(rng: np.random.Generator, n_ues: int) -> Draws:
    """One round's random numbers for N UEs: 9 N uniforms, then N normals."""
    return Draws._make([*rng.random((9, n_ues)), rng.standard_normal(n_ues)])


def newcomers(scenario: Scenario, draws: Draws) -> Population:
    """A fresh population."""
    dnn = _index(draws.dnn, len(scenario.dnns))
    return _arrive(scenario, dnn, draws)


def next_round(
    scenario: Scenario, population: Population, round_s: float | NDArray, draws: Draws
) -> tuple[Population, NDArray[np.bool_]]:
    """The population of the next round, and (..., N) who left after this one.

    Those who stay walk for `round_s` seconds and see their shadowing drift. Who leaves is replaced
    at once, by someone with another network if the scenario has more than one.
    """
    distance_m = radio.moved_distance_m(
        population.distance_m,
        scenario.speed_m_per_s * round_s,
        draws.turn,
        scenario.distance_min_m,
        scenario.distance_max_m,
    )
    shadowing_db = radio.next_shadowing_db(
        population.shadowing_db,
        scenario.shadowing_correlation,
        scenario.shadowing_db,
        draws.shadowing,
    )
    snrs = _snrs(scenario, distance_m, shadowing_db, draws)
    stayed = Population(*population[:4], distance_m, shadowing_db, *snrs)
    n = len(scenario.dnns)
    another = (population.dnn + 1 + _index(draws.dnn, n - 1)) % n
    arrived = _arrive(scenario, another, draws)
    left = draws.departure < scenario.departure_probability
    merged = (np.where(left, a, b) for a, b in zip(arrived, stayed, strict=True))
    return Population(*merged), left


def to_instance(
    scenario: Scenario, population: Population, resident: NDArray[np.float64] | None
) -> Instance:
    """The problem that N UEs pose; `resident` is (N, L) padded fractions, None for nothing."""
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
            )
        )
    return Instance(ues, scenario.bandwidth_hz, scenario.upload)


def _arrive(scenario: Scenario, dnn: NDArray[np.int64], draws: Draws) -> Population:
    distance_m = radio.disc_distance_m(
        draws.distance, scenario.distance_min_m, scenario.distance_max_m
    )
    shadowing_db = scenario.shadowing_db * draws.shadowing
    return Population(
        dnn,
        _index(draws.device, len(scenario.ue_devices)),
        _between(draws.speed, scenario.ue_speed_min, scenario.ue_speed_max),
        _between(draws.weight, scenario.weight_min, scenario.weight_max),
        distance_m,
        shadowing_db,
        *_snrs(scenario, distance_m, shadowing_db, draws),
    )


def _snrs(
    scenario: Scenario, distance_m: NDArray, shadowing_db: NDArray, draws: Draws
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    loss_db = shadowing_db + radio.path_loss_db(
        distance_m, scenario.path_loss_exponent, scenario.reference_loss_db
    )
    noise_dbm = radio.noise_dbm(scenario.noise_dbm_per_hz, scenario.bandwidth_hz)
    low, high = radio.from_db(scenario.snr_min_db), radio.from_db(scenario.snr_max_db)

    def snr(power_dbm: float, fade: NDArray[np.float64]) -> NDArray[np.float64]:
        gain = radio.rayleigh_gain(fade) if scenario.rayleigh_fading else 1.0
        return np.clip(radio.received_snr(power_dbm, loss_db, noise_dbm, gain), low, high)

    up = snr(scenario.ue_power_dbm, draws.fade_up)
    return up, snr(scenario.edge_power_dbm, draws.fade_down)


def _index(uniform: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    return np.minimum(uniform * n, max(0, n - 1)).astype(np.int64)


def _between(uniform: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return np.clip(low + uniform * (high - low), low, high)
