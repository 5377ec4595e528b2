"""Observations: everything a planner needs, and the way back from one to the Instance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView
from mjoa_gym.model import radio
from mjoa_gym.model.compiling import lean
from mjoa_gym.model.instance import Instance
from mjoa_gym.validation import choice
from mjoa_gym.world.batch import in_parts
from mjoa_gym.world.population import Population, deadline_unit_s, to_instance
from mjoa_gym.world.rounds import State
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.tables import NO_DEADLINES, SECONDS

PEOPLE = {"dnn": "dnn", "ue_device": "device"}
PEOPLE |= {key: key for key in ("speed", "weight", "snr_up", "snr_down")}
"""What an observation says of the UEs themselves, and what `Population` calls it."""
DEADLINE = "deadline_s"
"""What it says of them besides, where UEs have deadlines."""


class Observer(ABC):
    """One way to show the state of environments; their action view may have something to show."""

    space: gym.Space[Any]  # of one environment

    def __init__(self, view: ActionView) -> None:
        self.view = view

    @abstractmethod
    def observe(self, state: State, threads: int = 1) -> Any:
        """The observations of a state of E environments, with a leading axis E, newly allocated."""


class DictObserver(Observer):
    """Physical units, one entry per quantity (see `RoundsEnv`)."""

    space: gym.spaces.Dict

    def __init__(self, view: ActionView) -> None:
        super().__init__(view)
        scenario, n = view.scenario, view.scenario.n_ues
        snr_max = float(radio.from_db(scenario.snr_max_db))
        spaces: dict[str, gym.Space[Any]] = {
            "dnn": MultiDiscrete([len(scenario.dnns)] * n),
            "ue_device": MultiDiscrete([len(scenario.ue_devices)] * n),
            "speed": Box(0.0, scenario.ue_speed_max, (n,), dtype=np.float64),
            "weight": Box(0.0, scenario.weight_max, (n,), dtype=np.float64),
            "snr_up": Box(0.0, snr_max, (n,), dtype=np.float64),
            "snr_down": Box(0.0, snr_max, (n,), dtype=np.float64),
            "round": Box(0, scenario.rounds, (1,), dtype=np.int64),
        }
        if scenario.has_deadlines:
            spaces[DEADLINE] = Box(0.0, scenario.most_deadline_s, (n,), dtype=np.float64)
        if view.persists:
            spaces["resident"] = Box(0.0, 1.0, view.shape, dtype=np.float64)
            spaces["idle_rounds"] = Box(0, scenario.rounds, view.shape, dtype=np.int64)
        self.space = gym.spaces.Dict(spaces | view.extra_spaces())

    def observe(self, state: State, threads: int = 1) -> dict[str, NDArray[Any]]:
        """See `Observer.observe`."""
        values = {key: getattr(state.population, name).copy() for key, name in PEOPLE.items()}
        values["round"] = state.round[:, None].copy()
        if DEADLINE in self.space.spaces:
            values[DEADLINE] = state.population.deadline_s.copy()
        if self.view.persists:
            values["resident"] = state.resident.copy()
            values["idle_rounds"] = state.idle.astype(np.int64)
        values |= self.view.extra_observation()
        return {key: values[key] for key in self.space}


class FlatObserver(Observer):
    """One vector of float32 in [0, 1]: columns for each UE, and the clock (see `RoundsEnv`)."""

    space: gym.spaces.Box

    def __init__(self, view: ActionView) -> None:
        super().__init__(view)
        scenario = view.scenario
        self.columns = columns_of(scenario, view.persists) + view.features().shape[2]
        self.space = Box(0.0, 1.0, (scenario.n_ues * self.columns + 1,), dtype=np.float32)

    def observe(self, state: State, threads: int = 1) -> NDArray[np.float32]:
        """See `Observer.observe`."""
        scenario, view = self.view.scenario, self.view
        n_envs = len(state.round)
        flat = np.empty((n_envs, *self.space.shape), dtype=np.float32)
        features, turn = view.features(), view.turn()

        def part(first: int, last: int) -> None:
            _write(
                flat, state.population, state.round, scenario.tables.local_s, scenario.constants,
                scenario.rounds, features, turn, first, last,
            )  # fmt: skip
            if view.persists:
                _write_residency(
                    flat, state.population.dnn, state.resident, state.idle,
                    scenario.tables.n_layers, columns_of(scenario, False), scenario.rounds, turn,
                    first, last,
                )  # fmt: skip

        in_parts(part, n_envs, threads)
        return flat


OBSERVERS: dict[str, type[Observer]] = {"flat": FlatObserver, "dict": DictObserver}


def observation_of(name: str, view: ActionView) -> Observer:
    """The named observation of what an action view shows; a ValueError says which there are."""
    return OBSERVERS[choice("observation", name, tuple(OBSERVERS))](view)


def columns_of(scenario: Scenario, persists: bool) -> int:
    """Numbers that a flat observation has for a UE, without what an action view adds."""
    layers = 2 * scenario.tables.width if persists else 0
    return len(scenario.dnns) + len(scenario.ue_devices) + 5 + scenario.has_deadlines + layers


@lean
def _write(flat, people, over, local_s, numbers, rounds, features, turn, first, last):
    """Fill the rows `first` to `last` of flat observations (see `FlatObserver`) but for residency.

    `over` (E,) rounds are over; `local_s` (D, K) are all-local seconds; `numbers` (1,) is
    `Scenario.constants`.
    """
    constants = numbers[0]
    n_ues = people.dnn.shape[1]
    columns = (flat.shape[1] - 1) // n_ues
    low = 10.0 * np.log10(constants.snr_min)
    span = max(10.0 * np.log10(constants.snr_max) - low, 1e-9)
    for e in range(first, last):
        row = flat[e]
        total = 0.0
        for i in range(n_ues):
            total += _local_cost(people, local_s, e, i)
        for k in range(n_ues):
            i = (turn[e] + k) % n_ues
            c = k * columns
            for x in range(constants.n_dnns + constants.n_devices):
                row[c + x] = 0.0
            row[c + people.dnn[e, i]] = 1.0
            c += constants.n_dnns
            row[c + people.device[e, i]] = 1.0
            c += constants.n_devices
            row[c] = people.speed[e, i] / constants.ue_speed_max
            row[c + 1] = people.weight[e, i] / constants.weight_max
            row[c + 2] = radio.within((10.0 * np.log10(people.snr_up[e, i]) - low) / span, 0.0, 1.0)
            row[c + 3] = radio.within(
                (10.0 * np.log10(people.snr_down[e, i]) - low) / span, 0.0, 1.0
            )
            row[c + 4] = _local_cost(people, local_s, e, i) / total
            if constants.deadlines != NO_DEADLINES:
                most_s = constants.deadline_max * deadline_unit_s(people, e, i, constants, local_s)
                row[c + 5] = min(1.0, people.deadline_s[e, i] / most_s)
            c = (k + 1) * columns - features.shape[2]
            for x in range(features.shape[2]):
                row[c + x] = features[e, i, x]
        row[n_ues * columns] = over[e] / rounds


@njit(inline="always")
def _local_cost(people, local_s, e, i):
    """UE i's part of `sum_i w_i T_i(local)` in environment e."""
    seconds = local_s[people.dnn[e, i], people.device[e, i]]
    return people.weight[e, i] * seconds / people.speed[e, i]


@lean
def _write_residency(flat, dnn, resident, idle, n_layers, before, rounds, turn, first, last):
    """Fill in what is on the server, `before` columns after the first of each UE."""
    n_ues, width = resident.shape[1:]
    columns = (flat.shape[1] - 1) // n_ues
    per_round = np.float32(1.0 / rounds)
    for e in range(first, last):
        for k in range(n_ues):
            i = (turn[e] + k) % n_ues
            n, c = n_layers[dnn[e, i]], k * columns + before
            there, unused = flat[e, c : c + width], flat[e, c + width : c + 2 * width]
            for layer in range(n):
                there[layer] = resident[e, i, layer]
            for layer in range(n):
                unused[layer] = idle[e, i, layer] * per_round
            for layer in range(n, width):
                there[layer] = unused[layer] = 0.0


def decode_observation(observation: Any, scenario: Scenario) -> Instance:
    """The Instance that an observation shows.

    Args:
        observation: Of one environment; a dictionary gives exactly what the environment computes
            with, a flat one the same to the accuracy of float32. In a dictionary an entry
            "resident" is absent where nothing ever is. A flat observation must be of a view that
            adds nothing to it, or the scenario's `n_ues` the environment's.
        scenario: The environment's; with a dictionary `n_ues` and `rounds` may differ.

    Raises:
        ValueError: If an entry is missing, or a flat observation has another length.
    """
    if not isinstance(observation, Mapping):
        return to_instance(scenario, *_unflatten(np.asarray(observation), scenario))
    if scenario.has_deadlines and DEADLINE not in observation:
        raise ValueError(f"the observation has no entry {DEADLINE!r}")
    population = population_in(observation)
    if "resident" not in observation:
        return to_instance(scenario, population)
    resident, idle = (np.asarray(observation[key]) for key in ("resident", "idle_rounds"))
    return to_instance(scenario, population, resident, idle, int(observation["round"][0]))


def population_in(observation: Mapping[str, Any]) -> Population:
    """The UEs that a dictionary shows, of one environment or several, but for where they are."""
    try:
        dnn, device, *reals = (np.asarray(observation[key]) for key in PEOPLE)
    except KeyError as error:
        raise ValueError(f"the observation has no entry {error.args[0]!r}") from error
    speed, weight, snr_up, snr_down = (np.asarray(values, np.float64) for values in reals)
    hidden = np.full(dnn.shape, np.nan)
    whole = dnn.astype(np.int64), device.astype(np.int64)
    deadline_s = observation.get(DEADLINE, np.full(dnn.shape, np.inf))
    return Population(
        *whole, speed, weight, hidden, hidden, snr_up, snr_down, np.asarray(deadline_s, np.float64)
    )


def _unflatten(
    flat: NDArray[Any], scenario: Scenario
) -> tuple[Population, NDArray[np.float64] | None]:
    """The UEs, and the resident fractions (None if there never are any), of a flat observation."""
    columns, left_over = divmod(flat.size - 1, scenario.n_ues)
    cold, streaming = (columns_of(scenario, persists) for persists in (False, True))
    if flat.ndim != 1 or left_over or columns < cold:
        raise ValueError(
            f"the observation has shape {flat.shape}; one of {scenario.n_ues} UEs has"
            f" {scenario.n_ues * cold + 1} numbers, {scenario.n_ues * streaming + 1} when streaming"
        )
    rows = flat[:-1].reshape(scenario.n_ues, columns).astype(np.float64)
    networks, devices = len(scenario.dnns), len(scenario.ue_devices)
    rest = rows[:, networks + devices :]
    span_db = scenario.snr_max_db - scenario.snr_min_db
    snr_up, snr_down = radio.from_db(scenario.snr_min_db + span_db * rest[:, 2:4].T)
    shown = {
        "dnn": rows[:, :networks].argmax(axis=1),
        "ue_device": rows[:, networks : networks + devices].argmax(axis=1),
        "speed": rest[:, 0] * scenario.ue_speed_max,
        "weight": rest[:, 1] * scenario.weight_max,
        "snr_up": snr_up,
        "snr_down": snr_down,
    }
    before = 5
    if scenario.has_deadlines:
        before += 1
        shown[DEADLINE] = rest[:, 5] * _most_deadline_s(shown, scenario)
    width = scenario.tables.width
    resident = rest[:, before : before + width] if columns >= streaming else None
    return population_in(shown), resident


def _most_deadline_s(shown: Mapping[str, NDArray[Any]], scenario: Scenario) -> NDArray[Any]:
    """(N,) the greatest deadlines that UEs can have."""
    (constants,) = scenario.constants
    if constants["deadlines"] == SECONDS:
        return np.full(scenario.n_ues, constants["deadline_max"])
    local_s = scenario.tables.local_s[shown["dnn"], shown["ue_device"]] / shown["speed"]
    return constants["deadline_max"] * local_s
