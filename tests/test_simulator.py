"""The simulator against cases worked out by hand, at its limits, and against wrong input.

In the drawings one column is one second and both links carry one byte per second. A digit is the
layer that executes or whose output is sent, `i` the network's input; `a` to `d` are the parameters
of layers 0 to 3.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from mjoa_gym import DNN, Timeline, simulate

INF = float("inf")
ABSENT = 99.0  # seconds on a side that the placement does not use


def network(predecessors, parameter_bytes, output_bytes, input_bytes) -> DNN:
    n = len(predecessors)
    return DNN("toy", np.ones(n), parameter_bytes, output_bytes, predecessors, input_bytes)


def run(dnn: DNN, placement, ue_seconds, edge_seconds, **changes: Any) -> Timeline:
    rates = {"uplink_bps": 8.0, "downlink_bps": 8.0}
    return simulate(dnn, placement, ue_seconds, edge_seconds, **(rates | changes))


def lane(timeline: Timeline, resource: str) -> str:
    """A drawing of one resource."""
    line = ["."] * round(timeline.latency)
    for _, what, layer, start, end in timeline.by_resource[resource]:
        sign = "abcd"[layer] if what in ("parameters", "prefetch") else str(layer)
        for second in range(round(start), round(end)):
            assert line[second] == "."
            line[second] = "i" if layer == -1 else sign
    return "".join(line)


CHAIN = network([[-1], [0], [1], [2]], [0, 2, 9, 4], [3, 1, 1, 1], 2)
THERE_AND_BACK_TWICE = ([0, 1, 0, 1], [1, ABSENT, 2, ABSENT], [ABSENT, 2, ABSENT, 1])


DRAWINGS = [
    ("parallel", """
        0.......22...
        b000bdddd.2..   0 takes the uplink from b
        .....11....3.
        .......1....3"""),
    ("serial", """
        0........22......
        .000bb.....2dddd.   b waits until 0 has executed, d until 2 has
        ......11........3
        ........1........3"""),
    ("whole", """
        0...........22...
        b000bdddd.....2..   1 waits for d as well
        .........11....3.
        ...........1....3"""),
    ("preinstalled", """
        0......22...
        .000.....2..
        ....11....3.
        ......1....3"""),
]  # fmt: skip


@pytest.mark.parametrize(("upload", "drawing"), DRAWINGS)
def test_a_chain_that_leaves_the_ue_twice(upload, drawing):
    timeline = run(CHAIN, *THERE_AND_BACK_TWICE, upload=upload)
    lanes = [line.split()[0] for line in drawing.strip().splitlines()]
    assert timeline.latency == len(lanes[-1])
    for resource, expected in zip(("ue", "uplink", "edge", "downlink"), lanes, strict=True):
        assert lane(timeline, resource).rstrip(".") == expected.rstrip(".")
    there = [1, 1, 1, 1] if upload == "preinstalled" else [1, 1, 0, 1]
    assert timeline.resident.tolist() == there  # layer 0 has no parameters to miss


def test_two_sinks_and_a_tensor_with_two_readers():
    # ue        0.....33...
    # uplink    i00ccc.....   the input and 0 go up once each, for both readers
    # edge      ...11.2....
    # downlink  .....1.2222   the inference ends with the later sink
    dnn = network([[-1], [0], [-1, 0], [1]], [0, 0, 3, 0], [2, 1, 4, 1], 1)
    timeline = run(dnn, [0, 1, 1, 0], [1, ABSENT, ABSENT, 2], [ABSENT, 2, 1, ABSENT])
    assert lane(timeline, "ue") == "0.....33..."
    assert lane(timeline, "uplink") == "i00ccc....."
    assert lane(timeline, "edge") == "...11.2...."
    assert lane(timeline, "downlink") == ".....1.2222"
    assert timeline.latency == 11


@pytest.mark.parametrize(
    ("until_s", "uplink", "resident"),
    [
        (None, [(0, 0, 3)], [0.75, 0]),
        (2, [(0, 0, 3)], [0.5, 0]),  # the round goes on as long as the inference
        (5, [(0, 0, 4), (1, 4, 5)], [1, 0.5]),
        (INF, [(0, 0, 4), (1, 4, 6)], [1, 1]),
    ],
)
def test_prefetching_until_the_round_ends(until_s, uplink, resident):
    dnn = network([[-1], [0]], [4, 2], [1, 1], 1)
    timeline = run(dnn, [0, 0], [2, 1], [ABSENT] * 2, prefetch=[1, 1], until_s=until_s)
    assert timeline.latency == 3
    assert [i[2:] for i in timeline.by_resource["uplink"]] == uplink
    assert {i.what for i in timeline.by_resource["uplink"]} == {"prefetch"}
    assert timeline.resident.tolist() == resident


@pytest.mark.parametrize(("ue_s", "latency"), [(3, 16), (4, 11)])
def test_the_anomaly_a_slower_ue_can_be_faster(ue_s, latency):
    """Documented in docs/model.md: away from chains latency is not monotone.

    Layer 0 runs on the UE and feeds layer 2; layer 1, a branch of its own, needs parameters.

    uplink  bbb000000b......    0 is done after 3 s, a second before b has arrived
    edge    ..........111112    so 1 starts 6 s later

    uplink  bbbb000000.         0 is done after 4 s, and b there
    edge    ....11111.2
    """
    dnn = network([[-1], [-1], [0]], [0, 4, 0], [6, 0, 0], 0)
    timeline = run(dnn, [0, 1, 1], [ue_s, ABSENT, ABSENT], [ABSENT, 5, 1])
    assert timeline.latency == latency


def test_a_transfer_held_up_for_no_time_is_one_interval():
    dnn = network([[-1], [0]], [0, 3], [0, 0], 0)  # 0's output takes no time to send
    timeline = run(dnn, [0, 1], [1, ABSENT], [ABSENT, 1])
    uplink = [(what, *rest) for _, what, *rest in timeline.by_resource["uplink"]]
    assert uplink == [("parameters", 1, 0, 3), ("activation", 0, 1, 1)]


def test_a_transfer_that_ends_when_an_activation_arises_is_complete():
    """Ties in favour of what is done; in favour of activations for what has yet to start."""
    # uplink    bb0cc    b ends as 0 arises, c would start then
    # edge      ..112
    dnn = network([[-1], [-1], [0]], [0, 2, 2], [1, 0, 0], 0)
    timeline = run(dnn, [0, 1, 1], [2, ABSENT, ABSENT], [ABSENT, 2, 1])
    assert [i[2:] for i in timeline.by_resource["uplink"]][1:] == [(1, 0, 2), (0, 2, 3), (2, 3, 5)]
    assert timeline.by_resource["edge"][0].start == 2


def test_rounding_neither_overlaps_nor_reverses_anything():
    """0.1 + 0.2 > 0.3: an activation arises, on paper, at the very end of a transfer."""
    dnn = network([[-1], [0], [-1], [1]], [0, 0, 3, 3], [1, 1, 0, 0], 0)
    for ue_s in ([0.1, 0.2], [0.2, 0.1], [0.3, 0.0], [0.1 + 0.2, 0.0]):
        times = ([*ue_s, ABSENT, ABSENT], [ABSENT, ABSENT, 0.1, 0.1])
        timeline = run(dnn, [0, 0, 1, 1], *times, uplink_bps=80.0)
        at = 0.0
        for interval in sorted(timeline.by_resource["uplink"], key=lambda i: i[3:]):
            assert at <= interval.start <= interval.end
            at = interval.end
        sent = sum(i.end - i.start for i in timeline.by_resource["uplink"])
        assert sent == pytest.approx(0.7)


@pytest.mark.parametrize("side", [0, 1])
def test_one_layer(side):
    dnn = network([[-1]], [5], [3], 2)
    # the edge: parameters pre-empted by the input, 7 s; 4 s of work; the output
    assert run(dnn, [side], [9], [4]).latency == (14 if side else 9)


def test_nothing_takes_any_time():
    dnn = network([[-1], [0], [0, 1]], [0, 0, 0], [0, 0, 0], 0)
    for placement in ([0, 0, 0], [1, 0, 1], [1, 1, 1]):
        assert run(dnn, placement, [0] * 3, [0] * 3).latency == 0


def test_minus_zero_is_zero():
    dnn = network([[-1], [0]], [-0.0, 2], [-0.0, 1], -0.0)
    a = run(dnn, [1, 1], [-0.0, 1], [-0.0, 1], resident=[-0.0, -0.0], until_s=-0.0)
    assert a.latency == 4
    assert a.resident.tolist() == [1, 0]
    assert run(dnn, [1, 0], [-0.0, 1], [-0.0, 1], uplink_bps=-0.0).latency == 1


# --- Zero and infinite rates ---------------------------------------------------------------------


def test_without_links_only_the_ue_works():
    alone = {"uplink_bps": 0, "downlink_bps": 0}
    for placement, latency in (([0, 0, 0, 0], 4.0), ([0, 1, 0, 1], INF), ([0, 0, 0, 1], INF)):
        timeline = run(CHAIN, placement, [1] * 4, [1] * 4, **alone)
        assert timeline.latency == latency
        assert timeline.resident.tolist() == [1, 0, 0, 0]  # layer 0 has no parameters
    prefetching = run(CHAIN, [0] * 4, [1] * 4, [1] * 4, prefetch=[1] * 4, until_s=INF, **alone)
    assert (prefetching.latency, prefetching.resident.tolist()) == (4.0, [1, 0, 0, 0])


def test_one_direction_is_not_enough():
    times = ([0, 1, 0, 0], [1] * 4, [1] * 4)
    assert run(CHAIN, *times, uplink_bps=0).latency == INF
    no_way_back = run(CHAIN, *times, downlink_bps=0)
    assert no_way_back.latency == INF
    assert no_way_back.by_resource["edge"][0].end == 6  # what can happen does
    assert len(no_way_back.by_resource["ue"]) == 1  # what never starts is left out


def test_nothing_needs_no_rate():
    dnn = network([[-1], [0]], [0, 0], [0, 0], 0)
    assert run(dnn, [1, 0], [1, 1], [1, 1], uplink_bps=0, downlink_bps=0).latency == 2


def test_infinite_rates_take_no_time():
    rates = {"uplink_bps": INF, "downlink_bps": INF}
    late = run(
        CHAIN, [0] * 4, [1] * 4, [1] * 4, upload="serial", prefetch=[1] * 4, until_s=1.5, **rates
    )
    assert late.resident.tolist() == [1, 1, 0, 0]  # 2 may be sent once 1 has executed
    for upload in ("parallel", "serial", "whole", "preinstalled"):
        timeline = run(CHAIN, *THERE_AND_BACK_TWICE, upload=upload, **rates)
        assert timeline.latency == 6
        assert timeline.resident[[1, 3]].tolist() == [1, 1]
        assert sum(i.what == "activation" for i in timeline.intervals) == 4


# --- Input and output ----------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "dnn": CHAIN,
    "placement": [0, 1, 0, 1],
    "ue_seconds": [1.0] * 4,
    "edge_seconds": [1.0] * 4,
    "uplink_bps": 8.0,
    "downlink_bps": 8.0,
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"placement": [0, 1, 2, 0]}, r"placement\[2\]=2.0: must be 0 or 1"),
        ({"placement": [0, 1, np.nan, 0]}, r"placement\[2\]=nan"),
        ({"placement": [0, 1]}, r"placement has shape \(2,\); \(4,\)"),
        ({"placement": [[0, 1, 0, 1]]}, r"placement has shape \(1, 4\)"),
        ({"placement": "0101"}, "placement must hold numbers|placement has shape"),
        ({"ue_seconds": [1, -1, 1, 1]}, r"ue_seconds\[1\]=-1.0: must be finite and >= 0"),
        ({"ue_seconds": [1, INF, 1, 1]}, r"ue_seconds\[1\]=inf"),
        ({"edge_seconds": [1, 1, 1, np.nan]}, r"edge_seconds\[3\]=nan"),
        ({"edge_seconds": 1.0}, r"edge_seconds has shape \(\)"),
        ({"uplink_bps": -1}, "uplink_bps=-1: must be >= 0"),
        ({"uplink_bps": np.nan}, "uplink_bps=nan: must be >= 0"),
        ({"downlink_bps": "fast"}, "downlink_bps='fast': must be a number"),
        ({"downlink_bps": None}, "downlink_bps=None: must be a number"),
        ({"resident": [0, 0, 1.5, 0]}, r"resident\[2\]=1.5: must be in \[0, 1\]"),
        ({"resident": [0, 0, -0.1, 0]}, r"resident\[2\]=-0.1"),
        ({"prefetch": [0, 0, 0.5, 0]}, r"prefetch\[2\]=0.5: must be 0 or 1"),
        ({"upload": "paralel"}, "upload='paralel'.*did you mean 'parallel'"),
        ({"upload": 0}, "upload=0: allowed are"),
        ({"until_s": -1}, "until_s=-1: must be >= 0"),
        ({"until_s": np.nan}, "until_s=nan: must be >= 0"),
        ({"until_s": "later"}, "until_s='later': must be a number"),
    ],
)
def test_errors_name_field_and_value(wrong, message):
    simulate(**GOOD)
    with pytest.raises(ValueError, match=message):
        simulate(**(GOOD | wrong))


def test_a_timeline_is_immutable_and_inputs_are_left_alone():
    given = {k: np.array(v) for k, v in GOOD.items() if isinstance(v, list)}
    before = pickle.dumps(given)
    timeline = simulate(**(GOOD | given), prefetch=np.array([True, False, True, False]))
    assert pickle.dumps(given) == before
    with pytest.raises(AttributeError):
        timeline.latency = 0.0  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        timeline.resident[0] = 0.0
    assert isinstance(timeline.intervals, tuple)
    assert [i.start for i in timeline.intervals] == sorted(i.start for i in timeline.intervals)
    assert sum(map(len, timeline.by_resource.values())) == len(timeline.intervals)
