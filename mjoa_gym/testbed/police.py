"""A server takes in no more than it has granted, however much a UE sends.

A bucket of bytes fills at the granted rate and holds what a UE that is woken late may catch up on.
Who has taken more than there is waits, and everything behind it does: the connection's buffers fill
and the UE can send no more. A UE that shapes its uplink to its share never waits.
"""

from __future__ import annotations

import asyncio

from mjoa_gym.model.link import BITS_PER_BYTE
from mjoa_gym.testbed.clock import now

BURST_S = 0.25
BURST_BYTES = 1 << 17
MOST_SLEEP_S = 0.05
CONTROL_BPS = 1e5
"""What may be sent without a share: questions, answers, signs of life."""


class Police:
    """The bucket of one session; bytes are counted from its beginning."""

    def __init__(self) -> None:
        self._rate_bps = CONTROL_BPS
        self._seen_bytes = 0
        self._there_bytes = float(BURST_BYTES)
        self._at = now()

    def set_rate(self, rate_bps: float, seen_bytes: int) -> None:
        """Fill at another rate from now on."""
        self._fill(seen_bytes)
        self._rate_bps = CONTROL_BPS + rate_bps

    async def take(self, seen_bytes: int) -> None:
        """So many bytes have arrived by now; wait if they are too many."""
        self._fill(seen_bytes)
        while self._there_bytes < 0:
            owed_s = -self._there_bytes * BITS_PER_BYTE / self._rate_bps
            await asyncio.sleep(min(max(owed_s, 1e-3), MOST_SLEEP_S))  # the rate may rise
            self._fill(seen_bytes)

    def _fill(self, seen_bytes: int) -> None:
        time, per_second = now(), self._rate_bps / BITS_PER_BYTE
        most = BURST_BYTES + BURST_S * per_second
        filled = min(most, self._there_bytes + (time - self._at) * per_second)
        self._there_bytes = filled - (seen_bytes - self._seen_bytes)
        self._seen_bytes, self._at = seen_bytes, time
