"""Observations: everything a planner needs, and the way back from one to the Instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray

from mjoa_gym import radio
from mjoa_gym.instance import Instance
from mjoa_gym.population import Population, to_instance
from mjoa_gym.scenario import Scenario

Observation = dict[str, Any]


class State(NamedTuple):
    """What an environment is in between two steps.

    Attributes:
        population: The N UEs.
        resident: (N, L) resident fractions.
        idle: (N, L) rounds since each resident layer was used.
        round: How many rounds are over.
    """

    population: Population
    resident: NDArray[np.float64]
    idle: NDArray[np.int64]
    round: int


def observation_spaces(scenario: Scenario, streaming: bool) -> dict[str, gym.Space[Any]]:
    """The entries of an observation (the environments' pages describe them)."""
    n = scenario.n_ues
    shape = (n, scenario.tables.width)
    snr_max = float(radio.from_db(scenario.snr_max_db))
    spaces: dict[str, gym.Space[Any]] = {
        "dnn": MultiDiscrete([len(scenario.dnns)] * n),
        "device": MultiDiscrete([len(scenario.ue_devices)] * n),
        "speed": Box(0.0, scenario.ue_speed_max, (n,), dtype=np.float64),
        "weight": Box(0.0, scenario.weight_max, (n,), dtype=np.float64),
        "snr_up": Box(0.0, snr_max, (n,), dtype=np.float64),
        "snr_down": Box(0.0, snr_max, (n,), dtype=np.float64),
        "round": Box(0, scenario.rounds, (1,), dtype=np.int64),
    }
    if streaming:
        spaces["resident"] = Box(0.0, 1.0, shape, dtype=np.float64)
        spaces["idle_rounds"] = Box(0, scenario.rounds, shape, dtype=np.int64)
    return spaces


def observe(state: State, streaming: bool) -> Observation:
    """The observation of a state, newly allocated."""
    keys = ("dnn", "device", "speed", "weight", "snr_up", "snr_down")
    observation = {key: getattr(state.population, key).copy() for key in keys}
    observation["round"] = np.array([state.round], dtype=np.int64)
    if streaming:
        observation["resident"] = state.resident.copy()
        observation["idle_rounds"] = state.idle.copy()
    return observation


def decode_observation(observation: Mapping[str, Any], scenario: Scenario) -> Instance:
    """The Instance that an observation shows, exactly as the environment computes with it.

    Args:
        observation: Of either environment; an entry "resident" is absent where nothing ever is.
        scenario: The environment's; `n_ues` and `rounds` may differ.

    Raises:
        ValueError: If an entry is missing.
    """
    try:
        dnn, device, speed, weight, snr_up, snr_down = (
            np.asarray(observation[key])
            for key in ("dnn", "device", "speed", "weight", "snr_up", "snr_down")
        )
    except KeyError as error:
        raise ValueError(f"the observation has no entry {error.args[0]!r}") from error
    unknown = np.full(len(dnn), np.nan)
    population = Population(dnn, device, speed, weight, unknown, unknown, snr_up, snr_down)
    return to_instance(scenario, population, observation.get("resident"))
