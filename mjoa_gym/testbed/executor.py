"""The processor of a side: one thread, on a core of its own where the system allows it.

It executes the layers of every `Work` strictly in program order, each when its inputs and what else
it needs are there. A slower device, or a share of the server, is emulated by stretching: a layer
that took d seconds of the core counts as finished after d times the slowdown, and the thread serves
others (or sleeps) until then. A core that sleeps most of the time finds its caches cold and its
clock low, differently each time, and stretching multiplies that; who has the core for itself
therefore executes each layer several times and counts the mean (`Work.repeats`).

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
    bundles: dict[int, Bundle] = field(default_factory=dict)  # what is here, by its producer
    executions: list[Execution] = field(default_factory=list)
    error: Exception | None = None
    position: int = 0  # how many of the layers have been executed
    running: int | None = None  # the layer that is being executed
    unfinished: tuple[Execution, Bundle] | None = None  # what it made, while its time is not over
    cancelled: bool = False

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


class Executor:
    """The thread, on a core, or any if there is no such one; its lock guards all that it shares.

    Raises:
        ValueError: If the core's number is negative.
    """

    def __init__(self, core: int | None = None, name: str = "executor") -> None:
        if core is not None and core < 0:
            raise ValueError(f"core={core}: must be at least 0")
        self._lock = threading.Condition()
        self._core = core
        self._works: list[Work] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Begin with a work."""
        with self._lock:
            self._works.append(work)
            self._lock.notify()

    def put(self, where: MutableMapping[int, T], key: int, value: T) -> None:
        """Add what a layer may be waiting for: a tensor's bundle, or a layer's parameters."""
        with self._lock:
            where[key] = value
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
            if work not in self._works and not work.done:
                self._works.append(work)
            self._lock.notify()
            return tuple(layer for layer in rest if layer not in planned)

    def close(self) -> None:
        """End the thread after the layer that it is executing."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        self._thread.join()

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
                    act = self._take_finished() or self._choose()
                    if act is None:  # until the next layer's stretched time is over
                        ends = [w.unfinished[0].end for w in self._works if w.unfinished]
                        self._lock.wait(max(0.0, min(ends) - now()) if ends else None)
                        continue
                act()

    def _take_finished(self) -> Callable[[], None] | None:
        """Say that a layer is done whose stretched time is over."""
        for work in self._works:
            if work.unfinished is not None and work.unfinished[0].end <= (time := now()):
                execution, bundle = work.unfinished
                execution = execution._replace(end=time)
                work.unfinished = None
                work.bundles[execution.layer] = bundle
                work.executions.append(execution)
                work.position += 1
                work.running = None
                if work.done:
                    self._works.remove(work)
                return partial(work.on_done, work, execution)
        return None

    def _choose(self) -> Callable[[], None] | None:
        """Execute a layer that can start; whose turn it is goes to the back of the queue."""
        for index, work in enumerate(self._works):
            found = work.next_layer()
            if found is not None:
                work.running = found[0]
                self._works.append(self._works.pop(index))
                return partial(self._execute, work, *found)
        return None

    def _execute(self, work: Work, layer: int, parameters: Mapping[str, Tensor]) -> None:
        start, cpu_start = now(), time.thread_time()
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
            work.unfinished = Execution(layer, start, start + spent * work.slowdown), bundle

    def _remove(self, work: Work) -> None:
        if work in self._works:
            self._works.remove(work)
