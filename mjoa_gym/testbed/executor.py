"""The processor of one side: a thread that executes layers, on its own core where possible.

It executes the layers of each `Work` strictly in program order, each layer when its inputs and its
parameters are there.

**Stretching** emulates a slower device or a share of the server. A layer that took d seconds of the
core counts as finished after d times the slowdown. Until then the thread serves other works or
sleeps. On a core that sleeps most of the time, the caches are cold and the clock frequency is low,
by a different amount each time, and stretching multiplies this effect. A work that has the core to
itself can therefore execute each layer several times and count the mean (`Work.repeats`).

**Paced** works (`Work.table`) do not count the time that their layers took. Each layer is executed
for real, but counts as finished at the time that the table gives: the layer's seconds times the
slowdown, after it could begin. As long as layers fit into these slots, a noisy machine has no
effect. Layers that do not fit are `overruns`. A layer that used more seconds of the core than the
table says is charged for those.

**Several works** share the thread in this way: a layer's time begins when it could begin, not when
the thread got to it. The slack of the stretched times absorbs the wait. The layer that is due first
runs first. A second thread reports that layers are finished while the first one executes another.

**Fair** executors do not stretch for shares. They serve one layer after the other, each at its full
speed, and works in proportion to their shares (start-time fair queueing: Goyal, Vin and Cheng,
SIGCOMM 1996). A layer that has begun is not interrupted. A work does not wait while the others have
nothing to execute, so it may be faster than its share says. At worst it waits for a layer of
another work.

Cost: about 0.1 ms per layer in addition to the layer itself. The measured layer times contain it.
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
    """One layer's use of the processor, from when it could begin until it counts as finished."""

    layer: int
    start: float
    end: float


class Overrun(NamedTuple):
    """A paced layer that was late, and by how many seconds."""

    layer: int
    seconds: float


@dataclass(eq=False)
class Work:
    """The layers of one inference that one side executes.

    The executor's threads use it too.

    Attributes:
        network: The network.
        layers: The layers to execute, in program order.
        parameters: Returns a layer's parameters, or None while they are missing.
        slowdown: How many times longer a layer takes, at least 1.
        on_done: Called in the executor's threads after each layer, and with None after an error.
        repeats: Executions of each layer within its stretched time; at most `slowdown`.
        table: (L,) seconds that each layer counts as; None for a work that is not paced.
        patient: Whether all other works go first.
        share: Share of a fair executor, above 0.
        bundles: The tensors that are here, by the layer that made them.
        executions: The layers that have been executed.
        error: What a layer raised, which ends the work.
        position: How many of the layers have been executed.
        running: The layer that is being executed, until its stretched time is over.
        unfinished: Execution and output of this layer, while its stretched time is not over.
        cancelled: Whether the work was removed.
        ready_at: Time at which the next layer could begin; None if that is not known.
        overruns: Paced layers that were late.
        tag: Virtual time at which the next layer may begin, for a fair executor.
    """

    network: LayeredModel
    layers: Sequence[int]
    parameters: Callable[[int], Mapping[str, Tensor] | None]
    slowdown: float
    on_done: Callable[[Work, Execution | None], None]
    repeats: int = 1
    table: Sequence[float] | None = None
    patient: bool = False
    share: float = 1.0
    bundles: dict[int, Bundle] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    error: Exception | None = None
    position: int = 0
    running: int | None = None
    unfinished: tuple[Execution, Bundle] | None = None
    cancelled: bool = False
    ready_at: float | None = None
    overruns: list[Overrun] = field(default_factory=list)
    tag: float = 0.0

    @property
    def done(self) -> bool:
        """Whether nothing is left to execute, also because of an error."""
        return self.position == len(self.layers) or self.error is not None

    def forget(self) -> None:
        """Release all tensors and callbacks now, not only when the object is collected.

        A layer that is being executed may fail because of this; nothing reports that.
        """
        self.on_done = lambda *_: None
        self.parameters = lambda _: None
        self.bundles.clear()
        self.unfinished = None

    def next_layer(self) -> tuple[int, Mapping[str, Tensor]] | None:
        """Return the next layer and its parameters, or None if it cannot start yet."""
        if self.done or self.unfinished is not None:
            return None
        layer = self.layers[self.position]
        if any(p not in self.bundles for p in self.network.dnn.predecessors[layer]):
            return None
        parameters = self.parameters(layer)
        return None if parameters is None else (layer, parameters)

    def note_ready(self, time: float) -> None:
        """Note that the next layer could begin at this time, if it can and has no time yet."""
        if self.ready_at is None and self.running is None and self.next_layer() is not None:
            self.ready_at = time

    @property
    def due(self) -> float:
        """The time by which the next layer should be done, as far as it is known.

        For a layer without a table this is the time at which it could begin.
        """
        ready = float("inf") if self.patient or self.ready_at is None else self.ready_at
        if self.table is None:
            return ready
        return ready + self.table[self.layers[self.position]] * self.slowdown

    def counted(self, layer: int, start: float, spent: float) -> Execution:
        """Return the use of the processor that a layer counts as.

        The layer could begin at `start`, took `spent` seconds of the core, and is done now. A paced
        layer that is late is added to `overruns`.
        """
        if self.table is None:
            return Execution(layer, start, start + spent * self.slowdown)
        due = start + self.table[layer] * self.slowdown
        end = max(due, start + spent * self.slowdown, now())
        if end > due:
            self.overruns.append(Overrun(layer, end - due))
        return Execution(layer, start, end)


class Executor:
    """The thread that executes works. A lock guards everything that other threads may use.

    Args:
        core: Number of the core that it runs on; None, or a core that does not exist, for any.
        name: Name of the thread.
        fair: Whether works are served in turn by their shares, and not stretched for these.

    Raises:
        ValueError: If the core's number is negative.
    """

    def __init__(self, core: int | None = None, name: str = "executor", fair: bool = False) -> None:
        if core is not None and core < 0:
            raise ValueError(f"core={core}: must be at least 0")
        lock = threading.RLock()
        self._lock = threading.Condition(lock)  # the first thread waits on it
        self._beside = threading.Condition(lock)  # the second thread waits on it
        self._core = core
        self._works: list[Work] = []
        self._closed = False
        self._executing = False  # whether the thread is busy with a layer
        self.fair = fair
        self._free_at = 0.0  # when a fair executor finished its last layer
        self._virtual = 0.0  # virtual time of a fair executor: the tag of the work that it serves
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True)]
        self._threads[0].start()

    def submit(self, work: Work) -> None:
        """Start a work."""
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
        """Add something that a layer may be waiting for: a tensor, or a layer's parameters."""
        with self._lock:
            where[key] = value
            self._note_ready(now())
            self._lock.notify()

    def cancel(self, work: Work) -> None:
        """Remove a work. A layer that is being executed ends without a report."""
        work.cancelled = True
        with self._lock:
            self._remove(work)

    def redirect(
        self, work: Work, still_needed: Callable[[set[int]], list[int]]
    ) -> tuple[int, ...]:
        """Replace the layers that a work has still to execute; a running layer is finished first.

        `still_needed` gets the tensors that are here, and gives the layers to execute. Returns
        those that are new to this work.
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
        """End the threads, after the layer that is being executed."""
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
        """Report finished layers while the other thread executes one."""
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
        """Return the seconds until a layer's stretched time is over, or None if none is running."""
        ends = [work.unfinished[0].end for work in self._works if work.unfinished]
        return max(0.0, min(ends) - now()) if ends else None

    def _note_ready(self, time: float) -> None:
        for work in self._works:
            work.note_ready(time)

    def _take_finished(self) -> Callable[[], None] | None:
        """Finish a layer whose stretched time is over; return the call that reports it, or None."""
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
        """Choose the layer that is due first; return the call that executes it, or None."""
        self._note_ready(now())
        ready = [work for work in self._works if work.ready_at is not None]
        if not ready or (self.fair and any(work.running is not None for work in self._works)):
            return None
        work = min(ready, key=self._turn if self.fair else lambda each: each.due)
        found, since = work.next_layer(), work.ready_at
        work.ready_at = None
        if found is None or since is None:  # the work has released its tensors
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
                bundle = work.network.run(layer, work.bundles, parameters)  # inputs do not change
                times += 1
        except Exception as error:  # an error ends the work, not the thread
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
        """Return the sort key of a fair executor: the work least ahead of its share is first."""
        assert work.ready_at is not None, "it is ready"
        return work.patient, max(self._virtual, work.tag), work.ready_at

    def _remove(self, work: Work) -> None:
        if work in self._works:
            self._works.remove(work)
