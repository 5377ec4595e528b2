"""What the uplink has carried by a given time: a replay of an inference's parameter stream."""

from __future__ import annotations

import numpy as np

from mjoa_gym.model.compiling import lean, lean_inner
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.kernel import AT_EDGE, END, UP_END, UP_START, ZERO, next_piece, release_time
from mjoa_gym.model.link import seconds_for


@lean_inner
def record(segments, n_segments, layer, start, end):
    """Record a piece of a transfer in `segments`, and return the number of rows in use.

    A piece that continues the last row's layer where that row ends becomes part of it. If all rows
    are in use, nothing is recorded.
    """
    if n_segments == segments.shape[0]:
        return n_segments
    row = max(n_segments - 1, 0)
    if n_segments == 0 or segments[row, 0] != layer or segments[row, 2] != start:
        row = n_segments
        segments[row, 0] = layer
        segments[row, 1] = start
    segments[row, 2] = end
    return row + 1


@lean
def upload(outline, prefetch, inference, link, until, n_up, scratch, sent, segments):
    """Replay the parameter stream of an inference that `run` has just simulated.

    Args:
        outline: (>= L + 1,) of the placement.
        prefetch: (>= L,) marks of layers to send after those of the placement; (0,) for none.
        inference: The inference.
        link: Its link.
        until: The time in seconds at which the round ends. What is sent later does not count.
        n_up: The number of activations, as `run` returned it.
        scratch: As `run` left it.
        sent: (>= L,) overwritten with the fraction of each layer's missing bytes sent by `until`; 0
            where nothing is missing.
        segments: (rows, 3) overwritten with (layer, start, end) of every uninterrupted piece.
            Layers of the placement are recorded to their end, prefetched layers up to `until`. With
            no rows, nothing is recorded.

    Returns:
        The number of rows in use; at most 2 L + 1 are needed.
    """
    end_of, up_start, up_end = scratch.rows[END], scratch.rows[UP_START], scratch.rows[UP_END]
    n, mode = len(inference.ue_s), inference.mode
    for layer in range(n):
        sent[layer] = 0.0
    now, k, n_segments = 0.0, ZERO, ZERO
    if mode == Upload.PREINSTALLED:
        return ZERO
    for prefetched in range(2 if len(prefetch) > 0 else 1):
        for layer in range(n):
            at_edge = outline[layer + 1] & AT_EDGE
            if inference.missing_bytes[layer] <= 0.0 or at_edge == prefetched:
                continue
            if prefetched == 1 and not prefetch[layer]:
                continue
            if now > until and len(segments) == 0:
                return ZERO  # whatever follows is too late
            if mode == Upload.SERIAL:
                release = release_time(layer, inference, outline, link.message, end_of)
                now = max(now, release)
            left = duration = seconds_for(inference.missing_bytes[layer], link.up)
            sent_s = 0.0
            complete = False
            while not complete:
                now, end, complete, k = next_piece(left, now, k, n_up, up_start, up_end)
                sent_s += max(0.0, min(end, until) - now) if now < until else 0.0
                shown = min(end, until) if prefetched == 1 else end
                if shown > now or now == end <= until:
                    n_segments = record(segments, n_segments, layer, now, shown)
                left -= end - now if end < np.inf else 0.0
                now = end
            if now <= until and now < np.inf:
                sent[layer] = 1.0
            elif 0.0 < duration < np.inf:
                sent[layer] = min(1.0, sent_s / duration)
    return n_segments
