"""A far-sighted planner for `MJOA/Streaming-v0`: ours, not the paper's.

MJOA-MU answers a round as if it were the last. This agent starts from its plan (with prefetch) and
changes placements, shares and prefetches wherever that lowers

    sum_i w_i * (T_i + patience * rounds_ahead * V_i),

where T_i is the latency of this round and V_i that of the UE's fastest placement on its menu in a
later one, with what will be on the server by then. A round's end is replayed exactly: what the
uplink has carried, and what the server's memory must drop. The rounds ahead are those that the UE
is expected to stay for, until the episode ends. A later inference is estimated with a nominal share
of band and server, over the path loss that both directions' SNRs suggest, because fades do not
last. Layers that this round cannot upload to the end count from the round in which they will be
there, uploaded at such a share.

So bandwidth goes to a UE that stays local if its uploads pay later, and nothing is uploaded for
which there is no memory. The search is in `agents.residency`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.residency import Prospect, search
from mjoa_gym import Instance, Plan, Scenario
from mjoa_gym.envs.actions import PlanView
from mjoa_gym.envs.observation import PEOPLE
from mjoa_gym.evaluation.agent import PlanAction, PlanningAgent
from mjoa_gym.model import radio
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.menu import Menu, menu_of
from mjoa_gym.world import rounds
from mjoa_gym.world.rounds import Decision, outlines_of

LARGEST = 6
"""Prefetches without the one, two, ... largest layers are tried, up to so many."""


class Constants(NamedTuple):
    """What is tuned (`scripts/tune_far_sighted.py`).

    Attributes:
        patience: Weight of a round ahead against the present one.
        share: Of band and server, in units of 1 / N, at which later inferences are estimated.
    """

    patience: float = 0.3
    share: float = 2.0


class FarSightedAgent(PlanningAgent):
    """The planner as an agent. Where nothing persists it plans as MJOA-MU does.

    Attributes:
        constants: What is tuned.
    """

    def __init__(
        self,
        scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
        constants: Constants | None = None,
    ) -> None:
        super().__init__(scenario)
        self.constants = Constants() if constants is None else constants

    def act(self, observation: Mapping[str, Any], instance: Instance, view: PlanView) -> PlanAction:
        """See `PlanningAgent.act`."""
        plan = plan_with("mjoa-mu-prefetch" if view.persists else "mjoa-mu", instance)
        over = int(observation["round"][0])
        rounds_ahead = self.constants.patience * expected_rounds(view.scenario, over)
        if not view.persists or rounds_ahead == 0.0:
            return view.encode(plan)
        prospect = prospect_of(view.scenario, observation, plan, rounds_ahead, self.constants.share)
        search(prospect)
        return action_of(prospect)


def expected_rounds(scenario: Scenario, over: int) -> float:
    """Rounds that a UE is expected to stay for after the present one, of which `over` are over."""
    stays = 1.0 - scenario.departure_probability
    return float(np.sum(stays ** np.arange(1, scenario.rounds - over)))


def action_of(prospect: Prospect) -> PlanAction:
    """The decision as an action of the plan view."""
    decision = prospect.decision
    placements = decision.placements[decision.placement_of[0]]
    prefetch = decision.placements[decision.prefetch_of[0]] & (1 - placements)
    return {
        "placements": placements,
        "bandwidth_share": decision.bandwidth_share[0],
        "compute_share": decision.compute_share[0],
        "prefetch": prefetch,
    }


def prospect_of(
    scenario: Scenario,
    observation: Mapping[str, Any],
    plan: Plan,
    rounds_ahead: float,
    share: float,
) -> Prospect:
    """What the search needs, with a plan to start from."""
    dnn = np.asarray(observation["dnn"], dtype=np.int64)
    n_ues, width = len(dnn), scenario.tables.width
    blocks, sizes = zip(*(_rows(scenario, d, plan, i) for i, d in enumerate(dnn)), strict=True)
    rows = np.concatenate(blocks)
    counts = [len(block) for block in blocks]
    outlines = outlines_of(rows, np.repeat(dnn, counts), scenario.tables)
    first = np.cumsum([0, *counts], dtype=np.int64)
    placements = np.array(sizes, dtype=np.int64)
    own = (first[:-1] + placements - 1)[None]
    state = _state(scenario, observation)
    even = np.full((1, n_ues), min(1.0, share / n_ues))
    return Prospect(
        tables=scenario.tables,
        constants=scenario.constants,
        state=state,
        resident=state.resident.copy(),
        idle=state.idle.copy(),
        decision=Decision(
            rows, outlines, own.copy(), own + 1,
            plan.bandwidth_share[None].copy(), plan.compute_share[None].copy(),
        ),
        first=first,
        placements=placements,
        ahead=_ahead(scenario, state),
        habit=Decision(rows, outlines, own.copy(), own.copy(), even, even),
        rounds_ahead=rounds_ahead,
        known=np.full((2, n_ues, width), np.nan),
        worth=np.zeros((2, n_ues)),
        trial=np.zeros((2, 1, n_ues, width)),
        trial_worth=np.zeros((2, n_ues)),
        room=rounds.new_room(n_ues, width),
    )  # fmt: skip


def _rows(scenario: Scenario, d: int, plan: Plan, i: int) -> tuple[NDArray[np.int8], int]:
    """UE i's table, and how many of its rows are placements; the plan's is the last of those.

    The others are for prefetching: first the plan's, then all layers but for the largest.
    """
    menu: Menu = menu_of(scenario, streaming=True)
    own = np.zeros((2, scenario.tables.width), np.int8)
    n = int(scenario.tables.n_layers[d])
    own[0, :n] = plan.placements[i]
    own[1, :n] = 0 if plan.prefetch is None else plan.prefetch[i]
    on_menu = menu.placements[d, : menu.size[d]]
    return np.concatenate([on_menu, own, _up_to_size(scenario, d)]), len(on_menu) + 1


@lru_cache(maxsize=256)
def _up_to_size(scenario: Scenario, d: int) -> NDArray[np.int8]:
    """(rows, L) all layers of network d, then those but for the one, two, ... largest sizes."""
    sizes = scenario.tables.parameter_bytes[d]
    limits = np.unique(sizes[sizes > 0])[::-1][: LARGEST + 1]
    exists = np.arange(len(sizes)) < scenario.tables.n_layers[d]
    return np.array([(sizes <= limit) & exists for limit in limits], dtype=np.int8).reshape(
        -1, len(sizes)
    )


def _state(scenario: Scenario, observation: Mapping[str, Any]) -> rounds.State:
    """What an observation shows, as the state of a batch of one."""
    state = rounds.new_state(scenario, 1)
    for key in PEOPLE:
        getattr(state.population, key)[0] = observation[key]
    state.resident[0] = observation["resident"]
    state.idle[0] = observation["idle_rounds"]
    return state


def _ahead(scenario: Scenario, state: rounds.State) -> rounds.State:
    """The same UEs in a later round, as far as one can tell: without this round's fades.

    Both directions share the path loss, so the mean of their gains tells more than either.
    """
    people = state.population
    up, down = (
        float(radio.from_db(power_dbm))
        for power_dbm in (scenario.ue_power_dbm, scenario.edge_power_dbm)
    )
    gain = 0.5 * (people.snr_up / up + people.snr_down / down)
    low, high = scenario.constants.snr_min, scenario.constants.snr_max
    faded = people._replace(
        snr_up=np.clip(gain * up, low, high), snr_down=np.clip(gain * down, low, high)
    )
    return state._replace(population=faded, resident=np.zeros_like(state.resident))
