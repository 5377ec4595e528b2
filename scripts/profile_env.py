"""Where the time of a step goes: the table of `docs/throughput.md`.

    python scripts/profile_env.py

Steps many environments on one thread with random actions, timing the parts. Inferences
are simulated once more on their own; the rest of the round is what it takes beyond that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

import mjoa_gym  # noqa: F401 - registers the environments
from mjoa_gym.cli.ending import run
from mjoa_gym.world import rounds

IDS = ("MJOA/ColdStart-v0", "MJOA/Streaming-v0")
PARTS = ("simulating the inferences", "the rest of the round", "decoding the action",
         "the flat observation", "masks, information, bookkeeping", "all")  # fmt: skip
WARM_UP = 25
"""Steps before the first that counts: compilation, and an episode that fills the memory."""


class Timed:
    """Calls of a function, and the seconds that each took."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.seconds: list[float] = []

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        start = time.perf_counter()
        result = self.call(*arguments)
        self.seconds.append(time.perf_counter() - start)
        return result


def profile(env_id: str, n_envs: int, steps: int) -> list[float]:
    """Median microseconds per environment and step of the parts in `PARTS`."""
    envs: Any = gym.make_vec(
        env_id, n_envs, vectorization_mode="vector_entry_point", action="multidiscrete", threads=1
    )
    core = envs.unwrapped.core
    scenario, state = core.batch.scenario, core.batch.state
    everybody = np.ones(n_envs, dtype=np.bool_)
    decode, play = Timed(core.view.decode), Timed(core.batch.play)
    observe, step = Timed(core.observe), Timed(envs.step)
    simulate = Timed(rounds.latencies)
    core.view.decode, core.batch.play, core.observe = decode, play, observe
    envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(WARM_UP + steps):
        actions = envs.action_space.sample()
        decision, _ = decode.call(actions, core.dnn, everybody)
        simulate(scenario.tables, scenario.constants, state, decision, everybody, 0, n_envs)
        step(actions)
    envs.close()
    inferences, round_, decoding, observing, all_ = (
        1e6 / n_envs * median(timed.seconds[-steps:])
        for timed in (simulate, play, decode, observe, step)
    )
    rest = all_ - round_ - decoding - observing
    return [inferences, round_ - inferences, decoding, observing, rest, all_]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-envs", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    columns = [profile(env_id, options.n_envs, options.steps) for env_id in IDS]
    print("| us of a step | ColdStart | Streaming |\n|---|--:|--:|")
    for part, *values in zip(PARTS, *columns, strict=True):
        print(f"| {part} | {' | '.join(f'{value:.1f}' for value in values)} |")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
