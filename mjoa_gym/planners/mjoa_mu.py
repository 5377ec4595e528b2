"""MJOA-MU: partition and allocation together, for many UEs.

The idea is the paper's (Yang et al., Computer Networks 231, 2023): by its abstract, PBT-DP
partitions each UE's network and ARA allocates bandwidth and compute, jointly. How the two are
combined is our formulation, the same for any number of UEs:

1. *Proposals*: PBT-DP proposes placements for every UE at a few shares. They make up a portfolio
   (`portfolio`). UEs that run the same network share their proposals, and PBT-DP proposes for them
   in turns.
2. *Starts*: one start is all-local. The others are, for each of these shares, the fastest entry of
   every UE, with ARA's shares. The search begins at the best start.
3. *Prices*: the prices of bandwidth and compute move until the entries that are best for the UEs
   demand just what there is (`pricing.clear`). The prices give a lower bound on the cost of any
   choice from the portfolio.
4. *Changes*: the search begins with the best responses to these prices, and with the best plan so
   far at its own prices. It makes the most promising changes of one or two UEs until none is left
   (`pricing.descend`). ARA then divides the resources again. A change counts only if the simulator
   confirms it.
5. *Refinement*: PBT-DP proposes again, for the UEs that may be served in a better plan, at about
   the shares that each of them would now buy.

Steps 3 to 5 repeat until neither a change nor a new proposal is found. The plan is never worse than
any start, all-local included.

Cost: at first O(N) calls of PBT-DP (a few per network if many UEs run the same one), and in each
round O(UEs that may be served). Everything else is arithmetic on planes, O(N x entries) per round,
except for O(N) simulations per plan that is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model.compiling import compiled
from mjoa_gym.model.instance import Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.kernel import AT_EDGE
from mjoa_gym.model.reference import reference
from mjoa_gym.planners.anytime import ALL, finished
from mjoa_gym.planners.ara import ROUNDS, settle
from mjoa_gym.planners.deadlines import shift
from mjoa_gym.planners.pbt_dp import WIDTH, partition
from mjoa_gym.planners.portfolio import LOCAL, add, fastest, new_portfolio, placements_of
from mjoa_gym.planners.pricing import (
    clear,
    descend,
    neighbours,
    value_all,
    worth_serving,
)

GAIN = 1e-6
"""The least relative improvement that counts."""
ENTRIES = 32
"""The most entries per UE."""
TILTS = EVEN, *_ = (1.0, 1.0), (1.5, 0.6), (0.6, 1.5)
"""Factors on the shares of bandwidth and compute."""
EQUAL, LITTLE = (0.0, EVEN), (0.35, 0.35)
CONDITIONS = (
    (0.5, EVEN), EQUAL, (1.0, EVEN), *product((0.5, 0.0), TILTS[1:]), (0.0, LITTLE),
)  # fmt: skip
HURRIED = (EQUAL, CONDITIONS[0])
"""The conditions under which PBT-DP proposes for a sketch."""
FOR_ALL = 3
"""The number of conditions under which PBT-DP proposes for all UEs, and with a tree. A condition is
a level and a tilt, and stands for the shares N^level / N times the tilt: level 0 is an equal share,
and level 1 is everything. Under the later conditions it proposes only for the UEs that may be
served in a better plan, and without a tree: it then only improves what is known."""
MOVED = 0.1
"""PBT-DP proposes again for a UE if the shares that its best entry is worth have changed by more
than this, relatively."""
PER_NETWORK = 24
"""PBT-DP proposes in turns for UEs with the same network if together they would begin with more
proposals than this."""
CLEARING = 6
"""Turns in which prices are adjusted (`pricing.clear`)."""
TRIED = 8
"""Single changes and pairs that are tried before a plan counts as the best."""
MOST_ROUNDS, MOST_CHANGES = 5, 40
"""The most rounds of steps 3 to 5, and the most improvements in step 4."""


class JointPlan(NamedTuple):
    """A choice from the portfolio, its shares, its objective, and the prices at these shares."""

    objective: float
    choice: NDArray[np.int64]  # (N,) entries
    shares: NDArray[np.float64]  # (N, 2)
    prices: tuple[float, float]


def mjoa_mu(instance: Instance) -> Plan:
    """Plan all UEs jointly with PBT-DP and ARA.

    The module's docstring has the steps and the cost.
    """
    return finished(JointSearch(instance))


def proposals(instance: Instance) -> list[NDArray[np.int8]]:
    """The placements with which the search begins: per UE (entries, L) all-local and PBT-DP's."""
    search = JointSearch(instance)
    for _ in search.begin():
        pass
    entries = map(np.arange, search.portfolio.size)
    return placements_of(search.packed, search.portfolio, entries)


class JointSearch:
    """The search for one instance.

    Attributes:
        packed: The instance as arrays.
        portfolio: The placements to choose from.
        best: The best plan so far.
        prices: The prices from which the search for prices begins.
        sketch: With a budget, a separate quick search that has a plan before this one does.
        sketched: Whether that search is over.
        dual: A lower bound on the cost of any choice from the portfolio (on chains), by the prices
            at which the portfolio is valued.
    """

    def __init__(self, instance: Instance, entries: int = ENTRIES, tried: int = TRIED) -> None:
        self.packed, n = instance.packed, instance.n_ues
        self.portfolio = new_portfolio(self.packed, entries)
        self.best = JointPlan(
            float(np.sum(self.portfolio.value[:, LOCAL])),
            np.zeros(n, np.int64),
            np.zeros((n, 2)),
            (0.0, 0.0),
        )
        self.prices, self.dual, self._tried = (0.0, 0.0), 0.0, tried
        self._miss_price = instance.miss_price_s
        self.sketch: JointSearch | None = None
        self.sketched = False
        self._ring, self._turn, self._turns = rings([ue.dnn for ue in instance.ues])

    def plan(self) -> Plan:
        """The best plan so far."""
        _, choice, shares, _ = self.leader.best
        placements = placements_of(self.packed, self.leader.portfolio, choice)
        return Plan(placements, shares[:, 0], shares[:, 1])

    @property
    def leader(self) -> JointSearch:
        """The search with the best plan so far: this one, or its sketch if that is ahead.

        A sketch that is ahead by rounding only does not count, so that the last plan is mostly the
        one that a search without a budget finds. Rarely, the sketch's is better.
        """
        sketch = self.sketch
        return self if sketch is None or sketch.best.objective >= self.limit else sketch

    def steps(self, piece: int = ALL) -> Iterator[None]:
        """Run steps 1 to 5; `plan` may be better after each yield.

        Args:
            piece: The number of UEs that PBT-DP answers between two yields. If it is not `ALL`, the
                search has a budget: if there is no plan yet, it makes a sketch first.
        """
        if piece != ALL and not self.best.choice.any():
            self.sketch = copy(self)
            self.sketch.portfolio = new_portfolio(self.packed, ENTRIES)
            yield from self.sketch.hurry()
            self.sketched = True
            yield
        yield from self.begin(piece)
        at, alone = np.full_like(self.best.shares, 1e-9), np.arange(len(self._turn))
        choice = np.empty_like(alone)
        for turn in range(MOST_ROUNDS):
            old, sizes = at.copy(), self.portfolio.size.copy()
            worth_serving(self.portfolio, self.best.choice, self.slack, at)
            asked = np.flatnonzero((np.abs(np.log(at / old)) > MOVED).any(axis=1))
            for tilt in TILTS if turn == 0 else TILTS[:1]:
                fastest(self.packed, self.portfolio, at * tilt, choice)
                yield from self.propose(asked, at * tilt, WIDTH, alone, choice, piece)
            if np.array_equal(sizes, self.portfolio.size):
                break
            yield from self.change()
        if self._miss_price > 0.0:
            self.make_deadlines()

    def make_deadlines(self) -> None:
        """Change the best plan so that missed deadlines cost less (`deadlines`)."""
        objective, choice, shares, prices = self.best
        choice, shares = choice.copy(), shares.copy()
        objective = shift(self.packed, self.portfolio, choice, shares, objective)
        self.keep(JointPlan(objective, choice, shares, prices))

    def hurry(self) -> Iterator[None]:
        """Run steps 1 to 4 in about a tenth of the time, for plans that are less good.

        PBT-DP proposes at two shares and without trees, for small networks first. There is a new
        plan whenever the number of UEs with proposals has doubled.
        """
        choice = np.empty_like(self.best.choice)
        small_first = np.argsort(np.diff(self.packed.first), kind="stable")
        for k, (level, tilt) in enumerate(HURRIED):
            shares = shares_of_all(len(choice), level, tilt)
            asked = small_first[((self._turn + k) % self._turns == 0)[small_first]]
            fastest(self.packed, self.portfolio, shares, choice)
            for n, _ in enumerate(self.propose(asked, shares, 0, self._ring, choice, 1), 1):
                if n.bit_count() == 1 or n == len(asked):
                    fastest(self.packed, self.portfolio, shares, choice)
                    self.keep(self.settled(choice, self.limit))
                yield
        self.prices = self.best.prices
        yield from self.change()

    def begin(self, piece: int = ALL) -> Iterator[None]:
        """Run steps 1 and 2, and steps 3 and 4 for the proposals so far."""
        n = len(self._turn)
        choice, hopeful = np.empty(n, np.int64), np.ones(n, np.bool_)
        for k, (level, tilt) in enumerate(CONDITIONS):
            shares = shares_of_all(n, level, tilt)
            fastest(self.packed, self.portfolio, shares, choice)
            asked = (self._turn + k) % self._turns == 0
            if (level, tilt) == EQUAL:
                asked |= choice != LOCAL
                choice[asked] = LOCAL  # so that PBT-DP's own answer is among the starts
            asked = np.flatnonzero(asked & hopeful)
            width = WIDTH if k < FOR_ALL else 0
            yield from self.propose(asked, shares, width, self._ring, choice, piece)
            if tilt in (EVEN, LITTLE):
                start = self.settled(choice, np.inf)
                self.keep(start)
                if max(self.prices) <= 0.0:
                    self.prices = start.prices
                yield from self.change()
            if k + 1 >= FOR_ALL:
                at = np.zeros((n, 2))
                worth_serving(self.portfolio, self.best.choice, self.slack, at)
                hopeful = at[:, 0] > 0.0
        yield from self.change()  # again, from the last prices: this changes a tenth of the plans

    def propose(
        self,
        asked: NDArray[np.int64],
        shares: NDArray[np.float64],
        width: int,
        ring: NDArray[np.int64],
        choice: NDArray[np.int64],
        piece: int,
    ) -> Iterator[None]:
        """Let PBT-DP propose (the function `propose`) for the UEs `asked`, `piece` at a time."""
        for first in range(0, len(asked), piece):
            some = asked[first : first + piece]
            propose(
                self.packed, self.portfolio, some, shares, width, ring, self.best.choice, choice
            )
            yield

    @property
    def slack(self) -> float:
        """The most by which an entry's value may exceed the UE's least value in a better plan."""
        total = self.best.objective
        return max(total - self.dual, 1e-3 * total / len(self._turn))

    def change(self) -> Iterator[None]:
        """Run steps 3 and 4."""
        if max(self.prices) <= 0.0:  # no UE gains
            return
        choice = np.empty_like(self.best.choice)
        self.prices, self.dual = clear(
            self.packed, self.portfolio, self.prices, self.slack, CLEARING, choice
        )
        yield
        descend(self.portfolio, choice, self.slack)
        self.keep(self.settled(choice, self.limit))
        choices = np.empty((self._tried + 1, len(choice)), np.int64)
        for _ in range(MOST_CHANGES):
            yield
            before = self.best
            prices = before.prices if max(before.prices) > 0.0 else self.prices
            self.dual = value_all(self.packed, self.portfolio, *prices, self.slack)
            n_choices = neighbours(self.portfolio, before.choice, self.slack, choices)
            descend(self.portfolio, choices[0], self.slack)
            for row in range(n_choices):
                self.keep(self.settled(choices[row], self.limit))
                if self.best is not before:
                    break
            if self.best is before:
                break

    @property
    def limit(self) -> float:
        """The objective that a plan must be below to count as an improvement."""
        return self.best.objective * (1.0 - GAIN)

    def settled(self, choice: NDArray[np.int64], limit: float) -> JointPlan:
        """A choice with ARA's shares; the objective is inf if it is not below the limit."""
        shares = np.empty_like(self.best.shares)
        objective, *prices = settle(self.packed, self.portfolio, choice, shares, limit, ROUNDS)
        return JointPlan(objective, choice.copy(), shares, (prices[0], prices[1]))

    def keep(self, plan: JointPlan) -> None:
        """Make a plan the best one if it is better than the best one so far."""
        if plan.objective < self.limit:
            self.best = plan


def shares_of_all(n: int, level: float, tilt: tuple[float, float]) -> NDArray[np.float64]:
    """The same shares for all of n UEs (n, 2), from a level and a tilt (see `FOR_ALL`)."""
    return np.tile(np.minimum(1.0, np.multiply(n ** (level - 1.0), tilt)), (n, 1))


def rings(dnns: Sequence[DNN]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group the UEs that share proposals, which are those with the same network.

    Returns:
        Three arrays (N,): the next UE with the same network, in a ring; the UE's index in its ring;
        and the number of turns T. PBT-DP proposes for one in T UEs of the ring under each of the
        first conditions.
    """
    members: dict[DNN, list[int]] = {}
    for i, dnn in enumerate(dnns):
        members.setdefault(dnn, []).append(i)
    following, turn, turns = np.empty((3, len(dnns)), np.int64)
    for ring in members.values():
        following[ring] = np.roll(ring, -1)
        turn[ring] = np.arange(len(ring))
        turns[ring] = max(1, len(ring) * len(CONDITIONS) // PER_NETWORK)
    return following, turn, turns


@compiled
def propose(packed, portfolio, asked, shares, width, ring, kept, choice):
    """Let PBT-DP propose for some UEs at their shares (N, 2); their whole rings get the proposals.

    PBT-DP starts from the entries `choice` (N,), which the new entries of these UEs replace.
    Entries `kept` (N,) stay in the portfolio.
    """
    for index in range(len(asked)):
        i = asked[index]
        beta, phi = min(1.0, shares[i, 0]), min(1.0, shares[i, 1])
        link = packed_link(packed, i, beta, phi)
        if link.up == np.inf or link.down == np.inf:
            continue
        inference = reference(packed_inference(packed, i))
        placement = np.empty(len(inference.ue_s), np.int8)
        for layer in range(len(placement)):
            placement[layer] = portfolio.outlines[i, choice[i], layer + 1] & AT_EDGE
        partition(inference, link, width, placement)
        j = i
        while True:
            entry = add(packed, portfolio, j, placement, beta, phi, kept[j])
            if j == i:
                choice[i] = entry
            j = ring[j]
            if j == i:
                break
