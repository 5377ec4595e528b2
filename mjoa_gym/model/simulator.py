"""One inference in detail: its latency, its timeline, and what is on the server afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.devices import Power
from mjoa_gym.dnn import DNN
from mjoa_gym.layers import INPUT
from mjoa_gym.model import kernel
from mjoa_gym.model.energy import energy_of, watts
from mjoa_gym.model.inference import Inference, Upload, inference_of, resident_fractions
from mjoa_gym.model.link import Link, link_at, seconds_for
from mjoa_gym.model.uploads import upload
from mjoa_gym.validation import binary_vector, frozen, zero_or_more


class Interval(NamedTuple):
    """One use of one resource.

    Attributes:
        resource: "ue", "uplink", "edge" or "downlink".
        what: "execute", "activation", "parameters" or "prefetch".
        layer: The layer that executes, produced the tensor or owns the parameters; -1 is the
            network's input.
        start: The start in seconds.
        end: The end in seconds.
    """

    resource: str
    what: str
    layer: int
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """The result of `simulate`.

    Attributes:
        latency: Seconds until all outputs are on the UE; inf if a rate that is needed is zero.
        intervals: Every use of a resource, ordered by start. Uses that never start are left out.
        resident: (L,) fraction of each layer's parameters on the server at `until_s`; 1 for layers
            without parameters.
        until_s: The time in seconds to which `resident` refers; by default the latency.
        energy_j: Joules that the UE has spent on the inference and its prefetches; None if its
            power is unknown, inf if the latency is inf.
    """

    latency: float
    intervals: tuple[Interval, ...]
    resident: NDArray[np.float64]
    until_s: float
    energy_j: float | None = None

    @cached_property
    def by_resource(self) -> dict[str, tuple[Interval, ...]]:
        """The intervals of each resource: "ue", "uplink", "edge" and "downlink"."""
        lanes = ("ue", "uplink", "edge", "downlink")
        return {r: tuple(i for i in self.intervals if i.resource == r) for r in lanes}


def simulate(
    dnn: DNN,
    placement: ArrayLike,
    ue_seconds: ArrayLike,
    edge_seconds: ArrayLike,
    uplink_bps: float,
    downlink_bps: float,
    resident: ArrayLike | None = None,
    upload: str = "parallel",
    prefetch: ArrayLike | None = None,
    until_s: float | None = None,
    message_s: float = 0.0,
    compute_share: float = 1.0,
    power: Power | None = None,
) -> Timeline:
    """Simulate one inference of one UE (the timing model of `docs/model.md`).

    Args:
        dnn: The network, L layers.
        placement: (L,) 0 = UE, 1 = edge.
        ue_seconds: (L,) seconds of each layer on the UE.
        edge_seconds: (L,) seconds of each layer on the whole server.
        uplink_bps: Bits per second towards the edge.
        downlink_bps: Bits per second towards the UE.
        resident: (L,) fraction of each layer's parameters already on the server; default none.
        upload: "parallel", "serial", "whole" or "preinstalled".
        prefetch: (L,) marks of layers whose parameters are sent in addition, after those that the
            placement needs. A mark on a layer that is placed at the edge adds nothing.
        until_s: The time in seconds at which the round ends, and to which `resident` of the result
            refers. Prefetching stops then, or at the latency if that is later. Default: the
            latency.
        message_s: Seconds from the departure of a message's last byte until it can be used.
        compute_share: This UE's share of the server, in [0, 1].
        power: The power that the UE draws; without it `energy_j` is None.

    Returns:
        The timeline of the inference.

    Raises:
        ValueError: If an argument is not allowed. The message names the field, its value and what
            is allowed.
    """
    n = dnn.n_layers
    inference = inference_of(dnn, ue_seconds, edge_seconds, resident, Upload.of(upload))
    link = link_at(uplink_bps, downlink_bps, message_s, compute_share)
    sides = binary_vector("placement", placement, n)
    marks = binary_vector("prefetch", np.zeros(n) if prefetch is None else prefetch, n) == 1
    there = resident_fractions(dnn, resident)
    return timeline_of(dnn, inference, there, sides, marks, link, until_s, power)


def timeline_of(
    dnn: DNN,
    inference: Inference,
    resident: NDArray[np.float64],
    placement: NDArray[np.int8],
    prefetch: NDArray[np.bool_],
    link: Link,
    until_s: float | None,
    power: Power | None = None,
) -> Timeline:
    """Do the same as `simulate` for arguments in the form that the kernel takes."""
    n = dnn.n_layers
    scratch = kernel.new_scratch(n)
    # a copy, because Numba would compile the kernel again for a read-only array
    n_up, latency = kernel.run(placement.copy(), inference, link, scratch)
    outline = scratch.outline
    until = latency if until_s is None else zero_or_more("until_s", until_s)
    sent, segments = np.empty(n), np.empty((2 * n + 1, 3))
    horizon = max(latency, until)
    n_segments = upload(outline, prefetch, inference, link, horizon, n_up, scratch, sent, segments)
    energy_j = None
    if power is not None:
        energy_j = energy_of(watts(power), outline, inference, link, latency, sent)
    if until < horizon:
        nothing = np.empty((0, 3))
        upload(outline, prefetch, inference, link, until, n_up, scratch, sent, nothing)
    present = (dnn.parameter_bytes == 0) | (inference.mode == Upload.PREINSTALLED)
    resident_then = np.where(present, 1.0, np.minimum(resident + (1.0 - resident) * sent, 1.0))
    intervals = _execution_and_tensors(inference, placement, link, scratch)
    for layer, start, end in segments[:n_segments].tolist():
        what = "parameters" if placement[int(layer)] else "prefetch"
        intervals.append(Interval("uplink", what, int(layer), start, end))
    happened = sorted((i for i in intervals if i.start < np.inf), key=lambda i: (i.start, i.end))
    return Timeline(latency, tuple(happened), frozen(resident_then), until, energy_j)


def _execution_and_tensors(
    inference: Inference, placement: NDArray[np.int8], link: Link, scratch: kernel.Scratch
) -> list[Interval]:
    """The intervals of the processors and of the tensors, from the kernel's times."""
    intervals = []
    starts, ends, _, up_starts, up_ends = scratch.rows.tolist()
    n_up, down_free = 0, 0.0
    for tensor in range(len(placement) + 1):
        layer = tensor - 1
        at_edge = layer != INPUT and placement[layer] == 1
        end = ends[tensor]
        if layer != INPUT:
            side = "edge" if at_edge else "ue"
            intervals.append(Interval(side, "execute", layer, starts[layer], end))
        if scratch.outline[tensor] & kernel.CROSSES and at_edge:
            start = max(end, down_free)
            down_free = start + seconds_for(float(inference.output_bytes[layer]), link.down)
            intervals.append(Interval("downlink", "activation", layer, start, down_free))
        elif scratch.outline[tensor] & kernel.CROSSES:
            start, end = up_starts[n_up], up_ends[n_up]
            intervals.append(Interval("uplink", "activation", layer, start, end))
            n_up += 1
    return intervals
