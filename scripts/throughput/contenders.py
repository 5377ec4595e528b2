"""The contenders: groups of environments that are compared with each other."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

import mjoa_gym  # noqa: F401 - registers the environments
from mjoa_gym import DNN, Scenario, simulate
from mjoa_gym.envs.actions import ACTION_VIEWS
from mjoa_gym.model import kernel
from mjoa_gym.model.inference import inference_of
from mjoa_gym.model.link import link_at

from .players import CallPlayer, CollectPlayer, Player, ScalarPlayer, VecEnvPlayer, VectorPlayer

IDS = ("MJOA/ColdStart-v1", "MJOA/Streaming-v1")
UE_COUNTS = (2, 5, 10, 20)
PEERS = ("CartPole-v1", "mobile-env, small")
NETWORKS = ("alexnet", "vgg16", "resnet18", "resnet50", "inception_v3", "densenet121")


@dataclass(frozen=True)
class Contender:
    """One row of a table: an environment, and how to make it."""

    name: str
    make: Callable[[], Player]
    view: str = ""  # the action view, if there are several
    observation: str = ""  # "flat", "dict" or "outlook", if there are several
    ues: int = 0  # UEs of each environment, 0 if it has none
    network: str = ""  # the network that all UEs run, if it is only one
    calls_per_round: int = 1  # actions until all UEs have been served once


@dataclass(frozen=True)
class Group:
    """One table; ratios are to those rows named in `references` that take part."""

    title: str
    contenders: list[Contender]
    references: tuple[str, ...] = ()


def ours(env_id: str, view: str, n_envs: int, observation: str = "", **kwargs: Any) -> Contender:
    """Return our environment; `n_envs=0` is the scalar one."""
    observation = observation or ("dict" if view == "plan" else "flat")
    if view != "plan":  # with "plan", the observation is a dictionary by default
        kwargs["observation"] = observation
    scenario = Scenario.of(kwargs.get("scenario")).with_changes(n_ues=kwargs.get("n_ues"))

    def make() -> Player:
        if not n_envs:
            return ScalarPlayer(gym.make(env_id, action=view, **kwargs))
        mode = "vector_entry_point"
        return VectorPlayer(gym.make_vec(env_id, n_envs, mode, action=view, **kwargs))

    calls = scenario.n_ues if ACTION_VIEWS[view].one_by_one else 1
    return Contender(env_id, make, view, observation, scenario.n_ues, calls_per_round=calls)


def mobile_env(size: str, n_ues: int) -> Contender:
    """Return mobile-env with one agent for all UEs."""

    def make() -> Player:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        importlib.import_module("mobile_env")
        return ScalarPlayer(gym.make(f"mobile-{size}-central-v0"))

    return Contender(f"mobile-env, {size}", make, ues=n_ues)


def scalar_group() -> Group:
    """Return environments made with `gym.make`."""
    rows = [Contender("CartPole-v1", lambda: ScalarPlayer(gym.make("CartPole-v1")))]
    for env_id in IDS:
        rows += [ours(env_id, view, 0) for view in ("multidiscrete", "box", "discrete")]
        rows += [ours(env_id, "multidiscrete", 0, "dict"), ours(env_id, "plan", 0)]
    rows += [mobile_env(*each) for each in (("small", 5), ("medium", 15), ("large", 30))]
    return Group("Single environments (`gym.make`)", rows, PEERS)


def vector_group(n_envs: int, all_views: bool) -> Group:
    """Return native vector environments; mobile-env, which has none, runs one at a time.

    Our environments use all processors, the others use one.
    """

    def cartpole() -> Player:
        return VectorPlayer(gym.make_vec("CartPole-v1", n_envs, "vector_entry_point"))

    rows = [Contender("CartPole-v1", cartpole)]
    for env_id in IDS:
        rows.append(ours(env_id, "multidiscrete", n_envs))
        if all_views:
            rows.append(ours(env_id, "multidiscrete", n_envs, "dict"))
            rows += [ours(env_id, view, n_envs) for view in ("box", "discrete", "plan")]
            alone = ours(env_id, "multidiscrete", n_envs, threads=1)
            rows.append(replace(alone, name=f"{env_id}, one thread"))
            rows.append(ours(env_id, "multidiscrete", n_envs, "outlook"))
            ideal = ours(env_id, "multidiscrete", n_envs, scenario="ideal")
            rows.append(replace(ideal, name=f"{env_id}, `ideal`"))
    rows.append(mobile_env("small", 5))
    return Group(f"Vector environments, {n_envs:,} at once (`gym.make_vec`)", rows, PEERS)


def ue_group(n_envs: int, view: str) -> Group:
    """Return environments with different numbers of UEs."""
    rows = [ours(env_id, view, n_envs, n_ues=n) for env_id in IDS for n in UE_COUNTS]
    return Group(f"Against the number of UEs, {n_envs:,} environments at once", rows)


def layer_group(n_envs: int, view: str) -> Group:
    """Return environments with different numbers of layers: one network per scenario."""
    rows = [
        replace(ours(env_id, view, n_envs, scenario={"dnns": [name]}), network=name)
        for env_id in IDS
        for name in NETWORKS
    ]
    return Group(f"Against layers, {n_envs:,} environments at once", rows)


def sb3_groups(env_id: str, view: str, n_envs: int, n_steps: int) -> Iterator[Group]:
    """Yield groups for stepping Stable-Baselines3's `VecEnv`s, and for PPO's collection on them."""
    said = {"action": view, "observation": "flat"} if "MJOA/" in env_id else {}

    def native() -> Any:
        from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env

        mode = "vector_entry_point" if env_id in IDS else "sync"
        return make_vec_env(env_id, n_envs, vectorization_mode=mode, **said)

    def dummy() -> Any:
        from stable_baselines3.common.vec_env import DummyVecEnv

        return DummyVecEnv([lambda: gym.make(env_id, **said)] * n_envs)

    both = {"DummyVecEnv of scalar environments": dummy, "adapter, vector environment": native}

    def group(title: str, player: Callable[[Any], Player]) -> Group:
        rows = [
            Contender(name, lambda envs=envs: player(envs()), *said.values())
            for name, envs in both.items()
        ]
        return Group(f"{title}: `{env_id}`, {n_envs:,} environments", rows, tuple(both)[:1])

    yield group("Stepping Stable-Baselines3's `VecEnv`", VecEnvPlayer)
    yield group("Collecting experience with PPO", lambda envs: CollectPlayer(envs, n_steps))


def simulator_group(name: str) -> Group:
    """Return the simulation of random placements, with our kernel and the tests' simulator."""
    from tests.reference_simulator import reference_simulate

    dnn = DNN.load(name)
    times = {"ue_seconds": dnn.flops / 2e10, "edge_seconds": dnn.flops / 1e12}
    rates = {"uplink_bps": 2e7, "downlink_bps": 4e7}
    inference, link = inference_of(dnn, **times), link_at(**rates)
    fields = ("predecessors", "parameter_bytes", "output_bytes", "input_bytes")
    network = {field: getattr(dnn, field) for field in fields} | times | rates
    placements = np.random.default_rng(0).integers(0, 2, (20_000, dnn.n_layers)).astype(np.int8)
    few, n_threads = placements[:10], os.cpu_count() or 1
    parts = np.array_split(placements, n_threads)

    def in_threads() -> None:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(lambda part: kernel.run_many(part, inference, link), parts))

    calls: dict[str, tuple[Callable[[], object], int]] = {
        "SimPy": (lambda: [reference_simulate(placement=p, **network) for p in few], len(few)),
        "simulate": (lambda: [simulate(dnn, p, **times, **rates) for p in few], len(few)),
        "kernel": (lambda: kernel.run_many(placements, inference, link), len(placements)),
        f"kernel, {n_threads} threads": (in_threads, len(placements)),
    }
    rows = [
        Contender(each, partial(CallPlayer, *call), ues=1, network=name)
        for each, call in calls.items()
    ]
    return Group(f"Simulating {name}", rows, ("SimPy",))
