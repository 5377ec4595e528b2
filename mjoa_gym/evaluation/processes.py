"""Agents that play in separate processes, so that a failure of one does not stop the others.

If an agent raises an exception, crashes its process or takes too long for a decision, only its own
results are lost. The processes are new ones (not forks, because numeric libraries have threads).
They do not run the caller's main module again, and end with this process.
"""

from __future__ import annotations

import math
import os
import pickle
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from mjoa_gym import child_process
from mjoa_gym.evaluation.agent import Agent
from mjoa_gym.evaluation.agent_source import AgentSource
from mjoa_gym.evaluation.episodes import PlayError, Setting, Watch, play
from mjoa_gym.evaluation.journal import EpisodeStore, Key, Row
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.user_code import reason_of

TIMEOUT_S = 600.0
WARM_UP = -1
"""In place of a round, says that an agent's calls do not count yet; see `WARM_UP_S`."""
WARM_UP_S = 300.0
"""A warm-up may take a decision's time, or this time if it is longer: it may compile."""


class Playing(NamedTuple):
    """How episodes are played.

    There are `processes` separate processes. With 0, this process plays the episodes one after the
    other, and nothing stops an agent that is stuck. A decision may take `timeout_s`, and starting
    and making an agent may take `TIMEOUT_S`. Agents with batches get `together` episodes at once.
    """

    processes: int = 2
    timeout_s: float = TIMEOUT_S
    together: int = 20
    progress: bool | None = None


Play = Callable[[Agent, Setting, Sequence[int], Watch], list[list[Row]]]
"""A function that plays episodes in place of `episodes.play`; it must be picklable."""


class Job(NamedTuple):
    """Episodes for an agent to play in a setting: the key of the results by seed, and how."""

    source: AgentSource
    setting: Setting
    episodes: Mapping[int, Key]
    play: Play | None = None


class Failure(NamedTuple):
    """Why an agent dropped out of an evaluation, and in which episodes and round.

    The round is None if nothing was played yet, and `WARM_UP` in a warm-up. `reason` is one line.
    """

    agent: str
    seeds: tuple[int, ...]
    round: int | None
    reason: str
    trace: str = ""

    def __str__(self) -> str:
        if self.round is None:
            return f"{self.agent}: {self.reason}"
        first, last = self.seeds[0], self.seeds[-1]
        which = "episode with seed" if first == last else "one of the episodes with seeds"
        seeds = f"{first}" if first == last else f"{first} to {last}"
        return f"{self.agent}, {which} {seeds}, round {self.round} (the first is 0): {self.reason}"


class Moment(NamedTuple):
    """The round of a decision, and whether it begins or ends."""

    round: int
    begins: bool


Played = list[list[Row]] | Failure


def play_missing(
    jobs: Iterable[Job], store: EpisodeStore, how: Playing, unit: str = "episode"
) -> list[Failure]:
    """Play the episodes that a store lacks, and store each as soon as it is finished.

    Returns the agents that failed, and why.
    """
    total, missing = 0, []
    for job in jobs:
        total += len(job.episodes)
        left = [pair for pair in job.episodes.items() if pair[1] not in store.rows]
        size = how.together if job.source.batches else 1
        parts = (left[k : k + size] for k in range(0, len(left), size))
        missing += [job._replace(episodes=dict(part)) for part in parts]
    failures = []
    done = total - sum(len(job.episodes) for job in missing)
    with bar(total=total, initial=done, unit=unit, shown=how.progress) as shown:
        for job, played in play_all(missing, how):
            shown.set_postfix_str(job.source.label, refresh=False)
            if isinstance(played, Failure):
                failures.append(played)
                continue
            for key, rows in zip(job.episodes.values(), played, strict=True):
                store.add(key, rows)
            shown.update(len(played))
    return failures


def play_all(jobs: Iterable[Job], how: Playing) -> Iterator[tuple[Job, Played]]:
    """Play jobs, several at a time; after a failure, an agent plays no further jobs.

    Yields the jobs with their results in the order in which they end. Raises a ValueError if an
    agent cannot be sent to another process.
    """
    failed: set[str] = set()
    left = (job for job in jobs if job.source.label not in failed)
    here = ((job, _played(job.source, job.setting, tuple(job.episodes), job.play)) for job in left)
    for job, played in _in_processes(left, how) if how.processes else here:
        if isinstance(played, Failure):
            if job.source.label in failed:  # two jobs failed at the same time
                continue
            failed.add(job.source.label)
            played = played._replace(agent=job.source.label)
        yield job, played


def _in_processes(jobs: Iterator[Job], how: Playing) -> Iterator[tuple[Job, Played]]:
    """Do `play_all`; a thread for each process waits for its messages."""
    threads = ThreadPoolExecutor(how.processes)
    idle: list[Worker] = []
    busy: dict[Future[tuple[Job, Played]], Worker] = {}
    try:
        while True:
            while len(busy) < how.processes and (job := next(jobs, None)) is not None:
                worker = idle.pop() if idle else Worker(how.timeout_s)
                busy[threads.submit(worker.play, job)] = worker
            if not busy:
                return
            for future in wait(busy, 0.2, FIRST_COMPLETED).done:
                worker = busy.pop(future)
                if worker.lives:
                    idle.append(worker)
                else:
                    worker.end()
                yield future.result()
            for worker in busy.values():
                worker.check()
    finally:
        for worker in (*idle, *busy.values()):
            worker.end()
        threads.shutdown()


class Worker:
    """A process that plays one job after the other; a decision may take `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s, self._deadline, self._late = timeout_s, math.inf, ""
        self._process = subprocess.Popen(
            child_process.command(__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_process.environment(),
        )

    @property
    def lives(self) -> bool:
        """Whether the process can play another job."""
        return not self._late and self._process.poll() is None

    def play(self, job: Job) -> tuple[Job, Played]:
        """Return the result of a job; a failure if the process ends."""
        how = cloudpickle.dumps((job.setting, job.play))
        order = packed(job.source), how, tuple(job.episodes)
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        at = None
        try:
            self._limit_to(TIMEOUT_S)
            pickle.dump(order, orders)
            orders.flush()
            while isinstance(message := pickle.load(answers), Moment):
                at = message.round
                least_s = WARM_UP_S if at == WARM_UP else 0.0
                self._limit_to(least_s if message.begins else TIMEOUT_S)
            if isinstance(message, Failure) and message.round is None:
                message = message._replace(round=at)
            return job, message
        except Exception:  # the process has ended
            self._process.kill()
            status = self._process.wait()
            by = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            reason = self._late or f"its process ended ({by})"
            return job, Failure(job.source.label, tuple(job.episodes), at, reason)
        finally:
            self._deadline = math.inf

    def _limit_to(self, least_s: float) -> None:
        """Limit the time from now on to `least_s`, or to that of a decision if it is longer."""
        self._limit_s = max(self._timeout_s, least_s)
        self._deadline = time.monotonic() + self._limit_s

    def check(self) -> None:
        """Kill the process if it has exceeded its time limit."""
        if time.monotonic() > self._deadline:
            self._late = f"no decision within {self._limit_s:g} s"
            self._process.kill()

    def end(self) -> None:
        """Kill the process, whatever it is doing, and clean up."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]


@lru_cache(maxsize=64)
def packed(source: AgentSource) -> bytes:
    """Pickle a source for another process; raise a ValueError if that is not possible."""
    try:
        return cloudpickle.dumps(source)
    except Exception as error:
        raise ValueError(
            f"{source.label} cannot be sent to another process ({type(error).__name__}: {error}); "
            "pass a function or class that makes it, or play with processes=0"
        ) from error


def serve() -> None:
    """Play jobs from standard input until it ends; redirect the agent's output to standard error.

    The process ends with standard input, whatever the agent is doing.
    """
    orders: queue.Queue[Any] = queue.Queue()
    incoming, outgoing = child_process.channels()

    def listen() -> None:
        with suppress(Exception):
            while True:
                orders.put(pickle.load(incoming))
        os._exit(1)

    def tell(message: Any) -> None:
        pickle.dump(message, outgoing)
        outgoing.flush()

    threading.Thread(target=listen, daemon=True).start()
    while True:
        source, how, seeds = orders.get()
        _seed_everything(seeds[0])  # so that earlier jobs have no effect
        try:
            setting, play = pickle.loads(how)
            order = _unpacked(source), setting, seeds, play
            tell(_played(*order, lambda *moment: tell(Moment(*moment))))
        except BaseException as error:
            tell(_failure("", seeds, error))


@lru_cache(maxsize=8)
def _unpacked(content: bytes) -> AgentSource:
    return pickle.loads(content)


@lru_cache(maxsize=1)  # jobs with the same agent and setting follow each other
def _agent(source: AgentSource, setting: Setting) -> Agent:
    return source.agent(setting)


def _played(
    source: AgentSource,
    setting: Setting,
    seeds: tuple[int, ...],
    instead: Play | None,
    watch: Watch = lambda *_: None,
) -> Played:
    """Return the results of an agent's episodes."""
    try:
        return (instead or play)(_agent(source, setting), setting, seeds, watch)
    except (Exception, SystemExit) as error:
        return _failure(source.label, seeds, error)


def _failure(label: str, seeds: tuple[int, ...], error: BaseException) -> Failure:
    at = None  # the agent or its environment could not be made
    if isinstance(error, PlayError):
        at, error = error.args[0], error.__cause__ or error
    return Failure(label, seeds, at, reason_of(error), "".join(traceback.format_exception(error)))


def _seed_everything(seed: int) -> None:
    """Seed the global generators, so that agents that use them are reproducible."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what agents may draw from
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
