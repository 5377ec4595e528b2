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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from mjoa_gym.evaluation.agent import Agent
from mjoa_gym.evaluation.agent_source import AgentSource
from mjoa_gym.evaluation.episodes import OutOfTime, PlayError, Setting, Watch, play
from mjoa_gym.evaluation.journal import EpisodeStore, Key, Row
from mjoa_gym.evaluation.progress import bar

PATIENCE_S = 600.0
"""What a decision may take; and what else an agent may, as being made."""
LATE = "no decision within {:g} s"
START = (
    "import sys; sys.path[:] = {path!r}; from mjoa_gym.evaluation.processes import serve; serve()"
)
PR_SET_PDEATHSIG = 1


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
        seed: Of the episode; None if there was none yet, or several were played together.
        round: From 0; None if there was none yet.
        reason: In a line.
        trace: Where in the code it happened.
    """

    agent: str
    seed: int | None
    round: int | None
    reason: str
    trace: str = ""

    def __str__(self) -> str:
        where = "" if self.seed is None else f", episode with seed {self.seed}"
        if self.round is not None:
            where += f", round {self.round} (the first is 0)"
        return f"{self.agent}{where}: {self.reason}"


class Moment(NamedTuple):
    """The place of a decision, and whether it begins there or ends."""

    seed: int | None
    round: int
    begins: bool


Played = list[list[Row]] | Failure


def play_missing(
    jobs: Iterable[Job],
    store: EpisodeStore,
    together: int = 1,
    processes: int = 2,
    patience_s: float = PATIENCE_S,
    progress: bool | None = None,
    unit: str = "episode",
) -> list[Failure]:
    """Play the episodes that a store lacks, and put them there.

    Args:
        jobs: All episodes that are wanted.
        store: What there is; every finished episode is kept at once, whatever happens later.
        together: Episodes that are decided together, where the agent takes several.
        processes: See `play_all`.
        patience_s: See `play_all`.
        progress: Whether to show a bar; None for wherever somebody looks.
        unit: What the bar calls an episode.

    Returns:
        The agents that could not play on, and why.
    """
    total, missing = 0, []
    for job in jobs:
        total += len(job.episodes)
        left = [pair for pair in job.episodes.items() if pair[1] not in store.rows]
        size = together if job.source.batches else 1
        missing += [job._replace(episodes=dict(part)) for part in batched(left, size)]
    failures = []
    done = total - sum(len(job.episodes) for job in missing)
    with bar(total=total, initial=done, unit=unit, shown=progress) as shown:
        for job, played in play_all(missing, processes, patience_s):
            shown.set_postfix_str(job.source.label, refresh=False)
            if isinstance(played, Failure):
                failures.append(played)
                continue
            for key, rows in zip(job.episodes.values(), played, strict=True):
                store.add(key, rows)
            shown.update(len(played))
    return failures


def batched(several: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """A sequence in parts of at most so many."""
    return (several[k : k + size] for k in range(0, len(several), size))


def play_all(
    jobs: Iterable[Job], processes: int = 2, patience_s: float = PATIENCE_S
) -> Iterator[tuple[Job, Played]]:
    """Play jobs, several at a time; an agent that has failed once is not asked again.

    Args:
        jobs: What to play.
        processes: How many at a time; with 0 in this one, where a limit of time is kept only in the
            main thread, and not while compiled code runs.
        patience_s: What a decision may take.

    Yields:
        Jobs in the order in which they end, and what came of them.

    Raises:
        ValueError: If an agent cannot be sent to another process.
    """
    failed: set[str] = set()
    left = (job for job in jobs if job.source.label not in failed)
    results = _in_processes(left, processes, patience_s) if processes else _here(left, patience_s)
    for job, played in results:
        if isinstance(played, Failure):
            if job.source.label in failed:  # two at a time have failed
                continue
            failed.add(job.source.label)
            played = played._replace(agent=job.source.label)
        yield job, played


def _here(jobs: Iterable[Job], patience_s: float) -> Iterator[tuple[Job, Played]]:
    for job in jobs:
        with _alarm(patience_s) as watch:
            played = _played(job.source, job.setting, tuple(job.episodes), watch)
        yield job, played


@contextmanager
def _alarm(patience_s: float) -> Iterator[Watch]:
    """What to tell of decisions, so that one that takes too long is interrupted."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield lambda *_: None
        return

    def ring(*_: Any) -> None:
        raise OutOfTime(LATE.format(patience_s))

    def watch(_seed: int | None, _round: int, begins: bool) -> None:
        signal.setitimer(signal.ITIMER_REAL, patience_s if begins else 0.0)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield watch
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _in_processes(
    jobs: Iterable[Job], processes: int, patience_s: float
) -> Iterator[tuple[Job, Played]]:
    inbox: queue.Queue[tuple[Worker, Any]] = queue.Queue()
    waiting = iter(jobs)
    idle: list[Worker] = []
    busy: set[Worker] = set()
    try:
        while True:
            while len(busy) < processes and (job := next(waiting, None)) is not None:
                worker = idle.pop() if idle else Worker(inbox)
                busy.add(worker)
                worker.give(job)
            if not busy:
                return
            if late := next((w for w in busy if w.is_late(patience_s)), None):
                busy.remove(late)
                yield late.job, late.end(LATE.format(late.limit_s(patience_s)))
                continue
            with suppress(queue.Empty):
                worker, message = inbox.get(timeout=0.2)
                if worker in busy and worker.heard(message):
                    busy.remove(worker)
                    if message is None:
                        yield worker.job, worker.end()
                    else:
                        idle.append(worker)
                        yield worker.job, message
                elif message is None and worker in idle:
                    idle.remove(worker)
    finally:
        for worker in (*idle, *busy):
            worker.end()


class Worker:
    """A process that plays one job after the other.

    Args:
        inbox: Where its messages go: the seed and round of a decision; what came of a job; None
            when the process has ended.

    Attributes:
        job: What it plays.
    """

    job: Job

    def __init__(self, inbox: queue.Queue[tuple[Worker, Any]]) -> None:
        code = START.format(path=sys.path)
        threads = {"OMP_NUM_THREADS": "1"} | os.environ  # unless the user says so
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=pipe, stdout=pipe, env=threads
        )
        self._inbox = inbox
        threading.Thread(target=self._listen, daemon=True).start()
        self._begin()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(Exception):
            while True:
                self._inbox.put((self, pickle.load(self._process.stdout)))
        self._inbox.put((self, None))

    def give(self, job: Job) -> None:
        """Have a job played."""
        self.job = job
        self._begin()
        order = packed(job.source), cloudpickle.dumps(job.setting), tuple(job.episodes)
        assert self._process.stdin is not None
        with suppress(OSError):  # its end is a message
            pickle.dump(order, self._process.stdin)
            self._process.stdin.flush()

    def _begin(self) -> None:
        self._place: tuple[int | None, int | None] = None, None
        self._since, self._decides = time.monotonic(), False

    def limit_s(self, patience_s: float) -> float:
        """How long what it does just now may take."""
        return patience_s if self._decides else max(patience_s, PATIENCE_S)

    def is_late(self, patience_s: float) -> bool:
        """Whether it has taken longer."""
        return time.monotonic() - self._since > self.limit_s(patience_s)

    def heard(self, message: Any) -> bool:
        """Note a message; whether it ends the job."""
        self._since = time.monotonic()
        if isinstance(message, Moment):
            self._place, self._decides = message[:2], message.begins
        return not isinstance(message, Moment)

    def end(self, reason: str | None = None) -> Failure:
        """End the process, and what is to be said of its job."""
        self._process.kill()
        status = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]
        reason = reason or f"its process ended ({_status(status)})"
        return Failure(self.job.source.label if hasattr(self, "job") else "", *self._place, reason)


def _status(status: int) -> str:
    with suppress(ValueError):
        return f"by {signal.Signals(-status).name}"
    return f"with status {status}"


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
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
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

    def watch(seed: int | None, round_: int, begins: bool) -> None:
        if begins and round_ == 0 and last != [seed, round_]:
            _seed_everything(seed or 0)  # whatever was played before here
        last[:] = seed, round_
        tell(Moment(seed, round_, begins))

    last: list[int | None] = [None, None]
    threading.Thread(target=listen, daemon=True).start()
    while True:
        content, setting, seeds = orders.get()
        try:
            source = _unpacked(content)
            played = _played(source, pickle.loads(setting), seeds, watch)
        except BaseException as error:
            played = _failure("", None, None, error)
        tell(played)


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
    except (Exception, SystemExit) as error:
        return _failure(source.label, None, None, error)
    try:
        return play(_made[key][1], setting, seeds, watch)
    except PlayError as error:
        return _failure(source.label, error.seed, error.round, error.reason)
    except Exception as error:  # no environment has its action view
        return _failure(source.label, None, None, error)


def _failure(label: str, seed: int | None, round_: int | None, error: BaseException) -> Failure:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, OutOfTime):
        reason = str(error)
    trace = "".join(traceback.format_exception(error))
    return Failure(label, seed, round_, reason, trace)


def _seed_everything(seed: int) -> None:
    """Make an agent that draws from global generators repeat itself."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - what agents may draw from
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
