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
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.instance import Instance, Packed, Plan, job_of, latency_of, link_of
from mjoa_gym.kernel import new_scratch
from mjoa_gym.planners.ara import ROUNDS, allocate
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
ADAPTATIONS, ADAPT_ROUNDS = 3, 4
"""How often UEs adapt to a move, and rounds of ARA each time."""
GAIN = 1e-6
"""Smallest relative improvement worth a change."""


class Menus(NamedTuple):
    """Placements to choose from, per group of UEs that run the same network.

    Attributes:
        group: (N,) the group of each UE.
        first: (groups,) offset of the group's menu in `sides`.
        size: (groups,) number of placements.
        sides: The placements one after the other, each of the group's number of layers.
    """

    group: NDArray[np.int64]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    sides: NDArray[np.int8]


class State(NamedTuple):
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
            link = link_of(packed, i, min(1.0, shares[i, 0]), min(1.0, shares[i, 1]))
            placement = placements[packed.first[i] : packed.first[i + 1]]
            best_partition(job_of(packed, i), link, packed.mode, width, placement)
    return placements


@njit(cache=True, nogil=True)
def priced(packed, i, placement, beta, phi, prices, scratch):
    """Weighted latency plus the price of the shares."""
    seconds = latency_of(packed, i, placement, beta, phi, scratch)
    return packed.weight[i] * seconds + prices[0] * beta + prices[1] * phi


@njit(cache=True, nogil=True)
def cheapest_shares(packed, i, placement, start, prices, scratch):
    """Shares with about the least priced latency, by a pattern search on a logarithmic scale.

    Returns:
        The priced latency, the bandwidth share, the compute share.
    """
    beta, phi = min(1.0, start[0]), min(1.0, start[1])
    best = priced(packed, i, placement, beta, phi, prices, scratch)
    for factor in (2.0, 1.25):
        for _ in range(8):
            improved = False
            for db, dp in ((1.0, factor), (1.0, 1.0 / factor), (factor, 1.0), (1.0 / factor, 1.0)):
                b, p = min(1.0, beta * db), min(1.0, phi * dp)
                value = priced(packed, i, placement, b, p, prices, scratch)
                if value < best:
                    best, beta, phi, improved = value, b, p, True
            if not improved:
                break
    return best, beta, phi


@njit(cache=True, nogil=True)
def respond(packed, menus, placements, shares, prices, new_placements, new_shares):
    """Every UE's best choice from its menu at the given prices.

    Args:
        packed: The instance.
        menus: To choose from.
        placements: Concatenated, as they are now.
        shares: (N, 2) as they are now.
        prices: Of bandwidth and compute.
        new_placements: Overwritten with the choices.
        new_shares: (N, 2) overwritten with the shares that go with them.

    Returns:
        (N,) how much less each UE's priced latency would be.
    """
    n = len(packed.weight)
    scratch = new_scratch(np.max(np.diff(packed.first)))
    gain = np.zeros(n)
    users = max(1, np.sum(shares[:, 0] > 0.0))
    for i in range(n):
        a, b = packed.first[i], packed.first[i + 1]
        local = packed.weight[i] * packed.local_s[i]
        now, start = local, np.full(2, 1.0 / users)
        if shares[i, 0] > 0.0:
            start = shares[i]
            now = priced(packed, i, placements[a:b], shares[i, 0], shares[i, 1], prices, scratch)
        best = local
        new_placements[a:b] = 0
        new_shares[i] = 0.0
        g = menus.group[i]
        for k in range(menus.size[g]):
            at = menus.first[g] + k * (b - a)
            choice = menus.sides[at : at + b - a]
            if packed.weight[i] * latency_of(packed, i, choice, 1.0, 1.0, scratch) >= best:
                continue  # not even with everything
            value, beta, phi = cheapest_shares(packed, i, choice, start, prices, scratch)
            if value < best:
                best = value
                new_placements[a:b] = choice
                new_shares[i, 0], new_shares[i, 1] = beta, phi
        gain[i] = now - best
    return gain


@njit(cache=True, nogil=True)
def adapt(packed, menus, placements, shares, scratch):
    """Give every UE with shares the fastest placement on its menu; whether any changed."""
    changed = False
    for i in range(len(packed.weight)):
        if shares[i, 0] == 0.0 or shares[i, 1] == 0.0:
            continue
        a, b = packed.first[i], packed.first[i + 1]
        best = latency_of(packed, i, placements[a:b], shares[i, 0], shares[i, 1], scratch)
        g = menus.group[i]
        for k in range(menus.size[g]):
            at = menus.first[g] + k * (b - a)
            choice = menus.sides[at : at + b - a]
            seconds = latency_of(packed, i, choice, shares[i, 0], shares[i, 1], scratch)
            if seconds < best * (1.0 - GAIN):
                best, changed = seconds, True
                placements[a:b] = choice
    return changed


@njit(cache=True, nogil=True)
def least_user(packed, placements, shares, but):
    """The UE, apart from one, whose shares lower its weighted latency least; -1 if nobody's do."""
    scratch = new_scratch(np.max(np.diff(packed.first)))
    least, found = np.inf, -1
    for i in range(len(packed.weight)):
        own = placements[packed.first[i] : packed.first[i + 1]]
        if i == but or not np.any(own == 1):
            continue
        seconds = latency_of(packed, i, own, shares[i, 0], shares[i, 1], scratch)
        gain = packed.weight[i] * (packed.local_s[i] - seconds)
        if gain < least:
            least, found = gain, i
    return found


@njit(cache=True, nogil=True)
def promising(packed, menus, i, shares, prices, most, scratch):
    """The placements on UE i's menu with the least priced latency, as indices: at most `most`."""
    a, b = packed.first[i], packed.first[i + 1]
    g = menus.group[i]
    start = np.full(2, 1.0 / len(packed.weight))
    if shares[i, 0] > 0.0:
        start = shares[i]
    cost = np.empty(menus.size[g])
    for k in range(menus.size[g]):
        at = menus.first[g] + k * (b - a)
        choice = menus.sides[at : at + b - a]
        cost[k] = cheapest_shares(packed, i, choice, start, prices, scratch)[0]
    return np.argsort(cost)[:most]


@njit(cache=True, nogil=True)
def best_moves(packed, menus, placements, shares, objective, prices, most):
    """Try placements on every UE's menu, let ARA and the other UEs adapt, keep what helps.

    Each is tried twice, the second time with the UE that gains least from its shares sent home.

    Args:
        packed: The instance.
        menus: To choose from.
        placements: Changed in place.
        shares: (N, 2) changed in place.
        objective: Their weighted sum of latencies.
        prices: Of bandwidth and compute.
        most: How many placements to try per UE, those with the least priced latency.

    Returns:
        The objective, and whether any move improved it.
    """
    scratch = new_scratch(np.max(np.diff(packed.first)))
    moved = False
    for i in range(len(packed.weight)):
        a, b = packed.first[i], packed.first[i + 1]
        g = menus.group[i]
        chosen = promising(packed, menus, i, shares, prices, most, scratch)
        for c in range(-1, len(chosen)):
            k = -1 if c < 0 else chosen[c]
            for evict in range(2):
                trial, trial_shares = placements.copy(), shares.copy()
                trial[a:b] = 0
                if k >= 0:
                    at = menus.first[g] + k * (b - a)
                    trial[a:b] = menus.sides[at : at + b - a]
                if evict == 1:
                    j = least_user(packed, placements, shares, i)
                    if j < 0 or k < 0:
                        continue
                    trial[packed.first[j] : packed.first[j + 1]] = 0
                elif np.array_equal(trial[a:b], placements[a:b]):
                    continue
                if k >= 0 and trial_shares[i, 0] == 0.0:
                    trial_shares[i] = 1.0 / len(packed.weight)
                value = allocate(packed, trial, trial_shares, False, ADAPT_ROUNDS)[0]
                for _ in range(ADAPTATIONS):
                    if not adapt(packed, menus, trial, trial_shares, scratch):
                        break
                    value = min(
                        value, allocate(packed, trial, trial_shares, False, ADAPT_ROUNDS)[0]
                    )
                if value < objective * (1.0 - GAIN):
                    objective, moved = value, True
                    shares[:] = trial_shares
                    placements[:] = trial
    return objective, moved


def mjoa_mu(instance: Instance) -> Plan:
    """The joint plan of MJOA-MU (see the module's docstring)."""
    return state_plan(instance.packed, joint_search(instance))


def state_plan(packed: Packed, state: State) -> Plan:
    """A state as a plan."""
    n = len(packed.weight)
    placements = [state.placements[packed.first[i] : packed.first[i + 1]] for i in range(n)]
    used = np.array([placement.any() for placement in placements])
    return Plan(placements, state.shares[:, 0] * used, state.shares[:, 1] * used)


def joint_search(instance: Instance) -> State:
    """Steps 1 to 5."""
    packed, n = instance.packed, instance.n_ues
    reachable = np.array([min(ue.snr_up, ue.snr_down) > 0 for ue in instance.ues])
    some = n**0.5  # among very many UEs few can be served: 1/N of the server is of use to nobody
    conditions = WIDE if n <= FEW else ((1.0, 1.0), (some, some))
    proposals = [
        propose(packed, np.tile(np.array(c) / n, (n, 1)), reachable, WIDTH) for c in conditions
    ]
    nobody = np.zeros(packed.first[-1], np.int8)
    starts = [min((settled(packed, p) for p in (nobody, *proposals)), key=lambda s: s.objective)]
    if n <= FEW:
        at_most = proposals[WIDE.index(EVERYTHING)]
        alone = np.zeros((n, len(nobody)), np.int8)
        for i in range(n):
            own = slice(packed.first[i], packed.first[i + 1])
            alone[i, own] = at_most[own]
        starts.append(min((settled(packed, p) for p in alone), key=lambda s: s.objective))
    found = [search_from(instance, proposals, reachable, start) for start in starts]
    return min(found, key=lambda s: s.objective)


def search_from(
    instance: Instance,
    proposals: list[NDArray[np.int8]],
    reachable: NDArray[np.bool_],
    state: State,
) -> State:
    """Steps 3 to 5 until none improves; `proposals` grows by those of step 4."""
    packed, n = instance.packed, instance.n_ues
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
) -> State:
    """Placements with ARA's shares, starting from the given ones."""
    shares = np.zeros((len(packed.weight), 2)) if shares is None else shares.copy()
    objective, price_b, price_p = allocate(packed, placements, shares, False, ROUNDS)
    return State(objective, placements, shares, (price_b, price_p))


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


def follow_prices(packed: Packed, menus: Menus, state: State) -> State:
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
