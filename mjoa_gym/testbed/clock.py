"""The clock and the event loop of everything that is timed.

The default event loop sleeps in whole milliseconds, because `epoll` does. `select` is accurate to
0.1 ms, but it cannot watch descriptors above 1023. So `select` watches only the descriptor of
`epoll`, which watches all others.
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
"""The time for which a thread that executes a layer may keep the interpreter from the sender."""

now = time.monotonic
"""The time in seconds. All processes of a machine have the same clock."""

MOST_FOR_SELECT = 1023


class PreciseSelector(selectors.DefaultSelector):
    """The system's selector, with timeouts that are not rounded up to milliseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, like the base class, with an accurate timeout in seconds."""
        own = self.fileno() if hasattr(self, "fileno") else MOST_FOR_SELECT + 1
        if timeout is not None and timeout > 0 and own <= MOST_FOR_SELECT:
            select.select([own], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, with sleeps that are accurate to 0.1 ms."""
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
    """Sleep until a time of the clock, or return at once if that time has passed."""
    wait = when - now()
    if wait > 0:
        await asyncio.sleep(wait)
