"""The common part of the views that bid for shares alone: placements follow from the shares.

In the best plan of a round, every UE's placement is the best one for the UE's shares, whatever the
other UEs do. So a learner can leave the placements to the environment, which simulates the entries
of a UE's menu and takes the one that costs least. Such a view cannot express placements that are
not on the menu, shares between two levels, or, where parameters persist, placements that pay off
only in later rounds.

Cost: one simulation per UE and entry, and one more for UEs that have layers at the edge. Where
parameters persist, one more for all UEs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.envs.actions.choices import LEAST, MenuView, answered
from mjoa_gym.envs.actions.targets import aim, counted, new_targets
from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import lean, lean_inner
from mjoa_gym.model.instance import Instance, Plan, expected_rounds
from mjoa_gym.model.link import link_over
from mjoa_gym.model.reference import by_reference
from mjoa_gym.world.batch import in_parts
from mjoa_gym.world.rounds import (
    NOTHING,
    Decision,
    State,
    channel_in,
    inference_in,
    load_ue,
    local_cost,
    new_room,
    scratch_in,
)
from mjoa_gym.world.scenario import Scenario

GREATEST_BID = 2.0**1.5
"""A bid is 0, or a factor from the reciprocal of this number to this number."""


@by_reference
class Bids(NamedTuple):
    """The UEs' bids: factors >= 0 on what they would cost all-local; each array is (E, N)."""

    bandwidth: NDArray[np.float64]
    compute: NDArray[np.float64]


class SharesView(MenuView):
    """Each UE bids for shares, and takes the entry of its menu that costs least at its shares.

    A bid is a factor on what the UE's inference would cost all-local: with equal factors, shares
    are proportional to these costs. A share is a bid over the sum of all bids. UEs that then need
    nothing give their shares to the other UEs, which choose again at their new shares.

    Where parameters persist, each UE has a *target*, an entry of its menu, and also uploads the
    layers that the target places at the edge. Together the targets fit into the server's memory,
    and they are the best ones to keep there at the first shares (see `targets`). If the scenario
    sets `retain`, the server drops their layers last.
    """

    observation = "outlook"

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        ahead = [expected_rounds(n, scenario.departure_probability) for n in range(scenario.rounds)]
        self.ahead = np.array([*ahead[::-1], 0.0])  # the rounds ahead, by the number of the round

    def respond(self, bids: Bids, state: State, which: NDArray[np.bool_], threads: int) -> Decision:
        """Return the decisions that follow from bids, for the environments of `which` (E,)."""
        scenario, shape = self.scenario, state.population.dnn.shape
        decision = Decision(
            self.placements,
            self.outlines,
            placement_of=np.zeros(shape, np.int64),
            prefetch_of=np.full(shape, NOTHING),
            retain_of=np.full(shape, NOTHING),
            bandwidth_share=np.zeros(shape),
            compute_share=np.zeros(shape),
        )

        ahead = self.ahead[state.round]

        def part(first: int, last: int) -> None:
            room = new_room(scenario.n_ues, scenario.tables.width)
            targets = new_targets(scenario.n_ues, self.entries)
            _respond(
                decision[2:], room, targets, bids, state, scenario.tables, scenario.constants,
                self.menus, self.persists, ahead, which, first, last,
            )  # fmt: skip

        in_parts(part, len(which), threads)
        return decision

    def bids_of(self, plan: Plan, instance: Instance | None) -> Bids:
        """Return the bids, arrays of shape (N,), that come nearest to a plan; 0 stays 0.

        Raises:
            ValueError: Without an instance, or if the plan does not fit it.
        """
        costs = answered(plan, instance).local_cost
        return Bids(plan.bandwidth_share / costs, plan.compute_share / costs)


@lean
def _respond(
    decided, room, targets, bids, state, tables, numbers, menus, persists, ahead, which, first, last
):
    """Fill in the arrays (E, N) of a decision in the environments of `which` (E,)."""
    constants = numbers[0]
    placement_of, prefetch_of, _, bandwidth, compute = decided
    for e in range(first, last):
        if not which[e]:
            continue
        for i in range(bandwidth.shape[1]):
            local_s = load_ue(room, tables, constants, state, e, i)
            local = local_cost(tables, constants, state.population, local_s, e, i)
            bandwidth[e, i] = bids.bandwidth[e, i] * local
            compute[e, i] = bids.compute[e, i] * local
        _share(bandwidth[e])
        _share(compute[e])
        for i in range(bandwidth.shape[1]):
            _place(decided, room, state, tables, constants, menus, e, i)
        if persists:
            aim(decided, room, targets, state, tables, constants, menus, ahead, e)
        for i in range(bandwidth.shape[1]):
            if placement_of[e, i] % menus.entries == 0:
                compute[e, i] = 0.0
                if prefetch_of[e, i] == NOTHING:
                    bandwidth[e, i] = 0.0
        _share(bandwidth[e])
        _share(compute[e])
        for i in range(bandwidth.shape[1]):
            if compute[e, i] > 0.0:  # its shares grew, so it still has layers at the edge
                _place(decided, room, state, tables, constants, menus, e, i)


@njit(inline="always")
def _share(bids):
    """Turn bids (N,) into shares."""
    total = 0.0
    for bid in bids:
        total += bid
    for i in range(len(bids)):
        bids[i] /= max(total, LEAST)


@lean_inner
def _place(decided, room, state, tables, constants, menus, e, i):
    """Choose UE i's placement for its shares in the decision."""
    placement_of, _, _, bandwidth, compute = decided
    people = state.population
    link = link_over(channel_in(people, constants, e, i), bandwidth[e, i], compute[e, i])
    inference = inference_in(room, tables, constants, people.dnn[e, i], i)
    row, _ = cheapest(inference, link, False, room, people, tables, constants, menus, e, i)
    placement_of[e, i] = row


@lean_inner
def cheapest(inference, link, is_target, room, people, tables, constants, menus, e, i):
    """Return the row that costs UE i least at its link, and its seconds.

    All-local is preferred among equals.
    """
    d, power, scratch = people.dnn[e, i], tables.power[people.device[e, i]], scratch_in(room, i)
    first = best = d * menus.entries
    least = best_s = np.inf
    for row in range(first, first + menus.sizes[d]):
        if is_target and not menus.fits[row]:
            continue
        outline = menus.outlines[row]
        seconds = kernel.follow(outline, inference, link, scratch)[1]
        counts_s = counted(seconds, outline, inference, link, power, people, constants, e, i)
        if counts_s < least:
            best, least, best_s = row, counts_s, seconds
    return best, best_s
