"""One clock and one event loop for everything that is timed.

The default event loop sleeps in whole milliseconds, because `epoll` does. `select` sleeps to within
0.1 ms, but cannot watch descriptors above 1023; so `select` watches the one of `epoll`.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SWITCH_INTERVAL_S = 2e-4
"""How long a thread that executes a layer may keep the interpreter from the one that sends."""

now = time.monotonic
"""Seconds; on one machine the same clock in all processes."""

MOST_FOR_SELECT = 1023


class PreciseSelector(selectors.DefaultSelector):
    """The system's selector, with timeouts that are not rounded up to milliseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the base class."""
        own = self.fileno() if hasattr(self, "fileno") else MOST_FOR_SELECT + 1
        if timeout is not None and timeout > 0 and own <= MOST_FOR_SELECT:
            select.select([own], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` with sleeps that are accurate to 0.1 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(
            loop_factory=lambda: asyncio.SelectorEventLoop(PreciseSelector())
        ) as runner:
            return runner.run(main)
    finally:
        sys.setswitchinterval(before)


async def sleep_until(when: float) -> None:
    """Sleep until a time of the clock; returns at once, without a pause, if that is over."""
    wait = when - now()
    if wait > 0:
        await asyncio.sleep(wait)
