"""What a round costs, and the reward: weighted seconds, against all-local execution.

A UE's inference costs its latency; where joules and missed deadlines have a price in seconds, it
costs these, too. The functions take numbers inside kernels, and arrays elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from mjoa_gym.model.compiling import either


class Prices(NamedTuple):
    """What a UE's inference counts as beside its latency, as planners see it: seconds per second.

    With the watts of its device and a price of energy, or without.
    """

    computing: float  # for which its processor computes
    waiting: float  # for which its processor does not, until the inference ends
    sending: float  # for which its uplink is busy
    receiving: float  # for which its downlink is busy
    deadline_s: float
    missing: float  # seconds, not per second, that a missed deadline counts as
    free: bool  # whether only the latency counts


FREE = Prices(0.0, 0.0, 0.0, 0.0, float("inf"), 0.0, True)


@either
def late(prices, latency_s):
    """Seconds that an inference of some latency counts as for being late."""
    return prices.missing if latency_s > prices.deadline_s else 0.0


@either
def priced(latency_s, energy_j, deadline_s, energy_price_s_per_j, miss_price_s):
    """Seconds that an inference counts as: its latency, and its joules and its lateness at prices.

    At prices of zero this is the latency, to the last bit, whatever the energy (it may be NaN).
    """
    seconds = latency_s + miss_price_s * (latency_s > deadline_s)
    if energy_price_s_per_j > 0.0:
        seconds = seconds + energy_price_s_per_j * energy_j
    return seconds


@either
def cost(weight, seconds):
    """What a UE's inference costs that counts as so many seconds."""
    return weight * seconds


@either
def reduction(total, local):
    """The reward: by which part the UEs' costs are less than all-local, `1 - total / local`.

    0 for doing nothing, below 1, and negative without bound for harm.
    """
    return 1.0 - total / local
