"""An observation for learning agents: the consequences of each menu entry, or of bids.

Other observations describe the UEs, their channels and the server's memory. This one turns them
into what matters for the decision: a few simulations for every entry of a UE's menu, at shares that
the UE might get. It identifies no network, so a policy that is trained on it also works with
networks, devices and numbers of UEs that it was never trained on.

Cost: 2 simulations per UE and entry of its menu; when streaming, 3 if the entry misses parameters.
Where UEs bid for shares alone: 1 per UE, entry and bid that is tried; when streaming, 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView, MenuView, OneByOneView, SharesView
from mjoa_gym.envs.actions.response import GREATEST_BID, cheapest
from mjoa_gym.envs.actions.targets import INSTALLED
from mjoa_gym.envs.observation import Observer, entry_of, state_in
from mjoa_gym.model import energy, kernel, radio
from mjoa_gym.model.compiling import lean, lean_inner
from mjoa_gym.model.link import link_over, seconds_for
from mjoa_gym.planners.menu import ENTRIES
from mjoa_gym.world import memory
from mjoa_gym.world.batch import in_parts
from mjoa_gym.world.rounds import (
    State,
    channel_in,
    inference_in,
    load_ue,
    local_cost,
    new_room,
    scratch_in,
)
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.tables import NO_DEADLINES, inference_with

PER_UE = 14
"""Number of columns that describe a UE in every scenario; see `RoundsEnv`."""
PER_ENTRY, PER_PROBE = 7, 6
"""Number of columns for a menu entry, and for a bid that is tried, in every scenario."""
PROBES = GREATEST_BID ** np.array([(0, 0), (-1, -1), (1, 1), (1, 0), (0, 1)], dtype=np.float64)
"""(P, 2) bids for band and server that are tried where a UE bids for shares alone."""
GENEROUS = 3.0
"""A generous share is this many times as large as an equal one."""
LEAST, SPAN = np.exp(-7.0), 10.0


class OutlookLayout(NamedTuple):
    """The order of a UE's columns: its own, then the action view's, then those of M entries.

    Where a UE bids for shares alone, the bids that are tried replace the entries.
    """

    added: int  # columns that the view adds
    entries: int  # M, or P
    ue: int = PER_UE  # the UE's own columns
    entry: int = PER_ENTRY  # columns of an entry
    most: int = ENTRIES  # the maximum of M over all scenarios

    @staticmethod
    def of(view: MenuView) -> OutlookLayout:
        """Return the layout for an action view of a scenario."""
        more = properties_of(view.scenario, view.persists)
        tries = isinstance(view, SharesView)
        entries, entry = (len(PROBES), PER_PROBE) if tries else (view.entries, PER_ENTRY)
        return OutlookLayout(
            added=view.features().shape[2],
            entries=entries,
            ue=PER_UE + len(more),
            entry=entry + len(set(more) - {SHARED}),
            most=len(PROBES) if tries else ENTRIES,
        )

    @property
    def tries_bids(self) -> bool:
        """Whether the columns are of bids in place of entries."""
        return self.most == len(PROBES)

    @property
    def context(self) -> int:
        """Number of columns before those of the entries."""
        return self.ue + self.added

    @property
    def columns(self) -> int:
        """Total number of columns."""
        return self.context + self.entries * self.entry


SHARED, RETAINED, DEADLINES, PRICED = PROPERTIES = (
    "shared parameters", "retain", "deadlines", "an energy price",
)  # fmt: skip
"""Properties of a scenario. Each adds a column to every UE, and all but the first also add one to
every entry."""


def properties_of(scenario: Scenario, persists: bool) -> tuple[str, ...]:
    """Return those of `PROPERTIES` that a scenario has, in order."""
    has = {
        SHARED: persists and scenario.share_parameters,
        RETAINED: persists and scenario.retain,
        DEADLINES: scenario.has_deadlines,
        PRICED: scenario.energy_price_s_per_j > 0.0,
    }
    return tuple(name for name in PROPERTIES if has[name])


class OutlookSpace(gym.spaces.Box):
    """`Box(0, 1, float32)` of shape (N, columns) that also describes its columns.

    Spaces are equal only if their columns have the same meaning.
    """

    def __init__(self, view: MenuView) -> None:
        self.layout = OutlookLayout.of(view)
        self.properties = properties_of(view.scenario, view.persists)
        shape = (view.scenario.n_ues, self.layout.columns)
        super().__init__(0.0, 1.0, shape, np.float32)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, OutlookSpace)
            and (self.layout, self.properties) == (other.layout, other.properties)
            and super().__eq__(other)
        )


class Outlook(Observer):
    """A row of numbers in [0, 1] for each UE: the consequences of the entries of its menu.

    A UE has its own columns, then those of the action view (see `ActionView.features`), and then
    those of the first entry of its menu, of the second and so on. The docstring of `RoundsEnv`
    describes all of them.

    Attributes:
        layout: Order and number of the columns.
    """

    views: ClassVar[type] = MenuView
    view: MenuView
    space: OutlookSpace

    def __init__(self, view: ActionView) -> None:
        super().__init__(view)
        self.space = OutlookSpace(self.view)
        self.layout = self.space.layout

    def observe(self, state: State, threads: int = 1) -> NDArray[np.float32]:
        """See `Observer.observe`."""
        return self._look_at(state, self.view.features(), self.view.turn(), threads)

    def __call__(self, observation: Mapping[str, Any], threads: int = 1) -> NDArray[np.float32]:
        """Return the outlooks for a batch of E dictionary observations.

        Raises:
            ValueError: If an entry is missing.
        """
        view, state = self.view, state_in(observation, self.view)
        features = np.zeros((*state.population.dnn.shape, 0), np.float32)
        turn = np.zeros(len(features), np.int64)
        if isinstance(view, OneByOneView):
            features = view.features_of(np.asarray(entry_of(observation, "chosen")))
            turn = np.asarray(entry_of(observation, "turn"))[:, 0].copy()
        return self._look_at(state, features, turn, threads)

    def _look_at(
        self, state: State, features: NDArray[np.float32], turn: NDArray[np.int64], threads: int
    ) -> NDArray[np.float32]:
        """Return (E, N, columns): the outlooks of a state, in which UEs `turn` (E,) decide next."""
        view, scenario, layout = self.view, self.view.scenario, self.layout
        probes = PROBES if isinstance(view, SharesView) else PROBES[:0]
        n_envs, n_ues = state.population.dnn.shape
        seen = np.zeros((n_envs, n_ues, layout.columns), np.float32)

        def part(first: int, last: int) -> None:
            room, sums = new_room(n_ues, scenario.tables.width), np.empty((3, n_ues))
            _look(
                seen, room, sums, state, features, turn, scenario.tables, scenario.constants,
                scenario.rounds, view.persists, view.menus, view.placements, layout, probes, first,
                last,
            )  # fmt: skip

        in_parts(part, n_envs, threads)
        return seen


@njit(inline="always")
def scaled(ratio):
    """Return a number >= 0 on a logarithmic scale: 0 for 0, and 1 for e^3 and more."""
    return min(1.0, np.log(ratio + LEAST) / SPAN + 0.7) if ratio > 0.0 else 0.0


@njit(inline="always")
def efficiency(level, constants):
    """Return bit/s per Hz at full band, from an SNR or from the rate of a trace."""
    return level / constants.bandwidth_hz if constants.traced else np.log2(1.0 + level)


LOCAL_S, COST, HERE = range(3)
"""Rows of `sums` (3, N): all-local seconds, their cost, and bytes on the server."""


@lean
def _look(
    seen, room, sums, state, features, turn, tables, numbers, rounds, persists, menus, placements,
    layout, probes, first, last,
):  # fmt: skip
    """Fill `seen[first:last]`, which is zero, with the outlooks of a state; see `RoundsEnv`."""
    constants, people, shared = numbers[0], state.population, numbers[0].share_parameters
    n_ues = people.dnn.shape[1]
    memory_bytes = max(constants.server_memory_bytes, 1.0)
    for e in range(first, last):
        total = held = mean = 0.0
        for i in range(n_ues):
            _sum_up(room, sums, state, tables, constants, e, i)
            total += sums[COST, i]
            held += sums[HERE, i]
        if persists and shared:
            held = memory.bytes_there(state.resident[e], people.dnn[e], tables, shared)
        for i in range(n_ues):
            own = seen[e, (i - turn[e]) % n_ues]
            local_s, part = sums[LOCAL_S, i], sums[COST, i] / total
            own[0], own[1] = scaled(local_s), part
            own[2] = people.weight[e, i] / constants.weight_max
            own[3] = min(1.0, efficiency(people.up[e, i], constants) / 20.0)
            own[4] = min(1.0, efficiency(people.down[e, i], constants) / 20.0)
            for x in range(features.shape[2]):
                own[layout.ue + x] = features[e, i, x]
            if len(probes) == 0:
                _look_at_entries(
                    own, room, state, tables, constants, persists, local_s, menus, placements,
                    layout, e, i,
                )  # fmt: skip
            else:
                _try_bids(
                    own, room, state, tables, constants, persists, local_s, menus, placements,
                    layout, probes, e, i,
                )  # fmt: skip
            own[11] = 1.0
            if persists:
                own[8] = scaled(_missing_s(people, tables, constants, sums[HERE, i], e, i))
                own[9] = min(1.0, sums[HERE, i] / memory_bytes)
                own[10] = min(1.0, held / memory_bytes)
                own[11] = 1.0 - state.round[e] / rounds
            own[12] = 1.0 / n_ues
            mean += part * own[5]
            _add(own, state, tables, constants, persists, local_s, sums[HERE, i], e, i)
        for i in range(n_ues):
            seen[e, i, 13] = mean


@njit(inline="always")
def _sum_up(room, sums, state, tables, constants, e, i):
    """Put UE i's seconds and missing bytes into the room, and their totals into `sums`."""
    people = state.population
    d = people.dnn[e, i]
    resident = state.resident[e, memory.row_of(people.dnn[e], i, constants.share_parameters)]
    local_s = load_ue(room, tables, constants, state, e, i)
    here = 0.0
    for layer in range(tables.n_layers[d]):
        here += tables.parameter_bytes[d, layer] * resident[layer]
    sums[LOCAL_S, i], sums[HERE, i] = local_s, here
    sums[COST, i] = local_cost(tables, constants, people, local_s, e, i)


@njit(inline="always")
def _missing_s(people, tables, constants, here, e, i):
    """Return UE i's seconds to upload all missing bytes, at an equal share, over the period."""
    d, channel = people.dnn[e, i], channel_in(people, constants, e, i)
    size = 0.0
    for layer in range(tables.n_layers[d]):
        size += tables.parameter_bytes[d, layer]
    share = 1.0 / people.dnn.shape[1]
    bps = radio.rate_bps(channel.up_hz, share, channel.snr_up, channel.concentrates)
    return (size - here) * 8.0 / max(bps, 1e-9) / constants.period_s


@njit(inline="always")
def _add(own, state, tables, constants, persists, local_s, here, e, i):
    """Fill those columns of UE i that only some scenarios have."""
    people, c = state.population, PER_UE
    dnn = people.dnn[e]
    if persists and constants.share_parameters:
        same = 0
        for k in range(len(dnn)):
            same += dnn[k] == dnn[i]
        own[c] = same / len(dnn)
        c += 1
    if persists and constants.retain:
        row, unused = memory.row_of(dnn, i, constants.share_parameters), 0.0
        for layer in range(tables.n_layers[dnn[i]]):
            held = state.resident[e, row, layer] * tables.parameter_bytes[dnn[i], layer]
            unused += held * state.idle[e, row, layer]
        own[c] = unused / max(unused + here, 1.0)
        c += 1
    if constants.deadlines != NO_DEADLINES:
        own[c] = scaled(people.deadline_s[e, i] / local_s)
        c += 1
    if constants.energy_price_s_per_j > 0.0:
        local_j = energy.local_j(tables.power[people.device[e, i]], local_s)
        own[c] = scaled(constants.energy_price_s_per_j * local_j / local_s)


@lean_inner
def _look_at_entries(
    own, room, state, tables, constants, persists, local_s, menus, placements, layout, e, i
):  # fmt: skip
    """Fill the columns of UE i's entries, and the fewest seconds over them."""
    people = state.population
    n_ues, d, scratch = people.dnn.shape[1], people.dnn[e, i], scratch_in(room, i)
    inference = inference_in(room, tables, constants, d, i)
    installed = inference_with(tables, d, room.ue_s[i], room.missing_bytes[i], INSTALLED)
    channel = channel_in(people, constants, e, i)
    equal, generous = 1.0 / n_ues, min(1.0, GENEROUS / n_ues)
    usual = link_over(channel, equal, equal)
    good = link_over(channel, generous, generous)
    power = tables.power[people.device[e, i]]
    memory_bytes = max(constants.server_memory_bytes, 1.0)
    own[5] = own[6] = own[7] = 1.0
    for entry in range(menus.sizes[d]):
        outline = menus.outlines[d * menus.entries + entry]
        placement = placements[d * menus.entries + entry]
        missing, there, edge_s = _needs(placement, inference, tables.parameter_bytes[d])
        to = own[layout.ue + layout.added + layout.entry * entry :][: layout.entry]
        usual_s = kernel.follow(outline, inference, usual, scratch)[1]
        to[0] = 1.0
        to[1] = scaled(usual_s / local_s)
        to[2] = scaled(kernel.follow(outline, inference, good, scratch)[1] / local_s)
        to[3] = scaled(seconds_for(missing, usual.up) / local_s) if missing > 0.0 else 0.0
        to[4] = scaled(edge_s * usual.slowdown / local_s)
        own[5], own[6] = min(own[5], to[1]), min(own[6], to[2])
        if persists:
            installed_s = usual_s
            if missing > 0.0:
                installed_s = kernel.follow(outline, installed, usual, scratch)[1]
            to[5] = scaled(installed_s / local_s)
            to[6] = min(1.0, missing / memory_bytes)
            own[7] = min(own[7], to[5])
        _add_to(
            to[PER_ENTRY:], outline, inference, usual, usual_s, there / memory_bytes, local_s,
            power, people, constants, persists, e, i,
        )  # fmt: skip


@njit(inline="always")
def _needs(placement, inference, parameter_bytes):
    """Return the edge layers' missing bytes, bytes on the server, and seconds to run."""
    missing = there = edge_s = 0.0
    for layer in range(len(inference.ue_s)):
        if placement[layer] == 1:
            missing += inference.missing_bytes[layer]
            edge_s += inference.edge_s[layer]
            there += parameter_bytes[layer] - inference.missing_bytes[layer]
    return missing, there, edge_s


@lean_inner
def _try_bids(
    own, room, state, tables, constants, persists, local_s, menus, placements, layout, probes, e,
    i,
):  # fmt: skip
    """Fill the columns of the bids that are tried for UE i, and the fewest seconds over them."""
    people, part = state.population, own[1]
    d, power = people.dnn[e, i], tables.power[people.device[e, i]]
    inference = inference_in(room, tables, constants, d, i)
    installed = inference_with(tables, d, room.ue_s[i], room.missing_bytes[i], INSTALLED)
    channel = channel_in(people, constants, e, i)
    memory_bytes = max(constants.server_memory_bytes, 1.0)
    own[5] = own[6] = own[7] = 1.0
    for probe in range(len(probes)):
        band, compute = probes[probe]
        link = link_over(
            channel,
            band * part / (1.0 + (band - 1.0) * part),
            compute * part / (1.0 + (compute - 1.0) * part),
        )
        row, seconds = cheapest(
            inference, link, False, room, people, tables, constants, menus, e, i
        )
        missing, _, edge_s = _needs(placements[row], inference, tables.parameter_bytes[d])
        to = own[layout.ue + layout.added + layout.entry * probe :][: layout.entry]
        to[0] = 1.0 if row % menus.entries > 0 else 0.0
        to[1] = min(1.0, seconds / local_s)  # not a logarithm: differences are the gains
        to[2] = min(1.0, seconds_for(missing, link.up) / local_s)
        to[3] = min(1.0, edge_s * link.slowdown / local_s)
        there = 0.0
        if persists:
            favourite, later_s = cheapest(
                installed, link, True, room, people, tables, constants, menus, e, i
            )
            missing, there, _ = _needs(placements[favourite], inference, tables.parameter_bytes[d])
            to[4] = min(1.0, later_s / local_s)
            to[5] = min(1.0, missing / memory_bytes)
            if probe == 0:
                own[7] = scaled(later_s / local_s)
        if probe == 0:
            own[5] = scaled(seconds / local_s)
        own[6] = min(own[6], scaled(seconds / local_s))
        _add_to(
            to[PER_PROBE:], menus.outlines[row], inference, link, seconds, there / memory_bytes,
            local_s, power, people, constants, persists, e, i,
        )  # fmt: skip


@njit(inline="always")
def _add_to(
    to, outline, inference, link, seconds, kept, local_s, power, people, constants, persists, e, i
):  # fmt: skip
    """Fill those columns of an entry, or of a bid, that only some scenarios have."""
    c = 0
    if persists and constants.retain:
        to[c] = min(1.0, kept)
        c += 1
    if constants.deadlines != NO_DEADLINES:
        to[c] = 1.0 if seconds <= people.deadline_s[e, i] else 0.0
        c += 1
    if constants.energy_price_s_per_j > 0.0:
        joules = energy.inference_j(power, outline, inference, link, seconds)
        to[c] = scaled(joules / energy.local_j(power, local_s))
