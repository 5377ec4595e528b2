"""How long agents take to decide, alone and for many environments at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

from agents.benchmark.suite import ENVIRONMENTS
from agents.benchmark.tables import Table
from agents.evaluation import Agent, Setting, agent_of, is_path, label_of
from agents.evaluation_results import SEED

MANY = 1024
EPISODES = 4
"""Episodes that are played to time decisions one by one."""
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
        f"A round's decision for {setting.scenario.n_ues} UEs on one thread: the median over the "
        f"rounds of {EPISODES} episodes that the agent plays itself, one decision after the other, "
        f"and a round's part of {MANY} first rounds at once."
    )
    return Table(caption, header, rows)


def _times(name: str, setting: Setting, seed: int) -> tuple[float, float | None]:
    agent = agent_of(name, setting.scenario, setting.persists)
    learned = is_path(name)
    if learned:
        import torch  # is there, as the agent is

        torch.set_num_threads(1)
    turns = setting.scenario.n_ues if _view(agent) == "discrete" else 1
    alone_s = median(_one_by_one(agent, setting, seed))
    if not learned:
        return turns * alone_s, None
    observation, _ = _environments(agent, setting, MANY).reset(seed=seed)
    together_s = median(_decided(agent, observation)[0] for _ in range(TURNS))
    return turns * alone_s, turns * together_s / MANY


def _one_by_one(agent: Agent, setting: Setting, seed: int) -> list[float]:
    """Seconds of every decision in some episodes; what earlier rounds have uploaded matters."""
    envs = _environments(agent, setting, EPISODES)
    observation, _ = envs.reset(seed=seed)
    agent.predict(_of(observation, 0), deterministic=True)  # compiles
    seconds: list[float] = []
    over = np.zeros(EPISODES, dtype=np.bool_)
    while not over.all():  # all have equally many rounds
        decided = [_decided(agent, _of(observation, e)) for e in range(EPISODES)]
        seconds += [taken for taken, _ in decided]
        observation, _, _, over, _ = envs.step(_together([actions for _, actions in decided]))
    return seconds


def _environments(
    agent: Agent, setting: Setting, count: int
) -> gym.vector.VectorEnv[Any, Any, Any]:
    return gym.make_vec(
        ENVIRONMENTS[setting.environment],
        num_envs=count,
        vectorization_mode="vector_entry_point",
        action=_view(agent),
        observation="dict",
        scenario=setting.scenario,
    )


def _view(agent: Agent) -> str:
    return getattr(agent, "action_view", "plan")


def _of(observation: Mapping[str, Any], e: int) -> dict[str, Any]:
    return {key: values[e : e + 1] for key, values in observation.items()}


def _together(actions: Sequence[Any]) -> Any:
    """One batch of actions out of several."""
    if isinstance(actions[0], Mapping):
        return {key: np.concatenate([a[key] for a in actions]) for key in actions[0]}
    return np.concatenate(actions)


def _decided(agent: Agent, observation: Mapping[str, Any]) -> tuple[float, Any]:
    """Seconds of a decision, and the actions."""
    start = time.perf_counter()
    actions, _ = agent.predict(observation, deterministic=True)
    return time.perf_counter() - start, actions
