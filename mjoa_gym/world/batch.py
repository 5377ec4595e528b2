"""A batch of environments: their state, and threads that share the work."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance
from mjoa_gym.world import rounds
from mjoa_gym.world.population import Memory, to_instance
from mjoa_gym.world.randomness import new_stream
from mjoa_gym.world.rounds import Decision, Outcome
from mjoa_gym.world.scenario import Scenario

LEAST_PART = 16  # with fewer environments, another thread costs more than it gains


class Batch:
    """E environments of one scenario; a single environment is a batch of one.

    If the batch `persists`, UEs and their parameters stay from round to round. Results do not
    depend on how many threads share the work.
    """

    def __init__(self, scenario: Scenario, persists: bool, n_envs: int, threads: int = 1) -> None:
        self.scenario = scenario
        self.persists = persists
        self.n_envs = n_envs
        self.threads = threads
        self.state = rounds.new_state(scenario, n_envs)
        self._room = self._new_room()

    def _new_room(self) -> rounds.Room:
        rows = self.scenario.memory_rows if self.persists else 0
        return rounds.new_room(self.scenario.n_ues, self.scenario.tables.width, rows)

    def seed(self, e: int, rng: np.random.Generator) -> None:
        """Give environment `e` a stream of random numbers."""
        self.state.stream[e] = new_stream(rng)

    def begin(self, which: NDArray[np.bool_]) -> None:
        """Start an episode in the environments of `which` (E,)."""
        rounds.begin(self.scenario, self.state, which)

    def over(self) -> NDArray[np.bool_]:
        """Return (E,) bool: whether the episode has played all its rounds."""
        return self.state.round >= self.scenario.rounds

    def play(self, decision: Decision, which: NDArray[np.bool_], endless: bool) -> Outcome:
        """Play one round in the environments of `which` (E,).

        `endless` says that a decision may leave a UE without a share that it needs.

        Raises:
            ValueError: If the decision does; nothing has changed then.
        """
        outcome = rounds.new_outcome(self.n_envs, self.scenario.n_ues)
        if endless:
            self.play_on(decision, which, outcome, moves_on=False)
            _refuse_endless(outcome.latency_s, decision)
        self.play_on(decision, which, outcome)
        return outcome

    def play_on(
        self, decision: Decision, which: NDArray[np.bool_], outcome: Outcome, moves_on: bool = True
    ) -> None:
        """`rounds.play` in all environments of `which` (E,), shared among the threads."""
        scenario, state, persists = self.scenario, self.state, self.persists
        tables, constants, traces = scenario.tables, scenario.constants, scenario.traces

        def part(first: int, last: int) -> None:
            shared = last - first < self.n_envs
            room = self._new_room() if shared else self._room
            rounds.play(
                room, tables, constants, traces, persists, moves_on, state, decision, which,
                outcome, first, last,
            )  # fmt: skip

        in_parts(part, self.n_envs, self.threads)

    def instance(self, e: int) -> Instance:
        """Return the current problem of environment `e`."""
        scenario, state, people = self.scenario, self.state, self.state.population.of(e)
        if not self.persists:
            return to_instance(scenario, people)
        memory = Memory(state.resident[e].copy(), state.idle[e].copy())
        return to_instance(scenario, people, None, memory, int(state.round[e]))


def in_parts(call: Callable[[int, int], None], n: int, threads: int) -> None:
    """Call `call(first, last)` for parts of `range(n)`, one part per thread."""
    threads = min(threads, n // LEAST_PART)
    if threads <= 1:
        call(0, n)
        return
    bounds = [n * k // threads for k in range(threads + 1)]
    parts = list(pairwise(bounds))
    waiting = [_pool(os.getpid(), threads).submit(call, *part) for part in parts[1:]]
    call(*parts[0])
    for future in waiting:
        future.result()


@lru_cache(maxsize=8)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process, because a fork does not inherit them."""
    return ThreadPoolExecutor(threads - 1, thread_name_prefix=f"mjoa-gym-{process}")


def _refuse_endless(seconds: NDArray[np.float64], decision: Decision) -> None:
    """Raise a ValueError if an inference never ends because it lacks a share."""
    for e, i in np.argwhere(~np.isfinite(seconds)):
        names = ("bandwidth_share", "compute_share")
        share, name = min((getattr(decision, name)[e, i], name) for name in names)
        raise ValueError(
            f"{name}[{i}]={share}: UE {i} has layers at the edge, so it needs a larger share for "
            "its inference to end"
        )
