"""The joules that one inference takes from its UE's battery: the one implementation.

They are `compute_w` times the seconds for which the UE's processor computes, `idle_w` times the
other seconds until the inference ends, `transmit_w` times the seconds for which the uplink is busy
and `receive_w` times those of the downlink (`docs/model.md`). All but the idle part is a sum over
the layers, which depends on the placement but on no times: `energy_terms`.

Cost: O(layers) besides the simulation, no allocation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.devices import POWER_FIELDS, Power
from mjoa_gym.model import kernel, objective
from mjoa_gym.model.compiling import either, lean, lean_inner
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.kernel import AT_EDGE, CROSSES
from mjoa_gym.model.link import seconds_for

COMPUTE, IDLE, TRANSMIT, RECEIVE = range(len(POWER_FIELDS))
"""Columns of a row of watts."""


def watts(power: Power | None) -> NDArray[np.float64]:
    """(4,) a device's power as kernels read it; NaN if it is not known."""
    if power is None:
        return np.full(len(POWER_FIELDS), np.nan)
    return np.array([getattr(power, name) for name in POWER_FIELDS])


@either
def energy_terms(outline, inference):
    """What a placement's energy is made of whatever the link, prefetches aside.

    Returns:
        Seconds for which the UE's processor computes, the bytes that go up (activations, and the
        parameters that the placement's layers miss), and the bytes that come down. With the
        `power` (4,) of the UE, an inference of some latency takes
        `busy_s * (power[COMPUTE] - power[IDLE]) + power[IDLE] * latency + power[TRANSMIT] * up
        * link.up + power[RECEIVE] * down * link.down` joules.
    """
    busy_s = up = down = 0.0
    misses = inference.mode != Upload.PREINSTALLED
    if outline[0] & CROSSES:
        up = inference.input_bytes
    for layer in range(len(inference.ue_s)):
        code = outline[layer + 1]  # selects: branches would be predicted badly
        at_edge, crosses = code & AT_EDGE != 0, code & CROSSES != 0
        busy_s += 0.0 if at_edge else inference.ue_s[layer]
        up += inference.missing_bytes[layer] if at_edge & misses else 0.0
        up += inference.output_bytes[layer] if crosses & (not at_edge) else 0.0
        down += inference.output_bytes[layer] if crosses & at_edge else 0.0
    return busy_s, up, down


@lean_inner
def inference_j(power, outline, inference, link, latency_s):
    """Joules of an inference that takes so long, prefetches aside; infinite if it never ends."""
    if latency_s == np.inf:
        return latency_s
    busy_s, up, down = energy_terms(outline, inference)
    return (
        power[COMPUTE] * busy_s
        + power[IDLE] * max(0.0, latency_s - busy_s)
        + power[TRANSMIT] * seconds_for(up, link.up)
        + power[RECEIVE] * seconds_for(down, link.down)
    )


@lean_inner
def prefetch_j(power, outline, inference, link, sent):
    """Joules of what an inference's prefetches have sent, (>= L,) as `upload` leaves it."""
    bytes_sent = 0.0
    for layer in range(len(inference.ue_s)):
        at_edge = outline[layer + 1] & AT_EDGE != 0
        bytes_sent += 0.0 if at_edge else sent[layer] * inference.missing_bytes[layer]
    return power[TRANSMIT] * seconds_for(bytes_sent, link.up)


@lean_inner
def counted(prices, outline, inference, link, latency_s):
    """Seconds that an inference counts as at some `Prices`, but for being late: its energy's price.

    A maximum of planes like the latency, because energy is linear in seconds and bytes.
    """
    if prices.free or latency_s == np.inf:
        return latency_s
    busy_s, up, down = energy_terms(outline, inference)
    return (
        latency_s
        + prices.computing * busy_s
        + prices.waiting * max(0.0, latency_s - busy_s)
        + prices.sending * seconds_for(up, link.up)
        + prices.receiving * seconds_for(down, link.down)
    )


@lean_inner
def judge(placement, inference, link, scratch):
    """Simulate a placement (>= L,); returns the seconds that it counts as, being late included."""
    kernel.outline_of(placement, inference, scratch.outline)
    return judge_outline(scratch.outline, inference, inference.prices, link, scratch)


@lean_inner
def judge_outline(outline, inference, prices, link, scratch):
    """`judge` for a placement whose outline is known, at given prices."""
    latency_s = kernel.follow(outline, inference, link, scratch)[1]
    counts_s = counted(prices, outline, inference, link, latency_s)
    return counts_s + objective.late(prices, latency_s)


@lean
def energy_of(power, outline, inference, link, latency_s, sent):
    """Joules of an inference and its prefetches; arguments as in `inference_j`, `prefetch_j`."""
    return inference_j(power, outline, inference, link, latency_s) + prefetch_j(
        power, outline, inference, link, sent
    )


@either
def local_j(power, local_s):
    """Joules of an inference with every layer on the UE."""
    return power[COMPUTE] * local_s
