"""The timing model of model-uploading inference: the one implementation that everything calls.

Four serial resources (UE processor, edge share, uplink, downlink), each in a fixed order. Because
processors work strictly in program order and activations pre-empt parameters, no event queue is
needed: the UE runs ahead until it needs a tensor that the edge has yet to produce; from then on no
new activation can appear before the edge sends that tensor, so the parameters of all layers up to
it have a final arrival time. Two sweeps over the layers, one per side, give every time exactly.

What does not depend on times (which tensors cross, which layers wait for the other side) is a
placement's *outline*; who simulates one placement often (`follow`) makes it once. Inside a side
layers need not look at their inputs: they run in order, one at a time.

Cost: O(layers + edges) per inference, no allocation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

PARALLEL, SERIAL, WHOLE, PREINSTALLED = range(4)
UPLOAD_MODES = ("parallel", "serial", "whole", "preinstalled")
"""Names of the upload modes; an upload's code is its index."""

AT_EDGE, WAITS, CROSSES, OUTPUT = 1, 2, 4, 8
"""An outline's bits: the layer is at the edge, it reads a tensor of the other side, its own tensor
is sent to the other side, it is a sink."""


class Job(NamedTuple):
    """What one inference asks of the resources, whatever the placement and the rates.

    Attributes:
        offsets: (L + 1,) `predecessors[offsets[l]:offsets[l + 1]]` are read by layer l.
        predecessors: (edges,) tensor indices, -1 is the network's input.
        is_sink: (L,) bool.
        ue_s: (L,) seconds on the UE.
        edge_s: (L,) seconds on the whole server.
        output_bytes: (L,).
        missing_bytes: (L,) parameter bytes that are not on the server yet.
        input_bytes: Bytes of the network's input.
    """

    offsets: NDArray[np.int64]
    predecessors: NDArray[np.int64]
    is_sink: NDArray[np.bool_]
    ue_s: NDArray[np.float64]
    edge_s: NDArray[np.float64]
    output_bytes: NDArray[np.float64]
    missing_bytes: NDArray[np.float64]
    input_bytes: float


class Link(NamedTuple):
    """What one UE gets of the shared resources.

    Attributes:
        up: Seconds per byte of the uplink; inf without any bandwidth.
        down: Seconds per byte of the downlink.
        slowdown: 1 / compute share: seconds at the edge per second on the whole server.
    """

    up: float
    down: float
    slowdown: float


class Scratch(NamedTuple):
    """Work arrays for one inference; they hold its times afterwards.

    Tensors are indexed from 0 = the network's input, so layer l's output is tensor l + 1.

    Attributes:
        start: (L,) start of each layer's execution.
        end: (L + 1,) when each tensor exists where it is produced.
        there: (L + 1,) when each tensor has arrived on the other side, if it is sent.
        outline: (L + 1,) of the placement, see `outline_of`.
        up_start: (L + 1,) starts of the uplink's activations, in the order sent.
        up_end: (L + 1,) their ends.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    there: NDArray[np.float64]
    outline: NDArray[np.uint8]
    up_start: NDArray[np.float64]
    up_end: NDArray[np.float64]


@njit(cache=True, nogil=True)
def new_scratch(n_layers):
    """Scratch for inferences of up to `n_layers` layers."""
    return Scratch(
        np.empty(n_layers),
        np.empty(n_layers + 1),
        np.empty(n_layers + 1),
        np.empty(n_layers + 1, np.uint8),
        np.empty(n_layers + 1),
        np.empty(n_layers + 1),
    )


@njit(cache=True, nogil=True, inline="always")
def seconds_for(amount, seconds_per_unit):
    """Time for an amount at a rate; nothing takes no time, even at rate zero."""
    return amount * seconds_per_unit if amount > 0.0 else 0.0


@njit(cache=True, nogil=True, inline="always")
def next_piece(left, now, k, n_up, up_start, up_end):
    """The next uninterrupted piece of a parameter transfer that gives way to activations.

    Args:
        left: Seconds of uplink that the transfer still needs.
        now: When the parameter stream is free and the layer released.
        k: The first activation that the stream has not passed yet.
        n_up: Activations known so far.
        up_start: Their starts.
        up_end: Their ends.

    Returns:
        Start and end of the piece, whether it ends the transfer, and the new k.
    """
    while k < n_up and up_start[k] <= now:
        now = max(now, up_end[k])
        k += 1
    end = now + left
    if k < n_up and up_start[k] < end:
        if up_start[k] - now < left:
            return now, up_start[k], False, k
        end = up_start[k]  # only rounding has pushed it further
    return now, end, True, k


@njit(cache=True, nogil=True)
def send_parameters(left, now, k, n_up, up_start, up_end):
    """When a parameter transfer (arguments as in `next_piece`) is complete, and the new k."""
    while True:
        now, end, complete, k = next_piece(left, now, k, n_up, up_start, up_end)
        if complete:
            return end, k
        left -= end - now
        now = end


@njit(cache=True, nogil=True)
def release_time(layer, job, end):
    """When all predecessors of a layer have finished executing (serial uploading)."""
    release = 0.0
    for i in range(job.offsets[layer], job.offsets[layer + 1]):
        release = max(release, end[job.predecessors[i] + 1])
    return release


@njit(cache=True, nogil=True)
def outline_of(placement, n, job, outline):
    """Write down what follows from a placement whatever the times.

    Args:
        placement: (>= n,) 0 = UE, 1 = edge.
        n: Number of layers.
        job: The inference; only its graph is read.
        outline: (>= n + 1,) uint8, overwritten with sums of AT_EDGE, WAITS, CROSSES and OUTPUT for
            the network's input and then each layer. Outputs that are produced at the edge cross.
    """
    outline[0] = 0
    for layer in range(n):
        here = placement[layer] & AT_EDGE
        code = here
        for i in range(job.offsets[layer], job.offsets[layer + 1]):
            tensor = job.predecessors[i] + 1
            other_side = (outline[tensor] & AT_EDGE) ^ here
            outline[tensor] |= CROSSES * other_side
            code |= WAITS * other_side
        if job.is_sink[layer]:
            code |= OUTPUT | CROSSES * here
        outline[layer + 1] = code


@njit(cache=True, nogil=True, inline="always")
def inputs_there(layer, job, outline, there, known):
    """When the last of a layer's inputs from the other side has arrived.

    Returns:
        Seconds; -1 if one of them is an edge layer's that is not among the first `known` layers.
    """
    here = outline[layer + 1] & AT_EDGE
    ready = 0.0
    for i in range(job.offsets[layer], job.offsets[layer + 1]):
        tensor = job.predecessors[i] + 1
        if outline[tensor] & AT_EDGE != here:
            if tensor > known:
                return -1.0
            ready = max(ready, there[tensor])
    return ready


@njit(cache=True, nogil=True)
def run(placement, n, job, link, mode, scratch):
    """Simulate one inference of the first `n` layers.

    Args:
        placement: (>= n,) 0 = UE, 1 = edge.
        n: How many layers to run, in program order; the number of layers for the whole network.
        job: The inference. With mode PREINSTALLED its `missing_bytes` are taken as zero.
        link: Rates.
        mode: PARALLEL, SERIAL, WHOLE or PREINSTALLED.
        scratch: Overwritten with all times.

    Returns:
        The number of activations sent, and the latency: the time at which the outputs of all sink
        layers among the first n are on the UE (infinite if a rate that is needed is zero).
    """
    outline_of(placement, n, job, scratch.outline)
    return follow(scratch.outline, n, job, link, mode, scratch)


@njit(cache=True, nogil=True)
def follow(outline, n, job, link, mode, scratch):
    """`run` for a placement whose outline is known; `scratch.outline` is left alone."""
    start, end, there, _, up_start, up_end = scratch
    end[0] = 0.0
    n_up = 0
    up_free = 0.0
    if outline[0] & CROSSES:
        up_start[0] = 0.0
        up_free = seconds_for(job.input_bytes, link.up)
        up_end[0] = up_free
        there[0] = up_free
        n_up = 1
    ue_free = edge_free = down_free = stream = latency = 0.0
    passed = 0  # activations that the parameter stream has passed
    whole_arrived = -1.0
    u = e = 0  # the next layer of the UE, of the edge
    while True:
        while u < n:  # the UE runs until it needs what the edge has not produced yet
            code = outline[u + 1]
            if not code & AT_EDGE:
                ready = ue_free
                if code & WAITS:
                    arrived = inputs_there(u, job, outline, there, e)
                    if arrived < 0.0:
                        break
                    ready = max(ready, arrived)
                start[u] = ready
                ue_free = ready + job.ue_s[u]
                end[u + 1] = ue_free
                if code & CROSSES:
                    up_start[n_up] = max(ue_free, up_free)
                    up_free = up_start[n_up] + seconds_for(job.output_bytes[u], link.up)
                    up_end[n_up] = up_free
                    there[u + 1] = up_free
                    n_up += 1
                if code & OUTPUT:
                    latency = max(latency, ue_free)
            u += 1
        if e == n:
            return n_up, latency
        code = 0
        while e < n and not code & CROSSES:  # the edge runs until it sends something
            code = outline[e + 1]
            if not code & AT_EDGE:
                code = 0
                e += 1
                continue
            ready = edge_free
            if code & WAITS:
                ready = max(ready, inputs_there(e, job, outline, there, n))
            if mode == WHOLE:
                if whole_arrived < 0.0:
                    whole_arrived = 0.0
                    for layer in range(n):
                        if outline[layer + 1] & AT_EDGE and job.missing_bytes[layer] > 0.0:
                            whole_arrived, passed = send_parameters(
                                job.missing_bytes[layer] * link.up,
                                whole_arrived, passed, n_up, up_start, up_end,
                            )  # fmt: skip
                ready = max(ready, whole_arrived)
            elif mode != PREINSTALLED and job.missing_bytes[e] > 0.0:
                if mode == SERIAL:
                    stream = max(stream, release_time(e, job, end))
                sending = job.missing_bytes[e] * link.up
                if passed == n_up:  # what send_parameters would return, without the call
                    stream += sending
                else:
                    stream, passed = send_parameters(
                        sending, stream, passed, n_up, up_start, up_end
                    )
                ready = max(ready, stream)
            start[e] = ready
            edge_free = ready + seconds_for(job.edge_s[e], link.slowdown)
            end[e + 1] = edge_free
            if code & CROSSES:
                down_free = max(edge_free, down_free) + seconds_for(job.output_bytes[e], link.down)
                there[e + 1] = down_free
                if code & OUTPUT:
                    latency = max(latency, down_free)
            e += 1


@njit(cache=True, nogil=True)
def run_many(placements, job, link, mode):
    """Latencies (P,) of one job under many placements (P, L); no allocation per inference."""
    n = placements.shape[1]
    scratch = new_scratch(n)
    latency = np.empty(placements.shape[0])
    for i in range(placements.shape[0]):
        latency[i] = run(placements[i], n, job, link, mode, scratch)[1]
    return latency
