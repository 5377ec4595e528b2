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

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


def mjoa_mu(instance: Instance) -> Plan:
    """The joint plan of MJOA-MU (see the module's docstring)."""
    return state_plan(instance.packed, joint_search(instance))


def state_plan(packed: Packed, state: JointPlan) -> Plan:
    """A state as a plan."""
    placements = np.split(state.placements, packed.first[1:-1])
    used = np.array([placement.any() for placement in placements])
    return Plan(placements, state.shares[:, 0] * used, state.shares[:, 1] * used)


def best_of(states: Iterable[JointPlan]) -> JointPlan:
    """The first of the states with the least objective."""
    return min(states, key=lambda state: state.objective)


def joint_search(instance: Instance) -> JointPlan:
    """Steps 1 to 5."""
    packed, n = instance.packed, instance.n_ues
    some = n**0.5  # among very many UEs few can be served: 1/N of the server is of use to nobody
    proposals = proposals_at(instance, WIDE if n <= FEW else ((1.0, 1.0), (some, some)))
    nobody = np.zeros(packed.first[-1], np.int8)
    starts = [best_of(settled(packed, p) for p in (nobody, *proposals))]
    if n <= FEW:
        at_most = proposals[WIDE.index(EVERYTHING)]
        whose = np.repeat(np.arange(n), np.diff(packed.first))
        starts.append(best_of(settled(packed, at_most * (whose == i)) for i in range(n)))
    return best_of([search_from(instance, proposals, start) for start in starts])


def search_from(
    instance: Instance, proposals: list[NDArray[np.int8]], state: JointPlan
) -> JointPlan:
    """Steps 3 to 5 until none improves; `proposals` grows by those of step 4."""
    packed, few = instance.packed, instance.n_ues <= FEW
    longest, most_rounds = (LONG_MENU, MOST_ROUNDS) if few else (SHORT_MENU, FEWER_ROUNDS)
    for _ in range(most_rounds):
        before = state.objective
        menus = make_menus(instance, [*proposals, state.placements], longest)
        state = follow_prices(packed, menus, state, most_rounds)
        proposals.append(propose(instance, state.shares))
        state = best_of((state, settled(packed, proposals[-1], state.shares)))
        if few:
            menus = make_menus(instance, [*proposals, state.placements], longest)
            state = with_moves(packed, menus, state, TRIED)
        if not state.objective < before * (1 - GAIN):
            break
    return state


def proposals_at(
    instance: Instance, conditions: Sequence[tuple[float, float]]
) -> list[NDArray[np.int8]]:
    """PBT-DP's placements, concatenated, with everybody at each pair of shares, in units of 1/N."""
    n = instance.n_ues
    return [propose(instance, np.tile(np.array(c) / n, (n, 1))) for c in conditions]


def propose(instance: Instance, shares: NDArray[np.float64]) -> NDArray[np.int8]:
    """PBT-DP for the UEs with shares (N, 2) that reach the server; all-local for the others."""
    packed = instance.packed
    placements = np.zeros(packed.first[-1], np.int8)
    for i, ue in enumerate(instance.ues):
        if ue.reachable and shares[i, 0] > 0:
            link = packed_link(packed, i, min(1.0, shares[i, 0]), min(1.0, shares[i, 1]))
            placement = placements[packed.first[i] : packed.first[i + 1]]
            best_partition(packed_inference(packed, i), link, WIDTH, placement)
    return placements


def settled(
    packed: Packed, placements: NDArray[np.int8], shares: NDArray[np.float64] | None = None
) -> JointPlan:
    """Placements with ARA's shares, starting from the given ones."""
    shares = np.zeros((len(packed.weight), 2)) if shares is None else shares.copy()
    objective, price_b, price_p = allocate(packed, placements, shares, False, ROUNDS)
    return JointPlan(objective, placements, shares, (price_b, price_p))


def make_menus(instance: Instance, proposals: Sequence[NDArray[np.int8]], longest: int) -> Menus:
    """The distinct proposals of all UEs with the same network, the most frequent ones first.

    At most `longest` of them.
    """
    networks = dict.fromkeys(ue.dnn for ue in instance.ues)
    groups = {dnn: g for g, dnn in enumerate(networks)}
    counts: list[Counter[bytes]] = [Counter() for _ in groups]
    for i, ue in enumerate(instance.ues):
        own = slice(*instance.packed.first[i : i + 2])
        sides = (proposal[own].tobytes() for proposal in proposals)
        counts[groups[ue.dnn]].update(each for each in sides if any(each))
    menus = [[sides for sides, _ in count.most_common(longest)] for count in counts]
    joined = [b"".join(menu) for menu in menus]
    return Menus(
        np.array([groups[ue.dnn] for ue in instance.ues], dtype=np.int64),
        np.cumsum([0, *map(len, joined[:-1])], dtype=np.int64),
        np.array([len(menu) for menu in menus], dtype=np.int64),
        np.frombuffer(b"".join(joined), dtype=np.int8),
    )


def follow_prices(packed: Packed, menus: Menus, state: JointPlan, most_rounds: int) -> JointPlan:
    """Step 3, until the prices move nobody."""
    for _ in range(most_rounds):
        choices, shares = np.empty_like(state.placements), np.empty_like(state.shares)
        gain = respond(packed, menus, state.placements, state.shares, state.prices, choices, shares)
        willing = np.argsort(-gain)[: int(np.sum(gain > GAIN * state.objective / len(gain)))]
        before = state
        while len(willing) and state is before:
            trial, trial_shares = state.placements.copy(), state.shares.copy()
            for i in willing:
                own = slice(packed.first[i], packed.first[i + 1])
                trial[own], trial_shares[i] = choices[own], shares[i]
            candidate = settled(packed, trial, trial_shares)
            if candidate.objective < state.objective * (1 - GAIN):
                state = candidate
            willing = willing[: len(willing) // 2]
        if state is before:
            break
    return state


def with_moves(packed: Packed, menus: Menus, state: JointPlan, tried: int) -> JointPlan:
    """Step 5 once; the same state if no move helps."""
    placements, shares = state.placements.copy(), state.shares.copy()
    _, moved = best_moves(packed, menus, placements, shares, state.objective, state.prices, tried)
    return settled(packed, placements, shares) if moved else state
