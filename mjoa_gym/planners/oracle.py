"""The oracle: exact over shares on a grid, then MJOA-MU's search from there. A yardstick.

Both resources are divided into equal parts (*levels*): `LEVELS` of them, or `PER_UE` for each UE.
For every UE and every pair of levels, PBT-DP gives the best placement and its latency (exactly so
on chains). A dynamic programme over the UEs then picks every UE's pair. Its state is the number of
levels left of each resource. With many UEs, not every number of levels is considered: beyond the
first few, the numbers grow by a factor. The result is then improved. MJOA-MU's search continues
from it, with the placements of the tables besides its own in the portfolio, and tries more changes
before it ends. If MJOA-MU's own plan is better, the oracle returns that.

Cost: O(N x pairs) calls of PBT-DP and O(N x levels^2 x pairs) additions, 400 pairs at most; a
second or two for 5 UEs, ten times that for 50.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.objective import cost
from mjoa_gym.model.reference import reference
from mjoa_gym.planners.anytime import ALL, finished
from mjoa_gym.planners.mjoa_mu import JointSearch
from mjoa_gym.planners.pbt_dp import WIDTH, partition
from mjoa_gym.planners.portfolio import LOCAL, add

LEVELS, PER_UE, MOST_LEVELS = 20, 4, 240
"""The parts of each resource: `LEVELS`, or `PER_UE` per UE if that is more, up to `MOST_LEVELS`."""
FACTOR = 1.25
"""The numbers of levels that are considered grow by this factor if there are more than `LEVELS`."""
ENTRIES, TRIED = 96, 48
"""The most entries per UE, and the changes that are tried before a plan counts as the best."""


def oracle(instance: Instance) -> Plan:
    """Search longer and wider than any other planner here: a yardstick.

    The module's docstring has the method and the cost.
    """
    return finished(OracleSearch(instance))


class OracleSearch:
    """The search for one instance: first MJOA-MU's, then the oracle's own."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._expert = JointSearch(instance)
        self._own = JointSearch(instance, ENTRIES, TRIED)

    def plan(self) -> Plan:
        """The best plan so far."""
        leaders = self._expert.leader, self._own.leader
        return min(leaders, key=lambda search: search.best.objective).plan()

    def steps(self, piece: int = ALL) -> Iterator[None]:
        """Continue the search, as `JointSearch.steps` does."""
        yield from self._expert.steps(piece)
        grid = Grid(self._instance)
        yield from grid.steps()
        choice = np.array([self._offer(grid, i) for i in range(self._instance.n_ues)])
        self._own.keep(self._own.settled(choice, np.inf))
        yield from self._own.steps(piece)

    def _offer(self, grid: Grid, i: int) -> int:
        """Add the placements that suit UE i at many pairs, and the chosen one, to the portfolio.

        Returns:
            The entry of the placement that the grid has chosen for the UE.
        """
        table = grid.placements[i]
        rows = table.reshape(-1, table.shape[-1])
        _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
        frequent = first[np.argsort(-counts, kind="stable")][: ENTRIES // 2]
        entry = LOCAL
        for row in (*frequent, int(np.ravel_multi_index(tuple(grid.chosen[i]), table.shape[:2]))):
            beta, phi = grid.looked_at[list(divmod(row, len(table)))] / grid.n_levels
            entry = LOCAL
            if min(beta, phi) > 0.0:
                entry = add(self._own.packed, self._own.portfolio, i, rows[row], beta, phi, LOCAL)
        return entry


class Grid:
    """The best plan with shares on a grid.

    Attributes:
        n_levels: The number of parts into which each resource is divided.
        looked_at: (levels,) the numbers of parts that a UE can have; the first is 0.
        placements: Per UE (levels, levels, L) the best placement at each pair, bandwidth first.
        chosen: (N, 2) each UE's pair in the best plan, as indices into `looked_at`.
    """

    def __init__(self, instance: Instance, n_levels: int | None = None) -> None:
        self._packed = instance.packed
        self.n_levels = n_levels or max(LEVELS, min(PER_UE * instance.n_ues, MOST_LEVELS))
        self.looked_at = levels_up_to(self.n_levels)
        self.placements: list[NDArray[np.int8]] = []
        self.chosen = np.zeros((instance.n_ues, 2), np.int64)

    def steps(self) -> Iterator[None]:
        """Fill the tables, UE by UE and level by level, then choose the pairs."""
        packed, shares = self._packed, self.looked_at / self.n_levels
        n, size = len(packed.weight), len(self.looked_at)
        costs = np.empty((n, size, size))
        for i, n_layers in enumerate(np.diff(packed.first)):
            self.placements.append(np.zeros((size, size, n_layers), np.int8))
            for b in range(size):
                fill_row(packed, i, b, shares, costs[i], self.placements[i])
                yield
        left = self.n_levels + 1
        best, pairs = np.zeros((n + 1, left, left)), np.zeros((n, left, left), np.int16)
        for i in range(n):
            divide(best[i], costs[i], self.looked_at, best[i + 1], pairs[i])
            yield
        b = c = self.n_levels
        for i in reversed(range(n)):
            self.chosen[i] = divmod(int(pairs[i, b, c]), size)
            b, c = np.array([b, c]) - self.looked_at[self.chosen[i]]

    def plan(self) -> Plan:
        """The plan of the chosen placements and shares."""
        sides = [table[b, c] for table, (b, c) in zip(self.placements, self.chosen, strict=True)]
        return Plan(sides, *(self.looked_at[self.chosen] / self.n_levels).T)


def levels_up_to(n_levels: int) -> NDArray[np.int64]:
    """The numbers of levels to consider: all if they are few, otherwise with growing gaps."""
    if n_levels <= LEVELS:
        return np.arange(n_levels + 1)
    levels = [0]
    while levels[-1] < n_levels:
        levels.append(min(n_levels, max(levels[-1] + 1, round(levels[-1] * FACTOR))))
    return np.array(levels)


@njit(cache=True, nogil=True)
def fill_row(packed, i, b, shares, costs, placements):
    """Write UE i's costs and PBT-DP's placements for the bandwidth share with index b.

    Args:
        packed: The instance.
        i: The UE.
        b: The index of the bandwidth share.
        shares: (levels,) the shares of both resources to consider; the first is 0.
        costs: (levels, levels) row b is overwritten.
        placements: (levels, levels, L) row b is overwritten; it must hold zeros before.
    """
    inference = reference(packed_inference(packed, i))
    local = cost(packed.weight[i], packed.local_s[i])
    for c in range(len(shares)):
        costs[b, c] = local
        link = packed_link(packed, i, shares[b], shares[c])
        if link.up < np.inf and link.down < np.inf and link.slowdown < np.inf:
            seconds = partition(inference, link, np.int64(WIDTH), placements[b, c])
            costs[b, c] = min(local, cost(packed.weight[i], seconds))


@njit(cache=True, nogil=True)
def divide(best, costs, looked_at, following, pairs):
    """Divide the resources among one more UE: one step of the dynamic programme.

    Args:
        best: (parts + 1, parts + 1) at [b, c], the least total cost of the UEs so far with b parts
            of bandwidth and c of compute.
        costs: (levels, levels) this UE's cost at each pair of levels.
        looked_at: (levels,) the numbers of parts; the first is 0.
        following: (parts + 1, parts + 1) overwritten with the least total cost with this UE.
        pairs: (parts + 1, parts + 1) overwritten with this UE's pair there: the index of bandwidth
            x levels + the index of compute.
    """
    for b in range(len(best)):
        for c in range(len(best)):
            least, at = np.inf, 0
            for x in range(len(looked_at)):
                if looked_at[x] > b:
                    break
                for y in range(len(looked_at)):
                    if looked_at[y] > c:
                        break
                    value = best[b - looked_at[x], c - looked_at[y]] + costs[x, y]
                    if value < least:
                        least, at = value, x * len(looked_at) + y
            following[b, c] = least
            pairs[b, c] = at
