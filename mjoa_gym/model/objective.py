"""What a round costs, and its reward: weighted seconds, compared with all-local execution.

The cost of a UE's inference is its latency. If joules and missed deadlines have a price in seconds,
the cost includes these, too. The functions take numbers inside kernels, and arrays elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from mjoa_gym.model.compiling import either


class Prices(NamedTuple):
    """What a UE's inference costs in addition to its latency, as planners see it.

    The first four prices are seconds of cost per second. They are the price of energy times the
    watts of the UE's device, and 0 if energy has no price.
    """

    computing: float  # while its processor computes
    waiting: float  # while its processor does not compute, until the inference ends
    sending: float  # while its uplink is busy
    receiving: float  # while its downlink is busy
    deadline_s: float
    missing: float  # seconds (not per second) that a missed deadline costs
    free: bool  # whether only the latency counts


MISSING = Prices._fields.index("missing")
FREE = Prices(0.0, 0.0, 0.0, 0.0, float("inf"), 0.0, True)


@either
def late(prices, latency_s):
    """The seconds that an inference with a given latency costs because it misses its deadline."""
    return prices.missing if latency_s > prices.deadline_s else 0.0


@either
def priced(latency_s, energy_j, deadline_s, energy_price_s_per_j, miss_price_s):
    """The cost of an inference in seconds before its weight: latency, joules and a missed deadline.

    At prices of zero this is the latency, to the last bit, whatever the energy (even NaN).
    """
    seconds = latency_s + miss_price_s * (latency_s > deadline_s)
    if energy_price_s_per_j > 0.0:
        seconds = seconds + energy_price_s_per_j * energy_j
    return seconds


@either
def cost(weight, seconds):
    """The cost of a UE's inference: its weight times its cost in seconds before the weight."""
    return weight * seconds


@either
def reduction(total, local):
    """The reward: the fraction by which the UEs' costs are below all-local, `1 - total / local`.

    It is 0 for all-local execution, below 1, and negative without bound for plans that do harm.
    """
    return 1.0 - total / local
