"""What a joint decision is worth over the rounds to come, and a local search for a better one.

These are the kernels of `far_sighted`. They replay a round with the environment's own functions
(`rounds.follow`, `rounds.upload_of`, `rounds.settle_ue`, `memory.evict`), on a copy of what an
instance shows. So there is no second model of a round. Only what comes after it is estimated.

An estimate replays only the UEs that a change concerns. For the others the round is known, and so
is the worth of their later inferences, unless memory keeps other layers of theirs.

Cost: an estimate takes one or two simulations. If uploads change, it also takes O(N L) for the
memory, and up to O(menu) simulations for every UE whose residency changes. A sweep of the search
makes O(N^2 + N x menu) estimates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.compiling import compiled, inner, lean, lean_inner
from mjoa_gym.model.energy import IDLE, TRANSMIT, counted, judge_outline, prefetch_j
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.instance import Packed, packed_link, packed_prices
from mjoa_gym.model.link import Link, seconds_for
from mjoa_gym.model.objective import MISSING, cost, late
from mjoa_gym.model.reference import by_reference
from mjoa_gym.world import memory
from mjoa_gym.world.rounds import (
    NOTHING,
    SENT,
    Decision,
    Room,
    State,
    follow,
    load_ue,
    scratch_in,
    settle_ue,
    upload_of,
)
from mjoa_gym.world.tables import Tables, inference_with

PARTS = (0.5, 0.15)
"""Parts of a UE's share that are offered to another UE."""
SWEEPS = 6
"""The most sweeps of the search."""
GAIN = 1e-5
"""The least relative gain for which the decision changes."""
NOW, LATER = range(2)
"""The residencies that are valued: after this round, and when all marked layers have been
uploaded."""
UP, MESSAGE = Link._fields.index("up"), Link._fields.index("message")
TURN, CHANGED, FIRST, BEST = range(4)
"""The turns so far, and those up to the last change; the objective at first, and now."""
EVERYONE = np.int64(-1)
"""In place of the index of a UE: the decision may have changed for all UEs."""


class RoundSetting(NamedTuple):
    """What the search does not change: the number of the upload mode, the clock and the memory.

    Every UE has its own row of layers for the inferences. If parameters are `common` to UEs, the
    rows are combined before anything is dropped (`Prospect.row_of`).
    """

    mode: int
    period_s: float
    server_memory_bytes: float
    common: int  # 0 or 1 as in a scenario's constants: Numba would compile again for a bool
    retain: int
    share_parameters: bool = False


@by_reference
class Forecast(NamedTuple):
    """What follows from a decision for every UE, in this round and after it.

    The UEs' rows of memory come first. The rows of networks that no UE runs follow.
    """

    seconds: NDArray[np.float64]  # (N,) of this round's inferences
    counts: NDArray[np.float64]  # (N,) their costs before the weights, prefetches included
    carried: NDArray[np.float64]  # (2, R, L) residencies (`NOW`, `LATER`) if nothing is dropped
    idle: NDArray[np.int32]  # (R, L) rounds since each layer was used, at the end of this one
    wait: NDArray[np.float64]  # (N,) rounds from `NOW` to `LATER`
    retained: NDArray[np.int64]  # (N,) the rows of the layers that are dropped last
    kept: NDArray[np.float64]  # (2, R, L) residencies that memory allows, in the rows of `row_of`
    worth: NDArray[np.float64]  # (2, N) cost before its weight of an inference with them
    valued: NDArray[np.bool_]  # (2, N) whether this cost is known: not if it has no weight


def new_forecast(n_ues: int, resident: NDArray[np.float64], idle: NDArray[np.int32]) -> Forecast:
    """Allocate a forecast for N UEs.

    `resident` and `idle` (R, L) are the state of memory. The forecast keeps it for networks that no
    UE runs.
    """
    return Forecast(
        np.zeros(n_ues),
        np.zeros(n_ues),
        np.stack([resident, resident]),
        (idle + (resident > 0)).astype(np.int32),
        np.zeros(n_ues),
        np.full(n_ues, NOTHING),
        np.zeros((2, *resident.shape)),
        np.zeros((2, n_ues)),
        np.zeros((2, n_ues), np.bool_),
    )


@by_reference
class Prospect(NamedTuple):
    """One environment's round, and what is assumed about the rounds after it."""

    tables: Tables  # of R networks: one for each UE, and those that none of them runs
    setting: RoundSetting
    packed: Packed  # the UEs' links in this round
    links: NDArray[np.float64]  # (N, 4) the UEs' links in later rounds, as in `Link`
    row_of: NDArray[np.int64]
    """(R,) the row of memory of each network. If parameters are common to UEs, it is the first row
    with the same network."""
    resident: NDArray[np.float64]  # (R, L) at the start of the round
    idle: NDArray[np.int32]  # (R, L) at the start of the round
    decision: Decision
    """The answer, which the search changes. UE i's placement is one of the rows from `first[i]` up
    to but not including `first[i] + placements[i]`, and its prefetch one of those up to
    `first[i + 1]`."""
    first: NDArray[np.int64]  # (N + 1,)
    placements: NDArray[np.int64]  # (N,)
    rounds_ahead: float
    """The number of rounds for which a UE is expected to stay after this one, times the weight of
    such a round against this one."""
    known: Forecast  # of the present decision
    trial: Forecast  # of a decision that is tried; otherwise the same as `known`
    touched: NDArray[np.bool_]  # (N,) the UEs whose rounds may differ between these two
    state: State  # of the one environment; its residency and idle rounds are the trial's
    least: NDArray[np.float64]  # (rows,) costs of placements in later rounds, all resident
    least_of: NDArray[np.float64]  # (N,) the least of these for each UE
    guess: NDArray[np.int64]  # (N,) the placements that were fastest last time
    kept_idle: NDArray[np.int32]  # (R, L) `Forecast.idle` in the rows of `row_of`: a work array
    changed: NDArray[np.bool_]  # (2, R) whether `kept` differs from what is known: a work array
    more_bytes: NDArray[np.float64]  # (2, R) see `gained`: a work array
    later_bytes: NDArray[np.float64]  # (L,) missing in a later round: a work array
    progress: NDArray[np.float64]  # (4,) how far the search is: `TURN`, `CHANGED`, `FIRST`, `BEST`
    room: Room


@lean_inner
def copy(source, target):
    """Copy a row."""
    for k in range(len(source)):
        target[k] = source[k]


@lean_inner
def same(one, other):
    """Whether two rows are equal; without an early exit, so that it is compiled to vectors."""
    different = 0
    for k in range(len(one)):
        different += one[k] != other[k]
    return different == 0


@lean_inner
def link_under(packed, decision, i):
    """UE i's link with the shares of the decision."""
    return packed_link(packed, i, decision.bandwidth_share[0, i], decision.compute_share[0, i])


@njit(inline="always")
def later_in(prospect, i, resident):
    """UE i's inference in a later round with the fractions `resident` (L,), and its link."""
    tables, link, missing_bytes = prospect.tables, prospect.links[i], prospect.later_bytes
    parameter_bytes = tables.parameter_bytes[i]
    for layer in range(len(resident)):
        missing_bytes[layer] = parameter_bytes[layer] * (1.0 - resident[layer])
    ue_s, mode = prospect.room.ue_s[i], prospect.setting.mode
    inference = inference_with(tables, i, ue_s, missing_bytes, mode)
    return inference, Link(link[0], link[1], link[2], link[3])


@njit(inline="always")
def later_counts(prospect, i, outline, inference, link):
    """The cost of UE i's inference in a later round, in seconds before its weight.

    `outline` is that of the placement.
    """
    prices = packed_prices(prospect.packed, i)
    return judge_outline(outline, inference, prices, link, scratch_in(prospect.room, i))


@inner
def set_least(prospect):
    """Write the costs of all placements in later rounds with everything resident.

    Before that, put every UE's seconds and missing bytes into the room, where they stay.
    """
    outlines, least = prospect.decision.outlines, prospect.least
    everything = np.ones(prospect.resident.shape[1])
    for i in range(len(prospect.placements)):
        copy(prospect.resident[i], prospect.state.resident[0, i])
        load_ue(prospect.room, prospect.tables, prospect.setting, prospect.state, 0, i)
        inference, link = later_in(prospect, i, everything)
        first = fastest = prospect.first[i]
        for row in range(first, first + prospect.placements[i]):
            least[row] = later_counts(prospect, i, outlines[row], inference, link)
            if least[row] < least[fastest]:
                fastest = row
        prospect.guess[i], prospect.least_of[i] = fastest, least[fastest]


@lean_inner
def best_later(prospect, i, resident):
    """The cost of UE i's best placement in a later round with the fractions `resident` (L,).

    The cost is in seconds, before the weight. Placements are left out that cost more than the best
    so far even with everything resident.
    """
    inference, link = later_in(prospect, i, resident)
    first, best = prospect.first[i], np.inf
    guess = fastest = prospect.guess[i]
    for turn in range(prospect.placements[i] + 1):  # the guess comes first
        row = guess if turn == 0 else first + turn - 1
        if prospect.least[row] < best:
            outline = prospect.decision.outlines[row]
            seconds = later_counts(prospect, i, outline, inference, link)
            if seconds < best:
                best, fastest = seconds, row
    prospect.guess[i] = fastest
    return best


@lean_inner
def begin_ue(prospect, i):
    """Replay UE i's inference of this round."""
    state, decision = prospect.state, prospect.decision
    prospect.touched[i] = True
    copy(prospect.resident[i], state.resident[0, i])
    copy(prospect.idle[i], state.idle[0, i])
    prospect.trial.retained[i] = decision.retain_of[0, i]
    link = link_under(prospect.packed, decision, i)
    seconds, inference = follow(
        prospect.room, prospect.tables, prospect.setting, state, decision, link, 0, i
    )
    prices, outline = (
        packed_prices(prospect.packed, i),
        decision.outlines[decision.placement_of[0, i]],
    )
    counts = counted(prices, outline, inference, link, seconds) + late(prices, seconds)
    prospect.trial.seconds[i], prospect.trial.counts[i] = seconds, counts


@lean_inner
def end_ue(prospect, i, round_s):
    """Replay what UE i uploads in this round, and note what is there once all marked layers are.

    Until then, the whole uplink share counts as idle, because a later inference needs little of it.
    """
    decision, tables, trial = prospect.decision, prospect.tables, prospect.trial
    link = link_under(prospect.packed, decision, i)
    room, setting, state = prospect.room, prospect.setting, prospect.state
    inference = upload_of(room, tables, setting, state, decision, link, 0, i, round_s)
    if not prospect.packed.free:
        outline = decision.outlines[decision.placement_of[0, i]]
        prices, sent = prospect.packed.prices[i], room.rows[i, SENT]
        trial.counts[i] += prefetch_j(prices, outline, inference, link, sent)
    settle_ue(room, tables, state, decision, i, 0, i)
    marked = decision.placements[decision.prefetch_of[0, i]]
    missing = 0.0
    for layer in range(len(marked)):
        there = trial.carried[NOW, i, layer]
        if marked[layer]:
            missing += tables.parameter_bytes[i, layer] * (1.0 - there)
            there = 1.0
        trial.carried[LATER, i, layer] = there
    trial.wait[i] = 0.0
    if missing > 0.0:
        seconds = seconds_for(missing, prospect.links[i, UP])
        trial.wait[i] = seconds / prospect.setting.period_s


@lean_inner
def length(seconds, period_s):
    """The length in seconds of a round whose inferences take `seconds` (N,)."""
    round_s = period_s
    for own in seconds:
        round_s = max(round_s, own)
    return round_s


@lean_inner
def least_total(prospect):
    """The `total` if everything were resident in the rounds to come."""
    weighted = 0.0
    for i in range(len(prospect.least_of)):
        counts = prospect.trial.counts[i] + prospect.rounds_ahead * prospect.least_of[i]
        weighted += cost(prospect.state.population.weight[0, i], counts)
    return weighted


@lean
def replay(prospect, i, j, limit):
    """Play the decision, and return the length of the round; the trial gets times and residencies.

    The decision differs from the known one in UEs i and j only, or in all UEs if i is `EVERYONE`.
    Other UEs are replayed if the length changes and they upload something else in a round of that
    length. The result is infinite if an inference never ends, or if the inferences alone show that
    the objective is not below the limit. The residencies have no meaning then.
    """
    trial, n_ues, period_s = prospect.trial, len(prospect.placements), prospect.setting.period_s
    before = length(trial.seconds, period_s)
    for k in range(n_ues):
        if i == EVERYONE or k in (i, j):
            begin_ue(prospect, k)
    round_s = length(trial.seconds, period_s)
    longer = round_s > before  # in a shorter one, other UEs may spend less energy on uploads
    if i != EVERYONE and (longer or round_s == before) and least_total(prospect) >= limit:
        return np.inf
    for k in range(n_ues if round_s < np.inf else 0):
        if not prospect.touched[k]:
            if round_s == before or (longer and trial.wait[k] == 0.0):
                continue  # in a longer round, nobody uploads less
            begin_ue(prospect, k)
        end_ue(prospect, k, round_s)
    return round_s


@lean_inner
def same_uploads(known, trial, touched):
    """Whether two forecasts agree on what the touched UEs upload and retain."""
    for i in range(len(touched)):
        if touched[i] and not (
            trial.retained[i] == known.retained[i]
            and same(trial.carried[NOW, i], known.carried[NOW, i])
            and same(trial.carried[LATER, i], known.carried[LATER, i])
            and same(trial.idle[i], known.idle[i])
        ):
            return False
    return True


@lean_inner
def bring_together(carried, idle, row_of, kept, kept_idle):
    """Write what the rows (R, L) have together into the rows of memory.

    These get the most that any row has of each layer, and the fewest idle rounds of the rows that
    have any of it.
    """
    for row in range(len(row_of)):
        there = row_of[row]
        if there == row:
            copy(carried[row], kept[row])
            copy(idle[row], kept_idle[row])
            continue
        most, fewest, own, own_idle = kept[there], kept_idle[there], carried[row], idle[row]
        for layer in range(len(own)):
            newer = (own[layer] > 0.0) & ((most[layer] <= 0.0) | (own_idle[layer] < fewest[layer]))
            fewest[layer] = own_idle[layer] if newer else fewest[layer]
            most[layer] = max(most[layer], own[layer])


@lean_inner
def give_to_owners(kept, idle, tables):
    """Do the same for layers that several networks have in common; in place.

    The owner of a layer gets the most, and the fewest idle rounds. Then all rows with the layer
    repeat what the owner has.
    """
    for row in range(len(kept)):
        for layer in range(tables.n_layers[row] if tables.borrows[row] else 0):
            there, own = memory.owner_of(tables, row, layer)
            if kept[row, layer] > 0.0:
                if kept[there, own] <= 0.0 or idle[row, layer] < idle[there, own]:
                    idle[there, own] = idle[row, layer]
                kept[there, own] = max(kept[there, own], kept[row, layer])
    memory.repeat(kept, idle, tables)


@lean
def drop(prospect):
    """Write what memory keeps of the trial's residencies."""
    trial, tables, setting = prospect.trial, prospect.tables, prospect.setting
    dnn, placements = prospect.state.population.dnn[0], prospect.decision.placements
    idle, row_of = prospect.kept_idle, prospect.row_of
    for when in range(2):
        kept = trial.kept[when]
        bring_together(trial.carried[when], trial.idle, row_of, kept, idle)
        if setting.common:
            give_to_owners(kept, idle, tables)
        if setting.retain:
            for i in range(len(trial.retained)):
                if trial.retained[i] != NOTHING:
                    marked = placements[trial.retained[i]]
                    memory.retain(row_of[i], row_of[i], marked, tables, setting.common, idle)
        limit, of_rows = setting.server_memory_bytes, prospect.room.of_rows
        memory.evict(kept, idle, dnn, tables, setting.common, limit, of_rows)


@lean_inner
def rounds_with(when, wait, rounds_ahead):
    """The number of rounds in which a UE will have the residency `when`, times their weight."""
    soon = min(wait, rounds_ahead)
    return soon if when == NOW else rounds_ahead - soon


@lean_inner
def total(trial, weight, rounds_ahead):
    """The weighted seconds of this round and of those to come."""
    weighted = 0.0
    for i in range(len(trial.seconds)):
        ahead_s = rounds_with(NOW, trial.wait[i], rounds_ahead) * trial.worth[NOW, i]
        ahead_s += rounds_with(LATER, trial.wait[i], rounds_ahead) * trial.worth[LATER, i]
        weighted += cost(weight[i], trial.counts[i] + ahead_s)
    return weighted


@lean_inner
def gained(before, now, parameter_bytes):
    """The bytes that are resident `now` (L,) in addition to those `before` (L,)."""
    more = 0.0
    for layer in range(len(now)):
        more += max(0.0, now[layer] - before[layer]) * parameter_bytes[layer]
    return more


@lean_inner
def n_gained(before, now):
    """The number of layers whose resident fraction is larger `now` (L,) than `before` (L,)."""
    more = 0
    for layer in range(len(now)):
        more += now[layer] > before[layer]
    return more


@lean_inner
def bound(prospect, there):
    """Write lower bounds into the trial's worth if at most `there` (2, R, L) is resident.

    Where just what is known is resident, the worth is known. Otherwise, one bound is the worth with
    everything resident. Another is the known worth, less the time and the price of uploading the
    bytes that are resident in addition, and less the price of a missed deadline. (On networks that
    are not chains, pre-emption allows rare exceptions. A good change may then be missed.)
    """
    known, trial = prospect.known, prospect.trial
    changed, more_bytes = prospect.changed, prospect.more_bytes
    for row in range(len(prospect.least_of)):
        if prospect.row_of[row] == row:
            sizes = prospect.tables.parameter_bytes[row]
            for when in range(2):
                before, now = known.kept[when, row], there[when, row]
                changed[when, row] = not same(before, now)
                if changed[when, row]:
                    more_bytes[when, row] = gained(before, now, sizes)
    for i in range(len(prospect.least_of)):
        row, own = prospect.row_of[i], prospect.packed.prices[i]
        for when in range(2):
            worth = 0.0
            if rounds_with(when, trial.wait[i], prospect.rounds_ahead) > 0.0:
                worth = known.worth[when, i]
                if not known.valued[when, i]:
                    worth = prospect.least_of[i]
                elif changed[when, row]:
                    saved_s = seconds_for(more_bytes[when, row], prospect.links[i, UP])
                    if prospect.setting.mode == Upload.SERIAL:  # what must be sent is waited for
                        layers = n_gained(known.kept[when, row], there[when, row])
                        saved_s += 2.0 * layers * prospect.links[i, MESSAGE]
                    saved_s *= 1.0 + own[IDLE] + own[TRANSMIT]
                    worth = max(worth - saved_s - own[MISSING], prospect.least_of[i])
            trial.worth[when, i] = worth


@njit(inline="always")
def estimate(prospect, limit):
    """Estimate later inferences with what the trial keeps, and return the `total`.

    The estimate stops as soon as the total cannot be below the limit.
    """
    known, trial, ahead = prospect.known, prospect.trial, prospect.rounds_ahead
    weight = prospect.state.population.weight[0]
    now = total(trial, weight, ahead)
    for i in range(len(weight)):
        row = prospect.row_of[i]
        for when in range(2):
            there = trial.kept[when, row]
            valued = trial.valued[when, i] = rounds_with(when, trial.wait[i], ahead) != 0.0
            if not valued or now >= limit:
                continue
            if prospect.changed[when, row] or not known.valued[when, i]:
                if when == LATER and trial.valued[NOW, i] and same(there, trial.kept[NOW, row]):
                    trial.worth[LATER, i] = trial.worth[NOW, i]
                else:
                    trial.worth[when, i] = best_later(prospect, i, there)
                now = total(trial, weight, ahead)
    return now


@njit(inline="always")
def objective(prospect, i, j, limit):
    """The weighted seconds of this round and, estimated, of those to come.

    If they are not below the limit, the result is some number that is not below it either. The
    decision differs from the known one in UEs i and j only, or in all UEs if i is `EVERYONE`. The
    trial becomes its forecast.
    """
    known, trial, ahead = prospect.known, prospect.trial, prospect.rounds_ahead
    weight = prospect.state.population.weight[0]
    now = replay(prospect, i, j, limit)
    if now < np.inf:
        if same_uploads(known, trial, prospect.touched):
            copy(known.worth[NOW], trial.worth[NOW])
            copy(known.worth[LATER], trial.worth[LATER])
            now = total(trial, weight, ahead)
        else:
            if not prospect.setting.common:  # otherwise the uploads of other UEs count, too
                bound(prospect, trial.carried)
                now = total(trial, weight, ahead)
            if now < limit or prospect.setting.common:
                drop(prospect)
                bound(prospect, trial.kept)
                now = estimate(prospect, limit)
    return now


@lean_inner
def copy_rounds(touched, source, target):
    """Copy the rounds of all touched UEs from one forecast to the other.

    No UE is touched afterwards.
    """
    for i in range(len(touched)):
        if touched[i]:
            target.seconds[i], target.wait[i] = source.seconds[i], source.wait[i]
            target.counts[i], target.retained[i] = source.counts[i], source.retained[i]
            copy(source.idle[i], target.idle[i])
            for when in range(2):
                copy(source.carried[when, i], target.carried[when, i])
            touched[i] = False


@lean_inner
def accepted(prospect, i, j, best):
    """Accept the decision if it is better than `best`; return the objective, or else `best`.

    An accepted decision becomes the known one. The decision differs from the known one in UEs i and
    j only, or in all UEs if i is `EVERYONE`.
    """
    known, trial = prospect.known, prospect.trial
    limit = best * (1.0 - GAIN)
    now = objective(prospect, i, j, limit)
    if not now < limit:
        copy_rounds(prospect.touched, known, trial)
        return best
    if not same_uploads(known, trial, prospect.touched):
        for when in range(2):
            copy(trial.worth[when], known.worth[when])
            copy(trial.valued[when], known.valued[when])
            for row in range(len(trial.seconds)):
                if prospect.row_of[row] == row:
                    copy(trial.kept[when, row], known.kept[when, row])
    copy_rounds(prospect.touched, trial, known)
    return now


@lean_inner
def choose(prospect, chosen, i, n_rows, other, best):
    """Let UE i take the best of its first `n_rows` rows in `chosen` (1, N); return the objective.

    `chosen` is the decision's `placement_of`, `prefetch_of` or `retain_of`. The shares of UE i and
    of UE `other` may have changed. With these shares alone, the decision is no better.
    """
    kept = chosen[0, i]
    for row in range(prospect.first[i], prospect.first[i] + n_rows):
        if row == kept:
            continue
        chosen[0, i] = row
        now = accepted(prospect, i, other, best)
        if now < best:
            best, kept = now, row
    chosen[0, i] = kept
    return best


@njit(inline="always")
def hand_over(prospect, shares, i, j, part, best):
    """Offer a part of UE i's share (1, N) to UE j; return the objective.

    If UE j had nothing of the resource before, its placement and its prefetch may change as well.
    """
    before_i, before_j = shares[0, i], shares[0, j]
    shares[0, i] -= part * before_i
    shares[0, j] += part * before_i
    now = accepted(prospect, i, j, best)
    if now == best and before_j == 0.0:
        decision = prospect.decision
        if decision.compute_share[0, j] > 0.0 and decision.bandwidth_share[0, j] > 0.0:
            now = choose(prospect, decision.placement_of, j, prospect.placements[j], i, now)
        if now == best and decision.bandwidth_share[0, j] > 0.0:
            rows = prospect.first[j + 1] - prospect.first[j]
            now = choose(prospect, decision.prefetch_of, j, rows, i, now)
    if now == best:
        shares[0, i], shares[0, j] = before_i, before_j
    return now


@njit(inline="always")
def take_turn(prospect, i, kind, best):
    """Let UE i choose (kind 0), or offer its bandwidth (1) or its compute (2) to the others."""
    decision, now = prospect.decision, best
    if kind == 0:
        rows = prospect.first[i + 1] - prospect.first[i]
        now = choose(prospect, decision.prefetch_of, i, rows, i, now)
        now = choose(prospect, decision.placement_of, i, prospect.placements[i], i, now)
        if prospect.setting.retain:
            now = choose(prospect, decision.retain_of, i, rows, i, now)
    else:
        shares = decision.bandwidth_share if kind == 1 else decision.compute_share
        for j in range(len(prospect.placements)):
            for part in PARTS:
                if i != j and shares[0, i] > 0.0:
                    now = hand_over(prospect, shares, i, j, part, now)
    return now


@compiled
def search(prospect, turns):
    """Improve the decision in place, one UE's choice or one transfer of shares at a time.

    In a sweep every UE has three turns: one for its choices, and one for each of its shares. The
    search ends when as many turns have changed nothing, because the next ones would not either.
    Each call takes at most so many turns, and continues where the last one stopped.

    Returns:
        The objective before the first turn, the objective now, and whether the search is over.
    """
    progress, n_ues = prospect.progress, len(prospect.placements)
    sweep = 3 * n_ues
    most = SWEEPS * sweep
    if progress[TURN] == 0.0:
        set_least(prospect)
        progress[FIRST] = progress[BEST] = accepted(prospect, EVERYONE, EVERYONE, np.inf)
    turn = np.int64(progress[TURN]) if progress[BEST] < np.inf else most
    end = min(most, turn + turns)
    while turn < end:
        best = take_turn(prospect, turn % n_ues, turn % sweep // n_ues, progress[BEST])
        turn += 1
        if best < progress[BEST]:
            progress[BEST], progress[CHANGED] = best, turn
        elif turn - progress[CHANGED] >= sweep:
            turn = most
    progress[TURN] = turn
    return progress[FIRST], progress[BEST], turn == most
