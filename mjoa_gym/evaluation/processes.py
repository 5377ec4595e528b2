"""Agents at play in processes of their own, where nothing that they do can stop the others.

An agent that raises, crashes its process or takes too long for a decision spoils its own results
only. Processes are fresh ones (not forks: numeric libraries have threads), do not run the caller's
main module again, and end with this one.
"""

from __future__ import annotations

import ctypes
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
from collections.abc import Iterable, Iterator, Mapping
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

    Attributes:
        processes: How many at a time, in processes of their own; with 0 in this one, one after the
            other, where nothing ends an agent that is stuck.
        timeout_s: What a decision may take. Starting and making an agent may take `TIMEOUT_S`.
        together: How many are decided together, by agents that take several.
        progress: Whether to show a bar; None for wherever somebody looks.
    """

    processes: int = 2
    timeout_s: float = TIMEOUT_S
    together: int = 20
    progress: bool | None = None


class Job(NamedTuple):
    """Episodes that an agent is to play in a setting.

    Attributes:
        source: Whose they are.
        setting: Where.
        episodes: By seed, the key that the results are kept under.
    """

    source: AgentSource
    setting: Setting
    episodes: Mapping[int, Key]


class Failure(NamedTuple):
    """What ended an agent's part in an evaluation.

    Attributes:
        agent: Its label.
        seeds: Of the episode, or of those that were played together; none if there was none yet.
        round: From 0; None if there was none yet.
        reason: In a line.
        trace: Where in the code it happened.
    """

    agent: str
    seeds: tuple[int, ...]
    round: int | None
    reason: str
    trace: str = ""

    def __str__(self) -> str:
        where = ""
        if self.round is not None:
            first, last = self.seeds[0], self.seeds[-1]
            where = f", episode with seed {first}" if first == last else (
                f", one of the episodes with seeds {first} to {last}"
            )  # fmt: skip
            where += f", round {self.round} (the first is 0)"
        return f"{self.agent}{where}: {self.reason}"


class Moment(NamedTuple):
    """The round of a decision, and whether it begins or ends."""

    round: int
    begins: bool


Played = list[list[Row]] | Failure


def play_missing(
    jobs: Iterable[Job], store: EpisodeStore, how: Playing, unit: str = "episode"
) -> list[Failure]:
    """Play the episodes that a store lacks, and put them there.

    Args:
        jobs: All episodes that are wanted.
        store: What there is; every finished episode is kept at once, whatever happens later.
        how: How they are played.
        unit: What the bar calls an episode.

    Returns:
        The agents that could not play on, and why.
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

    Yields:
        Jobs in the order in which they end, and what came of them.

    Raises:
        ValueError: If an agent cannot be sent to another process.
    """
    failed: set[str] = set()
    left = (job for job in jobs if job.source.label not in failed)
    for job, played in _in_processes(left, how) if how.processes else _here(left):
        if isinstance(played, Failure):
            if job.source.label in failed:  # two at a time have failed
                continue
            failed.add(job.source.label)
            played = played._replace(agent=job.source.label)
        yield job, played


def _here(jobs: Iterable[Job]) -> Iterator[tuple[Job, Played]]:
    for job in jobs:
        yield job, _played(job.source, job.setting, tuple(job.episodes), lambda *_: None)


def _in_processes(jobs: Iterable[Job], how: Playing) -> Iterator[tuple[Job, Played]]:
    inbox: queue.Queue[tuple[Worker, Any]] = queue.Queue()
    waiting = iter(jobs)
    idle: list[Worker] = []
    busy: set[Worker] = set()
    try:
        while True:
            while len(busy) < how.processes and (job := next(waiting, None)) is not None:
                worker = idle.pop() if idle else Worker(inbox, how.timeout_s)
                busy.add(worker)
                worker.give(job)
            if not busy:
                return
            if late := next((worker for worker in busy if worker.is_late), None):
                busy.remove(late)
                yield late.job, late.end(f"no decision within {late.limit_s:g} s")
                continue
            with suppress(queue.Empty):
                worker, message = inbox.get(timeout=0.2)
                if worker in busy and worker.heard(message):
                    busy.remove(worker)
                    if message is not None:
                        idle.append(worker)
                    yield worker.job, worker.end() if message is None else message
                elif message is None and worker in idle:
                    idle.remove(worker)
    finally:
        for worker in (*idle, *busy):
            worker.end()


class Worker:
    """A process that plays one job after the other.

    Args:
        inbox: Where its messages go: a decision's moment; what came of a job; None when the process
            has ended.
        timeout_s: What a decision may take.

    Attributes:
        job: What it plays.
    """

    job: Job

    def __init__(self, inbox: queue.Queue[tuple[Worker, Any]], timeout_s: float) -> None:
        self._inbox, self._timeout_s = inbox, timeout_s
        self._process = subprocess.Popen(
            [sys.executable, "-c", START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"OMP_NUM_THREADS": "1"} | os.environ,  # unless the user says so
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(Exception):
            while True:
                self._inbox.put((self, pickle.load(self._process.stdout)))
        self._inbox.put((self, None))

    def give(self, job: Job) -> None:
        """Have a job played."""
        self.job = job
        self._moment: Moment | None = None
        self._since = time.monotonic()
        order = packed(job.source), cloudpickle.dumps(job.setting), tuple(job.episodes)
        assert self._process.stdin is not None
        with suppress(OSError):  # its end is a message
            pickle.dump(order, self._process.stdin)
            self._process.stdin.flush()

    @property
    def limit_s(self) -> float:
        """How long what it does just now may take."""
        decides = self._moment is not None and self._moment.begins
        return self._timeout_s if decides else max(self._timeout_s, TIMEOUT_S)

    @property
    def is_late(self) -> bool:
        """Whether it has taken longer."""
        return time.monotonic() - self._since > self.limit_s

    def heard(self, message: Any) -> bool:
        """Note a message; whether it ends the job."""
        self._since = time.monotonic()
        if isinstance(message, Moment):
            self._moment = message
        return not isinstance(message, Moment)

    def end(self, reason: str | None = None) -> Failure:
        """End the process, and say what becomes of its job."""
        self._process.kill()
        status = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]
        if reason is None:
            by = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            reason = f"its process ended ({by})"
        at = None if self._moment is None else self._moment.round
        return Failure(self.job.source.label, tuple(self.job.episodes), at, reason)


@lru_cache(maxsize=64)
def packed(source: AgentSource) -> bytes:
    """A source to be sent to another process.

    Raises:
        ValueError: If that cannot be done.
    """
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
        source, setting, seeds = orders.get()
        _seed_everything(seeds[0])  # whatever was played before here
        try:
            order = _unpacked(source), pickle.loads(setting), seeds
            tell(_played(*order, lambda *moment: tell(Moment(*moment))))
        except BaseException as error:
            tell(_failure("", seeds, None, error))


@lru_cache(maxsize=8)
def _unpacked(content: bytes) -> AgentSource:
    source: AgentSource = pickle.loads(content)
    return source


_made: dict[tuple[int, str], tuple[AgentSource, Agent]] = {}
"""The last agent, and its source, which keeps its id while it is here."""


def _played(source: AgentSource, setting: Setting, seeds: tuple[int, ...], watch: Watch) -> Played:
    """What an agent's episodes came to."""
    key = id(source), setting.fingerprint
    try:
        if key not in _made:
            _made.clear()  # one is enough: jobs of an agent and a setting follow each other
            _made[key] = source, source.agent(setting)
        return play(_made[key][1], setting, seeds, watch)
    except PlayError as error:
        return _failure(source.label, seeds, error.round, error.reason)
    except (Exception, SystemExit) as error:  # it cannot be made, or has no environment
        return _failure(source.label, seeds, None, error)


def _failure(
    label: str, seeds: tuple[int, ...], round_: int | None, error: BaseException
) -> Failure:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Failure(label, seeds, round_, reason, "".join(traceback.format_exception(error)))


def _seed_everything(seed: int) -> None:
    """Make an agent that draws from global generators repeat itself."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what agents may draw from
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
