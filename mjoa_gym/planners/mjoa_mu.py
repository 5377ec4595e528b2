"""MJOA-MU: partition and allocation together, for many UEs.

The idea is the paper's (Yang et al., Computer Networks 231, 2023): by its abstract, PBT-DP
partitions each UE's network, ARA allocates bandwidth and compute, jointly. How the two meet is our
formulation, the same for any number of UEs:

1. *Proposals*: PBT-DP proposes placements for every UE at a few shares. They make up a portfolio
   (`portfolio`); UEs that run the same network share theirs, and take turns in asking.
2. *Starts*: all-local, and for each of these shares the fastest entry of every UE, with ARA's
   shares. The best one is where the search begins.
3. *Prices*: those of bandwidth and compute at which the entries that suit the UEs best demand just
   what there is (`pricing.clear`); no choice from the portfolio costs less than these prices tell.
4. *Changes*: from the best responses to these prices, and from the best plan so far at its own
   prices, the changes of one or two UEs that promise most are made, until none is left that does
   (`pricing.descend`). ARA divides anew. A change counts only if the simulator confirms it.
5. *Refinement*: PBT-DP proposes again, at about the shares that each UE would now buy, for those
   UEs that may be served in a better plan.

Steps 3 to 5 repeat until neither a change nor a new proposal is found. The plan is never worse than
any start, all-local included.

Cost: O(N) calls of PBT-DP at first (a few per network if many UEs run the same) and O(UEs that may
be served) per round; everything else is arithmetic on planes, O(N x entries) per round, but for
O(N) simulations per plan that is tried.
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
"""Smallest relative improvement worth a change."""
ENTRIES = 32
"""Most entries per UE."""
TILTS = EVEN, *_ = (1.0, 1.0), (1.5, 0.6), (0.6, 1.5)
"""Factors on bandwidth and compute."""
EQUAL, LITTLE = (0.0, EVEN), (0.35, 0.35)
CONDITIONS = (
    (0.5, EVEN), EQUAL, (1.0, EVEN), *product((0.5, 0.0), TILTS[1:]), (0.0, LITTLE),
)  # fmt: skip
HURRIED = (EQUAL, CONDITIONS[0])
"""Those at which a sketch asks."""
FOR_ALL = 3
"""Proposals begin at shares N^level / N times a tilt: an equal share is of level 0, everything of
level 1. After the first three, only those UEs are asked that may be served in a better plan, and
without a tree: what is known is improved."""
MOVED = 0.1
"""Relative change of what an entry is worth that makes it worth refining again."""
PER_NETWORK = 24
"""UEs with the same network take turns if together they would begin with more proposals."""
CLEARING = 6
"""Turns in which prices find their place."""
TRIED = 8
"""Single changes and pairs that are tried before a plan counts as the best."""
MOST_ROUNDS, MOST_CHANGES = 5, 40
"""Rounds of steps 3 to 5, and improvements in step 4."""


class JointPlan(NamedTuple):
    """A choice from the portfolio with shares, and what it is worth."""

    objective: float
    choice: NDArray[np.int64]  # (N,) entries
    shares: NDArray[np.float64]  # (N, 2)
    prices: tuple[float, float]


def mjoa_mu(instance: Instance) -> Plan:
    """The joint plan of MJOA-MU (see the module's docstring)."""
    return finished(JointSearch(instance))


def proposals(instance: Instance) -> list[NDArray[np.int8]]:
    """Per UE (entries, L) what the search would begin with: all-local, and PBT-DP's proposals."""
    search = JointSearch(instance)
    for _ in search.begin():
        pass
    entries = map(np.arange, search.portfolio.size)
    return placements_of(search.packed, search.portfolio, entries)


class JointSearch:
    """The search for one instance.

    Attributes:
        packed: The instance as arrays.
        portfolio: What is chosen from.
        best: The best plan so far.
        prices: Where the search for prices begins.
        sketch: With a budget, a quick search of its own for the time until this one has a plan.
        dual: No choice from the portfolio costs less (on chains), by the prices it is valued at.
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
        self._ring, self._turn, self._turns = rings([ue.dnn for ue in instance.ues])

    def plan(self) -> Plan:
        """The best plan so far."""
        _, choice, shares, _ = self.leader.best
        placements = placements_of(self.packed, self.leader.portfolio, choice)
        return Plan(placements, shares[:, 0], shares[:, 1])

    @property
    def leader(self) -> JointSearch:
        """The search with the best plan so far: this one, or its sketch if that is ahead.

        A sketch that is ahead by rounding does not count: the last plan is that without a budget.
        """
        sketch = self.sketch
        return self if sketch is None or sketch.best.objective >= self.limit else sketch

    def steps(self, piece: int = ALL) -> Iterator[None]:
        """Steps 1 to 5; `plan` may be better whenever this yields.

        Args:
            piece: The number of UEs that PBT-DP answers between two yields. If it is not `ALL`,
                somebody waits: if there is no plan yet, a sketch comes first.
        """
        if piece != ALL and not self.best.choice.any():
            self.sketch = copy(self)
            self.sketch.portfolio = new_portfolio(self.packed, ENTRIES)
            yield from self.sketch.hurry()
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
        """Change what the best plan has so that it costs less for being late (`deadlines`)."""
        objective, choice, shares, prices = self.best
        choice, shares = choice.copy(), shares.copy()
        objective = shift(self.packed, self.portfolio, choice, shares, objective)
        self.keep(JointPlan(objective, choice, shares, prices))

    def hurry(self) -> Iterator[None]:
        """Steps 1 to 4 in about a tenth of the time: without trees, at two shares; less good plans.

        Small networks are asked first; whenever twice as many have answered, there is a plan.
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
        """Steps 1 and 2, with steps 3 and 4 for what there is so far."""
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
        yield from self.change()  # again, from the last one's prices: a tenth of the plans differ

    def propose(
        self,
        asked: NDArray[np.int64],
        shares: NDArray[np.float64],
        width: int,
        ring: NDArray[np.int64],
        choice: NDArray[np.int64],
        piece: int,
    ) -> Iterator[None]:
        """Let PBT-DP propose (see the function) for the UEs `asked`, some at a time."""
        for first in range(0, len(asked), piece):
            some = asked[first : first + piece]
            propose(
                self.packed, self.portfolio, some, shares, width, ring, self.best.choice, choice
            )
            yield

    @property
    def slack(self) -> float:
        """By how much an entry's value may exceed the UE's least if it is part of a better plan."""
        total = self.best.objective
        return max(total - self.dual, 1e-3 * total / len(self._turn))

    def change(self) -> Iterator[None]:
        """Steps 3 and 4."""
        if max(self.prices) <= 0.0:  # nobody gains
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
        """The objective that is an improvement if a plan is below it."""
        return self.best.objective * (1.0 - GAIN)

    def settled(self, choice: NDArray[np.int64], limit: float) -> JointPlan:
        """A choice with ARA's shares; the objective is inf if it is not below the limit."""
        shares = np.empty_like(self.best.shares)
        objective, *prices = settle(self.packed, self.portfolio, choice, shares, limit, ROUNDS)
        return JointPlan(objective, choice.copy(), shares, (prices[0], prices[1]))

    def keep(self, plan: JointPlan) -> None:
        """Take over a plan if it is better."""
        if plan.objective < self.limit:
            self.best = plan


def shares_of_all(n: int, level: float, tilt: tuple[float, float]) -> NDArray[np.float64]:
    """(n, 2) the same shares for all of n UEs (see `FOR_ALL`)."""
    return np.tile(np.minimum(1.0, np.multiply(n ** (level - 1.0), tilt)), (n, 1))


def rings(dnns: Sequence[DNN]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Who shares proposals: those with the same network.

    Returns:
        Per UE the next one with its network, in a ring; its number among them; and how many take
        turns in asking at each of the first shares.
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

    It starts from the entries `choice` (N,), which their new ones replace. Entries `kept` (N,) stay
    in the portfolio.
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
