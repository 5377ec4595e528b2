"""The timing model of model-uploading inference: the one implementation that everything calls.

Four serial resources (UE processor, edge share, uplink, downlink), each in a fixed order. Because
processors work strictly in program order and activations pre-empt parameters, no event queue is
needed: the UE runs ahead until it needs a tensor that the edge has yet to produce; from then on no
new activation can appear before the edge's next layer is done, so that layer's parameters have a
final arrival time. Two sweeps over the layers, one per side, give every time exactly.

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
        crosses: (L + 1,) whether a tensor is sent.
        up_start: (L + 1,) starts of the uplink's activations, in the order sent.
        up_end: (L + 1,) their ends.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    there: NDArray[np.float64]
    crosses: NDArray[np.bool_]
    up_start: NDArray[np.float64]
    up_end: NDArray[np.float64]


@njit(cache=True, nogil=True)
def new_scratch(n_layers):
    """Scratch for inferences of up to `n_layers` layers."""
    return Scratch(
        np.empty(n_layers),
        np.empty(n_layers + 1),
        np.empty(n_layers + 1),
        np.empty(n_layers + 1, np.bool_),
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
def mark_crossings(placement, n, job, crosses):
    """Note which tensors are read on the side that does not produce them; outputs end on the UE."""
    crosses[: n + 1] = False
    for layer in range(n):
        here = placement[layer]
        for i in range(job.offsets[layer], job.offsets[layer + 1]):
            p = job.predecessors[i]
            if here != (placement[p] if p >= 0 else 0):
                crosses[p + 1] = True
        if here == 1 and job.is_sink[layer]:
            crosses[layer + 1] = True


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
    start, end, there, crosses, up_start, up_end = scratch
    offsets, predecessors = job.offsets, job.predecessors
    mark_crossings(placement, n, job, crosses)
    end[0] = 0.0
    n_up = 0
    up_free = 0.0
    if crosses[0]:
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
            if placement[u] == 0:
                ready = ue_free
                blocked = False
                for i in range(offsets[u], offsets[u + 1]):
                    p = predecessors[i]
                    if p >= 0 and placement[p] == 1:
                        if p >= e:
                            blocked = True
                            break
                        ready = max(ready, there[p + 1])
                if blocked:
                    break
                start[u] = ready
                ue_free = ready + job.ue_s[u]
                end[u + 1] = ue_free
                if crosses[u + 1]:
                    up_start[n_up] = max(ue_free, up_free)
                    up_free = up_start[n_up] + seconds_for(job.output_bytes[u], link.up)
                    up_end[n_up] = up_free
                    there[u + 1] = up_free
                    n_up += 1
                if job.is_sink[u]:
                    latency = max(latency, ue_free)
            u += 1
        while e < n and placement[e] == 0:
            e += 1
        if e == n:
            return n_up, latency
        ready = edge_free
        for i in range(offsets[e], offsets[e + 1]):
            p = predecessors[i]
            ready = max(ready, end[p + 1] if p >= 0 and placement[p] == 1 else there[p + 1])
        if mode == WHOLE:
            if whole_arrived < 0.0:
                whole_arrived = 0.0
                for layer in range(n):
                    if placement[layer] == 1 and job.missing_bytes[layer] > 0.0:
                        whole_arrived, passed = send_parameters(
                            job.missing_bytes[layer] * link.up,
                            whole_arrived, passed, n_up, up_start, up_end,
                        )  # fmt: skip
            ready = max(ready, whole_arrived)
        elif mode != PREINSTALLED and job.missing_bytes[e] > 0.0:
            if mode == SERIAL:
                stream = max(stream, release_time(e, job, end))
            stream, passed = send_parameters(
                job.missing_bytes[e] * link.up, stream, passed, n_up, up_start, up_end
            )
            ready = max(ready, stream)
        start[e] = ready
        edge_free = ready + seconds_for(job.edge_s[e], link.slowdown)
        end[e + 1] = edge_free
        if crosses[e + 1]:
            down_free = max(edge_free, down_free) + seconds_for(job.output_bytes[e], link.down)
            there[e + 1] = down_free
            if job.is_sink[e]:
                latency = max(latency, down_free)
        e += 1


@njit(cache=True, nogil=True)
def record(segments, n_segments, layer, start, end):
    """Note a piece of a transfer, as part of the row before if it touches that; count the rows."""
    if n_segments == segments.shape[0]:
        return n_segments
    row = max(n_segments - 1, 0)
    if n_segments == 0 or segments[row, 0] != layer or segments[row, 2] != start:
        row = n_segments
        segments[row, 0] = layer
        segments[row, 1] = start
    segments[row, 2] = end
    return row + 1


@njit(cache=True, nogil=True)
def upload(placement, prefetch, n, job, link, mode, until, n_up, scratch, sent, segments):
    """Replay the parameter stream of an inference that `run` has just simulated.

    Args:
        placement: (n,).
        prefetch: (n,) bool, layers to send after those of the placement.
        n: Number of layers.
        job: The inference.
        link: Rates.
        mode: Upload mode.
        until: When the round ends; what is sent after it does not count.
        n_up: As `run` returned it.
        scratch: As `run` left it.
        sent: (n,) overwritten with the fraction of each layer's missing bytes sent by `until`;
            0 where nothing is missing.
        segments: (rows, 3) filled with (layer, start, end) of every uninterrupted piece, each
            layer of the placement whole, prefetched ones up to `until`; with no rows, nothing
            is recorded.

    Returns:
        The number of segments; at most 2 n + 1 are needed.
    """
    up_start, up_end = scratch.up_start, scratch.up_end
    sent[:n] = 0.0
    now, k, n_segments = 0.0, 0, 0
    if mode == PREINSTALLED:
        return 0
    for prefetched in (False, True):
        for layer in range(n):
            if job.missing_bytes[layer] <= 0.0 or (placement[layer] == 1) == prefetched:
                continue
            if prefetched and not prefetch[layer]:
                continue
            if mode == SERIAL:
                now = max(now, release_time(layer, job, scratch.end))
            left = duration = job.missing_bytes[layer] * link.up
            sent_s = 0.0
            complete = False
            while not complete:
                now, end, complete, k = next_piece(left, now, k, n_up, up_start, up_end)
                sent_s += max(0.0, min(end, until) - now) if now < until else 0.0
                shown = min(end, until) if prefetched else end
                if shown > now or now == end <= until:
                    n_segments = record(segments, n_segments, layer, now, shown)
                left -= end - now if end < np.inf else 0.0
                now = end
            if now <= until and now < np.inf:
                sent[layer] = 1.0
            elif 0.0 < duration < np.inf:
                sent[layer] = min(1.0, sent_s / duration)
    return n_segments


@njit(cache=True, nogil=True)
def run_many(placements, job, link, mode):
    """Latencies (P,) of one job under many placements (P, L); no allocation per inference."""
    n = placements.shape[1]
    scratch = new_scratch(n)
    latency = np.empty(placements.shape[0])
    for i in range(placements.shape[0]):
        latency[i] = run(placements[i], n, job, link, mode, scratch)[1]
    return latency
