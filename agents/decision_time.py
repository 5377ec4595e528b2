"""How long agents take to decide, alone and for many environments at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import gymnasium as gym

from agents.benchmark.suite import ENVIRONMENTS
from agents.benchmark.tables import Table
from agents.evaluation import Agent, Setting, agent_of, is_path, label_of
from agents.evaluation_results import SEED

MANY = 1024
ALONE = 40
"""Environments whose decisions are timed one by one."""
TURNS = 5


def decision_times(agents: Sequence[str], setting: Setting, seed: int) -> Table:
    """Milliseconds of a decision for all UEs of a round, on one thread, side by side in one run.

    A planner has no batches; a learned agent whose view asks one UE after the other is timed for
    one of its turns, times the number of UEs.

    Args:
        agents: Names or paths.
        setting: Where.
        seed: Of the first environment.
    """
    rows: list[tuple[str, ...]] = []
    base = None
    for name in agents:
        alone_s, together_s = _times(name, setting, seed)
        base = alone_s if base is None else base
        cells = [f"{1e3 * alone_s:.2f}", f"{base / alone_s:.1f}"]
        if together_s is None:
            cells += ["", ""]
        else:
            cells += [f"{1e3 * together_s:.3f}", f"{base / together_s:.0f}"]
        rows.append((SEED.sub("", label_of(name)), *cells))
    first = label_of(agents[0])
    header = (
        "Agent", "Alone, ms", f"times as fast as {first}", f"In a batch of {MANY}, ms",
        f"times as fast as {first}",
    )  # fmt: skip
    caption = (
        f"A round's decision for {setting.scenario.n_ues} UEs on one thread: the median over "
        f"{ALONE} environments one by one, and a round's part of {MANY} environments at once."
    )
    return Table(caption, header, rows)


def _times(name: str, setting: Setting, seed: int) -> tuple[float, float | None]:
    agent = agent_of(name, setting.scenario, setting.persists)
    learned = is_path(name)
    if learned:
        import torch  # is there, as the agent is

        torch.set_num_threads(1)
    view = getattr(agent, "action_view", "plan")
    envs = gym.make_vec(
        ENVIRONMENTS[setting.environment],
        num_envs=MANY,
        vectorization_mode="vector_entry_point",
        action=view,
        observation="dict",
        scenario=setting.scenario,
    )
    observation, _ = envs.reset(seed=seed)
    turns = setting.scenario.n_ues if view == "discrete" else 1
    singles = [
        {key: values[e : e + 1] for key, values in observation.items()} for e in range(ALONE)
    ]
    agent.predict(singles[0], deterministic=True)  # compiles
    alone_s = median(_seconds(agent, own) for own in singles)
    if not learned:
        return turns * alone_s, None
    together_s = median(_seconds(agent, observation) for _ in range(TURNS))
    return turns * alone_s, turns * together_s / MANY


def _seconds(agent: Agent, observation: Mapping[str, Any]) -> float:
    start = time.perf_counter()
    agent.predict(observation, deterministic=True)
    return time.perf_counter() - start
