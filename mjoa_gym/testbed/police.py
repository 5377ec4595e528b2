"""Limits what a server reads from a UE to the granted rate, however much the UE sends.

A bucket of bytes fills at the granted rate, and each byte that is read takes one byte out. Its size
lets a UE that was late catch up. While the bucket is overdrawn, the server reads no more from the
connection. So the connection's buffers fill, and the UE can send no more. A UE that shapes its
uplink to its share never has to wait.
"""

from __future__ import annotations

import asyncio

from mjoa_gym.model.link import BITS_PER_BYTE
from mjoa_gym.testbed.clock import now

BURST_S = 0.25
BURST_BYTES = 1 << 17
MOST_SLEEP_S = 0.05
CONTROL_BPS = 1e5
"""Rate for control frames, in addition to the granted rate, in bits per second."""


class Police:
    """The bucket of one session. Byte counts start at the session's beginning."""

    def __init__(self) -> None:
        self._rate_bps = CONTROL_BPS
        self._seen_bytes = 0
        self._there_bytes = float(BURST_BYTES)
        self._at = now()

    def set_rate(self, rate_bps: float, seen_bytes: int) -> None:
        """Fill the bucket at another rate from now on, when `seen_bytes` have arrived."""
        self._fill(seen_bytes)
        self._rate_bps = CONTROL_BPS + rate_bps

    async def take(self, seen_bytes: int) -> None:
        """Note how many bytes have arrived, and wait while the bucket is overdrawn."""
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
