"""One round of many environments: every UE's inference under a decision, and its consequences.

This module holds all of an environment's dynamics, for one environment and for thousands: a
compiled loop over environments, each with its own random stream.

Cost: O(layers + edges) per UE, and O(N L) more per environment where parameters persist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model import energy, kernel, objective
from mjoa_gym.model.compiling import lean, lean_inner
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.model.link import link_over
from mjoa_gym.model.reference import by_reference
from mjoa_gym.model.uploads import upload
from mjoa_gym.world import memory
from mjoa_gym.world.population import (
    DRAWS,
    Population,
    arrivals,
    empty_population,
    next_round,
)
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.tables import Tables, channel_with, inference_with

NOTHING = -1
"""Stands for a row of placements without any layer."""


@by_reference
class State(NamedTuple):
    """The state of E environments between two rounds; kernels change it in place."""

    population: Population  # E x N UEs
    resident: NDArray[np.float64]  # (E, R, L) resident fractions, in the rows of `memory`
    idle: NDArray[np.int32]  # (E, R, L) rounds since each resident layer was used
    round: NDArray[np.int64]  # (E,) number of rounds that are over
    stream: NDArray[np.uint64]  # (E,) random streams (see `randomness`)


@by_reference
class Decision(NamedTuple):
    """An answer to one round of E environments with N UEs and at most L layers.

    Each UE refers to a row in a table of placements, because most agents choose among few.
    """

    placements: NDArray[np.int8]  # (rows, L) 0 = UE, 1 = edge; zeros after a network's last layer
    outlines: NDArray[np.uint8]  # (rows, L + 1) their outlines (`kernel.outline_of`)
    placement_of: NDArray[np.int64]  # (E, N) each UE's row
    prefetch_of: NDArray[np.int64]  # (E, N) the row that is uploaded in addition, or NOTHING
    retain_of: NDArray[np.int64]  # (E, N) the row whose layers are dropped last, or NOTHING
    bandwidth_share: NDArray[np.float64]  # (E, N) each >= 0, an environment's sum at most 1
    compute_share: NDArray[np.float64]  # (E, N) likewise


@by_reference
class Outcome(NamedTuple):
    """The outcome of decisions; zeros for environments that did not play."""

    latency_s: NDArray[np.float64]  # (E, N) seconds; inf if a needed share is close to zero
    local_s: NDArray[np.float64]  # (E, N) seconds with every layer on the UE
    round_s: NDArray[np.float64]  # (E,) seconds of the round
    reward: NDArray[np.float64]  # (E,) 1 minus the UEs' costs over their all-local costs
    left: NDArray[np.bool_]  # (E, N) whether the UE left after the round
    resident_bytes: NDArray[np.float64]  # (E,) bytes that the server keeps
    dropped_bytes: NDArray[np.float64]  # (E,) bytes that it dropped for lack of memory
    energy_j: NDArray[np.float64]  # (E, N) joules; 0 unless the scenario `knows_energy`
    missed: NDArray[np.bool_]  # (E, N) whether the UE missed its deadline
    own_reward: NDArray[np.float64]  # (E, N) the reward if the UE were alone


def new_state(scenario: Scenario, n_envs: int) -> State:
    """Allocate the state of E environments that have not begun."""
    shape = (n_envs, scenario.memory_rows, scenario.tables.width)
    return State(
        empty_population(n_envs, scenario.n_ues),
        np.zeros(shape),
        np.zeros(shape, dtype=np.int32),
        np.zeros(n_envs, dtype=np.int64),
        np.zeros(n_envs, dtype=np.uint64),
    )


def new_outcome(n_envs: int, n_ues: int) -> Outcome:
    """Return an outcome of zeros."""
    latency_s, local_s, energy_j, own_reward = np.zeros((4, n_envs, n_ues))
    round_s, reward, resident_bytes, dropped_bytes = np.zeros((4, n_envs))
    left, missed = np.zeros((2, n_envs, n_ues), dtype=np.bool_)
    return Outcome(
        latency_s, local_s, round_s, reward, left, resident_bytes, dropped_bytes, energy_j,
        missed, own_reward,
    )  # fmt: skip


def outlines_of(
    placements: NDArray[np.int8], dnn: NDArray[np.int64], tables: Tables
) -> NDArray[np.uint8]:
    """Return outlines (rows, L + 1) of placements (rows, L) of the networks `dnn` (rows,)."""
    outlines = np.zeros((len(placements), placements.shape[1] + 1), np.uint8)
    graphs = (tables.offsets, tables.predecessors, tables.is_sink, tables.n_layers)
    _write_outlines(outlines, placements, dnn, *graphs)
    return outlines


@lean
def _write_outlines(outlines, placements, dnn, offsets, predecessors, is_sink, n_layers):
    """Fill `outlines` for `outlines_of`."""
    for row in range(len(placements)):
        d, placement, outline = dnn[row], placements[row], outlines[row]
        sinks = is_sink[d, : n_layers[d]]
        kernel.write_outline(placement, offsets[d], predecessors[d], sinks, outline)


def rows_of(
    decision: Decision, which: NDArray[np.int64], n_layers: Iterable[int]
) -> list[NDArray[np.int8]]:
    """Return each UE's chosen row (L,) of a decision's placements, or zeros for NOTHING."""
    return [
        np.zeros(n, dtype=np.int8) if row == NOTHING else decision.placements[row, :n]
        for row, n in zip(which, n_layers, strict=True)
    ]


def plan_of(decision: Decision, e: int, instance: Instance) -> Plan:
    """Return the decision in environment `e` as a plan for the instance that it answers."""
    n_layers = [ue.dnn.n_layers for ue in instance.ues]
    chosen = (decision.placement_of, decision.prefetch_of, decision.retain_of)
    placements, prefetch, retain = (rows_of(decision, which[e], n_layers) for which in chosen)
    shares = decision.bandwidth_share[e], decision.compute_share[e]
    return Plan(placements, *shares, prefetch, retain)


SENT = kernel.UP_END + 1
"""The row of `Room.rows` after those of `kernel.Scratch`."""


@by_reference
class Room(NamedTuple):
    """Work arrays for the UEs of one environment."""

    ue_s: NDArray[np.float64]  # (N, L) seconds of the layers on each UE
    missing_bytes: NDArray[np.float64]  # (N, L) bytes of parameters that are not on the server
    rows: NDArray[np.float64]  # (N, 6, L + 1) as in `kernel.Scratch`; `sent` as in `upload`
    outline: NDArray[np.uint8]  # (N, L + 1) as in `kernel.Scratch`
    n_up: NDArray[np.int64]  # (N,) activations sent
    draws: NDArray[np.float64]  # (DRAWS,) a UE's random numbers
    used: NDArray[np.int8]  # (R, L) as in `memory.combine`
    arrived: NDArray[np.float64]  # (R, L) likewise
    of_rows: NDArray[np.int64]  # (R,) writers in `settle_all`, next layers in `memory.evict`


def new_room(n_ues: int, width: int, memory_rows: int = 0) -> Room:
    """Allocate work arrays for N UEs and L layers, with rows of memory if parameters stay."""
    ue_s, missing_bytes = np.empty((2, n_ues, width))
    rows = np.empty((n_ues, SENT + 1, width + 1))
    outline = np.empty((n_ues, width + 1), np.uint8)
    used, arrived = (np.empty((memory_rows, width), kind) for kind in (np.int8, np.float64))
    n_up, of_rows = np.empty(n_ues, np.int64), np.empty(memory_rows, np.int64)
    draws = np.empty(DRAWS)
    return Room(ue_s, missing_bytes, rows, outline, n_up, draws, used, arrived, of_rows)


@njit(inline="always")
def inference_in(room, tables, constants, d, i):
    """Return UE i's inference of network d, with the times and missing bytes of the room."""
    return inference_with(tables, d, room.ue_s[i], room.missing_bytes[i], constants.mode)


@njit(inline="always")
def scratch_in(room, i):
    """UE i's scratch."""
    return kernel.Scratch(room.rows[i], room.outline[i])


@njit(inline="always")
def channel_in(population, constants, e, i):
    """UE i's channel in environment e."""
    up, down, message_s = population.up[e, i], population.down[e, i], population.message_s[e, i]
    return channel_with(constants, up, down, message_s)


@njit(inline="always")
def link_in(population, e, i, decision, constants):
    """UE i's link in environment e."""
    channel = channel_in(population, constants, e, i)
    return link_over(channel, decision.bandwidth_share[e, i], decision.compute_share[e, i])


@lean_inner
def load(ue_s, missing_bytes, at_full_speed, speed, parameter_bytes, resident):
    """Fill in a UE's seconds and missing bytes, (L,) each; return its all-local seconds."""
    local_s = 0.0
    for layer in range(len(ue_s)):
        ue_s[layer] = at_full_speed[layer] / speed
    for layer in range(len(ue_s)):
        missing_bytes[layer] = parameter_bytes[layer] * (1.0 - resident[layer])
    for layer in range(len(ue_s)):  # in the order of execution, so that all-local gains exactly 0
        local_s += ue_s[layer]
    return local_s


@njit(inline="always")
def load_ue(room, tables, constants, state, e, i):
    """Put UE i's seconds and missing bytes into the room; return its all-local seconds."""
    people = state.population
    d = people.dnn[e, i]
    n = tables.n_layers[d]
    return load(
        room.ue_s[i, :n],
        room.missing_bytes[i, :n],
        tables.ue_s[d, people.device[e, i]],
        people.speed[e, i],
        tables.parameter_bytes[d],
        state.resident[e, memory.row_of(people.dnn[e], i, constants.share_parameters)],
    )


@njit(inline="always")
def local_cost(tables, constants, people, local_s, e, i):
    """Return what UE i costs all-local, from its all-local seconds."""
    counts_s = objective.priced(
        local_s,
        energy.local_j(tables.power[people.device[e, i]], local_s),
        people.deadline_s[e, i],
        constants.energy_price_s_per_j,
        constants.miss_price_s,
    )
    return objective.cost(people.weight[e, i], counts_s)


@njit(inline="always")
def infer(room, tables, constants, state, decision, link, e, i):
    """Simulate UE i's inference in environment e.

    Returns:
        Its seconds, its all-local seconds, and the inference.
    """
    local_s = load_ue(room, tables, constants, state, e, i)
    latency_s, inference = follow(room, tables, constants, state, decision, link, e, i)
    return latency_s, local_s, inference


@njit(inline="always")
def follow(room, tables, constants, state, decision, link, e, i):
    """Do the same as `infer` for a UE that `load_ue` has put into the room.

    Returns:
        Its seconds, and the inference.
    """
    inference = inference_in(room, tables, constants, state.population.dnn[e, i], i)
    outline = decision.outlines[decision.placement_of[e, i]]
    room.n_up[i], latency_s = kernel.follow(outline, inference, link, scratch_in(room, i))
    return latency_s, inference


def play(
    room: Room,
    tables: Tables,
    constants: NDArray[np.void],
    traces: NDArray[np.float64],
    persists: bool,
    moves_on: bool,
    state: State,
    decision: Decision,
    which: NDArray[np.bool_],
    outcome: Outcome,
    first: int,
    last: int,
) -> None:
    """Play one round of the environments `first` to `last`, in place.

    Environments that are not in `which` (E,) do not change. For the others, `outcome` is filled.
    The state advances only if the round `moves_on`. Each kind of environment has its own kernel, so
    that you do not wait for the compilation of code that only the other kind needs.
    """
    if persists:
        _stream(
            room, tables, constants, traces, moves_on, state, decision, which, outcome, first, last
        )
        return
    _infer(room, tables, constants, state, decision, which, outcome, first, last)
    if moves_on:
        arrivals(
            state.population, state.stream, constants, traces, tables.local_s, which, room.draws,
            first, last,
        )  # fmt: skip
        state.round[first:last] += which[first:last]


@lean
def _infer(room, tables, numbers, state, decision, which, outcome, first, last):
    """Simulate the inferences of the environments `first` to `last` that are in `which` (E,)."""
    constants = numbers[0]
    for e in range(first, last):
        if which[e]:
            infer_all(room, tables, constants, state, decision, outcome, 0.0, e)
            judge(tables, constants, state.population, outcome, e)


@lean
def _stream(room, tables, numbers, traces, moves_on, state, decision, which, outcome, first, last):
    """Do `play` for environments in which UEs and their parameters stay."""
    constants, people = numbers[0], state.population
    for e in range(first, last):
        if not which[e]:
            continue
        infer_all(room, tables, constants, state, decision, outcome, constants.period_s, e)
        round_s = outcome.round_s[e]
        for i in range(people.dnn.shape[1] if moves_on else 0):
            link = link_in(people, e, i, decision, constants)
            inference = upload_of(room, tables, constants, state, decision, link, e, i, round_s)
            if constants.knows_energy and decision.prefetch_of[e, i] != NOTHING:
                power = tables.power[people.device[e, i]]
                outline = decision.outlines[decision.placement_of[e, i]]
                sent = room.rows[i, SENT]
                joules = energy.prefetch_j(power, outline, inference, link, sent)
                outcome.energy_j[e, i] += joules
        judge(tables, constants, people, outcome, e)
        if not moves_on:
            continue
        state.round[e] += 1
        settle_all(room, tables, constants, state, decision, e)
        if constants.retain:
            mark(tables, constants, state, decision, e)
        next_round(
            people, e, state.stream, constants, traces, tables.local_s, round_s, outcome.left[e],
            room.draws,
        )  # fmt: skip
        for i in range(people.dnn.shape[1]):
            if outcome.left[e, i] and not constants.share_parameters:
                forget(state, e, i)
        outcome.dropped_bytes[e], outcome.resident_bytes[e] = memory.evict(
            state.resident[e],
            state.idle[e],
            people.dnn[e],
            tables,
            constants.share_parameters,
            constants.server_memory_bytes,
            room.of_rows,
        )
        if constants.retain:
            memory.forget_marks(state.idle[e])


@njit(inline="always")
def infer_all(room, tables, constants, state, decision, outcome, least_s, e):
    """Simulate the inferences of environment e, in a round of at least `least_s` seconds."""
    people, round_s = state.population, least_s
    for i in range(people.dnn.shape[1]):
        link = link_in(people, e, i, decision, constants)
        latency_s, local_s, inference = infer(room, tables, constants, state, decision, link, e, i)
        outcome.latency_s[e, i] = latency_s
        outcome.local_s[e, i] = local_s
        if constants.knows_energy:
            power = tables.power[people.device[e, i]]
            outline = decision.outlines[decision.placement_of[e, i]]
            joules = energy.inference_j(power, outline, inference, link, latency_s)
            outcome.energy_j[e, i] = joules
        round_s = max(round_s, latency_s)
    outcome.round_s[e] = round_s


@njit(inline="always")
def judge(tables, constants, people, outcome, e):
    """Fill in the reward of environment e's round, and which UEs missed a deadline."""
    energy_price, miss_price = constants.energy_price_s_per_j, constants.miss_price_s
    took = local = 0.0
    for i in range(people.dnn.shape[1]):
        weight, deadline_s = people.weight[e, i], people.deadline_s[e, i]
        latency_s, local_s = outcome.latency_s[e, i], outcome.local_s[e, i]
        local_j = energy.local_j(tables.power[people.device[e, i]], local_s)
        outcome.missed[e, i] = latency_s > deadline_s
        counts = objective.priced(
            latency_s, outcome.energy_j[e, i], deadline_s, energy_price, miss_price
        )
        counts_local = objective.priced(local_s, local_j, deadline_s, energy_price, miss_price)
        outcome.own_reward[e, i] = objective.reduction(counts, counts_local)
        took += objective.cost(weight, counts)
        local += objective.cost(weight, counts_local)
    outcome.reward[e] = objective.reduction(took, local)


@njit(inline="always")
def forget(state, e, i):
    """Drop UE i's parameters from the server."""
    for layer in range(state.resident.shape[2]):
        state.resident[e, i, layer] = 0.0
        state.idle[e, i, layer] = 0


@njit(inline="always")
def upload_of(room, tables, constants, state, decision, link, e, i, round_s):
    """Put what UE i uploads in `round_s` seconds into the room; return its inference."""
    inference = inference_in(room, tables, constants, state.population.dnn[e, i], i)
    row = decision.placement_of[e, i]
    marked = decision.prefetch_of[e, i]
    sent, unrecorded = room.rows[i, SENT], room.rows[i, :0]
    upload(
        decision.outlines[row],
        decision.placements[marked] if marked != NOTHING else decision.placements[row, :0],
        inference,
        link,
        round_s,
        room.n_up[i],
        scratch_in(room, i),
        sent,
        unrecorded,
    )
    return inference


@njit(inline="always")
def settle_ue(room, tables, state, decision, row, e, i):
    """Add UE i's uploads to a row that no other UE writes to in this round."""
    n = tables.n_layers[state.population.dnn[e, i]]
    placement = decision.placements[decision.placement_of[e, i]]
    memory.settle(state.resident[e, row, :n], state.idle[e, row, :n], placement, room.rows[i, SENT])


@njit(inline="always")
def settle_all(room, tables, constants, state, decision, e):
    """Add the uploads of the UEs of environment e to the server's memory."""
    dnn, resident, idle = state.population.dnn[e], state.resident[e], state.idle[e]
    if not constants.share_parameters:
        for i in range(len(dnn)):
            settle_ue(room, tables, state, decision, i, e, i)
        return
    writers = room.of_rows
    memory.count_writers(dnn, tables, writers)
    for row in range(len(resident)):
        if writers[row] != 1:
            for layer in range(resident.shape[1]):
                room.used[row, layer] = 0
                room.arrived[row, layer] = 0.0
    for i in range(len(dnn)):
        if writers[dnn[i]] > 1:
            placement = decision.placements[decision.placement_of[e, i]]
            memory.combine(dnn[i], placement, room.rows[i, SENT], tables, room.used, room.arrived)
        else:
            settle_ue(room, tables, state, decision, dnn[i], e, i)
    for row in range(len(resident)):
        if writers[row] != 1:
            memory.settle(resident[row], idle[row], room.used[row], room.arrived[row])
    memory.repeat(resident, idle, tables)


@njit(inline="always")
def mark(tables, constants, state, decision, e):
    """Mark the layers to retain in environment e; see `memory.retain`."""
    dnn, shared = state.population.dnn[e], constants.share_parameters
    for i in range(len(dnn)):
        row = decision.retain_of[e, i]
        if row != NOTHING:
            memory.retain(dnn[i], i, decision.placements[row], tables, shared, state.idle[e])


def of_ues(rows: NDArray[Any], dnn: NDArray[np.int64], shared: bool) -> NDArray[Any]:
    """Return a copy (E, N, L) of the rows (E, R, L) of memory of UEs with networks `dnn` (E, N)."""
    return rows[np.arange(len(dnn))[:, None], dnn] if shared else rows.copy()


def begin(scenario: Scenario, state: State, which: NDArray[np.bool_]) -> None:
    """Start an episode in the environments of `which` (E,): fresh UEs and an empty server."""
    given = scenario.constants, scenario.traces, scenario.tables.local_s
    arrivals(state.population, state.stream, *given, which, np.empty(DRAWS), 0, len(which))
    state.resident[which] = 0.0
    state.idle[which] = 0
    state.round[which] = 0
