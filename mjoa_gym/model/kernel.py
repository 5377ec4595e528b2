"""The timing model of model-uploading inference: the single implementation.

The model has four serial resources (UE processor, edge share, uplink, downlink). Each serves its
requests in a fixed order. Processors work strictly in program order, and activations pre-empt
parameters, so no event queue is needed. The UE runs ahead until it needs a tensor that the edge has
not produced yet. From then on no new activation can appear before the edge sends that tensor, so
the parameters of all layers up to it have a final arrival time. Two sweeps over the layers, one for
each side, give every time exactly.

A placement's *outline* contains what does not depend on times: which tensors cross, and which
layers wait for the other side. Callers that simulate one placement repeatedly compute its outline
once and call `follow`. Layers need not look at inputs from their own side, because each side runs
its layers in order, one at a time.

A transfer frees the link when its last byte has left. What was sent can be used `link.message`
seconds later.

Cost: O(layers + edges) per inference, no allocation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from mjoa_gym.model.compiling import compiled, lean, lean_inner
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.link import seconds_for

ZERO = np.int64(0)
"""An int64 zero for calls of kernels. Numba would compile a kernel again for a literal 0."""
AT_EDGE, WAITS, CROSSES, OUTPUT = 1, 2, 4, 8
"""The bits of an outline: the layer is at the edge; it reads a tensor of the other side; its own
tensor is sent to the other side; it is a sink."""


START, END, THERE, UP_START, UP_END = range(5)
"""Rows of a scratch's times: when each layer starts to execute; when each tensor exists on the side
that produces it; when each tensor that is sent has arrived on the other side; when the uplink
starts to send each activation, in the order sent; and when it ends."""


class Scratch(NamedTuple):
    """Work arrays for one inference; after a simulation they hold its times.

    Tensors are indexed from 0, which is the network's input, so layer l's output is tensor l + 1.
    The times are in one array, because functions that receive more arrays take longer to compile
    and to call.
    """

    rows: NDArray[np.float64]  # (>= 5, L + 1) seconds
    outline: NDArray[np.uint8]  # (L + 1,) of the placement, see `outline_of`


@register_jitable
def new_scratch(n_layers):
    """Allocate a scratch for inferences of up to `n_layers` layers."""
    return Scratch(np.empty((UP_END + 1, n_layers + 1)), np.empty(n_layers + 1, np.uint8))


@lean_inner
def next_piece(left, now, k, n_up, up_start, up_end):
    """Find the next uninterrupted piece of a parameter transfer that gives way to activations.

    The transfer still needs `left` seconds of uplink and may continue from the time `now`. Of the
    `n_up` activations that are known, `k` is the first that the parameter stream has not passed
    yet.

    Returns:
        The start and the end of the piece, whether the piece completes the transfer, and the new k.
    """
    while k < n_up and up_start[k] <= now:
        now = max(now, up_end[k])
        k += 1
    end = now + left
    if k < n_up and up_start[k] < end:
        if up_start[k] - now < left:
            return now, up_start[k], False, k
        end = up_start[k]  # the piece fits; its end was later because of rounding only
    return now, end, True, k


@lean_inner
def send_parameters(left, now, k, n_up, up_start, up_end):
    """The time at which a parameter transfer is complete, and the new k.

    The arguments are those of `next_piece`.
    """
    while True:
        now, end, complete, k = next_piece(left, now, k, n_up, up_start, up_end)
        if complete:
            return end, k
        left -= end - now
        now = end


@lean_inner
def release_time(layer, inference, outline, message, end):
    """When the uplink may start to send a layer's parameters in serial mode.

    That is when all predecessors of the layer have finished. Those at the edge count `message`
    seconds later.
    """
    release = 0.0
    for i in range(inference.offsets[layer], inference.offsets[layer + 1]):
        tensor = inference.predecessors[i] + 1
        release = max(release, end[tensor] + (message if outline[tensor] & AT_EDGE else 0.0))
    return release


@lean
def outline_of(placement, inference, outline):
    """Write down a placement's outline, which does not depend on any times.

    Args:
        placement: (>= L,) 0 = UE, 1 = edge.
        inference: The inference, of which only the graph is read.
        outline: (>= L + 1,) uint8, overwritten with sums of AT_EDGE, WAITS, CROSSES and OUTPUT for
            the network's input and then for each layer. The output of a sink at the edge crosses.
    """
    write_outline(placement, inference.offsets, inference.predecessors, inference.is_sink, outline)


@lean_inner
def write_outline(placement, offsets, predecessors, is_sink, outline):
    """Do the same as `outline_of` for a graph in the form of an `Inference`'s arrays."""
    outline[0] = 0
    for layer in range(len(is_sink)):
        here = placement[layer] & AT_EDGE
        code = here
        for i in range(offsets[layer], offsets[layer + 1]):
            tensor = predecessors[i] + 1
            other_side = (outline[tensor] & AT_EDGE) ^ here
            outline[tensor] |= CROSSES * other_side
            code |= WAITS * other_side
        if is_sink[layer]:
            code |= OUTPUT | CROSSES * here
        outline[layer + 1] = code


@lean_inner
def inputs_there(layer, inference, outline, there, known):
    """When the last of a layer's inputs from the other side has arrived.

    Returns:
        Seconds; -1 if one of these inputs is the output of an edge layer that is not among the
        first `known` layers.
    """
    here = outline[layer + 1] & AT_EDGE
    ready = 0.0
    for i in range(inference.offsets[layer], inference.offsets[layer + 1]):
        tensor = inference.predecessors[i] + 1
        if outline[tensor] & AT_EDGE != here:
            if tensor > known:
                return -1.0
            ready = max(ready, there[tensor])
    return ready


@lean
def run(placement, inference, link, scratch):
    """Simulate one inference with a placement (>= L,).

    All times in `scratch` are overwritten, and so is its outline.

    Returns:
        The number of activations sent, and the latency: the time in seconds at which the outputs of
        all sink layers are on the UE (infinite if a rate that is needed is zero).
    """
    outline_of(placement, inference, scratch.outline)
    return follow(scratch.outline, inference, link, scratch)


@lean_inner
def follow(outline, inference, link, scratch):
    """Do the same as `run` for a placement whose outline is known.

    `scratch.outline` is not changed.
    """
    rows = scratch.rows
    start, end, there = rows[START], rows[END], rows[THERE]
    up_start, up_end = rows[UP_START], rows[UP_END]
    n, mode, message = len(inference.ue_s), inference.mode, link.message
    end[0] = 0.0
    n_up = 0
    up_free = 0.0
    if outline[0] & CROSSES:
        up_start[0] = 0.0
        up_free = seconds_for(inference.input_bytes, link.up)
        up_end[0] = up_free
        there[0] = up_free + message
        n_up = 1
    ue_free = edge_free = down_free = stream = latency = 0.0
    passed = ZERO  # activations that the parameter stream has passed
    whole_ready = -1.0
    u = e = ZERO  # the next layer to look at on the UE, and at the edge
    while True:
        while u < n:  # the UE runs until it needs what the edge has not produced yet
            code = outline[u + 1]
            if not code & AT_EDGE:
                ready = ue_free
                if code & WAITS:
                    arrived = inputs_there(u, inference, outline, there, e)
                    if arrived < 0.0:
                        break
                    ready = max(ready, arrived)
                start[u] = ready
                ue_free = ready + inference.ue_s[u]
                end[u + 1] = ue_free
                if code & CROSSES:
                    up_start[n_up] = max(ue_free, up_free)
                    up_free = up_start[n_up] + seconds_for(inference.output_bytes[u], link.up)
                    up_end[n_up] = up_free
                    there[u + 1] = up_free + message
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
                ready = max(ready, inputs_there(e, inference, outline, there, n))
            if mode == Upload.WHOLE:
                if whole_ready < 0.0:
                    whole_ready = 0.0
                    for layer in range(n):
                        if outline[layer + 1] & AT_EDGE and inference.missing_bytes[layer] > 0.0:
                            stream, passed = send_parameters(
                                seconds_for(inference.missing_bytes[layer], link.up),
                                stream, passed, n_up, up_start, up_end,
                            )  # fmt: skip
                            whole_ready = stream + message
                ready = max(ready, whole_ready)
            elif mode != Upload.PREINSTALLED and inference.missing_bytes[e] > 0.0:
                if mode == Upload.SERIAL:
                    stream = max(stream, release_time(e, inference, outline, message, end))
                sending = seconds_for(inference.missing_bytes[e], link.up)
                if passed == n_up:  # the same result as send_parameters, without the call
                    stream += sending
                else:
                    stream, passed = send_parameters(
                        sending, stream, passed, n_up, up_start, up_end
                    )
                ready = max(ready, stream + message)
            start[e] = ready
            edge_free = ready + seconds_for(inference.edge_s[e], link.slowdown)
            end[e + 1] = edge_free
            if code & CROSSES:
                sending = seconds_for(inference.output_bytes[e], link.down)
                down_free = max(edge_free, down_free) + sending
                there[e + 1] = down_free + message
                if code & OUTPUT:
                    latency = max(latency, there[e + 1])
            e += 1


@compiled
def run_many(placements, inference, link):
    """The latencies (P,) of many placements (P, L), without an allocation for each inference."""
    scratch = new_scratch(placements.shape[1])
    latency = np.empty(placements.shape[0])
    for i in range(placements.shape[0]):
        latency[i] = run(placements[i], inference, link, scratch)[1]
    return latency
