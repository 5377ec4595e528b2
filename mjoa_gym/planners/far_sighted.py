"""A far-sighted planner for rounds in which UEs and their parameters stay: ours, not the paper's.

MJOA-MU plans a round as if it were the last. This planner starts from MJOA-MU's plan (with
prefetch) and changes placements, shares and prefetches wherever that lowers

    sum_i w_i * (T_i + patience * rounds_ahead * V_i).

T_i is the latency of this round. V_i is the latency of the UE's fastest placement on its menu in a
later round, with what will be on the server by then. The end of the round is replayed exactly: what
the uplink has carried, and what the server's memory must drop. `rounds_ahead` is the number of
rounds for which the UE is expected to stay, until the episode ends. A later inference is estimated
with a nominal share of band and server, at the SNRs that are to be expected (`Horizon`). Layers
that this round cannot upload completely count from the round in which they will be there, if they
are uploaded at such a share.

If a plan also says what the server is to keep, the planner chooses that, too. If parameters are
shared, what a UE uploads serves all UEs that have the same layers.

So a UE that stays local gets bandwidth if its uploads pay later, and nothing is uploaded for which
there is no memory. The search is in `prospect`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model.inference import inference_of
from mjoa_gym.model.instance import Horizon, Instance, Plan, packed_link
from mjoa_gym.planners.anytime import ALL, finished
from mjoa_gym.planners.menu import menu_of
from mjoa_gym.planners.mjoa_mu import proposals
from mjoa_gym.planners.prefetch import PrefetchSearch
from mjoa_gym.planners.prospect import GAIN, Prospect, RoundSetting, new_forecast, search
from mjoa_gym.world import rounds
from mjoa_gym.world.population import empty_population
from mjoa_gym.world.rounds import NOTHING, Decision, outlines_of, rows_of
from mjoa_gym.world.tables import stacked

LARGEST = 6
"""Prefetches of all layers except the one, two, ... largest are tried, up to this number."""


class Foresight(NamedTuple):
    """The constants that are tuned (`scripts/tune_far_sighted.py`)."""

    patience: float = 0.3  # weight of a later round against the present one
    share: float = 2.0  # of band and server, in units of 1 / N, in estimates of later inferences


DEFAULT = Foresight()


def far_sighted(instance: Instance, foresight: Foresight = DEFAULT) -> Plan:
    """Plan for this round and those after it; without a horizon, plan as MJOA-MU does.

    Cost: MJOA-MU's plan with prefetch, and O(N^2 + N x menu) estimates per sweep of the search.
    """
    return finished(FarSightedSearch(instance, foresight))


class FarSightedSearch:
    """The search for one instance: MJOA-MU's with prefetch, then changes that pay later.

    With a budget, it also searches for such changes of the sketch from which MJOA-MU's search
    begins. So there is a far-sighted plan in half the time.

    Attributes:
        start: The search for MJOA-MU's plan with prefetch.
        best: The objective of the best plan so far that looks ahead, and its prospect.
    """

    def __init__(self, instance: Instance, foresight: Foresight = DEFAULT) -> None:
        self._instance, self._foresight = instance, foresight
        horizon = instance.horizon
        ahead = 0.0 if horizon is None else horizon.expected_rounds
        self._rounds_ahead = ahead * foresight.patience
        self.start = PrefetchSearch(instance)
        self.best: tuple[float, Prospect | None] = np.inf, None

    def plan(self) -> Plan:
        """Return the best plan so far."""
        prospect = self.best[1]
        return self.start.plan() if prospect is None else plan_of(prospect)

    def steps(self, piece: int = ALL) -> Iterator[None]:
        """See `Anytime`."""
        if self._instance.horizon is None:
            yield from self.start.joint.steps(piece)
            return
        looks_ahead = self._rounds_ahead > 0.0
        from_sketch = looks_ahead and piece != ALL
        for _ in self.start.steps(piece):
            if from_sketch and self.start.joint.sketched:
                yield from self._look_ahead(piece)
                from_sketch = False
            yield
        if looks_ahead:
            yield from self._look_ahead(piece)

    def _look_ahead(self, piece: int) -> Iterator[None]:
        """Search for changes of the plan so far that pay later."""
        plan, share = self.start.plan(), self._foresight.share
        prospect = prospect_of(self._instance, plan, self._rounds_ahead, share)
        over = False
        while not over:
            _, objective, over = search(prospect, piece)
            if objective <= self.best[0] * (1.0 + GAIN):  # if as good, the plan without a budget
                self.best = objective, prospect
            yield


def plan_of(prospect: Prospect) -> Plan:
    """The decision of a prospect as a plan."""
    decision = prospect.decision
    n_layers = prospect.tables.n_layers[: len(prospect.placements)]
    chosen = (decision.placement_of, decision.prefetch_of, decision.retain_of)
    placements, marked, kept = (rows_of(decision, which[0], n_layers) for which in chosen)
    prefetch = [marks & (1 - placed) for marks, placed in zip(marked, placements, strict=True)]
    shares = decision.bandwidth_share[0], decision.compute_share[0]
    return Plan(placements, *shares, prefetch, kept if prospect.setting.retain else None)


def prospect_of(instance: Instance, plan: Plan, rounds_ahead: float, share: float) -> Prospect:
    """Collect what the search needs, for an instance with a horizon and a plan to start from."""
    horizon, packed, n_ues = instance.horizon, instance.packed, instance.n_ues
    assert horizon is not None
    seconds = [(ue.dnn, ue.ue_seconds, ue.edge_seconds) for ue in instance.ues]
    seconds += [(dnn, dnn.flops, dnn.flops) for dnn, _, _ in horizon.others]  # they never run
    nothing_there = [inference_of(*each) for each in seconds]
    tables = stacked([each[0] for each in seconds], nothing_there, [[each[1]] for each in seconds])
    row_of = _rows_of_memory([each[0] for each in seconds], horizon.share_parameters)
    is_row = row_of == np.arange(len(row_of))  # only these repeat what the owners of layers have
    tables = tables._replace(borrows=tables.borrows & is_row)
    menus = placements_of(instance)
    blocks = [_rows(instance, plan, i, menus[i], tables.width) for i in range(n_ues)]
    counts, rows = [len(block) for block in blocks], np.concatenate(blocks)
    outlines = outlines_of(rows, np.repeat(np.arange(n_ues), counts), tables)
    first = np.cumsum([0, *counts], dtype=np.int64)
    placements = np.array([len(menu) + 1 for menu in menus], dtype=np.int64)
    own = (first[:-1] + placements - 1)[None]
    state = _state(instance, horizon, tables.width)
    resident, idle = state.resident[0], state.idle[0]
    expected = {
        name: snr for name in ("snr_up", "snr_down") if (snr := getattr(horizon, name)) is not None
    }
    trial, known = (new_forecast(n_ues, resident, idle) for _ in range(2))
    known.carried[:, :n_ues] = -1.0  # nothing is known yet
    shares = [_offered(own) for own in (plan.bandwidth_share, plan.compute_share)]
    later, even = packed._replace(**expected), min(1.0, share / n_ues)
    return Prospect(
        tables=tables,
        setting=RoundSetting(
            packed.mode, horizon.period_s, horizon.server_memory_bytes,
            int(horizon.share_parameters), int(horizon.retain),
        ),
        packed=packed,
        links=np.array([packed_link(later, i, even, even) for i in range(n_ues)]),
        row_of=row_of,
        resident=resident.copy(),
        idle=idle.copy(),
        decision=Decision(
            rows, outlines, own.copy(), own + 1, np.full_like(own, NOTHING),
            *shares,
        ),
        first=first,
        placements=placements,
        rounds_ahead=rounds_ahead,
        known=known,
        trial=trial,
        touched=np.zeros(n_ues, np.bool_),
        state=state._replace(resident=trial.carried[:1], idle=trial.idle[None]),  # of `NOW`
        least=np.empty(len(rows)),
        least_of=np.empty(n_ues),
        guess=np.empty(n_ues, np.int64),
        kept_idle=np.empty_like(idle),
        changed=np.empty((2, len(row_of)), np.bool_),
        more_bytes=np.empty((2, len(row_of))),
        later_bytes=np.empty(tables.width),
        progress=np.zeros(4),
        room=rounds.new_room(n_ues, tables.width, len(resident)),
    )  # fmt: skip


def _offered(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares (1, N) with which the search begins: equal ones if a plan uses none (N,).

    The search only moves shares from one UE to another. A UE that needs nothing loses nothing.
    """
    return share[None].copy() if share.any() else np.full((1, len(share)), 1.0 / len(share))


def _rows_of_memory(dnns: list[DNN], common: bool) -> NDArray[np.int64]:
    """`Prospect.row_of` (R,) of R networks."""
    if not common:
        return np.arange(len(dnns))
    return np.array([dnns.index(dnn) for dnn in dnns])


def placements_of(instance: Instance) -> list[NDArray[np.int8]]:
    """The placements to choose from, per UE (M, L): its network's menu, or what PBT-DP proposes.

    UEs that were drawn from a scenario have a menu.
    """
    scenario = None if instance.horizon is None else instance.horizon.scenario
    if scenario is None:
        return _proposed(instance)
    menu = menu_of(scenario, streaming=True)
    networks = [scenario.profiles.index(ue.dnn) for ue in instance.ues]
    return [
        menu.placements[d, : menu.size[d], : ue.dnn.n_layers]
        for d, ue in zip(networks, instance.ues, strict=True)
    ]


def _proposed(instance: Instance) -> list[NDArray[np.int8]]:
    """PBT-DP's proposals for every UE at several shares: as the instance is, and preinstalled."""
    installed = replace(instance, upload="preinstalled")
    pairs = zip(proposals(instance), proposals(installed), strict=True)
    return [np.unique(np.concatenate([*pair, np.ones_like(pair[0][:1])]), axis=0) for pair in pairs]


def _rows(
    instance: Instance, plan: Plan, i: int, menu: NDArray[np.int8], width: int
) -> NDArray[np.int8]:
    """The rows of UE i's table: placements to choose from, then what it may prefetch.

    The last of the placements is the plan's. The prefetches are the plan's and then those of
    `up_to_size`.
    """
    dnn = instance.ues[i].dnn
    marks = np.zeros(dnn.n_layers, np.int8) if plan.prefetch is None else plan.prefetch[i]
    rows = np.concatenate([menu, plan.placements[i][None], marks[None], up_to_size(dnn)])
    return np.pad(rows, ((0, 0), (0, width - dnn.n_layers)))


@lru_cache(maxsize=256)
def up_to_size(dnn: DNN) -> NDArray[np.int8]:
    """Prefetches (rows, L): all layers, then all but those of the one, two, ... largest sizes."""
    sizes = dnn.parameter_bytes
    limits = np.unique(sizes[sizes > 0])[::-1][: LARGEST + 1]
    return np.array([sizes <= limit for limit in limits], dtype=np.int8).reshape(-1, len(sizes))


def _state(instance: Instance, horizon: Horizon, width: int) -> rounds.State:
    """What an instance shows, as the state of a batch of one: UE i has network i and row i.

    Networks that no UE runs, but of which something is on the server, come after those of the UEs.
    """
    n_ues = instance.n_ues
    people = empty_population(1, n_ues)
    people.dnn[0] = np.arange(n_ues)
    people.speed[0], people.weight[0] = 1.0, instance.weights
    nothing = [np.zeros(ue.dnn.n_layers, np.int64) for ue in instance.ues]
    ages = nothing if horizon.idle_rounds is None else horizon.idle_rounds
    there = [(ue.resident, age) for ue, age in zip(instance.ues, ages, strict=True)]
    there += [(stored.resident, stored.idle_rounds) for stored in horizon.others]
    shape = (1, len(there), width)
    resident, idle = np.zeros(shape), np.zeros(shape, dtype=np.int32)
    for row, (fractions, age) in enumerate(there):
        resident[0, row, : len(fractions)] = fractions
        idle[0, row, : len(age)] = age
    return rounds.State(people, resident, idle, np.zeros(1, np.int64), np.zeros(1, np.uint64))
