"""One cell: a planner plays one episode of an environment, and every round is measured."""

from __future__ import annotations

import time
import zlib
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import mjoa_gym  # noqa: F401 - registers the environments
from agents.benchmark.store import Row
from agents.benchmark.suite import ENVIRONMENTS, LOWER_BOUND, Cell, Sweep
from agents.planner_agent import PlannerAgent
from mjoa_gym.envs import decode_observation
from mjoa_gym.planners.bound import lower_bound
from mjoa_gym.world.scenario import Scenario

KINDS = ("all on the UE", "all at the edge", "one change of side", "several changes")
"""Kinds of placements, to see whether a setting is degenerate."""


def play(sweep: Sweep, cell: Cell) -> list[Row]:
    """Play one episode.

    Returns:
        One row per round:
        `round`; `latency_s` and `local_s`, weighted means over the UEs, and `ue_latency_s` of each;
        `reward`; `planning_s` from observation to action; per UE its network `dnn`, the share of
        its layers at the edge `edge_share`, the `kind` of its placement (index into `KINDS`) and a
        checksum `placement` that tells different ones apart.
    """
    scenario = sweep.scenario_at(cell.point, cell.world)
    if cell.planner == LOWER_BOUND:
        return _bounds(sweep, cell, scenario)
    env = _environment(sweep.environment, scenario)
    agent = PlannerAgent(cell.planner, scenario)
    observation, _ = env.reset(seed=cell.seed)
    warm_up(sweep.environment, cell.planner, cell.world)
    rows: list[Row] = []
    over = False
    while not over:
        start = time.perf_counter()
        action, _ = agent.predict(observation)
        planning_s = time.perf_counter() - start
        after, reward, _, over, info = env.step(action)
        rows.append(
            {
                "round": len(rows),
                **_latencies(observation["weight"], info["latency_s"], info["local_s"]),
                "reward": float(reward),
                "planning_s": planning_s,
                **_placements(scenario, observation["dnn"], action["placements"]),
            }
        )
        observation = after
    return rows


def _bounds(sweep: Sweep, cell: Cell, scenario: Scenario) -> list[Row]:
    """The certified lower bounds of the same instances (fresh UEs do not depend on actions)."""
    env = _environment(sweep.environment, scenario)
    agent = PlannerAgent("local-only", scenario)
    observation, _ = env.reset(seed=cell.seed)
    rows: list[Row] = []
    over = False
    while not over:
        instance = decode_observation(observation, scenario)
        start = time.perf_counter()
        bound = lower_bound(instance) / float(instance.weights.sum())
        planning_s = time.perf_counter() - start
        rows.append(
            {
                "round": len(rows),
                "latency_s": bound,
                "local_s": _mean(instance.weights, instance.local_s),
                "planning_s": planning_s,
            }
        )
        observation, _, _, over, _ = env.step(agent.predict(observation)[0])
    return rows


def _environment(name: str, scenario: Scenario) -> gym.Env:
    """Without Gymnasium's checks, which tests make: here they would only take time."""
    return gym.make(ENVIRONMENTS[name], action="plan", scenario=scenario, disable_env_checker=True)


@cache
def warm_up(environment: str, planner: str, world: str) -> None:
    """Compile what a planner needs, once per process, so that no planning time contains it."""
    for dnn in ("alexnet", "googlenet"):  # a chain and a DAG
        scenario = Scenario(n_ues=2, rounds=1, dnns=(dnn,), upload=world)
        env = _environment(environment, scenario)
        observation, _ = env.reset(seed=0)
        if planner == LOWER_BOUND:
            lower_bound(decode_observation(observation, scenario))
        else:
            PlannerAgent(planner, scenario).predict(observation)


def _mean(weight: NDArray[np.float64], seconds: NDArray[np.float64]) -> float:
    return float(weight @ seconds / weight.sum())


def _latencies(
    weight: NDArray[np.float64], latency_s: NDArray[np.float64], local_s: NDArray[np.float64]
) -> Row:
    return {
        "latency_s": _mean(weight, latency_s),
        "local_s": _mean(weight, local_s),
        "ue_latency_s": latency_s.tolist(),
    }


def _placements(scenario: Scenario, dnns: NDArray[Any], placements: NDArray[np.int8]) -> Row:
    """What the action's placements look like, UE by UE."""
    row: Row = {"dnn": [], "edge_share": [], "kind": [], "placement": []}
    for d, padded in zip(dnns, placements, strict=True):
        profile = scenario.profiles[d]
        placement = np.asarray(padded[: profile.n_layers], dtype=np.int8)
        row["dnn"].append(profile.name)
        row["edge_share"].append(round(float(placement.mean()), 6))
        row["kind"].append(_kind(placement))
        row["placement"].append(zlib.crc32(placement.tobytes()))
    return row


def _kind(placement: NDArray[np.int8]) -> int:
    changes = np.count_nonzero(np.diff(placement))
    return int(placement[0]) if changes == 0 else 2 if changes == 1 else 3
