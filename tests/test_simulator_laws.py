"""The laws of the timing model (docs/model.md), on random inferences with and without ties."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from mjoa_gym import Timeline
from tests.random_dnns import dnn_cases, simulator_arguments
from tests.reference_simulator import chain_recursion
from tests.test_simulator_reference import simulated

CLOSE = 1e-9
many = settings(max_examples=150, deadline=None)
chains = dnn_cases(10, chain=True)
anything = dnn_cases(10)


def seconds_up(case: dict[str, Any], size: float) -> float:
    return size * 8 / case["uplink_bps"]


def sinks(case: dict[str, Any]) -> set[int]:
    return set(range(len(case["placement"]))) - {p for row in case["predecessors"] for p in row}


def readers(case: dict[str, Any], tensor: int) -> set[int]:
    """The sides that read a tensor; an output is read on the UE."""
    rows = enumerate(case["predecessors"])
    sides = {int(case["placement"][layer]) for layer, row in rows if tensor in row}
    return sides | ({0} if tensor in sinks(case) else set())


def made_on(case: dict[str, Any], tensor: int) -> int:
    return 0 if tensor == -1 else int(case["placement"][tensor])


def tensors(case: dict[str, Any]) -> range:
    return range(-1, len(case["placement"]))


class Times:
    """The moments that the laws relate, read off a timeline."""

    def __init__(self, case: dict[str, Any], timeline: Timeline) -> None:
        self.start, self.end = {}, {-1: 0.0}
        self.sent: dict[int, tuple[float, float]] = {}
        self.arrived: dict[int, float] = {}
        for _, what, layer, start, end in timeline.intervals:
            if what == "execute":
                assert layer not in self.start
                self.start[layer], self.end[layer] = start, end
            elif what == "activation":
                assert layer not in self.sent, "sent once"
                self.sent[layer] = (start, end)
            else:
                self.arrived[layer] = max(end, self.arrived.get(layer, 0.0))
        self.case = case

    def available(self, tensor: int, side: int) -> float:
        if made_on(self.case, tensor) == side:
            return self.end[tensor]
        return self.sent[tensor][1] + self.case["message_s"]

    def usable(self, layer: int) -> float:
        """When the edge can use a layer's parameters; at once if none were missing."""
        return self.arrived[layer] + self.case["message_s"] if layer in self.arrived else 0.0

    def known_to_uplink(self, tensor: int) -> float:
        return self.end[tensor] + self.case["message_s"] * made_on(self.case, tensor)


def missing(case: dict[str, Any]) -> np.ndarray:
    """Seconds of uplink for what is missing of each layer."""
    fraction = 1.0 - np.asarray(case["resident"], float) * (case["upload"] != "preinstalled")
    seconds = seconds_up(case, np.asarray(case["parameter_bytes"], float) * fraction)
    return seconds * (case["upload"] != "preinstalled")


@given(anything)
@many
def test_all_on_the_ue_takes_the_sum_of_its_times(case):
    placement = np.zeros(len(case["placement"]), int)
    for rate in (0.0, 1.0, case["uplink_bps"], math.inf):
        timeline = simulated(case, placement=placement, uplink_bps=rate, downlink_bps=rate)
        assert timeline.latency == pytest.approx(case["ue_seconds"].sum(), rel=1e-12)


@given(anything)
@many
def test_no_resource_is_used_twice_at_a_time(case):
    for lane in simulated(case).by_resource.values():
        used = [i for i in lane if i.end > i.start]
        assert all(a.end <= b.start for a, b in pairwise(sorted(used, key=lambda i: i.start)))
        assert all(i.start <= i.end for i in lane)


@given(anything)
@many
def test_each_byte_that_must_move_moves_once(case):
    timeline = simulated(case)
    times = Times(case, timeline)
    crossing = {t for t in tensors(case) if readers(case, t) - {made_on(case, t)}}
    assert set(times.sent) == crossing
    for tensor, (start, end) in times.sent.items():
        size = case["input_bytes"] if tensor == -1 else case["output_bytes"][tensor]
        rate = case["uplink_bps"] if made_on(case, tensor) == 0 else case["downlink_bps"]
        assert end - start == pytest.approx(size * 8 / rate, rel=CLOSE, abs=1e-12)
    uploaded = {"parameters": np.zeros(len(case["placement"]))}
    uploaded["prefetch"] = uploaded["parameters"].copy()
    for _, what, layer, start, end in timeline.by_resource["uplink"]:
        if what != "activation":
            uploaded[what][layer] += end - start
    at_edge = case["placement"] == 1
    np.testing.assert_allclose(uploaded["parameters"], missing(case) * at_edge, CLOSE, 1e-12)
    wanted = missing(case) * (~at_edge & np.asarray(case["prefetch"], bool))
    assert np.all(uploaded["prefetch"] <= wanted * (1 + CLOSE) + 1e-12)


@given(anything)
@many
def test_nothing_starts_early_and_nothing_idles(case):
    """Every start is the latest of the moments that it waits for."""
    timeline = simulated(case)
    times = Times(case, timeline)
    n = len(case["placement"])
    needed = [layer for layer in range(n) if case["placement"][layer] and missing(case)[layer] > 0]
    for side in (0, 1):
        free = 0.0
        for layer in np.flatnonzero(case["placement"] == side):
            waits = [free] + [times.available(p, side) for p in case["predecessors"][layer]]
            if side == 1:
                whole = case["upload"] == "whole"
                waits += [times.usable(k) for k in needed if whole or k == layer]
            assert times.start[layer] == pytest.approx(max(waits), rel=CLOSE, abs=1e-12)
            free = times.end[layer]
        link_free = 0.0
        for tensor in sorted(t for t in times.sent if made_on(case, t) == side):
            start, end = times.sent[tensor]
            assert start == pytest.approx(max(times.end[tensor], link_free), rel=CLOSE, abs=1e-12)
            link_free = end


@given(anything)
@many
def test_the_uplink_never_idles_with_parameters_to_send(case):
    timeline = simulated(case)
    times = Times(case, timeline)
    uplink = timeline.by_resource["uplink"]
    allowed = 0.0
    for layer in np.flatnonzero((case["placement"] == 1) & (missing(case) > 1e-9)):
        if case["upload"] == "serial":
            known = (times.known_to_uplink(p) for p in case["predecessors"][layer])
            allowed = max(allowed, *known)
        done = times.arrived[layer]
        busy = sum(max(0.0, min(i.end, done) - max(i.start, allowed)) for i in uplink)
        assert busy == pytest.approx(done - allowed, rel=CLOSE, abs=1e-9)
        allowed = done


@given(anything)
@many
def test_the_latency_is_the_end_of_the_last_interval(case):
    timeline = simulated(case)
    times = Times(case, timeline)
    assert timeline.latency == max(times.available(sink, 0) for sink in sinks(case))
    at_once = simulated(case, message_s=0.0)
    assert at_once.latency == max(i.end for i in at_once.intervals if i.what != "prefetch")


@given(chains)
@many
def test_a_dearer_message_makes_nothing_faster_on_chains(case):
    dearer = simulated(case, message_s=1.5 * case["message_s"] + 0.01)
    assert simulated(case).latency <= dearer.latency * (1 + CLOSE)


@given(anything)
@many
def test_a_prefetch_delays_nothing(case):
    n = len(case["placement"])
    without = simulated(case, prefetch=np.zeros(n, bool))
    for marks in (case["prefetch"], np.ones(n, bool)):
        timeline = simulated(case, prefetch=marks)
        assert timeline.latency == without.latency
        rest = tuple(i for i in timeline.intervals if i.what != "prefetch")
        assert rest == without.intervals
        assert np.all(timeline.resident >= without.resident)


@given(anything)
@many
def test_residency_grows_with_time_up_to_exactly_one(case):
    before = np.where(case["parameter_bytes"] > 0, case["resident"], 1.0)
    for until_s in (0.0, 0.5, 2.0, math.inf):
        resident = simulated(case, until_s=until_s).resident
        assert np.all(before <= resident)
        before = resident
    sent = (case["placement"] == 1) | np.asarray(case["prefetch"], bool)
    assert np.all(before[sent] == 1.0)
    assert np.all(before <= 1.0)


@given(dnn_cases(12, chain=True, modes=("parallel",)))
@many
def test_a_chain_is_a_recursion_over_two_numbers(case):
    unused = {"predecessors", "upload", "prefetch", "until_s"}
    arguments = {k: v for k, v in simulator_arguments(case).items() if k not in unused}
    expected = chain_recursion(**arguments)
    assert simulated(case).latency == pytest.approx(expected, rel=CLOSE, abs=1e-12)


@given(chains)
@many
def test_chains_are_monotone(case):
    latency = simulated(case).latency * (1 + CLOSE)
    fraction = np.asarray(case["resident"], float)
    for better in (
        {"uplink_bps": 1.7 * case["uplink_bps"]},
        {"downlink_bps": 1.7 * case["downlink_bps"]},
        {"ue_seconds": case["ue_seconds"] * 0.6},
        {"edge_seconds": case["edge_seconds"] * 0.6},  # a faster server or a larger share
        {"resident": (1 + fraction) / 2},
        {"resident": np.where(np.arange(len(fraction)) % 2, 1.0, fraction)},
    ):
        assert simulated(case, **better).latency <= latency


@given(chains)
@many
def test_the_modes_are_ordered_on_chains(case):
    modes = ("preinstalled", "parallel", "serial", "whole")
    least, parallel, *others = (simulated(case, upload=mode).latency for mode in modes)
    assert least <= parallel * (1 + CLOSE)
    assert all(parallel <= other * (1 + CLOSE) for other in others)
