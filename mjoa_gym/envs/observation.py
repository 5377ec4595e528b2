"""Observations with everything a planner needs, and their decoding into an Instance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView
from mjoa_gym.model import radio
from mjoa_gym.model.compiling import lean
from mjoa_gym.model.instance import Instance
from mjoa_gym.world.batch import in_parts
from mjoa_gym.world.memory import row_of
from mjoa_gym.world.population import Memory, Population, deadline_unit_s, link_names, to_instance
from mjoa_gym.world.rounds import State, new_state, of_ues
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.tables import NO_DEADLINES, SECONDS

PEOPLE = {"dnn": "dnn", "ue_device": "device", "speed": "speed", "weight": "weight"}
"""What an observation says about the UEs themselves, and its name in `Population`.

What it says about their links is in `population.link_names`.
"""
LINK = ("up", "down", "message_s")
"""The columns of `Scenario.link_limits`, by their names in `Population`."""
DEADLINE = "deadline_s"
"""What an observation says in addition if UEs have deadlines."""


class Observer(ABC):
    """One way to show the state of environments, and additions of their action view."""

    views: ClassVar[type] = ActionView  # the views that it supports
    space: gym.Space[Any]  # of one environment

    def __init__(self, view: ActionView) -> None:
        if not isinstance(view, self.views):
            raise TypeError(f"{type(self).__name__} goes with a {self.views.__name__}: got {view}")
        self.view = view

    @abstractmethod
    def observe(self, state: State, threads: int = 1) -> Any:
        """Return the observations of E environments, with a leading axis E, newly allocated."""


class DictObserver(Observer):
    """Physical units, one entry per quantity (see `RoundsEnv`)."""

    space: gym.spaces.Dict

    def __init__(self, view: ActionView) -> None:
        super().__init__(view)
        scenario, n = view.scenario, view.scenario.n_ues
        most = dict(zip(LINK, scenario.link_limits[1].tolist(), strict=True))
        spaces: dict[str, gym.Space[Any]] = {
            "dnn": MultiDiscrete([len(scenario.dnns)] * n),
            "ue_device": MultiDiscrete([len(scenario.ue_devices)] * n),
            "speed": Box(0.0, scenario.ue_speed_max, (n,), dtype=np.float64),
            "weight": Box(0.0, scenario.weight_max, (n,), dtype=np.float64),
            **{
                key: Box(0.0, most[name] or 1.0, (n,), dtype=np.float64)
                for key, name in link_names(scenario).items()
            },
            "round": Box(0, scenario.rounds, (1,), dtype=np.int64),
        }
        if scenario.has_deadlines:
            spaces[DEADLINE] = Box(0.0, scenario.most_deadline_s, (n,), dtype=np.float64)
        if view.persists:
            spaces["resident"] = Box(0.0, 1.0, view.shape, dtype=np.float64)
            spaces["idle_rounds"] = Box(0, scenario.rounds, view.shape, dtype=np.int64)
            if scenario.share_parameters:
                rows = (scenario.memory_rows, scenario.tables.width)
                spaces["memory"] = Box(0.0, 1.0, rows, dtype=np.float64)
                spaces["memory_idle"] = Box(0, scenario.rounds, rows, dtype=np.int64)
        self.space = gym.spaces.Dict(spaces | view.extra_spaces())

    def observe(self, state: State, threads: int = 1) -> dict[str, NDArray[Any]]:
        """See `Observer.observe`."""
        shown = PEOPLE | link_names(self.view.scenario)
        values = {key: getattr(state.population, name).copy() for key, name in shown.items()}
        values["round"] = state.round[:, None].copy()
        if DEADLINE in self.space.spaces:
            values[DEADLINE] = state.population.deadline_s.copy()
        if self.view.persists:
            dnn, shared = state.population.dnn, self.view.scenario.share_parameters
            values["resident"] = of_ues(state.resident, dnn, shared)
            values["idle_rounds"] = of_ues(state.idle, dnn, shared).astype(np.int64)
            if shared:
                values["memory"] = state.resident.copy()
                values["memory_idle"] = state.idle.astype(np.int64)
        values |= self.view.extra_observation()
        return {key: values[key] for key in self.space}


class FlatObserver(Observer):
    """One vector of float32 in [0, 1]: columns for each UE, and the clock (see `RoundsEnv`)."""

    space: gym.spaces.Box

    def __init__(self, view: ActionView) -> None:
        super().__init__(view)
        scenario = view.scenario
        self.columns = columns_of(scenario, view.persists) + view.features().shape[2]
        size = scenario.n_ues * self.columns + 1 + networks_shown(scenario, view.persists)
        self.space = Box(0.0, 1.0, (size,), dtype=np.float32)
        sizes = scenario.tables.parameter_bytes[: networks_shown(scenario, view.persists)]
        self._parts = sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1.0)

    def observe(self, state: State, threads: int = 1) -> NDArray[np.float32]:
        """See `Observer.observe`."""
        scenario, view = self.view.scenario, self.view
        n_envs = len(state.round)
        flat = np.empty((n_envs, *self.space.shape), dtype=np.float32)
        features, turn, tables = view.features(), view.turn(), scenario.tables

        def part(first: int, last: int) -> None:
            _write(
                flat, state.population, state.round, tables.local_s, scenario.constants,
                scenario.rounds, features, turn, self.columns, first, last,
            )  # fmt: skip
            if view.persists:
                _write_residency(
                    flat, state.population.dnn, state.resident, state.idle, tables.n_layers,
                    self._parts, columns_of(scenario, False), scenario.rounds, turn, self.columns,
                    first, last,
                )  # fmt: skip

        in_parts(part, n_envs, threads)
        return flat


def columns_of(scenario: Scenario, persists: bool) -> int:
    """Return how many numbers a flat observation has for a UE, without an action view's."""
    layers = 2 * scenario.tables.width if persists else 0
    more = scenario.traced + scenario.has_deadlines
    return len(scenario.dnns) + len(scenario.ue_devices) + 5 + more + layers


def networks_shown(scenario: Scenario, persists: bool) -> int:
    """Return for how many networks a flat observation says how much is on the server."""
    return len(scenario.dnns) if persists and scenario.share_parameters else 0


@lean
def _write(flat, people, over, local_s, numbers, rounds, features, turn, columns, first, last):
    """Fill the rows `first` to `last` of flat observations (see `FlatObserver`) except residency.

    `over` (E,) is the number of rounds that are over, `local_s` (D, K) the all-local seconds, and
    `numbers` (1,) is `Scenario.constants`.
    """
    constants = numbers[0]
    n_ues = people.dnn.shape[1]
    up_low, down_low = 10.0 * np.log10(constants.up_min), 10.0 * np.log10(constants.down_min)
    up_span = max(10.0 * np.log10(constants.up_max) - up_low, 1e-9)
    down_span = max(10.0 * np.log10(constants.down_max) - down_low, 1e-9)
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
            up_db = 10.0 * np.log10(people.up[e, i])
            down_db = 10.0 * np.log10(people.down[e, i])
            row[c + 2] = radio.within((up_db - up_low) / up_span, 0.0, 1.0)
            row[c + 3] = radio.within((down_db - down_low) / down_span, 0.0, 1.0)
            row[c + 4] = _local_cost(people, local_s, e, i) / total
            c += 5
            if constants.traced:
                row[c] = people.message_s[e, i] / max(constants.message_max, 1e-9)
                c += 1
            if constants.deadlines != NO_DEADLINES:
                most_s = constants.deadline_max * deadline_unit_s(people, e, i, constants, local_s)
                row[c] = min(1.0, people.deadline_s[e, i] / most_s)
            c = (k + 1) * columns - features.shape[2]
            for x in range(features.shape[2]):
                row[c + x] = features[e, i, x]
        row[n_ues * columns] = over[e] / rounds


@njit(inline="always")
def _local_cost(people, local_s, e, i):
    """Return UE i's part of `sum_i w_i T_i(local)` in environment e."""
    seconds = local_s[people.dnn[e, i], people.device[e, i]]
    return people.weight[e, i] * seconds / people.speed[e, i]


@lean
def _write_residency(
    flat, dnn, resident, idle, n_layers, parts, before, rounds, turn, columns, first, last
):
    """Fill in what is on the server, `before` columns after the first column of each UE.

    If parameters are shared, `parts` (D, L) are the layers' fractions of their networks' bytes.
    Else it is (0, L), and the rows of the memory belong to UEs.
    """
    n_ues, width, shared = dnn.shape[1], resident.shape[2], len(parts) > 0
    per_round = np.float32(1.0 / rounds)
    for e in range(first, last):
        for k in range(n_ues):
            i = (turn[e] + k) % n_ues
            n, c = n_layers[dnn[e, i]], k * columns + before
            row = row_of(dnn[e], i, shared)
            there, unused = flat[e, c : c + width], flat[e, c + width : c + 2 * width]
            part, rounds_idle = resident[e, row], idle[e, row]
            for layer in range(n):
                there[layer] = part[layer]
            for layer in range(n):
                unused[layer] = np.float32(rounds_idle[layer]) * per_round
            for layer in range(n, width):
                there[layer] = unused[layer] = 0.0
        for d in range(len(parts)):
            held, part, whole = 0.0, resident[e, d], parts[d]
            for layer in range(n_layers[d]):
                held += part[layer] * whole[layer]
            flat[e, n_ues * columns + 1 + d] = min(1.0, held)


def decode_observation(observation: Any, scenario: Scenario) -> Instance:
    """Return the Instance that an observation shows.

    Args:
        observation: An observation of one environment. A dictionary gives exactly the numbers that
            the environment computes with; a flat observation gives them to the accuracy of float32.
            A dictionary has no entry "resident" where nothing is ever resident. A flat observation
            must come from a view that adds nothing to it, or else the scenario's `n_ues` must be
            the environment's.
        scenario: The environment's scenario. With a dictionary, `n_ues` and `rounds` may differ.

    Raises:
        ValueError: If an entry is missing, a flat observation has another length, or it is an
            outlook.
    """
    if not isinstance(observation, Mapping):
        return to_instance(scenario, *_unflatten(np.asarray(observation), scenario))
    population = population_in(observation, scenario)
    if not {"resident", "memory"} & set(observation):
        return to_instance(scenario, population)
    memory = Memory(*(np.asarray(entry_of(observation, key)) for key in _memory_keys(scenario)))
    return to_instance(scenario, population, None, memory, int(entry_of(observation, "round")[0]))


def population_in(observation: Mapping[str, Any], scenario: Scenario) -> Population:
    """Return the UEs in a dictionary, of one environment or several, without their positions."""
    shown = PEOPLE | link_names(scenario)
    if scenario.has_deadlines:
        shown[DEADLINE] = DEADLINE
    found = {name: np.asarray(entry_of(observation, key)) for key, name in shown.items()}
    dnn, device = (found.pop(name).astype(np.int64, order="C") for name in ("dnn", "device"))
    found = {"message_s": np.full(dnn.shape, scenario.message_s)} | found
    hidden = np.full(dnn.shape, np.nan)
    found.setdefault(DEADLINE, np.full(dnn.shape, np.inf))
    return Population(
        dnn, device, distance_m=hidden, shadowing_db=hidden, clock_s=hidden,
        **{name: np.ascontiguousarray(values, np.float64) for name, values in found.items()},
    )  # fmt: skip


def entry_of(observation: Mapping[str, Any], key: str) -> Any:
    """Return an entry of a dictionary observation; a ValueError if the key is missing."""
    if key not in observation:
        raise ValueError(f"the observation has no entry {key!r}")
    return observation[key]


def state_in(observation: Mapping[str, Any], view: ActionView) -> State:
    """Return the state in a batch of E dictionaries, without random streams and positions.

    Raises:
        ValueError: If an entry is missing, or does not fit the scenario.
    """
    scenario, population = view.scenario, population_in(observation, view.scenario)
    n_envs, n_ues = population.dnn.shape
    if n_ues != scenario.n_ues:
        raise ValueError(f"the observation shows {n_ues} UEs, not {scenario.n_ues}")
    state = new_state(scenario, n_envs)._replace(population=population)
    if view.persists:
        resident, idle = _memory_keys(scenario)
        state.resident[:] = entry_of(observation, resident)
        state.idle[:] = entry_of(observation, idle)
        state.round[:] = np.asarray(entry_of(observation, "round"))[:, 0]
    return state


def _memory_keys(scenario: Scenario) -> tuple[str, str]:
    """Return the names of the dictionary entries that describe the server's memory."""
    shared = scenario.share_parameters
    return ("memory", "memory_idle") if shared else ("resident", "idle_rounds")


def _unflatten(
    flat: NDArray[Any], scenario: Scenario
) -> tuple[Population, NDArray[np.float64] | None]:
    """Return the UEs, and the resident fractions or None, of a flat observation.

    The fractions are None where nothing is ever resident.
    """
    n, cold, streaming = scenario.n_ues, *(columns_of(scenario, stays) for stays in (False, True))
    networks_too = networks_shown(scenario, True)
    if flat.ndim == 2:
        raise ValueError(
            f"the observation has shape {flat.shape}; it must be from one environment, with"
            " observation='dict' or 'flat' (an outlook does not say who the UEs are)"
        )
    columns, left_over = divmod(flat.size - 1, n)
    if flat.size == n * streaming + 1 + networks_too:
        columns, left_over = streaming, 0
    if flat.ndim != 1 or left_over or columns < cold:
        raise ValueError(
            f"the observation has shape {flat.shape}; one of {n} UEs has {n * cold + 1} numbers,"
            f" {n * streaming + 1 + networks_too} when streaming"
        )
    rows = flat[: n * columns].reshape(n, columns).astype(np.float64)
    networks, devices = len(scenario.dnns), len(scenario.ue_devices)
    rest = rows[:, networks + devices :]
    (low, high), both = scenario.link_limits, slice(2)
    up, down = (low[both] * (high[both] / low[both]) ** rest[:, 2:4]).T
    link = {"up": up, "down": down}
    if scenario.traced:
        link["message_s"] = rest[:, 5] * high[2]
    shown = {
        "dnn": rows[:, :networks].argmax(axis=1),
        "ue_device": rows[:, networks : networks + devices].argmax(axis=1),
        "speed": rest[:, 0] * scenario.ue_speed_max,
        "weight": rest[:, 1] * scenario.weight_max,
        **{key: link[name] for key, name in link_names(scenario).items()},
    }
    if scenario.has_deadlines:
        shown[DEADLINE] = rest[:, 5 + scenario.traced] * _most_deadline_s(shown, scenario)
    there = rest[:, cold - networks - devices :][:, : scenario.tables.width]
    return population_in(shown, scenario), there if columns >= streaming else None


def _most_deadline_s(shown: Mapping[str, NDArray[Any]], scenario: Scenario) -> NDArray[Any]:
    """Return (N,) the longest deadlines that UEs can have."""
    (constants,) = scenario.constants
    if constants["deadlines"] == SECONDS:
        return np.full(scenario.n_ues, constants["deadline_max"])
    local_s = scenario.tables.local_s[shown["dnn"], shown["ue_device"]] / shown["speed"]
    return constants["deadline_max"] * local_s
