"""The common part of the learned views: placements from a menu, shares by bidding."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions.base import ActionView, checked
from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import lean
from mjoa_gym.model.instance import Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.reference import by_reference
from mjoa_gym.planners.menu import menu_of
from mjoa_gym.world.rounds import NOTHING, Decision, outlines_of
from mjoa_gym.world.scenario import Scenario

BIDS: NDArray[np.float64] = np.sqrt(2.0) ** np.arange(8)
"""The bids that whole numbers stand for, level by level, half an octave apart."""
LEAST = 1e-300  # replaces a sum of zero bids


class Choice(NamedTuple):
    """The UEs' choices; each array is (..., N).

    `prefetch` is not read where nothing persists, and `retain` not where the scenario has none.
    """

    entry: NDArray[np.int64]  # the menu entry that each UE takes as its placement
    prefetch: NDArray[np.int64]  # the entry whose edge layers are also uploaded; 0 for nothing
    retain: NDArray[np.int64]  # the entry whose edge layers are dropped last; 0 for nothing
    bandwidth_bid: NDArray[np.float64]  # > 0
    compute_bid: NDArray[np.float64]  # > 0


@by_reference
class Menus(NamedTuple):
    """The menus of D networks as kernels read them."""

    sizes: NDArray[np.int64]  # (D,) entries of each network
    outlines: NDArray[np.uint8]  # (D * M, L + 1) of all entries, menu after menu
    bytes: NDArray[np.float64]  # (D * M,) bytes of the parameters of each entry's edge layers
    fits: NDArray[np.bool_]  # (D * M,) whether these fit into the memory
    entries: int  # M, the number of entries of the longest menu


class MenuView(ActionView):
    """Each UE takes its placement from its network's menu, and bids for shares.

    Entry 0 of every menu places all layers on the UE, and the last entry places all at the edge. A
    share is a UE's bid over the sum of the bids of all UEs that need the resource. UEs that place
    or prefetch something at the edge need the band. UEs that place something there need the server.
    Bids are positive, so every action is a plan in which every inference ends.

    `entries` is M, the number of entries of the longest menu; `sizes` (D,) has the number of each
    network's menu. `placements` (D * M, L) holds menu after menu, with zeros after a network's last
    entry or layer. `wrapped` (D, M) is the entry that a number below M stands for: the number
    itself where the entry `exists`. `menus` holds the same for kernels.
    """

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int = 1) -> None:
        super().__init__(scenario, persists, n_envs)
        menu = menu_of(scenario, persists)
        n_dnns, self.entries, width = menu.placements.shape
        self.sizes = menu.size
        self.placements = menu.placements.reshape(-1, width).copy()
        networks = np.repeat(np.arange(n_dnns), self.entries)
        self.outlines = outlines_of(self.placements, networks, scenario.tables)
        entries = np.arange(self.entries)
        self.wrapped = entries % self.sizes[:, None]
        self.exists = (entries < self.sizes[:, None]).astype(np.int8)
        of_entries = np.repeat(scenario.tables.parameter_bytes, self.entries, axis=0)
        sizes = (of_entries * self.placements).sum(axis=1)
        fits = sizes <= scenario.server_memory_bytes
        self.menus = Menus(self.sizes, self.outlines, sizes, fits, self.entries)

    def decision(self, choice: Choice, dnn: NDArray[np.int64]) -> Decision:
        """Return the decision of E x N UEs with networks `dnn`; entries wrap around the menu."""
        decision = Decision(
            self.placements,
            self.outlines,
            placement_of=np.empty_like(dnn),
            prefetch_of=np.empty_like(dnn),
            retain_of=np.empty_like(dnn),
            bandwidth_share=np.empty(dnn.shape),
            compute_share=np.empty(dnn.shape),
        )
        _decide(decision[2:], choice, dnn, self.wrapped, self.persists, self.retains)
        return decision

    def choices(self, plan: Plan, instance: Instance | None) -> Choice:
        """Return the choice, arrays of shape (N,), that comes nearest to a plan.

        As its placement, a UE takes the plan's placement if it is on the menu, else the entry that
        is fastest with the plan's shares. To prefetch, it takes the entry that, together with the
        placement, differs by the fewest missing bytes from what the plan places at the edge or
        prefetches. To retain, it takes the entry that differs by the fewest bytes. Bids are the
        plan's shares.

        Raises:
            ValueError: Without an instance, or if the plan does not fit it.
        """
        instance = answered(plan, instance)
        chosen = [self._choose(plan, instance, i) for i in range(instance.n_ues)]
        entry, prefetch, retain = np.array(chosen, dtype=np.int64).T
        return Choice(entry, prefetch, retain, plan.bandwidth_share, plan.compute_share)

    def _choose(self, plan: Plan, instance: Instance, i: int) -> tuple[int, int, int]:
        """Return UE i's entries of the menu: to place, to prefetch and to retain."""
        ue, packed = instance.ues[i], instance.packed
        d, n = self.scenario.profiles.index(ue.dnn), ue.dnn.n_layers
        rows = self.placements[d * self.entries : d * self.entries + self.sizes[d], :n]
        link = packed_link(packed, i, plan.bandwidth_share[i], plan.compute_share[i])
        same = (rows == plan.placements[i]).all(axis=1)
        entry = int(np.argmax(same))
        if not same.any():
            entry = int(np.argmin(kernel.run_many(rows, packed_inference(packed, i), link)))
        prefetch = retain = 0
        sizes = ue.dnn.parameter_bytes
        if self.persists and plan.prefetch is not None and plan.prefetch[i].any():
            wanted = plan.prefetch[i] | plan.placements[i]
            differs = (rows | rows[entry]) != wanted
            prefetch = int(np.argmin((differs * sizes * (1.0 - ue.resident)).sum(axis=1)))
        if self.retains and plan.retain is not None:
            retain = int(np.argmin(((rows != plan.retain[i]) * sizes).sum(axis=1)))
        return entry, prefetch, retain


def answered(plan: Plan, instance: Instance | None) -> Instance:
    """Return the instance that a plan answers; a ValueError if it is None or does not fit."""
    if instance is None:
        raise ValueError("instance=None: this view needs the instance that the plan answers")
    plan.check_fits(instance)
    return instance


def single_bids(
    bandwidth: NDArray[np.float64], compute: NDArray[np.float64], offloads: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return (N,) one bid for both resources: the geometric mean of two, scaled to the same sum.

    UEs that do not offload need no server: they keep their bid for the band.
    """
    scale = bandwidth[offloads].sum() / max(compute[offloads].sum(), LEAST)
    return np.where(offloads, np.sqrt(bandwidth * compute * scale), bandwidth)


def whole_numbers(
    given: Any, counts: NDArray[np.int64], which: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return a copy of actions (E, n) below `counts` (n,), with zeros outside `which` (E,)."""
    chosen = checked("action", given, (len(which), len(counts)), "ui").astype(np.int64)
    in_range("action", chosen, counts, which)
    chosen[~which] = 0
    return chosen


def in_range(name: str, choices: NDArray[Any], counts: Any, which: NDArray[np.bool_]) -> None:
    """Raise a ValueError unless choices (E, n) are in `[0, counts)`, (n,), where `which` (E,)."""
    e, k = _first_outside(choices, counts, which)
    if e >= 0:
        where = f"[{k}]" if choices.shape[1] > 1 else ""
        raise ValueError(f"{name}{where}={choices[e, k]}: must be from 0 to {counts[k] - 1}")


@lean
def _first_outside(choices, counts, which):
    """Return the indices of the first choice (E, n) outside `[0, counts)`; (-1, -1) for none."""
    for e in range(choices.shape[0]):
        if which[e]:
            for k in range(choices.shape[1]):
                if choices[e, k] < 0 or choices[e, k] >= counts[k]:
                    return e, k
    return -1, -1


@lean
def _decide(decided, choice, dnn, wrapped, persists, retains):
    """Fill in the last five arrays of a decision."""
    placement_of, prefetch_of, retain_of, bandwidth, compute = decided
    for e in range(dnn.shape[0]):
        bandwidth_bids = compute_bids = 0.0
        for i in range(dnn.shape[1]):
            first = dnn[e, i] * wrapped.shape[1]
            entry, prefetch = wrapped[dnn[e, i], choice.entry[e, i]], 0
            if persists:
                prefetch = wrapped[dnn[e, i], choice.prefetch[e, i]]
            retain = wrapped[dnn[e, i], choice.retain[e, i]] if retains else 0
            uploads = entry > 0 or prefetch > 0
            placement_of[e, i] = first + entry
            prefetch_of[e, i] = first + prefetch if prefetch > 0 else NOTHING
            retain_of[e, i] = first + retain if retain > 0 else NOTHING
            bandwidth[e, i] = choice.bandwidth_bid[e, i] if uploads else 0.0
            compute[e, i] = choice.compute_bid[e, i] if entry > 0 else 0.0
            bandwidth_bids += bandwidth[e, i]
            compute_bids += compute[e, i]
        for i in range(dnn.shape[1]):
            bandwidth[e, i] /= max(bandwidth_bids, LEAST)
            compute[e, i] /= max(compute_bids, LEAST)


def level_of(shares: NDArray[np.float64], bids: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the levels whose bids come nearest to shares (N,) on a logarithmic scale.

    The largest share gets the highest level.
    """
    wanted = np.log(np.maximum(shares, LEAST) / max(shares.max(), LEAST)) + np.log(bids[-1])
    return np.abs(wanted[:, None] - np.log(bids)).argmin(axis=1)
