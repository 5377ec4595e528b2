"""Random DNNs and random inferences for every test that wants many of them.

`random_dnn_arrays` draws from a NumPy generator and gives realistic magnitudes. `dnn_cases` is a
Hypothesis strategy over whole inferences, of two kinds:

* *grid* cases: every duration is a small multiple of 1/8 s, exactly so in binary floating point
  however it is computed, so that many events are simultaneous and all ties are exact ones;
* *realistic* cases: `random_dnn_arrays` behind a random seed, where ties do not happen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

UPLOAD_MODES = ("parallel", "serial", "whole", "preinstalled")

# On the grid one tick is 1/8 s, and at one mebibyte per second it carries this many bytes.
_TICK_S = 0.125
_TICK_BYTES = 1 << 17
_MEBIBYTE_PER_S = float(1 << 23)  # bits per second


def random_predecessors(
    rng: np.random.Generator,
    n_layers: int,
    *,
    p_input: float = 0.15,
    p_extra: float = 0.35,
    reach: int = 4,
) -> list[list[int]]:
    """Draw a DAG in which the network's input reaches every layer.

    Every layer reads at least one earlier layer or the input. A layer that nobody reads is a sink,
    so there may be several.

    Args:
        rng: Source of randomness.
        n_layers: Number of layers, at least 1.
        p_input: Probability that a layer other than the first reads the input tensor too; half as
            often it reads nothing else.
        p_extra: Probability of each further predecessor (up to two).
        reach: How many layers back a layer may look.

    Returns:
        For each layer its predecessors in ascending order, -1 being the input.
    """
    rows: list[list[int]] = [[-1]]
    for layer in range(1, n_layers):
        nearby = range(max(0, layer - reach), layer)
        row = {int(rng.choice(nearby)) if rng.random() < 0.5 else layer - 1}
        for _ in range(2):
            if rng.random() < p_extra:
                row.add(int(rng.choice(nearby)))
        if rng.random() < p_input:
            row = {-1} if rng.random() < 0.5 else row | {-1}
        rows.append(sorted(row))
    return rows


def random_dnn_arrays(
    rng: np.random.Generator,
    n_layers: int,
    chain: bool = False,
    *,
    p_zero_time: float = 0.1,
    p_parameter_free: float = 0.3,
    p_zero_output: float = 0.03,
) -> dict[str, Any]:
    """Draw a DNN and how long its layers take on a phone and on an edge server.

    Magnitudes spread over some orders of magnitude around those of convolutional networks, so that
    executing, sending activations and sending parameters (at 1 to 100 Mbit/s) all matter.

    Args:
        rng: Source of randomness.
        n_layers: Number of layers, at least 1.
        chain: Whether each layer reads just the one before it.
        p_zero_time: Probability that a layer has no FLOPs and takes no time on either side.
        p_parameter_free: Probability that a layer has no parameters.
        p_zero_output: Probability that a layer's output has no bytes.

    Returns:
        `flops`, `parameter_bytes` and `output_bytes` (integer arrays), `predecessors` (lists),
        `input_bytes` (int), `ue_seconds` and `edge_seconds` (float arrays).
    """

    def magnitudes(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), size=n_layers))

    takes_time = rng.random(n_layers) >= p_zero_time
    flops = np.rint(magnitudes(2e6, 4e9)) * takes_time
    ue_speed = rng.uniform(5e9, 5e10)
    edge_speed = ue_speed * rng.uniform(0.8, 40.0)
    parameters = np.rint(magnitudes(1e3, 2e7)) * (rng.random(n_layers) >= p_parameter_free)
    outputs = np.rint(magnitudes(1e3, 3e6)) * (rng.random(n_layers) >= p_zero_output)
    return {
        "flops": flops.astype(np.int64),
        "parameter_bytes": parameters.astype(np.int64),
        "output_bytes": outputs.astype(np.int64),
        "predecessors": (
            [[layer - 1] for layer in range(n_layers)]
            if chain
            else random_predecessors(rng, n_layers)
        ),
        "input_bytes": int(rng.integers(10_000, 700_000)),
        "ue_seconds": flops / ue_speed * rng.uniform(0.7, 1.4, size=n_layers),
        "edge_seconds": flops / edge_speed * rng.uniform(0.7, 1.4, size=n_layers),
    }


def random_case(
    rng: np.random.Generator,
    n_layers: int,
    chain: bool = False,
    upload: str = "parallel",
    messages: bool = False,
) -> dict[str, Any]:
    """Draw a DNN with `random_dnn_arrays` and everything else that one inference needs.

    Args:
        rng: Source of randomness.
        n_layers: Number of layers, at least 1.
        chain: Whether each layer reads just the one before it.
        upload: The upload mode.
        messages: Whether a message takes seconds beside its bytes, in most cases.

    Returns:
        The DNN's arrays plus `placement`, `uplink_bps`, `downlink_bps`, `resident`, `prefetch`,
        `upload`, `until_s`, and `message_s` if there are `messages`.
    """
    case = random_dnn_arrays(rng, n_layers, chain)
    # Placements that change sides rarely, often, or (at the ends of the range) never.
    changes = rng.random(n_layers) < rng.choice([0.0, 0.2, 0.5, 0.5])
    placement = (np.cumsum(changes) + rng.integers(2)) % 2
    fractions = rng.choice(["none", "some", "partial"])
    resident = np.zeros(n_layers)
    if fractions != "none":
        resident = (rng.random(n_layers) < 0.4).astype(float)
    if fractions == "partial":
        partial = rng.random(n_layers) < 0.5
        resident = np.where(partial, rng.random(n_layers), resident)
    drawn = case | {
        "placement": placement.astype(np.int64),
        "uplink_bps": float(np.exp(rng.uniform(np.log(1e6), np.log(1e8)))),
        "downlink_bps": float(np.exp(rng.uniform(np.log(1e6), np.log(1e8)))),
        "resident": resident,
        "prefetch": rng.random(n_layers) < rng.choice([0.0, 0.5]),
        "upload": upload,
        "until_s": None if rng.random() < 0.5 else float(rng.uniform(0.0, 5.0)),
    }
    return drawn | with_messages(rng) if messages else drawn


def with_messages(rng: np.random.Generator) -> dict[str, float]:
    """What a message takes: nothing, or from next to nothing to more than anything else."""
    return {"message_s": 0.0 if rng.random() < 0.1 else float(10.0 ** rng.uniform(-5, 0.5))}


@st.composite
def _grid_cases(draw: st.DrawFn, max_layers: int, chain: bool, upload: str) -> dict[str, Any]:
    """Inferences on a grid of 1/8 s, with all the ties that brings."""
    n_layers = draw(st.integers(1, max_layers))

    def ticks(low: int, high: int) -> np.ndarray:
        return np.array(
            draw(st.lists(st.integers(low, high), min_size=n_layers, max_size=n_layers)),
            dtype=np.int64,
        )

    predecessors = [[-1]]
    for layer in range(1, n_layers):
        row = (
            {layer - 1}
            if chain
            else draw(st.sets(st.integers(-1, layer - 1), min_size=1, max_size=3))
        )
        predecessors.append(sorted(row))
    ue_ticks = ticks(0, 6)
    return {
        "flops": ue_ticks * 1_000_000_000,
        "parameter_bytes": ticks(0, 8) * _TICK_BYTES,
        "output_bytes": ticks(0, 5) * _TICK_BYTES,
        "predecessors": predecessors,
        "input_bytes": draw(st.integers(0, 4)) * _TICK_BYTES,
        "ue_seconds": ue_ticks * _TICK_S,
        "edge_seconds": ticks(0, 6) * _TICK_S,
        "placement": ticks(0, 1),
        "uplink_bps": _MEBIBYTE_PER_S * draw(st.sampled_from([0.5, 1.0, 2.0])),
        "downlink_bps": _MEBIBYTE_PER_S * draw(st.sampled_from([0.5, 1.0, 2.0])),
        "resident": ticks(0, 4) * 0.25 if draw(st.booleans()) else np.zeros(n_layers),
        "prefetch": ticks(0, 1).astype(bool),
        "upload": upload,
        "until_s": draw(st.none() | st.integers(0, 80).map(lambda t: t * _TICK_S)),
        "message_s": draw(st.integers(0, 3)) * _TICK_S,
    }


@st.composite
def _realistic_cases(draw: st.DrawFn, max_layers: int, chain: bool, upload: str) -> dict[str, Any]:
    """Inferences of realistic magnitudes; only the number of layers shrinks well."""
    n_layers = draw(st.integers(1, max_layers))
    seed = draw(st.integers(0, 2**32 - 1))
    return random_case(np.random.default_rng(seed), n_layers, chain, upload, messages=True)


@st.composite
def dnn_cases(
    draw: st.DrawFn,
    max_layers: int,
    *,
    chain: bool = False,
    modes: tuple[str, ...] = UPLOAD_MODES,
) -> dict[str, Any]:
    """Strategy over whole inferences: a DNN, a placement, rates and what is on the server.

    Args:
        draw: Supplied by Hypothesis.
        max_layers: The largest number of layers.
        chain: Whether each layer reads just the one before it.
        modes: The upload modes to draw from.

    Returns:
        The keys of `random_case` with messages.
    """
    upload = draw(st.sampled_from(modes))
    kinds = _grid_cases(max_layers, chain, upload) | _realistic_cases(max_layers, chain, upload)
    return draw(kinds)


def simulator_arguments(case: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The keyword arguments of `reference_simulate` for a case, some of them replaced.

    Args:
        case: A dictionary of `dnn_cases` or `random_case`.
        **changes: Values that replace those of the case.

    Returns:
        A new dictionary without the keys that do not concern timing (`flops`).
    """
    return {key: value for key, value in (case | changes).items() if key != "flops"}
