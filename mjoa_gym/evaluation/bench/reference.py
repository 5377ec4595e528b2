"""A yardstick for machines: a fixed piece of work, timed beside every answer.

The kernel is not to be changed, and calls nothing that may change: two numbers along a chain of
layers, as in the timing model, over and over.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numba import njit

NOMINAL_S = 1e-3
"""What the kernel takes on the machine in whose seconds budgets are: about one core of a server of
the year 2023."""
SCHEDULER = Path("/proc/thread-self/schedstat")
LAYERS, REPEATS, TRIES = 64, 6_000, 3


@njit(cache=True, nogil=True)
def chain_times(own, sent, there, repeats):
    """The sum of what a chain takes at ever slower links; `own`, `sent`, `there` are (L,)."""
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
    """What the kernel takes now, on this machine: the least of a few times."""
    least = np.inf
    for _ in range(TRIES):
        start = time.perf_counter()
        chain_times(*_WORK, REPEATS)  # type: ignore[call-arg] # compiled
        least = min(least, time.perf_counter() - start)
    return float(least)


class Stopwatch:
    """Seconds since it was made, less those for which this thread waited for a processor.

    On a busy machine others' work thus counts little. Linux tells how long a thread has waited;
    elsewhere all seconds count.
    """

    def __init__(self) -> None:
        self._waited_s = _waited_s()
        self._start = time.perf_counter()

    def read(self) -> float:
        """The seconds."""
        seconds = time.perf_counter() - self._start
        return max(seconds - (_waited_s() - self._waited_s), 1e-9)


def _waited_s() -> float:
    """For how long this thread has waited for a processor, ever."""
    try:
        return int(SCHEDULER.read_bytes().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


def normalised(seconds: float, reference_s: float) -> float:
    """Seconds of a machine on which the kernel takes `reference_s`, as those of the nominal one."""
    return seconds * (NOMINAL_S / reference_s)
