"""The parts of a step's time.

Many environments are stepped on one thread with random actions, and the parts are timed. Inferences
are simulated a second time without the rest of the round, and the difference is the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

from mjoa_gym.evaluation.table import Table
from mjoa_gym.world import rounds

from .contenders import IDS

PARTS = ("simulating the inferences", "the rest of the round", "decoding the action",
         "the flat observation", "masks, information, bookkeeping", "all")  # fmt: skip
WARM_UP = 25
"""Number of untimed first steps, for compilation and for an episode that fills the memory."""


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


def parts_table(n_envs: int, steps: int = 100) -> Table:
    """Return the parts of both environments' steps, with `n_envs` environments at once."""
    columns = [seconds_of_parts(env_id, n_envs, steps) for env_id in IDS]
    rows = [
        (part, *(f"{1e6 * seconds / n_envs:.1f}" for seconds in both))
        for part, *both in zip(PARTS, *columns, strict=True)
    ]
    title = f"Microseconds of an environment's step, {n_envs:,} at once, one thread"
    return Table(title, ("part", *IDS), rows)


def seconds_of_parts(env_id: str, n_envs: int, steps: int) -> list[float]:
    """Return median seconds of the parts in `PARTS` of a step of all environments."""
    envs: Any = gym.make_vec(
        env_id, n_envs, vectorization_mode="vector_entry_point", action="multidiscrete", threads=1
    )
    core = envs.unwrapped.core
    scenario = core.batch.scenario
    everybody = np.ones(n_envs, dtype=np.bool_)
    decode, play = Timed(core.view.decode), Timed(core.batch.play)
    observe, step = Timed(core.observe), Timed(envs.step)
    simulate, outcome = Timed(core.batch.play_on), rounds.new_outcome(n_envs, scenario.n_ues)
    core.view.decode, core.batch.play, core.observe = decode, play, observe
    envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(WARM_UP + steps):
        actions = envs.action_space.sample()
        decision, _ = decode.call(actions, core.batch.state, everybody)
        simulate(decision, everybody, outcome, False)
        step(actions)
    envs.close()
    inferences, round_, decoding, observing, all_ = (
        median(timed.seconds[-steps:]) for timed in (simulate, play, decode, observe, step)
    )
    rest = all_ - round_ - decoding - observing
    return [inferences, round_ - inferences, decoding, observing, rest, all_]
