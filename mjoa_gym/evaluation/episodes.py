"""Episodes that agents play: where, with which seeds, and what every round measures.

All agents meet the same episodes (same seeds), each through its own action view, and every row is
measured in the same way, whoever acts.
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

from mjoa_gym.envs.core import Core, row
from mjoa_gym.evaluation.agent import Agent, LowerBoundAgent, PlannerAgent, signature_of
from mjoa_gym.evaluation.journal import Row, digest
from mjoa_gym.planners.registry import PLANNERS
from mjoa_gym.validation import choice
from mjoa_gym.world.scenario import Scenario

ENVIRONMENTS = {"cold-start": "MJOA/ColdStart-v1", "streaming": "MJOA/Streaming-v1"}
FIRST_SEED = 1_000_000
"""Evaluations begin here; nothing is trained or tuned on these seeds."""
KINDS = ("all on the UE", "all at the edge", "one change of side", "several changes")
"""Kinds of placements, to see whether a setting is degenerate."""
ASIDE = ("state", "episode_start", "deterministic", "action_masks")
"""What Stable-Baselines3's and sb3-contrib's `predict` take beside the observation."""

Watch = Callable[[int, bool], Any]
"""Told the round, and whether a decision begins or ends."""


@dataclass(frozen=True)
class Setting:
    """Where agents are evaluated: "cold-start", "streaming" or an environment's id; a scenario.

    Raises:
        ValueError: If there is no such environment (with the nearest one).
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
        """Changes whenever anything in the setting does."""
        return digest(json.dumps(asdict(self), sort_keys=True, default=_plain).encode())

    def environments(self, agent: Agent, count: int) -> gym.vector.VectorEnv[Any, Any, Any]:
        """So many environments with the action view and the observation of an agent."""
        return gym.make_vec(
            ENVIRONMENTS[self.environment],
            num_envs=count,
            vectorization_mode="vector_entry_point",
            action=view_of(agent),
            observation=getattr(agent, "observation", None),
            scenario=self.scenario,
        )


def _plain(value: Any) -> Any:
    """What JSON knows, of parts of scenarios that it does not."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else repr(value)


class PlayError(RuntimeError):
    """An agent could not play on; the argument is the round, from 0, the cause what was raised."""


def view_of(agent: Agent) -> str:
    """The name of an agent's action view."""
    return getattr(agent, "action_view", "plan")


def play(
    agent: Agent, setting: Setting, seeds: Sequence[int], watch: Watch = lambda *_: None
) -> list[list[Row]]:
    """Play an episode per seed: all together, or one after the other if the agent knows no batches.

    Somebody may watch, who is told of every decision before it is made, and after.

    Returns:
        For each seed a row per round:
        `round`; `latency_s` and `local_s`, weighted means over the UEs, and `ue_latency_s` of each;
        `missed`, the part of the UEs that has missed a deadline, and `energy_j`, the mean of their
        joules, where it is known; `reward`; `planning_s`, from observation to action (of all of the
        round's actions if the view needs several; the mean over episodes that are decided
        together); per UE its network `dnn`, the share of its layers at the edge `edge_share`, the
        `kind` of its placement (index into `KINDS`) and a checksum `placement` that tells different
        ones apart.

    Raises:
        PlayError: From what the agent raised, or from what the environment says of its action.
    """
    if getattr(agent, "batches", False):
        return _play(agent, setting, seeds, watch)
    return [_play(agent, setting, [seed], watch)[0] for seed in seeds]


def _play(agent: Agent, setting: Setting, seeds: Sequence[int], watch: Watch) -> list[list[Row]]:
    """Episodes that are played together."""
    envs = setting.environments(agent, len(seeds))
    core: Core = envs.unwrapped.core  # type: ignore[attr-defined]
    episodes: list[list[Row]] = [[] for _ in seeds]
    decide = Decider(agent, core)
    try:
        observation, _ = envs.reset(seed=list(seeds))  # type: ignore[arg-type] # a seed for each
        _warm_up(agent, setting, observation)
        planning_s, over = 0.0, np.zeros(len(seeds), dtype=np.bool_)
        while not over.all():  # all of them have equally many rounds
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
    """Asks an agent for a batch's actions, with as much as its `predict` takes.

    An agent that knows no batches sees what a single environment would show it.
    """

    def __init__(self, agent: Agent, core: Core) -> None:
        self._predict, self._core = agent.predict, core
        self._batches = getattr(agent, "batches", False)
        self._asks = _arguments(agent.predict)
        self._state: Any = None
        self._starts = np.ones(core.batch.state.round.shape, dtype=np.bool_)

    def __call__(self, observation: Any) -> Any:
        """The actions."""
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


def _arguments(predict: Callable[..., Any]) -> tuple[str, ...]:
    """Which of `ASIDE` a `predict` takes; masks only by their name."""
    signature = signature_of(predict)
    parameters: Any = {} if signature is None else signature.parameters
    all_but_masks = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return tuple(n for n in ASIDE if n in parameters or (all_but_masks and n != "action_masks"))


def _warm_up(agent: Agent, setting: Setting, observation: Any) -> None:
    """Let what has to be compiled or loaded be so before planning is timed; only our own code.

    An agent that somebody brought might remember that it was asked.
    """
    if type(agent) is PlannerAgent and agent.planner in PLANNERS.values():
        _compile(agent.planner, setting.environment, setting.scenario.upload)
    elif getattr(agent, "batches", False) or isinstance(agent, LowerBoundAgent):
        agent.predict(row(observation, slice(1)), deterministic=True)


@cache
def _compile(planner: Any, environment: str, upload: str) -> None:
    """Let a planner plan two small problems, once per process: a chain and a DAG."""
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
    """What a round measured, for every environment."""
    part = weight / weight.sum(axis=1, keepdims=True)
    latency_s = (part * info["latency_s"]).sum(axis=1)
    local_s = (part * info["local_s"]).sum(axis=1)
    if isinstance(agent, LowerBoundAgent):  # which is not what it did
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
    """What an environment's placements look like, UE by UE."""
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
