"""What a joint decision is worth over the rounds to come, and a local search for a better one.

The kernels of `far_sighted`. A round is replayed with the environment's own functions
(`rounds.infer`, `rounds.settle_ue`, `memory.evict`), on a copy of what an instance shows, so there
is no second model of what a round does. Only what comes after it is estimated.

Cost: an estimate takes O(N) simulations, and O(menu) more for every UE whose residency it changes;
a sweep of the search makes O(N^2 + N x menu) estimates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model import kernel
from mjoa_gym.model.instance import Packed, packed_link
from mjoa_gym.model.link import seconds_for
from mjoa_gym.model.objective import cost
from mjoa_gym.world import memory
from mjoa_gym.world.rounds import (
    Decision,
    Room,
    State,
    infer,
    inference_in,
    scratch_in,
    settle_ue,
)
from mjoa_gym.world.tables import Tables

PARTS = (0.5, 0.15)
"""Parts of a UE's share that are offered to another."""
SWEEPS = 6
"""Most sweeps of the search."""
GAIN = 1e-5
"""Least relative gain for which the decision changes."""
NOW, LATER = range(2)
"""Residencies that are valued: after this round, and when all marked layers have been uploaded."""


class RoundSetting(NamedTuple):
    """What does not change: the upload mode's number, the clock and the memory."""

    mode: int
    period_s: float
    server_memory_bytes: float


class Prospect(NamedTuple):
    """One environment's round and what is assumed of the rounds after it."""

    tables: Tables  # of N networks, one for each UE
    setting: RoundSetting
    packed: Packed  # the UEs' links in this round
    packed_later: Packed  # and in later ones
    state: State  # of the one environment; `resident` and `idle` are work arrays
    resident: NDArray[np.float64]  # (1, N, L) at the start of the round
    idle: NDArray[np.int32]  # (1, N, L) likewise
    decision: Decision
    """The answer, changed by the search. UE i may place with the rows `first[i]` to
    `first[i] + placements[i]` of its table, and prefetch with those up to `first[i + 1]`."""
    first: NDArray[np.int64]  # (N + 1,)
    placements: NDArray[np.int64]  # (N,)
    ahead: State  # in which later inferences are estimated
    habit: Decision  # by which they are: its shares
    rounds_ahead: float
    """The rounds that a UE is expected to stay for after this one, times their weight against this
    one."""
    known: NDArray[np.float64]  # (2, N, L) residencies after the present decision (`NOW`, `LATER`)
    worth: NDArray[np.float64]  # (2, N) seconds of an inference with them
    trial: NDArray[np.float64]  # (2, 1, N, L) the same of a decision that is tried
    trial_worth: NDArray[np.float64]  # (2, N)
    room: Room


@njit(cache=True, nogil=True)
def link_under(packed, decision, i):
    """UE i's link with the shares that are decided."""
    return packed_link(packed, i, decision.bandwidth_share[0, i], decision.compute_share[0, i])


@njit(cache=True, nogil=True)
def best_later(prospect, i, resident):
    """Seconds of UE i's fastest placement in a later round, with (L,) fractions resident."""
    ahead, habit, tables = prospect.ahead, prospect.habit, prospect.tables
    ahead.resident[0, i] = resident
    row, room = prospect.first[i], prospect.room
    habit.placement_of[0, i] = row
    link = link_under(prospect.packed_later, habit, i)
    best = infer(room, tables, prospect.setting, ahead, habit, link, 0, i)[0]
    inference = inference_in(room, tables, prospect.setting, i, i)
    for other in range(row + 1, row + prospect.placements[i]):
        outline, scratch = habit.outlines[other], scratch_in(room, i)
        best = min(best, kernel.follow(outline, inference, link, scratch)[1])
    return best


@njit(cache=True, nogil=True)
def play_round(prospect):
    """Play the decision: seconds (N,) and length of the round; residency goes to the work arrays.

    The length is infinite if an inference never ends; residency is of no use then.
    """
    state, decision = prospect.state, prospect.decision
    tables, setting, room = prospect.tables, prospect.setting, prospect.room
    n_ues = state.resident.shape[1]
    state.resident[:] = prospect.resident
    state.idle[:] = prospect.idle
    seconds = np.empty(n_ues)
    round_s = setting.period_s
    for i in range(n_ues):
        link = link_under(prospect.packed, decision, i)
        seconds[i] = infer(room, tables, setting, state, decision, link, 0, i)[0]
        round_s = max(round_s, seconds[i])
    if round_s < np.inf:
        for i in range(n_ues):
            link = link_under(prospect.packed, decision, i)
            settle_ue(room, tables, setting, state, decision, link, 0, i, round_s)
    return seconds, round_s


@njit(cache=True, nogil=True)
def complete_prefetch(prospect):
    """Write down the residency when all marked layers are there: (N,) rounds until that is so.

    It starts from the work arrays as `play_round` leaves them. The whole uplink share is taken to
    be idle: a later inference needs little of it.
    """
    state, decision, tables = prospect.state, prospect.decision, prospect.tables
    later = prospect.trial[LATER]
    later[:] = state.resident
    rounds_needed = np.zeros(later.shape[1])
    for i in range(later.shape[1]):
        d = state.population.dnn[0, i]
        marked = decision.placements[decision.prefetch_of[0, i]]
        missing = 0.0
        for layer in range(tables.n_layers[d]):
            if marked[layer]:
                missing += tables.parameter_bytes[d, layer] * (1.0 - later[0, i, layer])
                later[0, i, layer] = 1.0
        if missing > 0.0:
            link = link_under(prospect.packed_later, prospect.habit, i)
            rounds_needed[i] = seconds_for(missing, link.up) / prospect.setting.period_s
    return rounds_needed


@njit(cache=True, nogil=True)
def objective(prospect):
    """Weighted seconds of this round and, estimated, of those to come; inf if a round never ends.

    The estimates of the trial are left in `trial` and `trial_worth`.
    """
    state, tables = prospect.state, prospect.tables
    people = state.population
    n_ues = people.dnn.shape[1]
    seconds, round_s = play_round(prospect)
    if round_s == np.inf:
        return np.inf
    rounds_needed = complete_prefetch(prospect)
    idle_later = state.idle[0].copy()
    room_for = prospect.setting.server_memory_bytes
    memory.evict(state.resident[0], state.idle[0], people.dnn[0], tables, room_for)
    memory.evict(prospect.trial[LATER, 0], idle_later, people.dnn[0], tables, room_for)
    prospect.trial[NOW] = state.resident
    total = 0.0
    for i in range(n_ues):
        for when in range(2):
            there = prospect.trial[when, 0, i]
            if np.all(there == prospect.known[when, i]):
                prospect.trial_worth[when, i] = prospect.worth[when, i]
            elif when == LATER and np.all(there == prospect.trial[NOW, 0, i]):
                prospect.trial_worth[when, i] = prospect.trial_worth[NOW, i]
            else:
                prospect.trial_worth[when, i] = best_later(prospect, i, there)
        soon = min(rounds_needed[i], prospect.rounds_ahead)
        ahead_s = soon * prospect.trial_worth[NOW, i]
        ahead_s += (prospect.rounds_ahead - soon) * prospect.trial_worth[LATER, i]
        total += cost(people.weight[0, i], seconds[i] + ahead_s)
    return total


@njit(cache=True, nogil=True)
def accepted(prospect, best):
    """The objective of the decision if it beats `best`: its estimates are kept; else `best`."""
    now = objective(prospect)
    if not now < best * (1.0 - GAIN):
        return best
    prospect.known[:] = prospect.trial[:, 0]
    prospect.worth[:] = prospect.trial_worth
    return now


@njit(cache=True, nogil=True)
def choose(prospect, chosen, i, n_rows, best):
    """Let UE i take the best of its first `n_rows` rows in `chosen` (1, N); returns the objective.

    `chosen` is the decision's `placement_of` or `prefetch_of`.
    """
    kept = chosen[0, i]
    for row in range(prospect.first[i], prospect.first[i] + n_rows):
        chosen[0, i] = row
        now = accepted(prospect, best)
        if now < best:
            best, kept = now, row
    chosen[0, i] = kept
    return best


@njit(cache=True, nogil=True)
def hand_over(prospect, shares, i, j, part, best):
    """Offer a part of UE i's share (1, N) to UE j; returns the objective.

    A UE that could do nothing without the share chooses anew what to do with it.
    """
    before_i, before_j = shares[0, i], shares[0, j]
    shares[0, i] -= part * before_i
    shares[0, j] += part * before_i
    now = accepted(prospect, best)
    if now == best and before_j == 0.0:
        decision = prospect.decision
        if decision.compute_share[0, j] > 0.0 and decision.bandwidth_share[0, j] > 0.0:
            now = choose(prospect, decision.placement_of, j, prospect.placements[j], now)
        if now == best and decision.bandwidth_share[0, j] > 0.0:
            rows = prospect.first[j + 1] - prospect.first[j]
            now = choose(prospect, decision.prefetch_of, j, rows, now)
    if now == best:
        shares[0, i], shares[0, j] = before_i, before_j
    return now


@njit(cache=True, nogil=True)
def search(prospect):
    """Improve the decision in place, one UE's choice or one transfer of shares at a time.

    The objective is returned, before and after.
    """
    decision = prospect.decision
    n_ues = len(prospect.placements)
    start = best = accepted(prospect, np.inf)
    for _ in range(SWEEPS):
        before = best
        for i in range(n_ues):
            rows = prospect.first[i + 1] - prospect.first[i]
            best = choose(prospect, decision.prefetch_of, i, rows, best)
            best = choose(prospect, decision.placement_of, i, prospect.placements[i], best)
        for shares in (decision.bandwidth_share, decision.compute_share):
            for i in range(n_ues):
                for j in range(n_ues):
                    for part in PARTS:
                        if i != j and shares[0, i] > 0.0:
                            best = hand_over(prospect, shares, i, j, part, best)
        if not best < before * (1.0 - GAIN):
            break
    return start, best
