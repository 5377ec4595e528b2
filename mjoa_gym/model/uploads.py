"""What the uplink has carried by a given time: the parameter stream of an inference, replayed."""

from __future__ import annotations

import numpy as np

from mjoa_gym.model.compiling import lean, lean_inner
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.kernel import AT_EDGE, END, UP_END, UP_START, ZERO, next_piece, release_time
from mjoa_gym.model.link import seconds_for


@lean_inner
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


@lean
def upload(outline, prefetch, inference, link, until, n_up, scratch, sent, segments):
    """Replay the parameter stream of an inference that `run` has just simulated.

    `prefetch` (>= L,) marks layers to send after those of the placement; (0,) for none. The round
    ends at `until`; what is sent after it does not count. `n_up` and `scratch` are as `run` left
    them. `sent` (>= L,) is overwritten with the fraction of each layer's missing bytes sent by
    `until`, 0 where nothing is missing; `segments` (rows, 3) with (layer, start, end) of every
    uninterrupted piece, each layer of the placement whole, prefetched ones up to `until`. With no
    rows, nothing is recorded.

    Returns:
        The number of segments; at most 2 L + 1 are needed.
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
                return ZERO  # nothing more counts
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
