"""The targets: what UEs that only bid for shares upload and retain where parameters persist.

Memory seldom has room for what is best for each UE, so it has a price. Each UE takes the entry of
its menu that minimises

    what it will cost with the entry's parameters on the server + price * their bytes

The price is the lowest one at which all targets fit into the server's memory together. This is the
Lagrangian of a multiple-choice knapsack. Where parameters are shared, UEs with the same network
have one target, and their costs add up.

If energy has a price, sending what an entry still misses costs energy once, while the entry pays in
all later rounds. So this energy counts divided by the number of later rounds for which the UE is
expected to stay, each with the weight `PATIENCE`.

Cost: one simulation per UE and entry, and O(STEPS N M) for the price.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model import energy, kernel, objective
from mjoa_gym.model.compiling import lean_inner
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import link_over, seconds_for
from mjoa_gym.model.reference import by_reference
from mjoa_gym.world.rounds import channel_in, scratch_in
from mjoa_gym.world.tables import inference_with

INSTALLED = int(Upload.PREINSTALLED)
STEPS = 40
"""Halvings of the price's range, on a logarithmic scale."""
SPAN = 1e15
"""The highest price over the lowest price that is tried."""
PATIENCE = 0.3
"""Weight of a later round, as in the far-sighted planner: what is sent may be dropped, and layers
that are sent later are not wasted."""
NO_ROUND = 1e-9
"""The least number of later rounds: in the last round, nothing is worth its energy."""


@by_reference
class Targets(NamedTuple):
    """Work arrays for the targets of N UEs with at most M entries each."""

    costs: NDArray[np.float64]  # (N, M) of later inferences, with their parameters on the server
    leader: NDArray[np.int64]  # (N,) the first UE that has the same target
    entry: NDArray[np.int64]  # (N,) the target, an entry of the menu


def new_targets(n_ues: int, entries: int) -> Targets:
    """Allocate the arrays for N UEs with menus of at most M entries."""
    leader, entry = np.zeros((2, n_ues), np.int64)
    return Targets(np.zeros((n_ues, entries)), leader, entry)


@lean_inner
def aim(decided, room, targets, state, tables, constants, menus, ahead, e):
    """Choose the targets in environment e, and mark their layers to upload and to retain.

    `ahead` (E,) is the number of later rounds for which a UE is expected to stay.

    Where layers can be retained, a UE that has uploaded all of its target uploads what would be
    best for it alone. The server drops those layers first.
    """
    dnn = state.population.dnn[e]
    _foresee(decided, room, targets, state, tables, constants, menus, ahead, e)
    _fit(targets, dnn, menus, constants.server_memory_bytes)
    placement_of, prefetch_of, retain_of, _, _ = decided
    for i in range(len(dnn)):
        first = dnn[i] * menus.entries
        row = first + targets.entry[i]
        later = inference_with(tables, dnn[i], room.ue_s[i], room.missing_bytes[i], INSTALLED)
        placed = menus.outlines[placement_of[e, i]]
        if constants.retain:
            if row > first:
                retain_of[e, i] = row
            if not sends(menus.outlines[row], placed, later):
                row = first + _own_best(targets.costs[i], menus, first, dnn[i])
        if sends(menus.outlines[row], placed, later):
            prefetch_of[e, i] = row


@lean_inner
def _foresee(decided, room, targets, state, tables, constants, menus, ahead, e):
    """Fill in what UEs will cost with each entry, at their shares, and the UEs' leaders.

    A UE without a share of the server is assumed to get an equal share later.
    """
    placement_of, _, _, bandwidth, compute = decided
    people = state.population
    n_ues = people.dnn.shape[1]
    for i in range(n_ues):
        d, power, scratch = people.dnn[e, i], tables.power[people.device[e, i]], scratch_in(room, i)
        server = compute[e, i] if compute[e, i] > 0.0 else 1.0 / n_ues
        link = link_over(channel_in(people, constants, e, i), bandwidth[e, i], server)
        inference = inference_with(tables, d, room.ue_s[i], room.missing_bytes[i], INSTALLED)
        for entry in range(menus.sizes[d]):
            outline = menus.outlines[d * menus.entries + entry]
            seconds = kernel.follow(outline, inference, link, scratch)[1]
            counts_s = counted(seconds, outline, inference, link, power, people, constants, e, i)
            if constants.energy_price_s_per_j > 0.0:
                placed = menus.outlines[placement_of[e, i]]
                busy_s = seconds_for(missing_of(outline, placed, inference), link.up)
                joules = power[energy.TRANSMIT] * busy_s
                counts_s += (
                    constants.energy_price_s_per_j * joules / max(PATIENCE * ahead[e], NO_ROUND)
                )
            targets.costs[i, entry] = objective.cost(people.weight[e, i], counts_s)
        targets.leader[i] = i
        for j in range(i if constants.share_parameters else 0):
            if people.dnn[e, j] == d:
                targets.leader[i] = j
                break


@njit(inline="always")
def counted(seconds, outline, inference, link, power, people, constants, e, i):
    """Return the seconds that UE i's inference counts as, including its energy and deadline."""
    joules, energy_price = 0.0, constants.energy_price_s_per_j
    if energy_price > 0.0:
        joules = energy.inference_j(power, outline, inference, link, seconds)
    return objective.priced(
        seconds, joules, people.deadline_s[e, i], energy_price, constants.miss_price_s
    )


@lean_inner
def _fit(targets, dnn, menus, memory_bytes):
    """Find the lowest price at which the targets fit, and choose them."""
    if _choose(targets, dnn, menus, 0.0) <= memory_bytes:
        return
    high = 0.0
    for i in range(len(dnn)):
        high += targets.costs[i, 0]
    low = high / SPAN  # at the highest price, a byte costs more than any gain
    for _ in range(STEPS):
        price = (low * high) ** 0.5
        if _choose(targets, dnn, menus, price) > memory_bytes:
            low = price
        else:
            high = price
    _choose(targets, dnn, menus, high)


@lean_inner
def _choose(targets, dnn, menus, price):
    """Choose the targets at a price per byte; return their total bytes."""
    total = 0.0
    for i in range(len(dnn)):
        if targets.leader[i] < i:
            targets.entry[i] = targets.entry[targets.leader[i]]
            continue
        least, first = np.inf, dnn[i] * menus.entries
        for entry in range(menus.sizes[dnn[i]]):
            value = price * menus.bytes[first + entry]
            for j in range(i, len(dnn)):
                if targets.leader[j] == i:
                    value += targets.costs[j, entry]
            if value < least:
                least, targets.entry[i] = value, entry
        total += menus.bytes[first + targets.entry[i]]
    return total


@lean_inner
def _own_best(costs, menus, first, d):
    """Return the entry that will cost least among those that fit into memory."""
    best = 0
    for entry in range(menus.sizes[d]):
        if costs[entry] < costs[best] and menus.fits[first + entry]:
            best = entry
    return best


@njit(inline="always")
def sends(target, placement, inference):
    """Return whether a target misses layers that the placement (both outlines) does not upload."""
    return missing_of(target, placement, inference) > 0.0


@njit(inline="always")
def missing_of(target, placement, inference):
    """Return the bytes that a target misses and the placement (both outlines) does not upload."""
    missing = 0.0
    for layer in range(len(inference.ue_s)):
        if target[layer + 1] & ~placement[layer + 1] & kernel.AT_EDGE:
            missing += inference.missing_bytes[layer]
    return missing
