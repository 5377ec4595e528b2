"""Episodes that agents play: their setting, their seeds, and the measurements of every round.

All agents play the same episodes (same seeds), each through its own action view, and every row is
measured in the same way for all agents.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.core import ONE, Core, row
from mjoa_gym.evaluation.agent import Agent, LowerBoundAgent, PlannerAgent, signature_of
from mjoa_gym.evaluation.journal import Row, digest
from mjoa_gym.planners.registry import PLANNERS
from mjoa_gym.validation import choice
from mjoa_gym.world.rounds import Decision
from mjoa_gym.world.scenario import Scenario

ENVIRONMENTS = {"cold-start": "MJOA/ColdStart-v1", "streaming": "MJOA/Streaming-v1"}
FIRST_SEED = 1_000_000
"""First seed of evaluations; nothing is trained or tuned on seeds from here."""
KINDS = ("all on the UE", "all at the edge", "one change of side", "several changes")
"""Kinds of placements, to show whether a setting is degenerate."""
ASIDE = ("state", "episode_start", "deterministic", "action_masks")
"""What the `predict` of Stable-Baselines3 and sb3-contrib accepts besides the observation."""

Watch = Callable[[int, bool], Any]
"""A callback that gets the round, and whether a decision begins or ends."""


@dataclass(frozen=True)
class Setting:
    """The setting of an evaluation: "cold-start", "streaming" or an environment's id; a scenario.

    Raises:
        ValueError: If there is no such environment; suggests the nearest one.
    """

    environment: str
    scenario: Scenario

    def __post_init__(self) -> None:
        ids = {env_id: name for name, env_id in ENVIRONMENTS.items()}
        given = str(self.environment).removeprefix("mjoa_gym:")
        name = ids.get(given, given)
        choice("environment", name, (*ENVIRONMENTS, *ids) if "/" in name else tuple(ENVIRONMENTS))
        object.__setattr__(self, "environment", name)

    @property
    def persists(self) -> bool:
        """Whether UEs and their parameters stay from round to round."""
        return self.environment == "streaming"

    @property
    def fingerprint(self) -> str:
        """A digest that changes whenever anything in the setting does."""
        return digest(json.dumps(asdict(self), sort_keys=True, default=_plain).encode())

    def environments(self, agent: Agent, count: int) -> gym.vector.VectorEnv[Any, Any, Any]:
        """Make `count` environments with the action view and the observation of an agent."""
        return gym.make_vec(
            ENVIRONMENTS[self.environment],
            num_envs=count,
            vectorization_mode="vector_entry_point",
            action=view_of(agent),
            observation=getattr(agent, "observation", None),
            scenario=self.scenario,
        )


def _plain(value: Any) -> Any:
    """Return a JSON-compatible form of those parts of scenarios that JSON does not support."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else repr(value)


class PlayError(RuntimeError):
    """An agent failed; the argument is the round, from 0, and the cause is its exception."""


def view_of(agent: Agent) -> str:
    """Return the name of an agent's action view."""
    return getattr(agent, "action_view", "plan")


def play(
    agent: Agent, setting: Setting, seeds: Sequence[int], watch: Watch = lambda *_: None
) -> list[list[Row]]:
    """Play an episode per seed: all together, or one after the other if the agent has no batches.

    `watch` is called before and after every decision.

    Returns:
        For each seed, a row per round with `round`; `latency_s` and `local_s`, weighted means over
        the UEs, and `ue_latency_s` of each UE; `missed`, the fraction of the UEs that missed a
        deadline; `energy_j`, the mean of their joules, if it is known; `reward`; `planning_s`, the
        seconds from observation to action (of all the round's actions if the view needs several;
        the mean over episodes that are decided together); and per UE, its network `dnn`, the
        fraction of its layers at the edge `edge_share`, the `kind` of its placement (index into
        `KINDS`) and a checksum `placement` that distinguishes placements.

    Raises:
        PlayError: If the agent raises an exception, or the environment refuses its action.
    """
    if getattr(agent, "batches", False):
        return _play(agent, setting, seeds, watch)
    return [_play(agent, setting, [seed], watch)[0] for seed in seeds]


def _play(agent: Agent, setting: Setting, seeds: Sequence[int], watch: Watch) -> list[list[Row]]:
    """Play episodes together."""
    envs = setting.environments(agent, len(seeds))
    core: Core = envs.unwrapped.core  # type: ignore[attr-defined]
    episodes: list[list[Row]] = [[] for _ in seeds]
    decide = Decider(agent, core)
    try:
        observation, _ = envs.reset(seed=list(seeds))  # type: ignore[arg-type] # a seed for each
        _warm_up(agent, setting, observation)
        planning_s, over = 0.0, np.zeros(len(seeds), dtype=np.bool_)
        while not over.all():  # all have the same number of rounds
            dnn, weight = core.dnn.copy(), core.batch.state.population.weight.copy()
            watch(len(episodes[0]), True)
            start = time.perf_counter()
            actions = decide(observation)
            planning_s += (time.perf_counter() - start) / len(seeds)
            watch(len(episodes[0]), False)
            observation, reward, _, over, info = envs.step(actions)
            if core.batch.state.round[0] > len(episodes[0]):  # else it is the next UE's turn
                rows = _rows(agent, core, dnn, weight, info, reward)
                for episode, row in zip(episodes, rows, strict=True):
                    episode.append({"round": len(episode), **row, "planning_s": planning_s})
                planning_s = 0.0
    except (Exception, SystemExit) as error:
        raise PlayError(len(episodes[0])) from error
    finally:
        envs.close()
    return episodes


class Decider:
    """Asks an agent for a batch's actions, with the arguments that its `predict` accepts.

    An agent without batches gets what a single environment would show it.
    """

    def __init__(self, agent: Agent, core: Core) -> None:
        self._predict, self._core = agent.predict, core
        self._batches = getattr(agent, "batches", False)
        self._asks = _arguments(agent.predict)
        self._state: Any = None
        self._starts = np.ones(core.batch.state.round.shape, dtype=np.bool_)

    def __call__(self, observation: Any) -> Any:
        """Return the actions."""
        aside = {"state": self._state, "episode_start": self._starts, "deterministic": True}
        if "action_masks" in self._asks:
            masks = self._core.view.masks(self._core.dnn)
            if masks is not None:
                aside["action_masks"] = (masks if self._batches else masks[0]).astype(np.bool_)
        shown = observation if self._batches else row(observation, 0)
        answer = self._predict(shown, **{k: v for k, v in aside.items() if k in self._asks})
        action, self._state = answer if isinstance(answer, tuple) else (answer, None)
        self._starts = np.zeros_like(self._starts)
        return action if self._batches else self._core.view.single(action)

    def decision(self, observation: Any) -> Decision:
        """Return the decision of a single environment's round, after all actions that it takes.

        Raises:
            ValueError: If there is none after an action for each UE.
        """
        core = self._core
        for _ in range(core.scenario.n_ues):
            decision, complete = core.view.decode(self(observation), core.batch.state, ONE)
            if decision is not None and complete.all():
                return decision
            observation = core.observe()
        raise ValueError(f"the agent has not decided for all {core.scenario.n_ues} UEs")


def _arguments(predict: Callable[..., Any]) -> tuple[str, ...]:
    """Return which of `ASIDE` a `predict` accepts; masks only if it names them."""
    signature = signature_of(predict)
    parameters: Any = {} if signature is None else signature.parameters
    all_but_masks = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return tuple(n for n in ASIDE if n in parameters or (all_but_masks and n != "action_masks"))


def _warm_up(agent: Agent, setting: Setting, observation: Any) -> None:
    """Compile and load our own code before planning is timed.

    Other agents are not called, because they might remember the call.
    """
    if type(agent) is PlannerAgent and agent.planner in PLANNERS.values():
        _compile(agent.planner, setting.environment, setting.scenario.upload)
    elif getattr(agent, "batches", False) or isinstance(agent, LowerBoundAgent):
        asked = {"deterministic": True} if "deterministic" in _arguments(agent.predict) else {}
        agent.predict(row(observation, slice(1)), **asked)


@cache
def _compile(planner: Any, environment: str, upload: str) -> None:
    """Let a planner solve two small problems, once per process: a chain and a DAG."""
    for dnn in ("alexnet", "googlenet"):
        scenario = Scenario(n_ues=2, rounds=1, dnns=(dnn,), upload=upload)
        agent = PlannerAgent(planner, scenario)
        envs = Setting(environment, scenario).environments(agent, 1)
        agent.predict(envs.reset(seed=0)[0])


def _rows(
    agent: Agent,
    core: Core,
    dnn: NDArray[np.int64],
    weight: NDArray[np.float64],
    info: Mapping[str, Any],
    reward: NDArray[np.float64],
) -> list[Row]:
    """Return the measurements of a round, for every environment."""
    part = weight / weight.sum(axis=1, keepdims=True)
    latency_s = (part * info["latency_s"]).sum(axis=1)
    local_s = (part * info["local_s"]).sum(axis=1)
    if isinstance(agent, LowerBoundAgent):  # the bound is not what it played
        bound = {"latency_s": agent.bound_s, "local_s": float(local_s[0])}
        return [bound | {"reward": 1.0 - agent.bound_s / bound["local_s"]}]
    assert core.decision is not None
    placements = core.decision.placements[core.decision.placement_of]
    return [
        {
            "latency_s": float(latency_s[e]),
            "local_s": float(local_s[e]),
            "ue_latency_s": info["latency_s"][e].tolist(),
            "missed": float(info["missed"][e].mean()),
            **({"energy_j": float(info["energy_j"][e].mean())} if "energy_j" in info else {}),
            "reward": float(reward[e]),
            **_placements(core.scenario, dnn[e], placements[e]),
        }
        for e in range(len(dnn))
    ]


def _placements(scenario: Scenario, dnns: NDArray[Any], placements: NDArray[np.int8]) -> Row:
    """Describe an environment's placements, UE by UE."""
    row: Row = {"dnn": [], "edge_share": [], "kind": [], "placement": []}
    for d, padded in zip(dnns, placements, strict=True):
        profile = scenario.profiles[d]
        placement = np.asarray(padded[: profile.n_layers], dtype=np.int8)
        changes = int(np.count_nonzero(np.diff(placement)))
        row["dnn"].append(profile.name)
        row["edge_share"].append(round(float(placement.mean()), 6))
        row["kind"].append(2 + (changes > 1) if changes else int(placement[0]))
        row["placement"].append(zlib.crc32(placement.tobytes()))
    return row
