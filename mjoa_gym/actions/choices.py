"""What the learned views have in common: placements from a menu, shares by bidding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import kernel
from mjoa_gym.actions.base import ActionView
from mjoa_gym.actions.menu import menu_of
from mjoa_gym.actions.plan import outlines_of
from mjoa_gym.instance import Instance, Plan, job_of, link_of
from mjoa_gym.rounds import NO_PREFETCH, Decision
from mjoa_gym.scenario import Scenario


BID_LEVELS = 6
"""How many sizes of bids a whole number can say."""
BID_RATIO = 2.0
"""Of one size to the one before."""
BIDS = BID_RATIO ** np.arange(BID_LEVELS)
"""The bids that the levels stand for."""


class Choice(NamedTuple):
    """What UEs have chosen, each array (..., N).

    Attributes:
        entry: Of the menu of each UE's network: its placement.
        prefetch: Of the menu: what it has at the edge is uploaded in addition; 0 for nothing. Not read
            where nothing persists.
        bandwidth_bid: > 0.
        compute_bid: > 0.
    """

    entry: NDArray[np.int64]
    prefetch: NDArray[np.int64]
    bandwidth_bid: NDArray[np.float64]
    compute_bid: NDArray[np.float64]


class MenuView(ActionView):
    """Each UE takes its placement from its network's menu, and bids for shares.

    Entry 0 of every menu is all on the UE, the last one is all at the edge. A share is a UE's bid
    over the sum of the bids of all UEs that need the resource: band is needed by those that place
    or prefetch something at the edge, the server by those that place something there. Bids are
    positive, so every action is a plan in which every inference ends.

    Attributes:
        entries: M, entries of the longest menu.
        sizes: (D,) entries of each network's menu.
        wrapped: (D, M) the entry of its menu that a number from 0 to M - 1 stands for.
        exists: (D, M) int8, 0 where that is not the number itself.
    """

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        menu = menu_of(scenario, persists)
        n_dnns, self.entries, width = menu.placements.shape
        self.sizes = menu.size
        self._placements = menu.placements.reshape(-1, width).copy()
        networks = np.repeat(np.arange(n_dnns), self.entries)
        self._outlines = outlines_of(self._placements, networks, scenario.tables)
        entries = np.arange(self.entries)
        self.wrapped = entries % self.sizes[:, None]
        self.exists = (entries < self.sizes[:, None]).astype(np.int8)

    def decision(self, choice: Choice, dnn: NDArray[np.int64]) -> Decision:
        """What choices of E x N UEs with networks `dnn` come to; entries wrap around the menu."""
        entry = self.wrapped[dnn, choice.entry]
        offloads, needs_band = entry > 0, entry > 0
        first = dnn * self.entries
        prefetch_of = np.full_like(first, NO_PREFETCH)
        if self.persists:
            prefetch = self.wrapped[dnn, choice.prefetch]
            needs_band = offloads | (prefetch > 0)
            prefetch_of = np.where(prefetch > 0, first + prefetch, NO_PREFETCH)
        return Decision(
            self._placements,
            self._outlines,
            first + entry,
            prefetch_of,
            _normalised(choice.bandwidth_bid, needs_band),
            _normalised(choice.compute_bid, offloads),
        )

    def choices(self, plan: Plan, instance: Instance | None) -> Choice:
        """The choice, arrays of shape (N,), that comes nearest to a plan.

        Of the menu, a UE takes the entry that is fastest with the plan's shares; to prefetch, the
        entry whose edge layers differ in the fewest bytes from what the plan has there or prefetches.
        Bids are the plan's shares.

        Raises:
            ValueError: Without an instance, or if the plan does not fit it.
        """
        if instance is None:
            raise ValueError("instance=None: this view needs the instance that the plan answers")
        plan.check_fits(instance)
        chosen = [self._choose(plan, instance, i) for i in range(instance.n_ues)]
        entry, prefetch = np.array(chosen, dtype=np.int64).T
        return Choice(entry, prefetch, plan.bandwidth_share, plan.compute_share)

    def _choose(self, plan: Plan, instance: Instance, i: int) -> tuple[int, int]:
        """UE i's entries of the menu: to place, and to prefetch."""
        ue, packed = instance.ues[i], instance.packed
        d, n = self.scenario.profiles.index(ue.dnn), ue.dnn.n_layers
        rows = self._placements[d * self.entries : d * self.entries + self.sizes[d], :n]
        link = link_of(packed, i, plan.bandwidth_share[i], plan.compute_share[i])
        entry = 0
        if plan.placements[i].any():
            seconds = kernel.run_many(rows, job_of(packed, i), link, packed.mode)
            entry = int(np.argmin(seconds))
        if not self.persists or plan.prefetch is None or not plan.prefetch[i].any():
            return entry, 0
        wanted = plan.prefetch[i] | plan.placements[i]
        missing = ue.dnn.parameter_bytes * (1.0 - (0.0 if ue.resident is None else ue.resident))
        return entry, int(np.argmin((((rows | rows[entry]) != wanted) * missing).sum(axis=1)))


def checked(name: str, given: Any, shape: tuple[int, ...], kinds: str) -> NDArray[Any]:
    """`given` as an array of the shape and one of the dtype kinds.

    Raises:
        ValueError: If it is none.
    """
    array = np.asarray(given)
    if array.shape != shape:
        one = shape[0] == 1  # a scalar environment's users know no leading axis
        got, needed = (array.shape[1:], shape[1:]) if one else (array.shape, shape)
        raise ValueError(f"{name} has shape {got}; {needed} is needed")
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name} has dtype {array.dtype}; {_KINDS[kinds]} are needed")
    return array


_KINDS = {"ui": "whole numbers", "fui": "numbers"}


def in_range(name: str, choices: NDArray[Any], counts: Any, which: NDArray[np.bool_]) -> None:
    """Raise a ValueError unless the choices (E, ...) of those who act are in `[0, counts)`."""
    bad = ((choices < 0) | (choices >= counts)) & which.reshape(-1, *[1] * (choices.ndim - 1))
    for e, *rest in np.argwhere(bad):
        where = f"[{rest[0]}]" if rest else ""
        most = (counts[rest[0]] if rest else counts) - 1
        raise ValueError(f"{name}{where}={choices[e, *rest]}: must be from 0 to {most}")


def level_of(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """The levels whose bids come nearest to shares (N,), in the logarithm, the largest on top."""
    below = np.log(np.maximum(shares, 1e-300) / max(shares.max(), 1e-300)) / np.log(BID_RATIO)
    return np.clip(np.rint(below) + BID_LEVELS - 1, 0, BID_LEVELS - 1).astype(np.int64)


def _normalised(bids: NDArray[np.float64], needs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(E, N) shares: bids of those who need the resource, over their sum."""
    bids = bids * needs
    total = bids.sum(axis=-1, keepdims=True)
    return np.divide(bids, total, out=np.zeros_like(bids), where=total > 0)
