"""The simulator against the slow reference, on thousands of random inferences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mjoa_gym import Timeline, simulate
from mjoa_gym.model import kernel
from tests.exhaustive import dnn_of, kernel_arguments
from tests.random_dags import STYLES, predecessors_in_style
from tests.random_dnns import (
    UPLOAD_MODES,
    dnn_cases,
    random_case,
    simulator_arguments,
    with_messages,
)
from tests.reference_simulator import reference_simulate

NETWORK = {"flops", "parameter_bytes", "output_bytes", "predecessors", "input_bytes"}
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def simulated(case: dict[str, Any], **changes: Any) -> Timeline:
    case = case | changes
    return simulate(dnn_of(case), **{k: v for k, v in case.items() if k not in NETWORK})


def merged(intervals: Sequence[tuple]) -> list[tuple]:
    """Sorted, with touching pieces of one transfer as one: where it was held up for no time."""
    lines: list[tuple] = []
    for resource, what, layer, start, end in sorted(intervals, key=lambda i: i[:4]):
        here = (resource, what, layer)
        is_transfer = what in ("parameters", "prefetch")
        if is_transfer and lines and lines[-1][:3] == here and start - lines[-1][4] <= 1e-12:
            lines[-1] = (*here, lines[-1][3], end)
        else:
            lines.append((*here, start, end))
    return lines


def assert_as_the_reference(case: dict[str, Any]) -> bool:
    """Whether the case could be compared: not if rounding decides a race."""
    expected = reference_simulate(**simulator_arguments(case))
    if 0 < expected.tie_margin < 1e-9:
        return False
    timeline = simulated(case)
    assert math.isclose(timeline.latency, expected.latency, rel_tol=1e-9)
    np.testing.assert_allclose(timeline.resident, expected.resident, **CLOSE)
    ours, theirs = merged(timeline.intervals), merged(expected.intervals)
    assert [i[:3] for i in ours] == [i[:3] for i in theirs]
    np.testing.assert_allclose([i[3:] for i in ours], [i[3:] for i in theirs], **CLOSE)
    return True


@pytest.mark.parametrize("messages", [False, True])
@pytest.mark.parametrize("chain", [True, False])
@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_random_inferences(upload, chain, messages):
    cases = (
        random_case(rng, int(rng.integers(1, 13)), chain, upload, messages)
        for rng in generators(200)
    )
    assert sum(map(assert_as_the_reference, cases)) > 195


@pytest.mark.parametrize("style", STYLES)
def test_random_dags_of_every_style(style):
    for seed, rng in enumerate(generators(80)):
        n = int(rng.integers(1, 15))
        case = random_case(rng, n, upload=UPLOAD_MODES[seed % 4], messages=seed % 2 == 0)
        assert_as_the_reference(case | {"predecessors": predecessors_in_style(style, rng, n)})


@given(dnn_cases(9))
@settings(max_examples=300, deadline=None)
def test_inferences_full_of_ties(case):
    assert_as_the_reference(case)


@pytest.mark.parametrize("free", ["parameter_bytes", "output_bytes", "ue_seconds", "edge_seconds"])
def test_nothing_of_one_kind(free):
    for seed, rng in enumerate(generators(40)):
        case = random_case(rng, 8, upload=UPLOAD_MODES[seed % 4])
        assert_as_the_reference(case | {free: np.zeros(8)})
        assert_as_the_reference(case | {free: np.zeros(8), "input_bytes": 0})


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
def test_tiny_and_huge_numbers(scale):
    """All times scale together, so nothing else changes."""
    for seed, rng in enumerate(generators(40)):
        case = random_case(rng, 8, upload=UPLOAD_MODES[seed % 4]) | {"until_s": None}
        if reference_simulate(**simulator_arguments(case)).tie_margin < 1e-9:
            continue
        seconds = {k: case[k] * scale for k in ("ue_seconds", "edge_seconds")}
        rates = {k: case[k] / scale for k in ("uplink_bps", "downlink_bps")}
        before, after = simulated(case), simulated(case, **seconds, **rates)
        assert math.isclose(after.latency, before.latency * scale, rel_tol=1e-9)
        np.testing.assert_allclose(after.resident, before.resident, **CLOSE)


def test_a_wide_fan_out_and_fan_in():
    rng = np.random.default_rng(0)
    n = 60
    for upload in UPLOAD_MODES:
        case = random_case(rng, n, upload=upload)
        fan_out = [[-1], *([0] for _ in range(n - 2)), list(range(-1, n - 1))]
        assert_as_the_reference(case | {"predecessors": fan_out})
        every_layer_reads_the_input = [[-1] for _ in range(n)]
        assert_as_the_reference(case | {"predecessors": every_layer_reads_the_input})


@pytest.mark.parametrize("seed", range(40))
def test_many_placements_at_once(seed):
    """The latency-only path is the same path."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 10))
    case = random_case(rng, n, upload=UPLOAD_MODES[seed % 4])
    case |= with_messages(rng)
    placements = rng.integers(0, 2, (50, n)).astype(np.int8)
    inference, link = kernel_arguments(case)
    seconds = kernel.run_many(placements, inference, link)
    assert seconds.tolist() == [simulated(case, placement=p).latency for p in placements]


def generators(count: int):
    return (np.random.default_rng(seed) for seed in range(count))


@pytest.mark.slow
@pytest.mark.parametrize("upload", UPLOAD_MODES)
def test_many_more(upload):
    for seed in range(10_000, 15_000):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 25))
        case = random_case(rng, n, seed % 2 == 0, upload, seed % 5 != 0)
        if seed % 3 == 0:
            case["predecessors"] = predecessors_in_style(STYLES[seed % len(STYLES)], rng, n)
        assert_as_the_reference(case)
