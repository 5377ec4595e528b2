"""Decision times of planners and agents: alone, in batches, with more layers, with more UEs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import gymnasium as gym

from mjoa_gym.envs import decode_observation
from mjoa_gym.envs.core import Core
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.comparison import SEED
from mjoa_gym.evaluation.episodes import Decider, Setting, play
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.table import Table
from mjoa_gym.model.instance import Instance
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.pbt_dp import pbt_dp
from mjoa_gym.world.scenario import Scenario

MANY = 1024
EPISODES = 4
"""Number of episodes that are played to time decisions one by one."""
REPEATS = 5
UPLINK_BPS, DOWNLINK_BPS = 40e6, 80e6


def decision_times(agents: Sequence[str], setting: Setting, seed: int) -> Table:
    """Measure the milliseconds of a decision for all UEs of a round, on one thread, in one run.

    Planners have no batches. If a learned agent's view decides for one UE after the other, a batch
    is timed for one turn and multiplied by the number of UEs.
    """
    rows: list[tuple[str, ...]] = []
    base = 0.0
    for name in agents:
        alone_s, together_s = _times(name, setting, seed)
        base = base or alone_s
        cells = [f"{1e3 * alone_s:.2f}", f"{base / alone_s:.1f}", "", ""]
        if together_s is not None:
            batch_ms = f"{1e3 * together_s:.3f}" if together_s > 1e-6 else "< 0.001"
            cells[2:] = [batch_ms, f"{base / together_s:,.0f}"]
        rows.append((SEED.sub("", source_of(name).label), *cells))
    faster = f"times as fast as {source_of(agents[0]).label}"
    header = ("Agent", "Alone, ms", faster, f"In a batch of {MANY}, ms", faster)
    caption = (
        f"A round's decision for {setting.scenario.n_ues} UEs on one thread: the median over the "
        f"rounds of {EPISODES} episodes that the agent plays itself, one decision after the other, "
        f"and a round's part of {MANY} first rounds at once. The environment's own work, such as "
        "choosing placements for `shares`, is not included."
    )
    return Table(caption, header, rows)


def _times(name: str, setting: Setting, seed: int) -> tuple[float, float | None]:
    agent = source_of(name).agent(setting)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    episodes = [play(agent, setting, [seed + e])[0] for e in range(EPISODES)]
    alone_s = median(row["planning_s"] for rows in episodes for row in rows)
    if not getattr(agent, "batches", False):
        return alone_s, None
    envs = setting.environments(agent, MANY)
    core: Core = envs.unwrapped.core  # type: ignore[attr-defined]
    observation, _ = envs.reset(seed=seed)
    together_s = median_seconds(partial(Decider(agent, core), observation))
    turns = setting.scenario.n_ues if core.view.one_by_one else 1
    return alone_s, turns * together_s / MANY


class Timing(NamedTuple):
    """The median seconds of calls of a planner; the label is a network's name, or empty."""

    what: str
    label: str
    layers: int
    ues: int
    chain: bool
    seconds: float


def measure_layers(dnns: Sequence[str]) -> list[Timing]:
    """Time PBT-DP on every network, for one UE like those of the default scenario."""
    scenario = Scenario(dnns=tuple(dnns))
    tables = scenario.tables
    timings = []
    for d, dnn in enumerate(bar(scenario.profiles, desc="timing networks", leave=False)):
        ue_s, edge_s = tables.ue_s[d, 0, : dnn.n_layers], tables.edge_s[d, : dnn.n_layers]
        call = partial(pbt_dp, dnn, ue_s, edge_s, UPLINK_BPS, DOWNLINK_BPS)
        seconds = median_seconds(call)
        timings.append(Timing("pbt-dp", dnn.name, dnn.n_layers, 1, dnn.is_chain, seconds))
    return timings


def measure_ues(planners: Sequence[str], counts: Sequence[int]) -> list[Timing]:
    """Time whole plans for rounds of the default scenario with increasing numbers of UEs."""
    timings = []
    for count in bar(counts, desc="timing plans", leave=False):
        instance = first_instance(Scenario(n_ues=count))
        layers = sum(ue.dnn.n_layers for ue in instance.ues)
        for planner in planners:
            seconds = median_seconds(partial(plan_with, planner, instance))
            timings.append(Timing(planner, "", layers, count, False, seconds))
    return timings


def first_instance(scenario: Scenario, seed: int = 0) -> Instance:
    """Return the first round of a cold-start episode."""
    env = gym.make("MJOA/ColdStart-v1", scenario=scenario, disable_env_checker=True)
    return decode_observation(env.reset(seed=seed)[0], scenario)


def median_seconds(call: Callable[[], object]) -> float:
    """Return the median seconds of repeated calls, after one call that may compile.

    There are fewer repeats if a call takes long.
    """
    call()
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < 2.0:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return median(taken)
