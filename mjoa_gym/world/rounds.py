"""One round of many environments: every UE's inference under a decision, and what follows from it.

This is all of an environment's dynamics, for one environment and for thousands: a compiled loop
over environments, each with its own random stream.

Cost: O(layers + edges) per UE, and O(N L) more per environment where parameters persist.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model import kernel, objective
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.model.link import link_over
from mjoa_gym.model.uploads import upload
from mjoa_gym.world import memory
from mjoa_gym.world.population import Population, empty_population, newcomers, next_round
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.tables import channel_with, inference_with

NO_PREFETCH = -1


class State(NamedTuple):
    """What E environments are in between two rounds; kernels change it in place."""

    population: Population  # E x N UEs
    resident: NDArray[np.float64]  # (E, N, L) resident fractions
    idle: NDArray[np.int32]  # (E, N, L) rounds since each resident layer was used
    round: NDArray[np.int64]  # (E,) how many rounds are over
    stream: NDArray[np.uint64]  # (E,) random streams (see `randomness`)


class Decision(NamedTuple):
    """An answer to one round of E environments with N UEs and at most L layers.

    Who runs what is said by rows of a table of placements, because most agents choose among few.
    """

    placements: NDArray[np.int8]  # (rows, L) 0 = UE, 1 = edge; zeros after a network's last layer
    outlines: NDArray[np.uint8]  # (rows, L + 1) their outlines (`kernel.outline_of`)
    placement_of: NDArray[np.int64]  # (E, N) each UE's row
    prefetch_of: NDArray[np.int64]  # (E, N) the row that is uploaded in addition, or NO_PREFETCH
    bandwidth_share: NDArray[np.float64]  # (E, N) each >= 0, an environment's sum at most 1
    compute_share: NDArray[np.float64]  # (E, N) likewise


class Outcome(NamedTuple):
    """What decisions have led to; zeros for environments that did not play."""

    latency_s: NDArray[np.float64]  # (E, N) seconds; inf if a share that is needed is next to zero
    local_s: NDArray[np.float64]  # (E, N) seconds with every layer on the UE
    round_s: NDArray[np.float64]  # (E,) how long the round has lasted
    reward: NDArray[np.float64]  # (E,) `1 - sum_i w_i T_i / sum_i w_i T_i(local)`
    left: NDArray[np.bool_]  # (E, N) who left after the round
    resident_bytes: NDArray[np.float64]  # (E,) what the server keeps
    dropped_bytes: NDArray[np.float64]  # (E,) what it has dropped for want of memory


def new_state(scenario: Scenario, n_envs: int) -> State:
    """Room for E environments that have not begun."""
    n_ues, width = scenario.n_ues, scenario.tables.width
    return State(
        empty_population(n_envs, n_ues),
        np.zeros((n_envs, n_ues, width)),
        np.zeros((n_envs, n_ues, width), dtype=np.int32),
        np.zeros(n_envs, dtype=np.int64),
        np.zeros(n_envs, dtype=np.uint64),
    )


def new_outcome(n_envs: int, n_ues: int) -> Outcome:
    """An outcome of nothing."""
    latency_s, local_s = np.zeros((2, n_envs, n_ues))
    round_s, reward, resident_bytes, dropped_bytes = np.zeros((4, n_envs))
    left = np.zeros((n_envs, n_ues), dtype=np.bool_)
    return Outcome(latency_s, local_s, round_s, reward, left, resident_bytes, dropped_bytes)


@njit(cache=True, nogil=True)
def outlines_of(placements, dnn, tables):
    """(rows, L + 1) outlines of placements (rows, L) of the networks `dnn` (rows,)."""
    rows, width = placements.shape
    outlines = np.zeros((rows, width + 1), np.uint8)
    nothing = np.empty(0)
    for row in range(rows):
        graph = inference_with(tables, dnn[row], nothing, nothing, 0)
        kernel.outline_of(placements[row], graph, outlines[row])
    return outlines


def plan_of(decision: Decision, e: int, instance: Instance) -> Plan:
    """What was decided in environment `e`, as a plan for the instance that it answers."""

    def rows(which: NDArray[np.int64]) -> list[NDArray[np.int8]]:
        return [
            np.zeros(n, dtype=np.int8) if row == NO_PREFETCH else decision.placements[row, :n]
            for row, n in zip(which, (ue.dnn.n_layers for ue in instance.ues), strict=True)
        ]

    return Plan(
        rows(decision.placement_of[e]),
        decision.bandwidth_share[e],
        decision.compute_share[e],
        rows(decision.prefetch_of[e]),
    )


class Room(NamedTuple):
    """Work arrays for the UEs of one environment; the others are as in `kernel.Scratch`."""

    ue_s: NDArray[np.float64]  # (N, L) seconds of the layers on each UE
    missing_bytes: NDArray[np.float64]  # (N, L) parameters that are not on the server
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    there: NDArray[np.float64]
    outline: NDArray[np.uint8]
    up_start: NDArray[np.float64]
    up_end: NDArray[np.float64]
    n_up: NDArray[np.int64]  # (N,) activations sent
    sent: NDArray[np.float64]  # (L,) fractions of missing bytes that have arrived
    unmarked: NDArray[np.int8]  # (0,) nothing to prefetch
    unrecorded: NDArray[np.float64]  # (0, 3), for `upload`


@njit(cache=True, nogil=True)
def new_room(n_ues, width):
    """Work arrays for N UEs and L layers."""
    layers, tensors = (n_ues, width), (n_ues, width + 1)
    return Room(
        np.empty(layers), np.empty(layers), np.empty(layers), np.empty(tensors), np.empty(tensors),
        np.empty(tensors, np.uint8), np.empty(tensors), np.empty(tensors),
        np.empty(n_ues, np.int64), np.empty(width), np.empty(0, np.int8), np.empty((0, 3)),
    )  # fmt: skip


@njit(inline="always")
def inference_in(room, tables, constants, d, i):
    """UE i's inference of network d; its times and missing bytes are in the room."""
    return inference_with(tables, d, room.ue_s[i], room.missing_bytes[i], constants.mode)


@njit(inline="always")
def scratch_in(room, i):
    """UE i's scratch."""
    return kernel.Scratch(
        room.start[i], room.end[i], room.there[i], room.outline[i], room.up_start[i], room.up_end[i]
    )


@njit(inline="always")
def link_in(population, e, i, decision, constants):
    """UE i's link in environment e."""
    snr_up, snr_down = population.snr_up[e, i], population.snr_down[e, i]
    channel = channel_with(constants, snr_up, snr_down)
    return link_over(channel, decision.bandwidth_share[e, i], decision.compute_share[e, i])


@njit(inline="always")
def infer(room, tables, constants, state, decision, link, e, i):
    """Simulate UE i's inference in environment e; returns its seconds, and those all-local."""
    people = state.population
    d, speed = people.dnn[e, i], people.speed[e, i]
    inference = inference_in(room, tables, constants, d, i)
    ue_s, missing_bytes = inference.ue_s, inference.missing_bytes
    at_full_speed = tables.ue_s[d, people.device[e, i]]
    parameter_bytes, resident = tables.parameter_bytes[d], state.resident[e, i]
    for layer in range(len(ue_s)):
        ue_s[layer] = at_full_speed[layer] / speed
    for layer in range(len(ue_s)):
        missing_bytes[layer] = parameter_bytes[layer] * (1.0 - resident[layer])
    local_s = 0.0
    for layer in range(len(ue_s)):  # in the order of execution, so that all-local gains exactly 0
        local_s += ue_s[layer]
    outline = decision.outlines[decision.placement_of[e, i]]
    room.n_up[i], latency_s = kernel.follow(outline, inference, link, scratch_in(room, i))
    return latency_s, local_s


@njit(cache=True, nogil=True)
def latencies(tables, constants, state, decision, which):
    """(E, N) latencies of the environments of `which` (E,); changes nothing."""
    n_ues, width = state.resident.shape[1:]
    room = new_room(n_ues, width)
    seconds = np.zeros((len(which), n_ues))
    for e in np.flatnonzero(which):
        for i in range(n_ues):
            link = link_in(state.population, e, i, decision, constants)
            seconds[e, i] = infer(room, tables, constants, state, decision, link, e, i)[0]
    return seconds


@njit(cache=True, nogil=True)
def play(tables, constants, persists, state, decision, which, outcome, first, last):
    """Play one round of the environments `first` to `last`, in place.

    Those that are not of `which` (E,) are left alone; `outcome` is filled for the others.
    """
    n_ues, width = state.resident.shape[1:]
    room = new_room(n_ues, width)
    people = state.population
    for e in range(first, last):
        if not which[e]:
            continue
        round_s = constants.period_s if persists else 0.0
        took = local = 0.0
        for i in range(n_ues):
            link = link_in(people, e, i, decision, constants)
            latency_s, local_s = infer(room, tables, constants, state, decision, link, e, i)
            outcome.latency_s[e, i] = latency_s
            outcome.local_s[e, i] = local_s
            round_s = max(round_s, latency_s)
            took += objective.cost(people.weight[e, i], latency_s)
            local += objective.cost(people.weight[e, i], local_s)
        outcome.round_s[e] = round_s
        outcome.reward[e] = objective.reduction(took, local)
        state.round[e] += 1
        if not persists:
            newcomers(people, e, state.stream, constants)
            continue
        for i in range(n_ues):
            link = link_in(people, e, i, decision, constants)
            settle_ue(room, tables, constants, state, decision, link, e, i, round_s)
        next_round(people, e, state.stream, constants, round_s, outcome.left[e])
        for i in range(n_ues):
            if outcome.left[e, i]:
                state.resident[e, i] = 0.0
                state.idle[e, i] = 0
        outcome.dropped_bytes[e], outcome.resident_bytes[e] = memory.evict(
            state.resident[e],
            state.idle[e],
            people.dnn[e],
            tables,
            constants.server_memory_bytes,
        )


@njit(inline="always")
def settle_ue(room, tables, constants, state, decision, link, e, i, round_s):
    """Bring what UE i has uploaded in `round_s` seconds to the server."""
    people = state.population
    inference = inference_in(room, tables, constants, people.dnn[e, i], i)
    n = len(inference.ue_s)
    row = decision.placement_of[e, i]
    marked = decision.prefetch_of[e, i]
    upload(
        decision.outlines[row],
        decision.placements[marked] if marked != NO_PREFETCH else room.unmarked,
        inference,
        link,
        round_s,
        room.n_up[i],
        scratch_in(room, i),
        room.sent,
        room.unrecorded,
    )
    memory.settle(
        state.resident[e, i, :n], state.idle[e, i, :n], decision.placements[row], room.sent
    )


@njit(cache=True, nogil=True)
def begin(constants, state, which):
    """Start an episode in some environments: fresh UEs, an empty server."""
    for e in range(len(which)):
        if which[e]:
            newcomers(state.population, e, state.stream, constants)
            state.resident[e] = 0.0
            state.idle[e] = 0
            state.round[e] = 0
