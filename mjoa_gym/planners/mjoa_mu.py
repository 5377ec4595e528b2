"""MJOA-MU: partition and allocation together, for many UEs.

The idea is the paper's (Yang et al., Computer Networks 231, 2023): by its abstract, PBT-DP
partitions each UE's network, ARA allocates bandwidth and compute, jointly. How the two meet is our
formulation:

1. *Menus*: PBT-DP proposes placements for every UE at a few shares around an equal split. UEs that
   run the same network share their proposals.
2. *Starts*: whichever is best of all-local and the proposals (the same shares for everybody), with
   ARA's shares; up to `FEW` UEs also the best with a single UE at the edge.
3. *Responses*: ARA's marginal latencies are prices of bandwidth and compute. At these prices every
   UE picks from its menu the placement (all-local included) and the shares with the least weighted
   latency plus price. The UEs that gain most change together - all of them, or half of them, a
   quarter, ... until the objective, after ARA, has improved.
4. *Refinement*: PBT-DP proposes again at every UE's own shares.
5. *Moves* (up to `FEW` UEs): the most promising placements on every UE's menu, at these prices,
   are tried, also with the UE that gains least from its shares sent home; ARA divides anew, the
   other UEs take what is then best for them from their menus, and so on a few times.

Steps 3 to 5 repeat until none improves, from every start. A change is kept only if the simulator
confirms it, so the plan is never worse than any start, all-local included.

Cost: O(N) calls of PBT-DP and O(N x menu) simulations per round, a few rounds; single moves
O(N^2 x menu) for at most `FEW` UEs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model.instance import Instance, Packed, Plan, packed_inference, packed_link
from mjoa_gym.planners.ara import ROUNDS, allocate
from mjoa_gym.planners.moves import GAIN, Menus, best_moves, respond
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition

FEW = 8
"""Up to this many UEs, menus are wider and single moves are tried."""
EVERYTHING = (FEW, FEW)
WIDE = (
    (1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (2.0, 0.7), (0.7, 2.0), (2.5, 1.5), (1.5, 2.5), EVERYTHING,
    (0.1, 0.1),
)  # fmt: skip
"""Shares, in units of 1/N, at which PBT-DP proposes placements for the menus of few UEs."""
LONG_MENU, SHORT_MENU = 24, 12
"""Most placements on a menu, for few and for many UEs."""
TRIED = 6
"""Placements tried per UE in step 5."""
MOST_ROUNDS, FEWER_ROUNDS = 8, 3
"""Most rounds, for few and for many UEs."""


class JointPlan(NamedTuple):
    """A joint answer and what it is worth."""

    objective: float
    placements: NDArray[np.int8]
    shares: NDArray[np.float64]
    prices: tuple[float, float]


def propose(
    packed: Packed, shares: NDArray[np.float64], active: NDArray[np.bool_], width: int
) -> NDArray[np.int8]:
    """PBT-DP for the active UEs at their shares (N, 2); all-local for the others."""
    placements = np.zeros(packed.first[-1], np.int8)
    for i in range(len(active)):
        if active[i]:
            link = packed_link(packed, i, min(1.0, shares[i, 0]), min(1.0, shares[i, 1]))
            placement = placements[packed.first[i] : packed.first[i + 1]]
            best_partition(packed_inference(packed, i), link, width, placement)
    return placements


def proposals_at(
    instance: Instance, conditions: Sequence[tuple[float, float]]
) -> list[NDArray[np.int8]]:
    """PBT-DP's placements, concatenated, with everybody at each pair of shares, in units of 1/N."""
    packed, n = instance.packed, instance.n_ues
    reachable = np.array([ue.reachable for ue in instance.ues])
    return [propose(packed, np.tile(np.array(c) / n, (n, 1)), reachable, WIDTH) for c in conditions]


def mjoa_mu(instance: Instance) -> Plan:
    """The joint plan of MJOA-MU (see the module's docstring)."""
    return state_plan(instance.packed, joint_search(instance))


def state_plan(packed: Packed, state: JointPlan) -> Plan:
    """A state as a plan."""
    n = len(packed.weight)
    placements = [state.placements[packed.first[i] : packed.first[i + 1]] for i in range(n)]
    used = np.array([placement.any() for placement in placements])
    return Plan(placements, state.shares[:, 0] * used, state.shares[:, 1] * used)


def joint_search(instance: Instance) -> JointPlan:
    """Steps 1 to 5."""
    packed, n = instance.packed, instance.n_ues
    some = n**0.5  # among very many UEs few can be served: 1/N of the server is of use to nobody
    proposals = proposals_at(instance, WIDE if n <= FEW else ((1.0, 1.0), (some, some)))
    nobody = np.zeros(packed.first[-1], np.int8)
    starts = [min((settled(packed, p) for p in (nobody, *proposals)), key=lambda s: s.objective)]
    if n <= FEW:
        at_most = proposals[WIDE.index(EVERYTHING)]
        alone = np.zeros((n, len(nobody)), np.int8)
        for i in range(n):
            own = slice(packed.first[i], packed.first[i + 1])
            alone[i, own] = at_most[own]
        starts.append(min((settled(packed, p) for p in alone), key=lambda s: s.objective))
    found = [search_from(instance, proposals, start) for start in starts]
    return min(found, key=lambda s: s.objective)


def search_from(
    instance: Instance, proposals: list[NDArray[np.int8]], state: JointPlan
) -> JointPlan:
    """Steps 3 to 5 until none improves; `proposals` grows by those of step 4."""
    packed, n = instance.packed, instance.n_ues
    reachable = np.array([ue.reachable for ue in instance.ues])
    longest = LONG_MENU if n <= FEW else SHORT_MENU
    for _ in range(MOST_ROUNDS if n <= FEW else FEWER_ROUNDS):
        before = state.objective
        menus = make_menus(instance, packed, [*proposals, state.placements], longest)
        state = follow_prices(packed, menus, state)
        active = reachable & (state.shares[:, 0] > 0)
        proposals.append(propose(packed, state.shares, active, WIDTH))
        state = min(state, settled(packed, proposals[-1], state.shares), key=lambda s: s.objective)
        if n <= FEW:
            menus = make_menus(instance, packed, [*proposals, state.placements], longest)
            placements, shares = state.placements.copy(), state.shares.copy()
            _, moved = best_moves(
                packed, menus, placements, shares, state.objective, state.prices, TRIED
            )
            if moved:
                state = settled(packed, placements, shares)
        if not state.objective < before * (1 - GAIN):
            break
    return state


def settled(
    packed: Packed, placements: NDArray[np.int8], shares: NDArray[np.float64] | None = None
) -> JointPlan:
    """Placements with ARA's shares, starting from the given ones."""
    shares = np.zeros((len(packed.weight), 2)) if shares is None else shares.copy()
    objective, price_b, price_p = allocate(packed, placements, shares, False, ROUNDS)
    return JointPlan(objective, placements, shares, (price_b, price_p))


def make_menus(
    instance: Instance, packed: Packed, proposals: Sequence[NDArray[np.int8]], longest: int
) -> Menus:
    """The distinct proposals of all UEs with the same network, the most frequent ones first.

    At most `longest` of them.
    """
    groups: dict[DNN, int] = {}
    counts: list[dict[bytes, int]] = []
    group = np.empty(instance.n_ues, np.int64)
    for i, ue in enumerate(instance.ues):
        group[i] = groups.setdefault(ue.dnn, len(groups))
        if group[i] == len(counts):
            counts.append({})
        for proposal in proposals:
            sides = proposal[packed.first[i] : packed.first[i + 1]].tobytes()
            if any(sides):
                counts[group[i]][sides] = counts[group[i]].get(sides, 0) + 1
    chosen = [sorted(count, key=lambda sides: -count[sides])[:longest] for count in counts]
    joined = [b"".join(menu) for menu in chosen]
    first = np.cumsum([0] + [len(menu) for menu in joined[:-1]], dtype=np.int64)
    return Menus(
        group,
        first,
        np.array([len(menu) for menu in chosen], dtype=np.int64),
        np.frombuffer(b"".join(joined), dtype=np.int8),
    )


def follow_prices(packed: Packed, menus: Menus, state: JointPlan) -> JointPlan:
    """Step 3, until the prices move nobody."""
    for _ in range(MOST_ROUNDS if len(state.shares) <= FEW else FEWER_ROUNDS):
        choices, shares = np.empty_like(state.placements), np.empty_like(state.shares)
        gain = respond(packed, menus, state.placements, state.shares, state.prices, choices, shares)
        willing = np.argsort(-gain)[: int(np.sum(gain > GAIN * state.objective / len(gain)))]
        better = None
        while len(willing) and better is None:
            trial, trial_shares = state.placements.copy(), state.shares.copy()
            for i in willing:
                own = slice(packed.first[i], packed.first[i + 1])
                trial[own], trial_shares[i] = choices[own], shares[i]
            candidate = settled(packed, trial, trial_shares)
            if candidate.objective < state.objective * (1 - GAIN):
                better = candidate
            willing = willing[: len(willing) // 2]
        if better is None:
            return state
        state = better
    return state
