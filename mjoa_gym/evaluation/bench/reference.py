"""A reference for the speed of machines: a fixed piece of work that is timed next to every answer.

Do not change the kernel. It calls nothing that may change: it repeats a recursion of two numbers
along a chain of layers, as in the timing model.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numba import njit

NOMINAL_S = 1e-3
"""Seconds of the kernel on the nominal machine, in whose seconds budgets are given. The machine is
about one core of a server from 2023."""
SCHEDULER = Path("/proc/thread-self/schedstat")
LAYERS, REPEATS, TRIES = 64, 6_000, 3


@njit(cache=True, nogil=True)
def chain_times(own, sent, there, repeats):
    """Return a chain's total time over ever slower links; `own`, `sent`, `there` are (L,)."""
    total = 0.0
    for k in range(repeats):
        t, s, slower = 0.0, 0.0, 1.0 + 1e-3 * k
        for layer in range(len(own)):
            if (layer + k) & 3:
                s += sent[layer] * slower
                t = max(t, s) + there[layer] / slower
            else:
                t += own[layer]
        total += t
    return total


_WORK = tuple(np.random.default_rng(0).uniform(0.5, 1.5, size=(3, LAYERS)))


def reference_seconds() -> float:
    """Return the kernel's current seconds on this machine: the minimum of a few runs."""
    least = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        chain_times(*_WORK, REPEATS)  # type: ignore[call-arg] # compiled
        least = min(least, time.perf_counter() - start)
    return float(least)


class Stopwatch:
    """Measures the seconds since its creation, without those spent waiting for a processor.

    So other processes on a busy machine count little. Linux reports how long a thread has waited;
    on other systems all seconds count.
    """

    def __init__(self) -> None:
        self._waited_s = _waited_s()
        self._start = time.perf_counter()

    def read(self) -> float:
        """Return the seconds."""
        seconds = time.perf_counter() - self._start
        return max(seconds - (_waited_s() - self._waited_s), 1e-9)


def _waited_s() -> float:
    """Return the total seconds for which this thread has waited for a processor."""
    try:
        return int(SCHEDULER.read_bytes().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


def normalised(seconds: float, reference_s: float) -> float:
    """Convert seconds of a machine with kernel time `reference_s` to those of the nominal one."""
    return seconds * (NOMINAL_S / reference_s)
