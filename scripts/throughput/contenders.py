"""What takes part: groups of environments that are compared with each other."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym

import mjoa_gym  # noqa: F401 - registers the environments
from mjoa_gym import Scenario

from .players import CollectPlayer, Player, ScalarPlayer, VecEnvPlayer, VectorPlayer

COLD, STREAMING = "MJOA/ColdStart-v0", "MJOA/Streaming-v0"
IDS = (COLD, STREAMING)
UE_COUNTS = (2, 5, 10, 20)
PEERS = ("CartPole-v1", "mobile-env, small")
NETWORKS = ("alexnet", "vgg16", "resnet18", "resnet50", "inception_v3", "densenet121")


@dataclass(frozen=True)
class Contender:
    """One row of a table.

    Attributes:
        name: The environment.
        make: Builds it.
        view: The action view, where there are several.
        observation: "flat" or "dict", likewise.
        n_envs: How many at once.
        ues: UEs in each, 0 if it has none.
        network: The one that all UEs run, if it is only one.
        calls_per_round: Actions until all UEs have been served once.
    """

    name: str
    make: Callable[[], Player]
    view: str = ""
    observation: str = ""
    n_envs: int = 1
    ues: int = 0
    network: str = ""
    calls_per_round: int = 1


@dataclass(frozen=True)
class Group:
    """One table; ratios are to those of the rows named in `references` that take part."""

    key: str
    title: str
    contenders: list[Contender]
    references: tuple[str, ...] = ()


def ours(env_id: str, view: str, observation: str, n_envs: int, **kwargs: Any) -> Contender:
    """Our environment; `n_envs=0` is the scalar one."""
    if not (view == "plan" and observation == "dict"):
        kwargs["observation"] = observation  # a plan's observation is a dictionary by default
    scenario = Scenario.of(kwargs.get("scenario")).with_changes(n_ues=kwargs.get("n_ues"))

    def make() -> Player:
        if not n_envs:
            return ScalarPlayer(gym.make(env_id, action=view, **kwargs))
        mode = "vector_entry_point"
        return VectorPlayer(gym.make_vec(env_id, n_envs, mode, action=view, **kwargs))

    calls = scenario.n_ues if view == "discrete" else 1
    return Contender(
        env_id, make, view, observation, max(n_envs, 1), scenario.n_ues, calls_per_round=calls
    )


def mobile_env(size: str, n_ues: int) -> Contender:
    """mobile-env with one agent for all UEs."""

    def make() -> Player:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        importlib.import_module("mobile_env")
        return ScalarPlayer(gym.make(f"mobile-{size}-central-v0"))

    return Contender(f"mobile-env, {size}", make, ues=n_ues)


def scalar_group() -> Group:
    """Environments made with `gym.make`."""
    rows = [Contender("CartPole-v1", lambda: ScalarPlayer(gym.make("CartPole-v1")))]
    for env_id in IDS:
        rows += [ours(env_id, view, "flat", 0) for view in ("multidiscrete", "box", "discrete")]
        rows += [ours(env_id, "multidiscrete", "dict", 0), ours(env_id, "plan", "dict", 0)]
    rows += [mobile_env(*each) for each in (("small", 5), ("medium", 15), ("large", 30))]
    return Group("scalar", "Single environments (`gym.make`)", rows, PEERS)


def vector_group(n_envs: int, all_views: bool) -> Group:
    """Native vector environments; mobile-env, which has none, runs one at a time.

    Ours use all processors, the others one.
    """

    def cartpole() -> Player:
        return VectorPlayer(gym.make_vec("CartPole-v1", n_envs, "vector_entry_point"))

    rows = [Contender("CartPole-v1", cartpole, n_envs=n_envs)]
    for env_id in IDS:
        rows.append(ours(env_id, "multidiscrete", "flat", n_envs))
        if all_views:
            rows.append(ours(env_id, "multidiscrete", "dict", n_envs))
            rows += [ours(env_id, view, "flat", n_envs) for view in ("box", "discrete")]
            rows.append(ours(env_id, "plan", "dict", n_envs))
            alone = ours(env_id, "multidiscrete", "flat", n_envs, threads=1)
            rows.append(replace(alone, name=f"{env_id}, one thread"))
    rows.append(mobile_env("small", 5))
    title = f"Vector environments, {n_envs:,} at once (`gym.make_vec`)"
    return Group("vector", title, rows, PEERS)


def ue_group(n_envs: int, view: str) -> Group:
    """The number of UEs."""
    observation = "dict" if view == "plan" else "flat"
    rows = [
        ours(env_id, view, observation, n_envs, n_ues=n) for env_id in IDS for n in UE_COUNTS
    ]  # fmt: skip
    return Group("ues", f"Against the number of UEs, {n_envs:,} environments at once", rows)


def layer_group(n_envs: int, view: str) -> Group:
    """The number of layers: one network per scenario."""
    observation = "dict" if view == "plan" else "flat"
    rows = []
    for env_id in IDS:
        for name in NETWORKS:
            row = ours(env_id, view, observation, n_envs, scenario={"dnns": [name]})
            rows.append(replace(row, network=name))
    return Group("layers", f"Against layers, {n_envs:,} environments at once", rows)


def sb3_group(env_id: str, n_envs: int, n_steps: int, **kwargs: Any) -> list[Group]:
    """Stable-Baselines3: stepping its `VecEnv`s, and PPO's collection of experience over them."""

    def native() -> Any:
        from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env

        mode = "vector_entry_point" if env_id in IDS else "sync"
        return make_vec_env(env_id, n_envs, vectorization_mode=mode, **kwargs)

    def dummy() -> Any:
        from stable_baselines3.common.vec_env import DummyVecEnv

        return DummyVecEnv([lambda: gym.make(env_id, **kwargs)] * n_envs)

    def group(key: str, title: str, player: Callable[[Any], Player]) -> Group:
        def row(name: str, envs: Callable[[], Any]) -> Contender:
            said = (kwargs.get("action", ""), kwargs.get("observation", ""))
            return Contender(name, lambda: player(envs()), *said, n_envs)

        rows = [row("DummyVecEnv of scalar environments", dummy)]
        rows.append(row("adapter, vector environment", native))
        return Group(key, f"{title}: `{env_id}`, {n_envs:,} environments", rows, (rows[0].name,))

    return [
        group("stepping", "Stepping Stable-Baselines3's `VecEnv`", VecEnvPlayer),
        group("ppo", "Collecting experience with PPO", lambda envs: CollectPlayer(envs, n_steps)),
    ]
