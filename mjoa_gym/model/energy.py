"""The joules that one inference takes from its UE's battery: the single implementation.

They are the sum of four products: `compute_w` times the seconds for which the UE's processor
computes, `idle_w` times the other seconds until the inference ends, `transmit_w` times the seconds
for which the uplink is busy, and `receive_w` times the seconds for which the downlink is busy
(`docs/model.md`). Everything except the idle part is a sum over the layers that depends on the
placement, but not on when things happen. `energy_terms` computes that sum.

Cost: O(layers) in addition to the simulation, no allocation.
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
"""Columns of a UE's powers in watts."""


def watts(power: Power | None) -> NDArray[np.float64]:
    """The watts (4,) of a device in the order of `Power`, for kernels; NaN if they are unknown."""
    if power is None:
        return np.full(len(POWER_FIELDS), np.nan)
    return np.array([getattr(power, name) for name in POWER_FIELDS])


@either
def energy_terms(outline, inference):
    """The seconds and bytes that decide a placement's energy on any link, without its prefetches.

    With these terms `busy_s`, `up` and `down`, and with the UE's `power` (4,) in watts, an
    inference takes

        busy_s * (power[COMPUTE] - power[IDLE]) + power[IDLE] * latency
        + power[TRANSMIT] * up * link.up + power[RECEIVE] * down * link.down

    joules.

    Returns:
        The seconds for which the UE's processor computes; the bytes that go up (activations, and
        the missing parameters of the edge layers); and the bytes that come down.
    """
    busy_s = up = down = 0.0
    misses = inference.mode != Upload.PREINSTALLED
    if outline[0] & CROSSES:
        up = inference.input_bytes
    for layer in range(len(inference.ue_s)):
        code = outline[layer + 1]  # selects, not branches, which would be predicted badly
        at_edge, crosses = code & AT_EDGE != 0, code & CROSSES != 0
        busy_s += 0.0 if at_edge else inference.ue_s[layer]
        up += inference.missing_bytes[layer] if at_edge & misses else 0.0
        up += inference.output_bytes[layer] if crosses & (not at_edge) else 0.0
        down += inference.output_bytes[layer] if crosses & at_edge else 0.0
    return busy_s, up, down


@lean_inner
def inference_j(power, outline, inference, link, latency_s):
    """The joules of an inference with a given latency, without prefetches; inf if it never ends."""
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
    """The joules of sending an inference's prefetches.

    `sent` (>= L,) is the fraction of each layer's missing bytes that has left, as `upload` writes
    it.
    """
    bytes_sent = 0.0
    for layer in range(len(inference.ue_s)):
        at_edge = outline[layer + 1] & AT_EDGE != 0
        bytes_sent += 0.0 if at_edge else sent[layer] * inference.missing_bytes[layer]
    return power[TRANSMIT] * seconds_for(bytes_sent, link.up)


@lean_inner
def counted(prices, outline, inference, link, latency_s):
    """The cost of an inference in seconds, before its weight and without a missed deadline.

    This is the latency plus the price of the energy, at given `Prices`. Like the latency it is a
    maximum of planes, because energy is linear in seconds and bytes.
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
    """Simulate a placement (>= L,), and return its cost in seconds, before the UE's weight.

    The cost includes a missed deadline, unlike that of `counted`.
    """
    kernel.outline_of(placement, inference, scratch.outline)
    return judge_outline(scratch.outline, inference, inference.prices, link, scratch)


@lean_inner
def judge_outline(outline, inference, prices, link, scratch):
    """Do the same as `judge` for a placement whose outline is known, at given prices."""
    latency_s = kernel.follow(outline, inference, link, scratch)[1]
    counts_s = counted(prices, outline, inference, link, latency_s)
    return counts_s + objective.late(prices, latency_s)


@lean
def energy_of(power, outline, inference, link, latency_s, sent):
    """The joules of an inference and its prefetches.

    The arguments are those of `inference_j` and `prefetch_j`.
    """
    return inference_j(power, outline, inference, link, latency_s) + prefetch_j(
        power, outline, inference, link, sent
    )


@either
def local_j(power, local_s):
    """The joules of an inference that spends `local_s` seconds with every layer on the UE."""
    return power[COMPUTE] * local_s
