"""What a learned agent looks at: for each UE, what each entry of its menu would lead to.

An observation says who the UEs are, how their channels are and what lies on the server. This turns
it into what matters for the decision: a few simulations for every entry of a UE's menu, at shares
that the UE might get. It uses the observation and the scenario, nothing else. It knows no network
by name, so what is learned from it serves networks, devices and numbers of UEs never trained on.

Cost: 2 simulations per UE and entry of its menu, 3 when streaming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView, DiscreteView, MenuView
from mjoa_gym.envs.observation import population_in
from mjoa_gym.model import kernel, radio
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import link_over, seconds_for
from mjoa_gym.world.batch import in_parts
from mjoa_gym.world.rounds import inference_in, new_room, scratch_in
from mjoa_gym.world.tables import channel_with, inference_with

PER_UE = 14
"""Numbers that describe a UE, see `Outlook`."""
PER_ENTRY = 7
"""Numbers that describe an entry of its menu."""
GENEROUS = 3.0
"""A generous share is so many times an equal one."""
INSTALLED = int(Upload.PREINSTALLED)
LEAST, SPAN = np.exp(-7.0), 10.0


class OutlookColumns(NamedTuple):
    """Where the columns of a UE are: the UE's, then what the view adds, then M entries'."""

    view: int  # how many the view adds
    entries: int  # M

    @property
    def context(self) -> int:
        """Columns before the entries'."""
        return PER_UE + self.view

    @property
    def columns(self) -> int:
        """All columns."""
        return self.context + self.entries * PER_ENTRY


class Outlook:
    """Turns dictionary observations into arrays (E, N, columns), float32 in [0, 1].

    Seconds are seen in relation to the UE's all-local seconds, on a logarithmic scale from e^-7 to
    e^3 (so is everything marked *). Each entry of the menu has (zeros beyond the menu's end):

    | Column | Meaning |
    |---|---|
    | 0 | 1: there is such an entry |
    | 1, 2 | seconds of the inference at an equal share, and at a generous one * |
    | 3 | seconds to upload what it misses, at an equal share * |
    | 4 | its seconds on the server, at an equal share * |
    | 5 | streaming: seconds at an equal share if nothing of it were missing * |
    | 6 | streaming: the bytes that it misses, over the server's memory |

    A UE has, before them:

    | Column | Meaning |
    |---|---|
    | 0, 1 | its all-local seconds, absolute *, and as a part of the round's objective |
    | 2 | its weight over the greatest |
    | 3, 4 | bit/s with the whole band, up and down, over 20 bit/s for each Hz of it |
    | 5, 6 | fewest seconds over the menu, at an equal and at a generous share * |
    | 7 | streaming: fewest seconds over the menu if nothing were missing * |
    | 8 | streaming: seconds to upload all that is missing, at an equal share, over the period * |
    | 9 | streaming: what it keeps on the server, over the server's memory |
    | 10 | streaming: what all keep there, over the server's memory |
    | 11 | rounds still to come over the rounds of an episode; 1 where nothing persists |
    | 12, 13 | 1 / N, and the mean of column 5, weighted with column 1 |

    What the action view adds (see `DiscreteView.features`) comes in between, and the first UE is
    the one whose turn it is.

    Attributes:
        view: The action view.
        layout: What is where.
        space: Of one environment.
        threads: Threads that share the work.
    """

    def __init__(self, view: ActionView, threads: int = 1) -> None:
        """Look through an action view.

        Raises:
            TypeError: If the view does not choose from a menu.
        """
        if not isinstance(view, MenuView):
            raise TypeError(f"view is a {type(view).__name__}; needed is one that has a menu")
        self.view, self.threads = view, threads
        menus = (len(view.sizes), view.entries, -1)
        self._placements = view.placements.reshape(menus)
        self._outlines = view.outlines.reshape(menus)
        self.layout = OutlookColumns(view.features().shape[2], view.entries)
        shape = (view.shape[0], self.layout.columns)
        self.space = gym.spaces.Box(0.0, 1.0, shape, dtype=np.float32)

    def __call__(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        """The outlook of a batch of E dictionary observations."""
        people = population_in(observation, self.view.scenario)
        n_envs, n_ues = people.dnn.shape
        scenario = self.view.scenario
        tables, constants = scenario.tables, scenario.constants
        persists = "resident" in observation
        resident, over = np.zeros((n_envs, n_ues, tables.width)), np.zeros(n_envs)
        if persists:
            resident = np.asarray(observation["resident"], np.float64)
            over = np.asarray(observation["round"], np.float64)[:, 0]
        left = 1.0 - over / scenario.rounds
        seen = np.zeros((n_envs, n_ues, self.layout.columns), np.float32)

        def part(first: int, last: int) -> None:
            room = new_room(n_ues, tables.width)
            _look(
                seen, room, people, resident, left, tables, constants, persists, self.view.sizes,
                self._placements, self._outlines, self.layout.context, first, last,
            )  # fmt: skip

        in_parts(part, n_envs, self.threads)
        if isinstance(self.view, DiscreteView):
            added = self.view.features_of(np.asarray(observation["chosen"]))
            seen[:, :, PER_UE : self.layout.context] = added
            turn = np.asarray(observation["turn"])
            order = (np.arange(n_ues) + turn) % n_ues
            seen = np.take_along_axis(seen, order[:, :, None], axis=1)
        return seen

    def local_s(self, observation: Mapping[str, Any]) -> NDArray[np.float64]:
        """(E, N) weighted all-local seconds of the UEs of a batch of observations."""
        who = observation["dnn"], observation["ue_device"]
        at_full_speed = self.view.scenario.tables.local_s[who]
        return observation["weight"] * at_full_speed / observation["speed"]

    def usual_local_s(self) -> float:
        """About the mean of `local_s`."""
        scenario = self.view.scenario
        slowness = 2.0 / (scenario.ue_speed_min + scenario.ue_speed_max)
        weight = (scenario.weight_min + scenario.weight_max) / 2.0
        return float(scenario.tables.local_s.mean()) * slowness * weight


@njit(inline="always")
def scaled(ratio):
    """A number >= 0 on a logarithmic scale, 0 for 0 and 1 for e^3 and more."""
    return min(1.0, np.log(ratio + LEAST) / SPAN + 0.7) if ratio > 0.0 else 0.0


@njit(inline="always")
def channel_of(people, constants, e, i):
    """UE i's channel in environment e."""
    return channel_with(constants, people.up[e, i], people.down[e, i], people.message_s[e, i])


@njit(inline="always")
def efficiency(level, constants):
    """Bit/s per Hz at full band, from an SNR, or from the rate of a trace."""
    return level / constants.bandwidth_hz if constants.traced else np.log2(1.0 + level)


@njit(cache=True, nogil=True)
def _look(
    seen, room, people, resident, left, tables, numbers, persists, sizes, placements, outlines,
    context, first, last,
):  # fmt: skip
    """Fill `seen[first:last]`, but for what the view adds; see `Outlook`."""
    constants = numbers[0]
    n_ues = people.dnn.shape[1]
    local_s, here_bytes = np.empty(n_ues), np.empty(n_ues)
    memory_bytes = max(constants.server_memory_bytes, 1.0)
    for e in range(first, last):
        for i in range(n_ues):
            local_s[i], here_bytes[i] = _load(room, people, resident, tables, e, i)
        total = (people.weight[e] * local_s).sum()
        mean = 0.0
        for i in range(n_ues):
            d = people.dnn[e, i]
            own = seen[e, i]
            part = people.weight[e, i] * local_s[i] / total
            own[0], own[1] = scaled(local_s[i]), part
            own[2] = people.weight[e, i] / constants.weight_max
            own[3] = min(1.0, efficiency(people.up[e, i], constants) / 20.0)
            own[4] = min(1.0, efficiency(people.down[e, i], constants) / 20.0)
            _entries(
                own, context, room, people, tables, constants, persists, local_s[i], sizes[d],
                placements[d], outlines[d], e, i,
            )  # fmt: skip
            if persists:
                missing = tables.parameter_bytes[d].sum() - here_bytes[i]
                channel = channel_of(people, constants, e, i)
                share = radio.rate_bps(
                    channel.up_hz, 1.0 / n_ues, channel.snr_up, channel.concentrates
                )
                own[8] = scaled(missing * 8.0 / max(share, 1e-9) / constants.period_s)
                own[9] = min(1.0, here_bytes[i] / memory_bytes)
                own[10] = min(1.0, here_bytes.sum() / memory_bytes)
            own[11] = left[e]
            own[12] = 1.0 / n_ues
            mean += part * own[5]
        seen[e, :, 13] = mean


@njit(inline="always")
def _load(room, people, resident, tables, e, i):
    """Put UE i's seconds and missing bytes into the room; its all-local seconds, bytes there."""
    d, device = people.dnn[e, i], people.device[e, i]
    local_s = here_bytes = 0.0
    for layer in range(tables.n_layers[d]):
        seconds = tables.ue_s[d, device, layer] / people.speed[e, i]
        bytes_ = tables.parameter_bytes[d, layer]
        room.ue_s[i, layer] = seconds
        room.missing_bytes[i, layer] = bytes_ * (1.0 - resident[e, i, layer])
        local_s += seconds
        here_bytes += bytes_ * resident[e, i, layer]
    return local_s, here_bytes


@njit(cache=True, nogil=True)
def _entries(
    own, context, room, people, tables, constants, persists, local_s, size, placements, outlines,
    e, i,
):  # fmt: skip
    """Fill the columns of UE i's entries, and its fewest seconds over them."""
    n_ues = people.dnn.shape[1]
    d, scratch = people.dnn[e, i], scratch_in(room, i)
    inference = inference_in(room, tables, constants, d, i)
    installed = inference_with(tables, d, room.ue_s[i], room.missing_bytes[i], INSTALLED)
    channel = channel_of(people, constants, e, i)
    equal, generous = 1.0 / n_ues, min(1.0, GENEROUS / n_ues)
    usual = link_over(channel, equal, equal)
    good = link_over(channel, generous, generous)
    memory_bytes = max(constants.server_memory_bytes, 1.0)
    own[5] = own[6] = own[7] = 1.0
    for entry in range(size):
        missing = edge_s = 0.0
        for layer in range(len(inference.ue_s)):
            if placements[entry, layer] == 1:
                missing += inference.missing_bytes[layer]
                edge_s += inference.edge_s[layer]
        to = own[context + PER_ENTRY * entry : context + PER_ENTRY * (entry + 1)]
        to[0] = 1.0
        outline = outlines[entry]
        to[1] = scaled(kernel.follow(outline, inference, usual, scratch)[1] / local_s)
        to[2] = scaled(kernel.follow(outline, inference, good, scratch)[1] / local_s)
        to[3] = scaled(seconds_for(missing, usual.up) / local_s) if missing > 0.0 else 0.0
        to[4] = scaled(edge_s * usual.slowdown / local_s)
        own[5], own[6] = min(own[5], to[1]), min(own[6], to[2])
        if persists:
            to[5] = scaled(kernel.follow(outline, installed, usual, scratch)[1] / local_s)
            to[6] = min(1.0, missing / memory_bytes)
            own[7] = min(own[7], to[5])
