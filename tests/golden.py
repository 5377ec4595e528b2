"""Numbers that a rebuild must leave as they are, to the last bit, as hashes by name.

No test, since another machine's logarithm may differ in the last bit: before you rebuild, see that
they are the same on yours, or write them down there.

python -m tests.golden            # compare
python -m tests.golden --write    # write them down
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import mjoa_gym
from mjoa_gym import DNN, Instance, Plan, evaluate, simulate
from mjoa_gym.planners import ara, lower_bound, pbt_dp, plan_with, planner_names
from tests.random_dnns import UPLOAD_MODES, random_case
from tests.random_instances import random_instance

LATER = {f"{mark}{key}" for key in ("energy_j", "missed") for mark in ("", "_")}
"""Keys of `info` that came after the hashes of trajectories had been written down."""
FILE = Path(__file__).parent / "data" / "golden.json"
VIEWS = ("plan", "box", "multidiscrete", "discrete")
IDS = ("MJOA/ColdStart-v1", "MJOA/Streaming-v1")
SCENARIOS = ("ideal", "default")


class Hash:
    """Digests anything that numbers and texts are made of."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, value: Any) -> None:
        """Take in a value."""
        if isinstance(value, dict):
            for key in sorted(value.keys() - LATER):
                self.add((key, value[key]))
        elif isinstance(value, (list, tuple)) or getattr(value, "dtype", None) == np.object_:
            self._sha.update(f"({len(value)}".encode())
            for each in value:
                self.add(each)
        elif isinstance(value, (np.ndarray, np.generic)):
            array = np.ascontiguousarray(value)
            self._sha.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        elif isinstance(value, float):
            self._sha.update(value.hex().encode())
        else:
            self._sha.update(repr(value).encode())

    def __str__(self) -> str:
        return self._sha.hexdigest()[:16]


def of(values: Any) -> str:
    """The hash of what a sequence holds."""
    found = Hash()
    for value in values:
        found.add(value)
    return str(found)


def plan_values(plan: Plan) -> Any:
    """What a plan consists of."""
    return (
        [np.asarray(p, np.int8) for p in plan.placements],
        plan.bandwidth_share,
        plan.compute_share,
        None if plan.prefetch is None else [np.asarray(p, np.int8) for p in plan.prefetch],
    )


def simulations(upload: str) -> Any:
    """Timelines of random inferences."""
    for seed in range(150):
        rng = np.random.default_rng([seed, UPLOAD_MODES.index(upload)])
        case = random_case(rng, int(rng.integers(1, 15)), bool(seed % 2), upload)
        names = ("flops", "parameter_bytes", "output_bytes", "predecessors", "input_bytes")
        dnn = DNN("random", *(case.pop(name) for name in names))
        timeline = simulate(dnn, **case)
        yield timeline.latency, [tuple(i) for i in timeline.intervals]
        yield timeline.resident, timeline.until_s
        arguments = {k: case[k] for k in ("ue_seconds", "edge_seconds", "uplink_bps")}
        yield pbt_dp(
            dnn, **arguments, downlink_bps=case["downlink_bps"], resident=case["resident"],
            upload=upload,
        )  # fmt: skip


def streamed(n_ues: int, rounds: int, seed: int) -> Instance:
    """An instance of streaming in the ideal scenario with something on the server."""
    env = gym.make("MJOA/Streaming-v1", scenario="ideal", n_ues=n_ues)
    observation, _ = env.reset(seed=seed)
    for _ in range(rounds):
        instance = mjoa_gym.decode_observation(observation, env.unwrapped.scenario)
        plan = plan_with("efficiency", instance)
        observation, *_ = env.step(env.unwrapped.view.encode(plan))
    return mjoa_gym.decode_observation(observation, env.unwrapped.scenario)


def plans(planner: str) -> Any:
    """A planner's plans for instances of many kinds."""
    slow = planner == "oracle"
    for seed in range(4 if slow else 24):
        instance = random_instance(seed, n_ues=min(1 + seed % 5, 2 if slow else 5))
        plan = plan_with(planner, instance)
        yield plan_values(plan), evaluate(instance, plan)
    for seed in range(0 if slow else 2):
        yield plan_values(plan_with(planner, streamed(3, 2, seed)))
    if not slow:
        yield plan_values(plan_with(planner, random_instance(100, n_ues=10)))


def trajectory(env_id: str, scenario: str, view: str) -> Any:
    """Twenty rounds of random actions."""
    env = gym.make(env_id, action=view, scenario=scenario, n_ues=3, rounds=20)
    env.action_space.seed(3)
    yield env.reset(seed=11)
    over = False
    while not over:
        step = env.step(env.action_space.sample())
        over = step[3]
        yield step


def vector(env_id: str, scenario: str) -> Any:
    """Steps of a vector environment, beyond an episode's end."""
    envs = gym.make_vec(
        env_id, 5, vectorization_mode="vector_entry_point", action="multidiscrete", n_ues=2,
        rounds=3, observation="dict", scenario=scenario,
    )  # fmt: skip
    envs.action_space.seed(4)
    yield envs.reset(seed=5)
    for _ in range(8):
        yield envs.step(envs.action_space.sample())


def far_sighted(n_ues: int, scenario: str) -> Any:
    """The far-sighted planner's episode."""
    from mjoa_gym.evaluation.agent import PlannerAgent

    env = gym.make("MJOA/Streaming-v1", action="plan", n_ues=n_ues, rounds=12, scenario=scenario)
    agent = PlannerAgent("far-sighted", env.unwrapped.scenario)
    observation, _ = env.reset(seed=1_000_003)
    over = False
    while not over:
        action, _ = agent.predict(observation)
        yield action
        observation, reward, _, over, _ = env.step(action)
        yield reward


def parallel(scenario: str) -> Any:
    """Every UE an agent of its own."""
    settings = {"n_ues": 3, "reward": "own", "rounds": 6, "scenario": scenario}
    env = mjoa_gym.parallel_env("MJOA/Streaming-v1", **settings)
    for k, agent in enumerate(env.possible_agents):
        env.action_space(agent).seed(k)
    yield env.reset(seed=2)
    while env.agents:
        yield env.step({agent: env.action_space(agent).sample() for agent in env.agents})


def cases() -> dict[str, Callable[[], Any]]:
    """Everything that is hashed, by name."""
    found: dict[str, Callable[[], Any]] = {}
    for mode in UPLOAD_MODES:
        found[f"simulate {mode}"] = lambda mode=mode: simulations(mode)
    for planner in PLANNERS:
        found[f"plan {planner}"] = lambda planner=planner: plans(planner)
    for s in SCENARIOS:
        for env_id in IDS:
            for view in VIEWS:
                found[f"{env_id} {s} {view}"] = lambda e=env_id, s=s, v=view: trajectory(e, s, v)
            found[f"{env_id} {s} vector"] = lambda e=env_id, s=s: vector(e, s)
        for n_ues in (2, 5):
            found[f"far-sighted {s} {n_ues}"] = lambda n=n_ues, s=s: far_sighted(n, s)
        found[f"parallel {s}"] = lambda s=s: parallel(s)
    found["bound"] = lambda: (lower_bound(random_instance(s, n_ues=1 + s % 3)) for s in range(5))
    found["ara"] = lambda: (
        ara(instance, [np.arange(ue.dnn.n_layers) % 2 for ue in instance.ues])
        for instance in (random_instance(s) for s in range(20))
    )
    return found


PLANNERS = tuple(name for name in planner_names() if name != "far-sighted")


def main() -> int:
    """Write or compare; returns the exit status."""
    wanted = [text for text in sys.argv[1:] if not text.startswith("-")]
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    status = 0
    for name, case in cases().items():
        if wanted and not any(text in name for text in wanted):
            continue
        found = of(case())
        if "--write" in sys.argv:
            known[name] = found
        elif known.get(name) != found:
            print(f"DIFFERS: {name}: {known.get(name)} -> {found}", flush=True)
            status = 1
        else:
            print(f"same: {name}", flush=True)
    if "--write" in sys.argv:
        FILE.write_text(json.dumps(known, indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
