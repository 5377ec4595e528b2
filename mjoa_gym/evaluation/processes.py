"""Agents at play in processes of their own, where nothing that they do can stop the others.

An agent that raises, crashes its process or takes too long for a decision spoils its own results
only. Processes are fresh ones (not forks: numeric libraries have threads), do not run the caller's
main module again, and end with this one.
"""

from __future__ import annotations

import ctypes
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

from mjoa_gym.evaluation.agent import Agent
from mjoa_gym.evaluation.agent_source import AgentSource
from mjoa_gym.evaluation.episodes import PlayError, Setting, Watch, play
from mjoa_gym.evaluation.journal import EpisodeStore, Key, Row
from mjoa_gym.evaluation.progress import bar

TIMEOUT_S = 600.0
START = (
    "import sys; sys.path[:] = {path!r}; from mjoa_gym.evaluation.processes import serve; serve()"
)
PR_SET_PDEATHSIG = 1


class Playing(NamedTuple):
    """How episodes are played.

    `processes` at a time are played in processes of their own; with 0 in this one, one after the
    other, where nothing ends an agent that is stuck. A decision may take `timeout_s`, starting and
    making an agent `TIMEOUT_S`. Agents that take several episodes at once are given `together`.
    """

    processes: int = 2
    timeout_s: float = TIMEOUT_S
    together: int = 20
    progress: bool | None = None


Play = Callable[[Agent, Setting, Sequence[int], Watch], list[list[Row]]]
"""Plays episodes in place of `episodes.play`; it can be sent to another process."""


class Job(NamedTuple):
    """Episodes that an agent is to play in a setting: by seed, the key of the results; and how."""

    source: AgentSource
    setting: Setting
    episodes: Mapping[int, Key]
    play: Play | None = None


class Failure(NamedTuple):
    """What ended an agent's part in an evaluation, after which episodes and in which round.

    The round is None, and so may be the seeds, if nothing was played yet; `reason` is a line.
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
    """Play the episodes that a store lacks, and put each there as soon as it is finished.

    Returns the agents that could not play on, and why.
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
    """Play jobs, several at a time; an agent that has failed once is not asked again.

    They come in the order in which they end, with what came of them. Raises a ValueError if an
    agent cannot be sent to another process.
    """
    failed: set[str] = set()
    left = (job for job in jobs if job.source.label not in failed)
    here = ((job, _played(job.source, job.setting, tuple(job.episodes), job.play)) for job in left)
    for job, played in _in_processes(left, how) if how.processes else here:
        if isinstance(played, Failure):
            if job.source.label in failed:  # two at a time have failed
                continue
            failed.add(job.source.label)
            played = played._replace(agent=job.source.label)
        yield job, played


def _in_processes(jobs: Iterator[Job], how: Playing) -> Iterator[tuple[Job, Played]]:
    """As `play_all`; a thread for each process waits for what it says."""
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
            [sys.executable, "-c", START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OMP_NUM_THREADS": "1"} | os.environ,  # unless the user says so
        )

    @property
    def lives(self) -> bool:
        """Whether it can play another job."""
        return not self._late and self._process.poll() is None

    def play(self, job: Job) -> tuple[Job, Played]:
        """What comes of a job; a failure if the process ends."""
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
                self._limit_to(0.0 if message.begins else TIMEOUT_S)
            return job, message
        except Exception:  # it has ended
            self._process.kill()
            status = self._process.wait()
            by = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            reason = self._late or f"its process ended ({by})"
            return job, Failure(job.source.label, tuple(job.episodes), at, reason)
        finally:
            self._deadline = math.inf

    def _limit_to(self, least_s: float) -> None:
        """What it does from now on may take so long, or as long as a decision."""
        self._limit_s = max(self._timeout_s, least_s)
        self._deadline = time.monotonic() + self._limit_s

    def check(self) -> None:
        """Kill the process if it takes too long."""
        if time.monotonic() > self._deadline:
            self._late = f"no decision within {self._limit_s:g} s"
            self._process.kill()

    def end(self) -> None:
        """Kill the process, whatever it does, and leave nothing of it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]


@lru_cache(maxsize=64)
def packed(source: AgentSource) -> bytes:
    """A source to be sent to another process; a ValueError if that cannot be done."""
    try:
        return cloudpickle.dumps(source)
    except Exception as error:
        raise ValueError(
            f"{source.label} cannot be sent to another process ({type(error).__name__}: {error}); "
            "give a function or class that makes it, or play with processes=0"
        ) from error


def serve() -> None:
    """Play jobs from standard input until it ends; the agent's own output goes to standard error.

    The process ends when standard input does, whatever the agent is doing.
    """
    orders: queue.Queue[Any] = queue.Queue()
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, too
    if sys.platform == "linux":  # even from compiled code that gives no other thread a chance
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

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
        _seed_everything(seeds[0])  # whatever was played before here
        try:
            setting, play = pickle.loads(how)
            order = _unpacked(source), setting, seeds, play
            tell(_played(*order, lambda *moment: tell(Moment(*moment))))
        except BaseException as error:
            tell(_failure("", seeds, error))


@lru_cache(maxsize=8)
def _unpacked(content: bytes) -> AgentSource:
    return pickle.loads(content)


@lru_cache(maxsize=1)  # jobs of an agent and a setting follow each other
def _agent(source: AgentSource, setting: Setting) -> Agent:
    return source.agent(setting)


def _played(
    source: AgentSource,
    setting: Setting,
    seeds: tuple[int, ...],
    instead: Play | None,
    watch: Watch = lambda *_: None,
) -> Played:
    """What an agent's episodes came to."""
    try:
        return (instead or play)(_agent(source, setting), setting, seeds, watch)
    except (Exception, SystemExit) as error:
        return _failure(source.label, seeds, error)


def _failure(label: str, seeds: tuple[int, ...], error: BaseException) -> Failure:
    at = None  # it cannot be made, or has no environment
    if isinstance(error, PlayError):
        at, error = error.args[0], error.__cause__ or error
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(label, seeds, at, reason, "".join(traceback.format_exception(error)))


def _seed_everything(seed: int) -> None:
    """Make an agent that draws from global generators repeat itself."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what agents may draw from
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
