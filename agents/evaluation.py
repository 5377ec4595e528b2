"""Agents of all kinds on the same episodes: who is evaluated where, and one round after the other.

An agent is named: a planner, "far-sighted", or the path of a learned agent's folder. All act in the
same episodes (same seeds), each through its own action view. `agents.evaluation_runner` plays many
episodes and keeps them, `agents.evaluation_report` says what came out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import mjoa_gym  # noqa: F401 - registers the environments
from agents import cards
from agents.benchmark.store import Row, code_fingerprint, digest
from agents.benchmark.suite import ENVIRONMENTS
from agents.planner_agent import PlannerAgent
from mjoa_gym import Scenario
from mjoa_gym.planners import planner_names
from mjoa_gym.validation import choice


class Agent(Protocol):
    """What is evaluated; an attribute `action_view` names its view if that is not "plan"."""

    def predict(self, observation: Any, *, deterministic: bool) -> tuple[Any, Any]:
        """The actions for a batch of dictionary observations, and a state."""
        ...


@dataclass(frozen=True)
class Setting:
    """Where agents are evaluated.

    Attributes:
        environment: "cold-start" or "streaming".
        scenario: With the number of UEs and of rounds.

    Raises:
        ValueError: If there is no such environment (with the nearest one).
    """

    environment: str
    scenario: Scenario

    def __post_init__(self) -> None:
        choice("environment", self.environment, tuple(ENVIRONMENTS))

    @property
    def persists(self) -> bool:
        """Whether UEs and their parameters stay from round to round."""
        return self.environment == "streaming"

    def shortened(self, rounds: int) -> Setting:
        """The same with episodes of so many rounds."""
        return Setting(self.environment, self.scenario.with_changes(rounds=rounds))

    @property
    def fingerprint(self) -> str:
        """Changes whenever anything in the setting does."""
        return digest(json.dumps(asdict(self), sort_keys=True, default=str).encode())


def is_path(name_or_path: str) -> bool:
    """Whether a learned agent is meant, rather than a name.

    Raises:
        ValueError: If it is neither (with the nearest name).
    """
    if Path(name_or_path).is_dir():
        return True
    if Path(name_or_path).name != name_or_path:
        raise ValueError(f"agent={name_or_path!r}: there is no such folder")
    choice("agent", name_or_path, planner_names())
    return False


def agent_of(name_or_path: str, scenario: Scenario, persists: bool) -> Agent:
    """The agent of a name, or the learned one saved in a folder, to act in a scenario.

    Raises:
        ValueError: If there is none, or it was trained for the other environment.
    """
    if is_path(name_or_path):
        from agents.learned_agent import LearnedAgent  # torch is loaded by those who need it

        learned = LearnedAgent.load(name_or_path, scenario)
        if learned.persists != persists:
            known = "streaming" if learned.persists else "cold-start"
            raise ValueError(f"{name_or_path} was trained for {known}, not for this environment")
        return learned
    return PlannerAgent(name_or_path, scenario)


def version_of(name_or_path: str) -> str:
    """Tells agents apart, and changes whenever an agent's code or weights do."""
    here = Path(__file__).parent
    files = [here / "evaluation.py", here / "planner_agent.py"]
    if is_path(name_or_path):
        files = sorted([*here.glob("*.py"), *Path(name_or_path).glob("*.*")])
    own = b"".join(file.read_bytes() for file in files)
    return digest((label_of(name_or_path) + code_fingerprint()).encode() + own)


def label_of(name_or_path: str) -> str:
    """What an agent is called in tables: a learned one as its card says, else as its folder.

    Raises:
        ValueError: If there is no such agent (with the nearest name).
    """
    if not is_path(name_or_path):
        return name_or_path
    folder = Path(name_or_path).resolve()
    return str(cards.read(folder).get("name") or folder.name)


def play(agent: Agent, setting: Setting, seeds: Sequence[int]) -> list[list[Row]]:
    """Play an episode per seed, all together.

    Args:
        agent: Who acts.
        setting: Where.
        seeds: Of the episodes.

    Returns:
        For each seed a row per round: `round`; `latency_s` and `local_s`, weighted means over the
        UEs; `reward`; `planning_s`, from observation to action (of all of the round's actions if
        its view needs several; the mean over episodes, which are decided together).
    """
    envs = gym.make_vec(
        ENVIRONMENTS[setting.environment],
        num_envs=len(seeds),
        vectorization_mode="vector_entry_point",
        action=getattr(agent, "action_view", "plan"),
        observation="dict",
        scenario=setting.scenario,
    )
    observation, _ = envs.reset(seed=list(seeds))  # type: ignore[arg-type] # a seed for each
    agent.predict(_first(observation), deterministic=True)  # compiles, which is not planning
    episodes: list[list[Row]] = [[] for _ in seeds]
    planning_s, over = 0.0, np.zeros(len(seeds), dtype=np.bool_)
    while not over.all():  # all of them have equally many rounds
        start = time.perf_counter()
        actions, _ = agent.predict(observation, deterministic=True)
        planning_s += (time.perf_counter() - start) / len(seeds)
        after, reward, _, over, info = envs.step(actions)
        if "latency_s" in info:  # else the round goes on with the next UE
            _note(episodes, observation["weight"], info, reward, planning_s)
            planning_s = 0.0
        observation = after
    envs.close()
    return episodes


def _first(observation: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {key: values[:1] for key, values in observation.items()}


def _note(
    episodes: list[list[Row]],
    weight: NDArray[np.float64],
    info: Mapping[str, Any],
    reward: NDArray[np.float64],
    planning_s: float,
) -> None:
    """Add a round to every episode."""
    part = weight / weight.sum(axis=1, keepdims=True)
    latency_s = (part * info["latency_s"]).sum(axis=1)
    local_s = (part * info["local_s"]).sum(axis=1)
    for e, rows in enumerate(episodes):
        rows.append(
            {
                "round": len(rows),
                "latency_s": float(latency_s[e]),
                "local_s": float(local_s[e]),
                "reward": float(reward[e]),
                "planning_s": planning_s,
            }
        )
