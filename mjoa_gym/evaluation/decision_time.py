"""How long agents take to decide, alone and for many environments at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from mjoa_gym.evaluation.agent import Agent
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.episode_means import SEED
from mjoa_gym.evaluation.episodes import Setting, play, view_of
from mjoa_gym.evaluation.table import Table

MANY = 1024
EPISODES = 4
"""Episodes that are played to time decisions one by one."""
TURNS = 5


def decision_times(agents: Sequence[str], setting: Setting, seed: int) -> Table:
    """Milliseconds of a decision for all UEs of a round, on one thread, side by side in one run.

    A planner has no batches; of a learned agent whose view asks one UE after the other, a batch is
    timed for one of its turns, times the number of UEs.

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
        rows.append((SEED.sub("", source_of(name).label), *cells))
    first = source_of(agents[0]).label
    header = (
        "Agent", "Alone, ms", f"times as fast as {first}", f"In a batch of {MANY}, ms",
        f"times as fast as {first}",
    )  # fmt: skip
    caption = (
        f"A round's decision for {setting.scenario.n_ues} UEs on one thread: the median over the "
        f"rounds of {EPISODES} episodes that the agent plays itself, one decision after the other, "
        f"and a round's part of {MANY} first rounds at once."
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
    turns = setting.scenario.n_ues if view_of(agent) == "discrete" else 1
    observation, _ = setting.environments(agent, MANY).reset(seed=seed)
    together_s = median(_seconds(agent, observation) for _ in range(TURNS))
    return alone_s, turns * together_s / MANY


def _seconds(agent: Agent, observation: Any) -> float:
    """Of a decision."""
    start = time.perf_counter()
    agent.predict(observation, deterministic=True)
    return time.perf_counter() - start
