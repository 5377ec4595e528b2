"""The vocabulary of learned action views: for each network, a short menu of good placements.

A network of L layers has 2^L placements, and a learned view offers a few of them. PBT-DP answers
many conditions that the scenario can produce: a UE, its link, its shares and, if parameters
persist, what is on the server already. Placements are then taken one by one. Each time it is the
placement that most reduces the mean latency in excess of the best placement's. (`docs/menu.md` says
how much a menu loses against free placement.)

The menus of the packaged scenarios are stored in `menus.json`. So they take no time to compute, and
they stay the same when PBT-DP changes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import files
from mjoa_gym.model import kernel
from mjoa_gym.model.inference import Inference
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.model.link import Link
from mjoa_gym.planners.pbt_dp import best_partition
from mjoa_gym.world.population import random_population, to_instance
from mjoa_gym.world.scenario import Scenario

ENTRIES = 16
"""The most placements on a network's menu."""
NEGLIGIBLE = 1e-4
"""The menu ends when no entry lowers the mean relative excess latency by more than this."""
CONDITIONS = 512
"""The number of conditions per network by which placements are chosen."""
PROPOSALS = 160
"""PBT-DP answers this many of the conditions, the first ones."""
WIDTH = 16
"""The width of PBT-DP's tree: a quarter of a planner's, as good for this purpose and up to 4 times
faster."""
SEED = 0
"""The seed of the conditions. It is the same for every network, so that a network's menu does not
depend on the others."""

STORED = Path(__file__).with_name("menus.json")
"""Menus by network and fingerprint; `scripts/store_menus.py` writes the file."""

Conditions = list[tuple[Inference, Link]]
"""Inferences that may occur, each with the link of its shares."""

_BESIDE_THE_POINT: dict[str, Any] = {
    "name": "",
    "rounds": 1,
    "weight_min": 1.0,
    "weight_max": 1.0,
    "period_s": 1.0,
    "server_memory_bytes": 0.0,
    "share_parameters": False,
    "retain": False,
    "departure_probability": 0.0,
    "shadowing_correlation": 0.0,
    "speed_m_per_s": 0.0,
    "deadline_factor_min": None,
    "deadline_factor_max": None,
    "deadline_min_s": None,
    "deadline_max_s": None,
    "energy_price_s_per_j": 0.0,
    "miss_price_s": 0.0,
}
_IN_TABLES = (
    "dnns", "granularity", "parameter_bits", "activation_bits", "ue_devices", "edge_device",
    "edge_speed",
)  # fmt: skip
"""Fields of a scenario that say which networks and devices there are."""


class Menu(NamedTuple):
    """The placements that a learned view can express, for D networks of at most L layers.

    The arrays are read-only. Entry 0 leaves every layer on the UE, and a network's last entry
    leaves none there. The entries are ordered by the bytes of the parameters that they need at the
    edge, so neighbouring entries are similar.
    """

    placements: NDArray[np.int8]  # (D, M, L), 1 = edge; zeros after a network's last entry or layer
    size: NDArray[np.int64]  # (D,) entries of each network, 2 to M


def menu_of(scenario: Scenario, streaming: bool, entries: int = ENTRIES) -> Menu:
    """The menus of a scenario's networks: stored or computed once, the same in every process.

    Args:
        scenario: The setting. Fields that do not affect a single inference make no difference.
        streaming: Whether parameters persist. If so, the menu also has placements that only pay
            with some parameters resident.
        entries: The most placements on a network's menu.

    Raises:
        ValueError: If `entries` is less than 2: all-UE and all-edge are always on the menu.
    """
    if entries < 2:
        raise ValueError(f"entries={entries!r}: must be at least 2")
    alike = replace(scenario, **_BESIDE_THE_POINT)
    return _menu_of(alike, streaming and scenario.upload != "preinstalled", entries)


@lru_cache(maxsize=32)
def _menu_of(scenario: Scenario, streaming: bool, entries: int) -> Menu:
    menus = [_network_menu(scenario, d, streaming, entries) for d in range(len(scenario.dnns))]
    size = np.array([len(menu) for menu in menus], dtype=np.int64)
    placements = np.zeros((len(menus), size.max(), scenario.tables.width), np.int8)
    for d, menu in enumerate(menus):
        placements[d, : len(menu), : menu.shape[1]] = menu
    placements.flags.writeable = size.flags.writeable = False
    return Menu(placements, size)


def _network_menu(scenario: Scenario, d: int, streaming: bool, entries: int) -> NDArray[np.int8]:
    """The menu (entries, L) of the scenario's network d."""
    menu = stored_menu(scenario, d, streaming, entries)
    return found_menu(scenario, d, streaming, entries) if menu is None else menu


def fingerprint(scenario: Scenario, d: int, streaming: bool, entries: int) -> str:
    """A hash of everything that the menu of the scenario's network d depends on, except the code.

    Of the scenario's fields it covers those that differ from their defaults, so that a new field
    does not change it. Seconds and bytes count to the accuracy of float32, because another machine
    may have other last bits.
    """
    tables, dnn = scenario.tables, scenario.profiles[d]
    search = (streaming, entries, NEGLIGIBLE, CONDITIONS, PROPOSALS, WIDTH, SEED)
    apart = {*_BESIDE_THE_POINT, *_IN_TABLES, "trace"}
    setting = {
        f.name: value
        for f in fields(Scenario)
        if f.name not in apart and (value := getattr(scenario, f.name)) != f.default
    }
    found = hashlib.sha256(repr((search, setting, dnn.input_bytes, dnn.predecessors)).encode())
    seconds = (*tables.ue_s[d, :, : dnn.n_layers], tables.edge_s[d, : dnn.n_layers])
    for values in (dnn.output_bytes, dnn.parameter_bytes, *seconds):
        found.update(values.astype("<f4").tobytes())
    found.update(scenario.traces.astype("<f4").tobytes())  # empty without a trace
    return found.hexdigest()[:16]


def as_text(menu: NDArray[np.int8]) -> str:
    """A menu (M, L) as base64 of its bits, with each row filled up to whole bytes."""
    return base64.b64encode(np.packbits(menu, axis=1).tobytes()).decode()


def stored_menu(
    scenario: Scenario, d: int, streaming: bool, entries: int
) -> NDArray[np.int8] | None:
    """The stored menu (entries, L) of the scenario's network d; None if there is none."""
    dnn = scenario.profiles[d]
    text = _stored().get(dnn.name, {}).get(fingerprint(scenario, d, streaming, entries))
    if text is None:
        return None
    rows = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, -(-dnn.n_layers // 8))
    return np.unpackbits(rows, axis=1, count=dnn.n_layers).astype(np.int8)


@lru_cache(maxsize=1)
def _stored() -> Mapping[str, Mapping[str, str]]:
    return files.read(STORED, files.parse_json)


def found_menu(scenario: Scenario, d: int, streaming: bool, entries: int) -> NDArray[np.int8]:
    """The menu (entries, L) that PBT-DP's answers give for the scenario's network d."""
    conditions, candidates = _proposals(scenario, d, streaming, SEED)
    chosen = candidates[_choose(_excess(candidates, conditions), entries)]
    edge_bytes = (chosen * scenario.profiles[d].parameter_bytes).sum(axis=1)
    inner = 2 + np.lexsort((chosen[2:].sum(axis=1), edge_bytes[2:]))
    return chosen[[0, *inner, 1]]


def _proposals(
    scenario: Scenario, d: int, streaming: bool, seed: int
) -> tuple[Conditions, NDArray[np.int8]]:
    """All conditions, and the distinct placements (candidates, L); first all-UE, then all-edge."""
    rng = np.random.default_rng(seed)
    crowd = random_population(scenario, CONDITIONS, rng)  # in the same way as newcomers
    crowd = crowd._replace(dnn=np.full(CONDITIONS, d))
    packed = to_instance(scenario, crowd, None).packed
    shares = _shares(scenario.n_ues, rng)
    pool = [np.zeros(scenario.profiles[d].n_layers, np.int8)]
    conditions = []
    for i, own in enumerate(shares):
        inference, link = packed_inference(packed, i), packed_link(packed, i, *own)
        if streaming:
            resident = _resident(pool, inference.missing_bytes, rng)
            inference = inference._replace(missing_bytes=inference.missing_bytes * (1.0 - resident))
        conditions.append((inference, link))
        if i < PROPOSALS:
            placement = np.zeros_like(pool[0])
            if link.up < np.inf and link.down < np.inf:
                best_partition(inference, link, WIDTH, placement)
            pool.append(placement)
    extremes = [pool[0], np.ones_like(pool[0])]
    distinct = dict.fromkeys(placement.tobytes() for placement in [*extremes, *pool])  # in order
    return conditions, np.array([np.frombuffer(sides, np.int8) for sides in distinct])


def _shares(n_ues: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(conditions, 2) shares of bandwidth and compute, log-uniform from 1/(2N) to 1.

    The two differ by a factor of up to 4, so that each can be as little as 1/(4N).
    """
    level = (0.5 / n_ues) ** rng.random(CONDITIONS)
    tilt = 2.0 ** rng.uniform(-1.0, 1.0, CONDITIONS)
    return np.minimum(1.0, np.stack([level * tilt, level / tilt], axis=1))


def _resident(
    pool: list[NDArray[np.int8]], parameter_bytes: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(L,) fractions of the parameters that earlier rounds might have left on the server.

    In a quarter of the cases, nothing is there. Otherwise, the layers that one of the earlier
    proposals needs are there (in a quarter of these cases, none of them). In addition there are,
    with equal probability,

    - all layers up to a random position in program order, as after an upload that the end of a
      round cut short (in a fifth of these cases the upload is complete), or
    - all but some of the largest layers, of equally large ones the later. This is what memory
      keeps, because of equally old layers it drops these first.
    """
    nothing, no_placement, which, by_size, until = rng.random(5)
    n = len(parameter_bytes)
    if nothing < 0.25:
        return np.zeros(n)
    placement = pool[0 if no_placement < 0.25 else int(which * len(pool))]
    if by_size < 0.5:
        free = int((parameter_bytes == 0).sum())
        kept = np.lexsort((np.arange(n), parameter_bytes))[: free + int(until * (n - free + 1))]
        return np.maximum(placement, np.isin(np.arange(n), kept))
    return np.maximum(placement, np.clip(1.25 * until * n - np.arange(n), 0.0, 1.0))


def _excess(candidates: NDArray[np.int8], conditions: Conditions) -> NDArray[np.float64]:
    """(conditions, candidates) latency in excess of the best candidate's, as a fraction of it."""
    seconds = np.array([kernel.run_many(candidates, *condition) for condition in conditions])
    best = seconds.min(axis=1, keepdims=True)
    return seconds / np.maximum(best, 1e-9 * seconds[:, :1]) - 1.0  # some latencies can be zero


def _choose(excess: NDArray[np.float64], entries: int) -> list[int]:
    """Choose candidates 0 and 1, then one by one the one that reduces the mean excess most."""
    chosen = [0, 1]
    least = excess[:, chosen].min(axis=1)
    while len(chosen) < entries:
        means = np.minimum(excess, least[:, None]).mean(axis=0)
        best = int(means.argmin())
        if means[best] >= least.mean() - NEGLIGIBLE:
            break
        chosen.append(best)
        least = np.minimum(least, excess[:, best])
    return chosen
