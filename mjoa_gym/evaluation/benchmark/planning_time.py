"""How long planning takes, against layers and against UEs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import gymnasium as gym
import numpy as np

from mjoa_gym.envs import decode_observation
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model.instance import Instance
from mjoa_gym.planners import plan_with
from mjoa_gym.planners.pbt_dp import pbt_dp
from mjoa_gym.world.scenario import Scenario

REPEATS = 5
UPLINK_BPS, DOWNLINK_BPS = 40e6, 80e6


class Timing(NamedTuple):
    """The median seconds of a call, and what it was called with.

    Attributes:
        what: The planner's name.
        label: A network's name, or empty.
        layers: Layers in all.
        ues: UEs.
        chain: Whether the networks are chains.
        seconds: Median of a few calls.
    """

    what: str
    label: str
    layers: int
    ues: int
    chain: bool
    seconds: float


def measure_layers(dnns: Sequence[str]) -> list[Timing]:
    """PBT-DP on every network, for one UE of the default scenario's kind."""
    scenario = Scenario(dnns=tuple(dnns))
    timings = []
    for d, dnn in enumerate(bar(scenario.profiles, desc="timing networks", leave=False)):
        times = (
            scenario.tables.ue_s[d, 0, : dnn.n_layers],
            scenario.tables.edge_s[d, : dnn.n_layers],
        )

        call = partial(
            pbt_dp, dnn, ue_seconds=times[0], edge_seconds=times[1],
            uplink_bps=UPLINK_BPS, downlink_bps=DOWNLINK_BPS,
        )  # fmt: skip
        seconds = _median_seconds(call)
        timings.append(Timing("pbt-dp", dnn.name, dnn.n_layers, 1, dnn.is_chain, seconds))
    return timings


def measure_ues(planners: Sequence[str], counts: Sequence[int]) -> list[Timing]:
    """Whole plans of rounds of the default scenario with more and more UEs."""
    timings = []
    for count in bar(counts, desc="timing plans", leave=False):
        instance = first_instance(Scenario(n_ues=count))
        layers = sum(ue.dnn.n_layers for ue in instance.ues)
        for planner in planners:
            seconds = _median_seconds(partial(plan_with, planner, instance))
            timings.append(Timing(planner, "", layers, count, False, seconds))
    return timings


def first_instance(scenario: Scenario, seed: int = 0) -> Instance:
    """The first round of a cold-start episode."""
    env = gym.make("MJOA/ColdStart-v0", scenario=scenario, disable_env_checker=True)
    return decode_observation(env.reset(seed=seed)[0], scenario)


def _median_seconds(call: Callable[[], object]) -> float:
    """After one call that may compile; fewer repeats where a call takes long."""
    call()
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < 2.0:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))
