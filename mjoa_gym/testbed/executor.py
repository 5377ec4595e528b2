"""The processor of a side: one thread, on a core of its own where the system allows it.

It executes the layers of every `Work` strictly in program order, each when its inputs and what else
it needs are there. A slower device, or a share of the server, is emulated by stretching: a layer
that took d seconds of the core counts as finished after d times the slowdown, and the thread serves
others (or sleeps) until then. A core that sleeps most of the time finds its caches cold and its
clock low, differently each time, and stretching multiplies that; who has the core for itself
therefore executes each layer several times and counts the mean (`Work.repeats`).

A *paced* work (`Work.table`) does not count what its layers took: each is executed for real, and
counts as finished exactly when its table says, times the slowdown, after it could begin. A machine
that is noisy then disturbs nothing while layers fit into their slots; those that do not are
`overruns`. A layer that took longer of the core than its table says is charged what it took.

Where several works share the thread, a layer's time begins when it could begin, not when the thread
had time for it: the slack of stretched times absorbs the waiting. The one that is due first goes
first. A second thread then says when a layer is done while the first one executes another.

A *fair* executor shares itself out in another way: it serves one layer after the other, each at its
full speed, and works in proportion to their shares (start-time fair queueing: Goyal, Vin and Cheng,
SIGCOMM 1996). A layer that has begun is not interrupted. Nobody has to wait while others have
nothing to execute, so a work may be faster than its share says, and waits for a layer of another
one at worst.

Cost: about 0.1 ms per layer beside the layer itself, which the measured layer times contain.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from mjoa_gym.execution.layered_model import Bundle, LayeredModel
from mjoa_gym.testbed.clock import now

T = TypeVar("T")


class Execution(NamedTuple):
    """One layer's use of the processor, until it counted as finished, stretching included."""

    layer: int
    start: float
    end: float


class Overrun(NamedTuple):
    """A paced layer that was not done when its table said, and by how many seconds."""

    layer: int
    seconds: float


@dataclass(eq=False)
class Work:
    """The layers of one inference that one side executes. Shared with the executor's thread.

    After each layer `on_done` is called in that thread, and with an error (None) as the last thing.
    """

    network: LayeredModel
    layers: Sequence[int]  # in program order
    parameters: Callable[[int], Mapping[str, Tensor] | None]  # a layer's; None while not there
    slowdown: float  # at least 1
    on_done: Callable[[Work, Execution | None], None]
    repeats: int = 1  # executions of a layer within its stretched time; at most `slowdown`
    table: Sequence[float] | None = None  # (L,) seconds that each layer counts as, if it is paced
    patient: bool = False  # whether all others go first
    share: float = 1.0  # of a fair executor, above 0
    bundles: dict[int, Bundle] = field(default_factory=dict)  # what is here, by its producer
    executions: list[Execution] = field(default_factory=list)
    error: Exception | None = None
    position: int = 0  # how many of the layers have been executed
    running: int | None = None  # the layer that is being executed
    unfinished: tuple[Execution, Bundle] | None = None  # what it made, while its time is not over
    cancelled: bool = False
    ready_at: float | None = None  # since when the next layer could be executed
    overruns: list[Overrun] = field(default_factory=list)  # of a paced work
    tag: float = 0.0  # of a fair executor: the virtual time at which its next layer may begin

    @property
    def done(self) -> bool:
        """Whether nothing is left to execute."""
        return self.position == len(self.layers) or self.error is not None

    def forget(self) -> None:
        """Let go of all tensors at once, and of who waits for it, instead of when it is collected.

        A layer that is being executed may fail because of it, unheard.
        """
        self.on_done = lambda *_: None
        self.parameters = lambda _: None
        self.bundles.clear()
        self.unfinished = None

    def next_layer(self) -> tuple[int, Mapping[str, Tensor]] | None:
        """The next layer and its parameters if it can start."""
        if self.done or self.unfinished is not None:
            return None
        layer = self.layers[self.position]
        if any(p not in self.bundles for p in self.network.dnn.predecessors[layer]):
            return None
        parameters = self.parameters(layer)
        return None if parameters is None else (layer, parameters)

    def note_ready(self, time: float) -> None:
        """Note that the next layer can be executed since then, if it can and that is new."""
        if self.ready_at is None and self.running is None and self.next_layer() is not None:
            self.ready_at = time

    @property
    def due(self) -> float:
        """When the layer that could be executed should be done, as far as is known."""
        ready = float("inf") if self.patient or self.ready_at is None else self.ready_at
        if self.table is None:
            return ready
        return ready + self.table[self.layers[self.position]] * self.slowdown

    def counted(self, layer: int, start: float, spent: float) -> Execution:
        """The use of the processor that a layer counts as which could begin at `start`.

        It took `spent` seconds of the core and is done now.
        """
        if self.table is None:
            return Execution(layer, start, start + spent * self.slowdown)
        due = start + self.table[layer] * self.slowdown
        end = max(due, start + spent * self.slowdown, now())
        if end > due:
            self.overruns.append(Overrun(layer, end - due))
        return Execution(layer, start, end)


class Executor:
    """The thread, on a core, or any if there is no such one; its lock guards all that it shares.

    Args:
        core: The core's number.
        name: The thread's.
        fair: Whether works are served in turn, by their shares, in place of being stretched.

    Raises:
        ValueError: If the core's number is negative.
    """

    def __init__(self, core: int | None = None, name: str = "executor", fair: bool = False) -> None:
        if core is not None and core < 0:
            raise ValueError(f"core={core}: must be at least 0")
        lock = threading.RLock()
        self._lock = threading.Condition(lock)  # what the first thread waits for
        self._beside = threading.Condition(lock)  # what the second one does
        self._core = core
        self._works: list[Work] = []
        self._closed = False
        self._executing = False  # whether the thread is busy with a layer
        self.fair = fair
        self._free_at = 0.0  # when a fair executor has ended what it served last
        self._virtual = 0.0  # its virtual time: the tag of the work that it serves
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True)]
        self._threads[0].start()

    def submit(self, work: Work) -> None:
        """Begin with a work."""
        with self._lock:
            self._works.append(work)
            work.tag = self._virtual
            work.note_ready(now())
            if len(self._works) > 1 == len(self._threads):
                name = f"{self._threads[0].name}, what is done"
                self._threads.append(threading.Thread(target=self._watch, name=name, daemon=True))
                self._threads[1].start()
            self._lock.notify()

    def put(self, where: MutableMapping[int, T], key: int, value: T) -> None:
        """Add what a layer may be waiting for: a tensor's bundle, or a layer's parameters."""
        with self._lock:
            where[key] = value
            self._note_ready(now())
            self._lock.notify()

    def cancel(self, work: Work) -> None:
        """Forget a work; a layer that is being executed ends unheard."""
        work.cancelled = True
        with self._lock:
            self._remove(work)

    def redirect(
        self, work: Work, still_needed: Callable[[set[int]], list[int]]
    ) -> tuple[int, ...]:
        """Give a work other layers to go on with; what is being executed is finished first.

        They are those that are still needed given the tensors that are here. Returns the ones that
        are new to this work.
        """
        with self._lock:
            planned = set(work.layers)
            running = [] if work.running is None else [work.running]
            rest = still_needed({*work.bundles, *running})
            work.layers = [*work.layers[: work.position], *running, *rest]
            work.ready_at = None
            work.note_ready(now())
            if work not in self._works and not work.done:
                self._works.append(work)
            self._lock.notify()
            return tuple(layer for layer in rest if layer not in planned)

    def close(self) -> None:
        """End the thread after the layer that it is executing."""
        with self._lock:
            self._closed = True
            self._lock.notify()
            self._beside.notify()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        torch.set_num_threads(1)
        if self._core is not None and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError, OverflowError):
                os.sched_setaffinity(0, {self._core})
        with torch.inference_mode():
            while True:
                with self._lock:
                    if self._closed:
                        return
                    self._executing = False
                    act = self._take_finished() or self._choose()
                    if act is None:
                        self._lock.wait(self._until_next())
                        continue
                act()

    def _watch(self) -> None:
        """Say that layers are done while the other thread is executing one."""
        while True:
            with self._lock:
                if self._closed:
                    return
                act = self._take_finished() if self._executing else None
                if act is None:
                    self._beside.wait(self._until_next() if self._executing else None)
                    continue
            act()

    def _until_next(self) -> float | None:
        """Seconds until the next layer's stretched time is over; None if there is none."""
        ends = [work.unfinished[0].end for work in self._works if work.unfinished]
        return max(0.0, min(ends) - now()) if ends else None

    def _note_ready(self, time: float) -> None:
        for work in self._works:
            work.note_ready(time)

    def _take_finished(self) -> Callable[[], None] | None:
        """Say that a layer is done whose stretched time is over."""
        for work in self._works:
            if work.unfinished is not None and work.unfinished[0].end <= (time := now()):
                execution, bundle = work.unfinished
                if work.table is None:
                    execution = execution._replace(end=time)
                self._free_at = max(self._free_at, execution.end)
                work.unfinished = None
                work.bundles[execution.layer] = bundle
                work.executions.append(execution)
                work.position += 1
                work.running = None
                if work.done:
                    self._works.remove(work)
                work.note_ready(execution.end)
                return partial(work.on_done, work, execution)
        return None

    def _choose(self) -> Callable[[], None] | None:
        """Execute the layer that is due first, of those that can start."""
        self._note_ready(now())
        ready = [work for work in self._works if work.ready_at is not None]
        if not ready or (self.fair and any(work.running is not None for work in self._works)):
            return None
        work = min(ready, key=self._turn if self.fair else lambda each: each.due)
        found, since = work.next_layer(), work.ready_at
        work.ready_at = None
        if found is None or since is None:  # it has let go of its tensors
            return self._choose()
        shared = len(self._works) > 1 or work.table is not None
        since = since if shared else now()
        if self.fair:
            since, self._virtual = max(since, self._free_at), max(self._virtual, work.tag)
        work.running = found[0]
        self._executing = True
        self._beside.notify()
        return partial(self._execute, work, since, *found)

    def _execute(
        self, work: Work, since: float, layer: int, parameters: Mapping[str, Tensor]
    ) -> None:
        cpu_start = time.thread_time()
        try:
            times = 0
            while times == 0 or (times < work.repeats and not (work.cancelled or self._closed)):
                bundle = work.network.run(layer, work.bundles, parameters)  # nothing is in place
                times += 1
        except Exception as error:  # whatever a layer raises is its work's end, not the thread's
            with self._lock:
                work.error = error
                self._remove(work)
            work.on_done(work, None)
            return
        spent = (time.thread_time() - cpu_start) / times
        with self._lock:
            execution = work.counted(layer, since, spent)
            work.unfinished = execution, bundle
            if self.fair:
                work.tag = self._virtual + (execution.end - execution.start) / work.share

    def _turn(self, work: Work) -> tuple[bool, float, float]:
        """Who is served first by a fair executor: who is least ahead of its share."""
        assert work.ready_at is not None, "it is ready"
        return work.patient, max(self._virtual, work.tag), work.ready_at

    def _remove(self, work: Work) -> None:
        if work in self._works:
            self._works.remove(work)
