"""What a round costs, and the reward: weighted seconds, against all-local execution.

The functions take numbers inside kernels, and arrays elsewhere.
"""

from __future__ import annotations

from mjoa_gym.model.compiling import either


@either
def cost(weight, latency_s):
    """What a UE's inference costs."""
    return weight * latency_s


@either
def reduction(total, local):
    """The reward: by which part the UEs' costs are less than all-local, `1 - total / local`.

    0 for doing nothing, below 1, and negative without bound for harm.
    """
    return 1.0 - total / local
