"""The reference simulator against cases worked out by hand, and against the laws of the model.

In the hand-computed cases both links carry one byte per second, so bytes are seconds. The drawings
show one second per column: a digit is the layer that executes or whose output is sent, `i` the
network's input, `p` the parameters and `f` the prefetch of the layer named beside the drawing.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.random_dnns import dnn_cases, random_case, random_dnn_arrays, simulator_arguments
from tests.reference_simulator import (
    EDGE,
    UE,
    UPLOAD_MODES,
    Interval,
    ReferenceResult,
    chain_recursion,
    reference_simulate,
)

ONE_BYTE_PER_S = 8.0
ABSENT = 99.0  # seconds on a side that the placement does not use


def simulate(**arguments: Any) -> ReferenceResult:
    rates = {"uplink_bps": ONE_BYTE_PER_S, "downlink_bps": ONE_BYTE_PER_S}
    return reference_simulate(**(rates | arguments))


def spans(result: ReferenceResult, resource: str) -> list[tuple[str, int, float, float]]:
    return [(what, layer, a, b) for r, what, layer, a, b in result.intervals if r == resource]


# --- One edge layer in the middle of a chain: pre-emption, modes, residency, prefetch ------------

MIDDLE: dict[str, Any] = {
    "predecessors": [[-1], [0], [1]],
    "placement": [UE, EDGE, UE],
    "ue_seconds": [2, ABSENT, 1],
    "edge_seconds": [ABSENT, 3, ABSENT],
    "parameter_bytes": [7, 4, 7],
    "output_bytes": [1, 2, 5],
    "input_bytes": 6,
}


def test_parallel_upload_is_preempted_and_resumed():
    #           0         1
    #           01234567890
    # ue        00........2
    # uplink    pp0pp......   p = parameters of layer 1
    # edge      .....111...
    # downlink  ........11.
    result = simulate(**MIDDLE)
    assert result.latency == 11
    assert result.intervals == [
        ("ue", "execute", 0, 0, 2),
        ("uplink", "parameters", 1, 0, 2),
        ("uplink", "activation", 0, 2, 3),
        ("uplink", "parameters", 1, 3, 5),
        ("edge", "execute", 1, 5, 8),
        ("downlink", "activation", 1, 8, 10),
        ("ue", "execute", 2, 10, 11),
    ]
    assert result.intervals[0] == Interval("ue", "execute", layer=0, start=0.0, end=2.0)
    assert result.resident.tolist() == [0, 1, 0]
    assert result.tie_margin == 2  # what was left at the pre-emption


def test_serial_upload_waits_for_the_layer_before():
    #           0         1
    #           0123456789012
    # ue        00..........2
    # uplink    ..0pppp......   released at 2, where the activation goes first
    # edge      .......111...
    # downlink  ..........11.
    result = simulate(**MIDDLE, upload="serial")
    assert result.latency == 13
    assert spans(result, "uplink") == [("activation", 0, 2, 3), ("parameters", 1, 3, 7)]


def test_preinstalled_uploads_nothing():
    #           012345678
    # ue        00......2
    # uplink    ..0......
    # edge      ...111...
    # downlink  ......11.
    result = simulate(**MIDDLE, upload="preinstalled", resident=[0, 0.5, 0], prefetch=[1, 1, 1])
    assert result.latency == 9
    assert spans(result, "uplink") == [("activation", 0, 2, 3)]
    assert result.resident.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("resident", "uplink", "latency"),
    [
        # Three of four bytes are missing: pp0p, layer 1 from 4 on.
        (0.25, [("parameters", 1, 0, 2), ("activation", 0, 2, 3), ("parameters", 1, 3, 4)], 10),
        # Two bytes are missing, the last one leaves when the activation becomes ready: pp0.
        (0.5, [("parameters", 1, 0, 2), ("activation", 0, 2, 3)], 9),
        (True, [("activation", 0, 2, 3)], 9),
    ],
)
def test_only_the_missing_part_is_sent(resident, uplink, latency):
    result = simulate(**MIDDLE, resident=[0, resident, 0])
    assert spans(result, "uplink") == uplink
    assert result.latency == latency
    assert result.resident.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("until_s", "prefetches", "resident"),
    [
        # Layer 1 is complete at 5. Then 7 bytes of layer 0 (5 to 12) and 7 of layer 2 (12 to 19),
        # cut at the end of the round; the mark on layer 1 adds nothing.
        (None, [("prefetch", 0, 5, 11)], [6 / 7, 1, 0]),
        (15, [("prefetch", 0, 5, 12), ("prefetch", 2, 12, 15)], [1, 1, 3 / 7]),
        (math.inf, [("prefetch", 0, 5, 12), ("prefetch", 2, 12, 19)], [1, 1, 1]),
        # A look at the server before the end does not cut anything; at 4, pp.p have been sent.
        (4, [("prefetch", 0, 5, 11)], [0, 3 / 4, 0]),
        (0, [("prefetch", 0, 5, 11)], [0, 0, 0]),
    ],
)
def test_prefetch_goes_on_until_the_round_ends(until_s, prefetches, resident):
    result = simulate(**MIDDLE, prefetch=[True, True, True], until_s=until_s)
    assert result.latency == 11
    assert [row for row in spans(result, "uplink") if row[0] == "prefetch"] == prefetches
    assert result.resident == pytest.approx(resident, rel=1e-15)


def test_an_activation_preempts_a_prefetch():
    #           0123456
    # ue        0000...
    # uplink    pfff0ff   p = layer 1, f = layer 0, five bytes, complete just when the round ends
    # edge      .....1.
    # downlink  ......1
    result = simulate(
        predecessors=[[-1], [0]],
        placement=[UE, EDGE],
        ue_seconds=[4, ABSENT],
        edge_seconds=[ABSENT, 1],
        parameter_bytes=[5, 1],
        output_bytes=[1, 1],
        input_bytes=1,
        prefetch=[True, False],
    )
    assert result.latency == 7
    assert spans(result, "uplink") == [
        ("parameters", 1, 0, 1),
        ("prefetch", 0, 1, 4),
        ("activation", 0, 4, 5),
        ("prefetch", 0, 5, 7),
    ]
    assert result.resident.tolist() == [1, 1]


# --- More chains ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upload", "uplink", "edge", "latency"),
    [
        # uplink    ippqqq...   p = layer 0, q = layer 1
        # edge      ...00.1..
        # downlink  .......11
        (
            "parallel",
            [("activation", -1, 0, 1), ("parameters", 0, 1, 3), ("parameters", 1, 3, 6)],
            [("execute", 0, 3, 5), ("execute", 1, 6, 7)],
            9,
        ),
        # uplink    ipp..qqq...
        # edge      ...00...1..
        # downlink  .........11
        (
            "serial",
            [("activation", -1, 0, 1), ("parameters", 0, 1, 3), ("parameters", 1, 5, 8)],
            [("execute", 0, 3, 5), ("execute", 1, 8, 9)],
            11,
        ),
        # uplink    ippqqq.....
        # edge      ......001..
        # downlink  .........11
        (
            "whole",
            [("activation", -1, 0, 1), ("parameters", 0, 1, 3), ("parameters", 1, 3, 6)],
            [("execute", 0, 6, 8), ("execute", 1, 8, 9)],
            11,
        ),
        # uplink    i.....
        # edge      .001..
        # downlink  ....11
        (
            "preinstalled",
            [("activation", -1, 0, 1)],
            [("execute", 0, 1, 3), ("execute", 1, 3, 4)],
            6,
        ),
    ],
)
def test_everything_at_the_edge(upload, uplink, edge, latency):
    result = simulate(
        predecessors=[[-1], [0]],
        placement=[EDGE, EDGE],
        ue_seconds=[ABSENT, ABSENT],
        edge_seconds=[2, 1],
        parameter_bytes=[2, 3],
        output_bytes=[5, 2],
        input_bytes=1,
        upload=upload,
    )
    assert spans(result, "uplink") == uplink
    assert spans(result, "edge") == edge
    assert spans(result, "downlink") == [("activation", 1, latency - 2, latency)]
    assert spans(result, "ue") == []
    assert result.latency == latency


def test_whole_waits_for_edge_layers_that_miss_something_and_for_no_others():
    # Layer 1 is resident, layer 2 is on the UE and prefetched: only layer 0's two bytes count.
    # uplink    ippffff   f = layer 2, cut
    # edge      ...01..
    # downlink  .....1.
    # ue        ......2
    result = simulate(
        predecessors=[[-1], [0], [1]],
        placement=[EDGE, EDGE, UE],
        ue_seconds=[ABSENT, ABSENT, 1],
        edge_seconds=[1, 1, ABSENT],
        parameter_bytes=[2, 3, 50],
        output_bytes=[1, 1, 1],
        input_bytes=1,
        resident=[False, True, False],
        prefetch=[False, False, True],
        upload="whole",
    )
    assert spans(result, "edge") == [("execute", 0, 3, 4), ("execute", 1, 4, 5)]
    assert result.latency == 7
    assert result.resident == pytest.approx([1, 1, 4 / 50])


RETURN: dict[str, Any] = {
    "parameter_bytes": [0, 2, 0, 6],
    "output_bytes": [2, 1, 2, 1],
    "input_bytes": 9,
    "placement": [UE, EDGE, UE, EDGE],
    "ue_seconds": [1, ABSENT, 1, ABSENT],
    "edge_seconds": [ABSENT, 1, ABSENT, 1],
}


def test_a_placement_that_returns_and_leaves_again():
    #           0         1
    #           01234567890123
    # ue        0.....2.......
    # uplink    p00pqqq22qqq..   p = layer 1, q = layer 3
    # edge      ....1.......3.
    # downlink  .....1.......3
    result = simulate(predecessors=[[-1], [0], [1], [2]], **RETURN)
    assert result.latency == 14
    assert spans(result, "uplink") == [
        ("parameters", 1, 0, 1),
        ("activation", 0, 1, 3),
        ("parameters", 1, 3, 4),
        ("parameters", 3, 4, 7),
        ("activation", 2, 7, 9),
        ("parameters", 3, 9, 12),
    ]
    assert spans(result, "edge") == [("execute", 1, 4, 5), ("execute", 3, 12, 13)]
    assert spans(result, "downlink") == [("activation", 1, 5, 6), ("activation", 3, 13, 14)]
    assert result.resident.tolist() == [1, 1, 1, 1]


def test_the_recursion_by_hand():
    # (t, s): UE (1, 0); up (3, 2); layer 1 s = 4, t = 4 + 1; down and UE t = 7; up (9, 6);
    # layer 3 s = 12, t = 12 + 1; its output comes down: 14.
    rates: dict[str, Any] = {"uplink_bps": ONE_BYTE_PER_S, "downlink_bps": ONE_BYTE_PER_S}
    assert chain_recursion(**RETURN, **rates) == 14
    # With half of layer 3 there already: s = 6 + 3, which is when the activation arrives.
    assert chain_recursion(**RETURN, **rates, resident=[0, 0, 0, 0.5]) == 11


def test_rates_are_bits_per_second():
    result = reference_simulate(
        predecessors=[[-1]],
        placement=[EDGE],
        ue_seconds=[ABSENT],
        edge_seconds=[0.5],
        parameter_bytes=[1_000_000],
        output_bytes=[100_000],
        input_bytes=250_000,
        uplink_bps=10e6,
        downlink_bps=20e6,
    )
    assert result.latency == pytest.approx(0.2 + 0.8 + 0.5 + 0.04, rel=1e-15)


# --- DAGs ----------------------------------------------------------------------------------------


def test_two_branches_at_once():
    #           012345678
    # ue        011111..3
    # uplink    p0pp.....   p = layer 2; layer 0's output goes once
    # edge      ....22...
    # downlink  ......22.
    # Layer 1 and layer 2 are two branches behind layer 0; layer 3 joins them.
    result = simulate(
        predecessors=[[-1], [0], [0], [1, 2]],
        placement=[UE, UE, EDGE, UE],
        ue_seconds=[1, 5, ABSENT, 1],
        edge_seconds=[ABSENT, ABSENT, 2, ABSENT],
        parameter_bytes=[4, 4, 3, 4],
        output_bytes=[1, 1, 2, 1],
        input_bytes=1,
    )
    assert result.latency == 9
    assert spans(result, "ue") == [("execute", 0, 0, 1), ("execute", 1, 1, 6), ("execute", 3, 8, 9)]
    assert spans(result, "edge") == [("execute", 2, 4, 6)]
    assert spans(result, "uplink") == [
        ("parameters", 2, 0, 1),
        ("activation", 0, 1, 2),
        ("parameters", 2, 2, 4),
    ]
    assert spans(result, "downlink") == [("activation", 2, 6, 8)]


@pytest.mark.parametrize(("edge_seconds", "latency"), [(4, 11), (8, 13)])
def test_the_latency_is_that_of_the_last_of_two_sinks(edge_seconds, latency):
    # uplink    ippq         p = layer 0, q = layer 2
    # edge      ...02222     layer 2 to 8 (or 12), its output down to 9 (or 13)
    # downlink  ....00..2
    # ue        ......11111  layer 1 to 11
    result = simulate(
        predecessors=[[-1], [0], [0]],
        placement=[EDGE, UE, EDGE],
        ue_seconds=[ABSENT, 5, ABSENT],
        edge_seconds=[1, ABSENT, edge_seconds],
        parameter_bytes=[2, 0, 1],
        output_bytes=[2, 1, 1],
        input_bytes=1,
    )
    assert result.latency == latency
    end = 4 + edge_seconds
    assert spans(result, "downlink") == [("activation", 0, 4, 6), ("activation", 2, end, end + 1)]


def test_the_downlink_serves_in_production_order():
    # edge      01.....   a network input of no bytes, nothing to upload
    # downlink  .00001.
    # ue        .....23
    result = simulate(
        predecessors=[[-1], [0], [0], [1, 2]],
        placement=[EDGE, EDGE, UE, UE],
        ue_seconds=[ABSENT, ABSENT, 1, 1],
        edge_seconds=[1, 1, ABSENT, ABSENT],
        parameter_bytes=[0, 0, 0, 0],
        output_bytes=[4, 1, 1, 1],
        input_bytes=0,
    )
    assert spans(result, "uplink") == [("activation", -1, 0, 0)]
    assert spans(result, "downlink") == [("activation", 0, 1, 5), ("activation", 1, 5, 6)]
    assert result.latency == 7


def test_activations_queue_in_production_order_ahead_of_parameters():
    # ue        01.......
    # uplink    p00001p..   p = layer 3
    # edge      ......23.   layer 2 reads only layer 1, whose output is sent second
    # downlink  ........3
    result = simulate(
        predecessors=[[-1], [-1], [1], [0, 2]],
        placement=[UE, UE, EDGE, EDGE],
        ue_seconds=[1, 1, ABSENT, ABSENT],
        edge_seconds=[ABSENT, ABSENT, 1, 1],
        parameter_bytes=[0, 0, 0, 2],
        output_bytes=[4, 1, 1, 1],
        input_bytes=1,
    )
    assert spans(result, "uplink") == [
        ("parameters", 3, 0, 1),
        ("activation", 0, 1, 5),
        ("activation", 1, 5, 6),
        ("parameters", 3, 6, 7),
    ]
    assert spans(result, "edge") == [("execute", 2, 6, 7), ("execute", 3, 7, 8)]
    assert result.latency == 9


def test_a_blocked_layer_blocks_its_processor():
    # Layer 2 could run on the UE from the start, but layer 1 comes first in program order.
    # uplink    i.....
    # edge      .00...
    # downlink  ...0..
    # ue        ....12
    result = simulate(
        predecessors=[[-1], [0], [-1]],
        placement=[EDGE, UE, UE],
        ue_seconds=[ABSENT, 1, 1],
        edge_seconds=[2, ABSENT, ABSENT],
        parameter_bytes=[0, 0, 0],
        output_bytes=[1, 1, 1],
        input_bytes=1,
    )
    assert spans(result, "ue") == [("execute", 1, 4, 5), ("execute", 2, 5, 6)]
    assert result.latency == 6


HEAD_OF_LINE: dict[str, Any] = {
    "predecessors": [[-1], [0], [-1], [1, 2]],
    "placement": [UE, EDGE, EDGE, EDGE],
    "ue_seconds": [3, ABSENT, ABSENT, ABSENT],
    "edge_seconds": [ABSENT, 1, 1, 1],
    "parameter_bytes": [0, 2, 2, 0],
    "output_bytes": [1, 1, 1, 1],
    "input_bytes": 1,
}


@pytest.mark.parametrize(
    ("arguments", "uplink", "latency"),
    [
        # uplink    ipp0qq...   p = layer 1, q = layer 2
        # edge      ....1.23.
        # downlink  ........3
        (
            {"upload": "parallel"},
            [
                ("activation", -1, 0, 1),
                ("parameters", 1, 1, 3),
                ("activation", 0, 3, 4),
                ("parameters", 2, 4, 6),
            ],
            9,
        ),
        # Layer 2 reads only the input, but waits behind layer 1.
        # uplink    i..0ppqq...
        # edge      ......1.23.
        # downlink  ..........3
        (
            {"upload": "serial"},
            [
                ("activation", -1, 0, 1),
                ("activation", 0, 3, 4),
                ("parameters", 1, 4, 6),
                ("parameters", 2, 6, 8),
            ],
            11,
        ),
        # Layer 1 is resident, so it has nothing to send and blocks nobody.
        # uplink    iqq0....
        # edge      ....123.
        # downlink  .......3
        (
            {"upload": "serial", "resident": [0, 1, 0, 0]},
            [("activation", -1, 0, 1), ("parameters", 2, 1, 3), ("activation", 0, 3, 4)],
            8,
        ),
    ],
)
def test_serial_release_is_head_of_line(arguments, uplink, latency):
    result = simulate(**HEAD_OF_LINE, **arguments)
    assert spans(result, "uplink") == uplink
    assert result.latency == latency


@pytest.mark.parametrize(("upload", "start"), [("parallel", 1), ("serial", 8)])
def test_serial_release_holds_for_prefetches(upload, start):
    #           0         1
    #           012345678901
    # uplink    p.......ff..   p = layer 0, f = layer 2, released when layer 1 has finished
    # edge      .0..........
    # downlink  ..0.........
    # ue        ...111112222
    result = simulate(
        predecessors=[[-1], [0], [1]],
        placement=[EDGE, UE, UE],
        ue_seconds=[ABSENT, 5, 4],
        edge_seconds=[1, ABSENT, ABSENT],
        parameter_bytes=[1, 0, 2],
        output_bytes=[1, 1, 1],
        input_bytes=0,
        prefetch=[False, False, True],
        upload=upload,
    )
    assert spans(result, "uplink")[-1] == ("prefetch", 2, start, start + 2)
    assert result.latency == 12


@pytest.mark.parametrize("ue_seconds", [5, 6])
def test_an_anomaly_a_faster_ue_makes_the_inference_slower(ue_seconds):
    # Layer 1 is the long edge layer (10 s) and layer 2 joins it with the UE's layer 0, so nobody is
    # in a hurry for layer 0's output. If that comes at 3 it holds up the parameters of layer 1.
    #           0         1         2
    #           01234567890123456789
    # ue        000.................   |  000000...........
    # uplink    ipp000pp............   |  ipppp.000........
    # edge      ........11111111112.   |  .....11111111112.
    # downlink  ...................2   |  ................2
    # At 5 exactly the last byte of layer 1 has just left: no delay either.
    dag: dict[str, Any] = {
        "predecessors": [[-1], [-1], [0, 1]],
        "placement": [UE, EDGE, EDGE],
        "edge_seconds": [ABSENT, 10, 1],
        "parameter_bytes": [0, 4, 0],
        "output_bytes": [3, 1, 1],
        "input_bytes": 1,
    }
    assert simulate(**dag, ue_seconds=[3, ABSENT, ABSENT]).latency == 20
    assert simulate(**dag, ue_seconds=[ue_seconds, ABSENT, ABSENT]).latency == 17


# --- Ties and zeros ------------------------------------------------------------------------------


def test_zero_time_layers_send_before_any_parameters():
    # At 0 the input, layer 0's and layer 1's outputs are all ready, behind two zero-time layers.
    # uplink    i01pp..   p = layer 2
    # edge      .....2.
    # downlink  ......2
    result = simulate(
        predecessors=[[-1], [0], [-1, 0, 1]],
        placement=[UE, UE, EDGE],
        ue_seconds=[0, 0, ABSENT],
        edge_seconds=[ABSENT, ABSENT, 1],
        parameter_bytes=[0, 0, 2],
        output_bytes=[1, 1, 1],
        input_bytes=1,
    )
    assert spans(result, "uplink") == [
        ("activation", -1, 0, 1),
        ("activation", 0, 1, 2),
        ("activation", 1, 2, 3),
        ("parameters", 2, 3, 5),
    ]
    assert spans(result, "ue") == [("execute", 0, 0, 0), ("execute", 1, 0, 0)]
    assert result.latency == 7


def test_an_activation_that_arises_at_once_on_a_detour_still_goes_first():
    # At 2 layer 0's parameters are complete; in no time at all layer 0 runs, its output of no bytes
    # comes down, layer 1 runs and its output is ready: before the parameters of layer 2.
    # uplink    pp1qq..   p = layer 0, q = layer 2
    # edge      .....2.
    result = simulate(
        predecessors=[[-1], [0], [1]],
        placement=[EDGE, UE, EDGE],
        ue_seconds=[ABSENT, 0, ABSENT],
        edge_seconds=[0, ABSENT, 1],
        parameter_bytes=[2, 0, 2],
        output_bytes=[0, 1, 1],
        input_bytes=0,
    )
    assert spans(result, "uplink") == [
        ("activation", -1, 0, 0),
        ("parameters", 0, 0, 2),
        ("activation", 1, 2, 3),
        ("parameters", 2, 3, 5),
    ]
    assert result.latency == 7


def test_a_preemption_for_no_time_leaves_one_interval():
    # Layer 0's output has no bytes: the parameters of layer 1 go on at once.
    result = simulate(
        predecessors=[[-1], [0]],
        placement=[UE, EDGE],
        ue_seconds=[1, ABSENT],
        edge_seconds=[ABSENT, 1],
        parameter_bytes=[0, 3],
        output_bytes=[0, 1],
        input_bytes=0,
    )
    assert spans(result, "uplink") == [("parameters", 1, 0, 3), ("activation", 0, 1, 1)]
    assert result.latency == 5


def test_nothing_takes_any_time():
    result = simulate(
        predecessors=[[-1], [0], [1], [2]],
        placement=[EDGE, UE, EDGE, UE],
        ue_seconds=[0] * 4,
        edge_seconds=[0] * 4,
        parameter_bytes=[0] * 4,
        output_bytes=[0] * 4,
        input_bytes=0,
    )
    assert result.latency == 0
    assert result.resident.tolist() == [1] * 4
    assert len(result.intervals) == 4 + 2 + 2
    assert result.tie_margin == math.inf


def test_the_tie_margin_warns_of_a_race_within_rounding_error():
    # 0.1 + 0.2 and 0.3 are different numbers, so the exact arithmetic sees a pre-emption just
    # before or just after the last byte where rounded arithmetic may see a tie.
    diamond: dict[str, Any] = {
        "predecessors": [[-1], [0], [-1], [1, 2]],
        "placement": [UE, UE, EDGE, EDGE],
        "ue_seconds": [0.1, 0.2, ABSENT, ABSENT],
        "edge_seconds": [ABSENT, ABSENT, 1, 1],
        "output_bytes": [1, 1, 1, 1],
        "input_bytes": 0,
    }
    assert 0 < simulate(**diamond, parameter_bytes=[0, 0, 0.3, 0]).tie_margin < 1e-15
    assert simulate(**diamond, parameter_bytes=[0, 0, 0.2, 0]).tie_margin == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"placement": [0, 1]},
        {"placement": [0, 1, 2]},
        {"predecessors": [[-1], [1], [1]]},
        {"predecessors": [[-1], [-2], [1]]},
        {"upload": "sometimes"},
        {"resident": [1]},
    ],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError):
        simulate(**(MIDDLE | wrong))


# --- The recursion and the laws ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(200))
def test_the_recursion_agrees_on_random_chains(seed):
    rng = np.random.default_rng(seed)
    case = random_case(rng, int(rng.integers(1, 25)), chain=True)
    arguments = simulator_arguments(case)
    for name in ("predecessors", "prefetch", "upload", "until_s"):
        del arguments[name]
    expected = chain_recursion(**arguments)
    assert reference_simulate(**simulator_arguments(case)).latency == pytest.approx(
        expected, rel=1e-9, abs=0
    )


@given(dnn_cases(10, chain=True, modes=("parallel",)))
@settings(max_examples=100, deadline=None)
def test_the_recursion_agrees_on_chains_with_ties(case):
    arguments = simulator_arguments(case)
    for name in ("predecessors", "prefetch", "upload", "until_s"):
        del arguments[name]
    expected = chain_recursion(**arguments)
    latency = reference_simulate(**simulator_arguments(case)).latency
    assert latency == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(dnn_cases(10))
@settings(max_examples=150, deadline=None)
def test_the_laws_of_every_timeline(case):
    """Of messages that cost their bytes only; the recursion checks the others."""
    case = case | {"message_s": 0.0}
    result = reference_simulate(**simulator_arguments(case))
    layers = range(len(case["predecessors"]))
    placement, mode = case["placement"].tolist(), case["upload"]
    executed = {r.layer: r for r in result.intervals if r.what == "execute"}
    up = {r.layer: r for r in result.intervals if r[:2] == ("uplink", "activation")}
    down = {r.layer: r for r in result.intervals if r.resource == "downlink"}
    uploads = [r for r in result.intervals if r.what in ("parameters", "prefetch")]

    # No resource is used twice at one time. (Only intervals of some length can overlap.)
    for resource in ("ue", "edge", "uplink", "downlink"):
        busy = [r for r in result.intervals if r.resource == resource and r.end > r.start]
        assert all(one.end <= other.start for one, other in pairwise(busy))

    # The latency is the end of the last interval, prefetches aside.
    assert result.latency == max(r.end for r in result.intervals if r.what != "prefetch")

    # Every layer executes once, for its time.
    assert sorted(executed) == list(layers)
    for layer, row in executed.items():
        seconds = case["edge_seconds" if placement[layer] == EDGE else "ue_seconds"][layer]
        assert row.resource == ("edge" if placement[layer] == EDGE else "ue")
        assert row.end - row.start == pytest.approx(seconds, abs=1e-12)

    # Exactly the tensors that must move are sent, once.
    readers = {t: [x for x in layers if t in case["predecessors"][x]] for t in (-1, *layers)}
    made_at = dict(enumerate(placement)) | {-1: UE}
    tensor_bytes = dict(enumerate(case["output_bytes"].tolist())) | {-1: case["input_bytes"]}
    moves = [
        ("uplink", up, lambda t: any(placement[x] == EDGE for x in readers[t])),
        ("downlink", down, lambda t: not readers[t] or any(placement[x] == UE for x in readers[t])),
    ]
    for (name, sent, must), side in zip(moves, (UE, EDGE), strict=True):
        assert sorted(sent) == [t for t in (-1, *layers) if made_at[t] == side and must(t)]
        assert sum(r[:2] == (name, "activation") for r in result.intervals) == len(sent)
        for tensor, row in sent.items():
            seconds = tensor_bytes[tensor] * 8 / case[f"{name}_bps"]
            assert row.end - row.start == pytest.approx(seconds, abs=1e-12)

    # The bytes of the parameters: all that the edge misses, and of the rest what was marked.
    moment = result.latency if case["until_s"] is None else case["until_s"]
    round_end = max(result.latency, moment)
    there = np.ones(len(layers)) if mode == "preinstalled" else case["resident"].astype(float)
    there = np.where(case["parameter_bytes"] == 0, 1.0, there)
    finished = dict.fromkeys(layers, 0.0)
    for layer in layers:
        mine = [r for r in uploads if r.layer == layer]
        seconds = case["parameter_bytes"][layer] * 8 / case["uplink_bps"]
        missing = (1 - there[layer]) * seconds
        total = sum(r.end - r.start for r in mine)
        if placement[layer] == EDGE:
            assert {r.what for r in mine} <= {"parameters"}
            assert total == pytest.approx(missing, abs=1e-12)
            finished[layer] = max((r.end for r in mine), default=0.0)
        else:
            assert {r.what for r in mine} <= {"prefetch"}
            assert total <= missing * case["prefetch"][layer] + 1e-12
            assert all(r.end <= round_end for r in mine)
        by_then = sum(max(min(r.end, moment) - r.start, 0.0) for r in mine)
        fraction = there[layer] + (by_then / seconds if by_then else 0.0)
        assert result.resident[layer] == pytest.approx(fraction, abs=1e-9)

    # A layer starts at the very instant at which nothing holds it back any more: precedence holds
    # and no processor idles without a reason.
    ends = {layer: row.end for layer, row in executed.items()} | {-1: 0.0}
    free = {UE: 0.0, EDGE: 0.0}
    for layer in layers:
        side = placement[layer]
        arrivals = [
            ends[t] if made_at[t] == side else (up if side == EDGE else down)[t].end
            for t in case["predecessors"][layer]
        ]
        gate = 0.0
        if side == EDGE:
            gate = max(finished.values()) if mode == "whole" else finished[layer]
        assert executed[layer].start == max(free[side], gate, *arrivals)
        free[side] = executed[layer].end

    # Activations wait for earlier activations in their direction and for nothing else.
    for sent in (up, down):
        sent_until = 0.0
        for tensor in sorted(sent):
            assert sent[tensor].start == max(sent_until, ends[tensor])
            sent_until = sent[tensor].end

    # Parameters go in program order, prefetches last, and the uplink idles only for a release.
    order = [(r.what, r.layer) for r in uploads]
    assert order == sorted(order)
    uplink = [r for r in result.intervals if r.resource == "uplink" and r.end > r.start]
    idle_from = 0.0
    for row in uplink:
        if row.what != "activation":
            released = 0.0
            if mode == "serial":
                released = max(ends[t] for t in case["predecessors"][row.layer])
                assert row.start >= released
            assert row.start == max(idle_from, released)
        idle_from = row.end
    # If a marked layer is not complete, then because the round ended.
    for layer in layers:
        got = sum(r.end - r.start for r in uploads if r.layer == layer)
        missing = (1 - there[layer]) * case["parameter_bytes"][layer] * 8 / case["uplink_bps"]
        if placement[layer] == UE and case["prefetch"][layer] and got < missing - 1e-12:
            released = max(ends[t] for t in case["predecessors"][layer]) if mode == "serial" else 0
            assert max(idle_from, released) == round_end
            break


@given(dnn_cases(10))
@settings(max_examples=50, deadline=None)
def test_an_all_ue_placement_takes_the_sum_of_the_ue_times(case):
    everything_local = np.zeros_like(case["placement"])
    result = reference_simulate(**simulator_arguments(case, placement=everything_local))
    assert result.latency == pytest.approx(case["ue_seconds"].sum(), rel=1e-12)
    assert {r.what for r in result.intervals} <= {"execute", "prefetch"}


@given(dnn_cases(10))
@settings(max_examples=50, deadline=None)
def test_prefetches_delay_nothing(case):
    nothing_marked = simulator_arguments(case, prefetch=None)
    without = reference_simulate(**nothing_marked)
    result = reference_simulate(**simulator_arguments(case))
    assert result.latency == without.latency
    assert [r for r in result.intervals if r.what != "prefetch"] == without.intervals


@given(dnn_cases(10, chain=True))
@settings(max_examples=50, deadline=None)
def test_chains_are_monotone(case):
    latency = reference_simulate(**simulator_arguments(case)).latency
    slack = 1e-9 * (1 + latency)
    for name in ("uplink_bps", "downlink_bps"):
        slower = simulator_arguments(case, **{name: case[name] / 2})
        assert reference_simulate(**slower).latency >= latency - slack
    for name in ("ue_seconds", "edge_seconds"):
        slower = simulator_arguments(case, **{name: case[name] * 1.5})
        assert reference_simulate(**slower).latency >= latency - slack
    for layer in range(len(case["predecessors"])):
        resident = case["resident"].copy()
        resident[layer] = 1.0
        better = simulator_arguments(case, resident=resident)
        assert reference_simulate(**better).latency <= latency + slack


@given(dnn_cases(10, chain=True))
@settings(max_examples=50, deadline=None)
def test_the_modes_are_ordered_on_chains(case):
    latency = {
        mode: reference_simulate(**simulator_arguments(case, upload=mode)).latency
        for mode in UPLOAD_MODES
    }
    slack = 1e-9 * (1 + latency["parallel"])
    assert latency["preinstalled"] <= latency["parallel"] + slack
    assert latency["parallel"] <= latency["serial"] + slack
    assert latency["parallel"] <= latency["whole"] + slack


def test_the_generator_covers_what_it_promises():
    seen = dict.fromkeys(
        ("zero time", "parameter-free", "multi-input", "several sinks", "late input"), 0
    )
    for seed in range(100):
        dnn = random_dnn_arrays(np.random.default_rng(seed), 12)
        rows = dnn["predecessors"]
        assert all(
            row == sorted(set(row)) and row and row[0] >= -1 and row[-1] < layer
            for layer, row in enumerate(rows)
        )
        assert ((dnn["ue_seconds"] == 0) == (dnn["flops"] == 0)).all()
        read = {tensor for row in rows for tensor in row}
        seen["zero time"] += (dnn["flops"] == 0).any()
        seen["parameter-free"] += (dnn["parameter_bytes"] == 0).any()
        seen["multi-input"] += max(map(len, rows)) > 1
        seen["several sinks"] += len(set(range(12)) - read) > 1
        seen["late input"] += any(-1 in row for row in rows[1:])
    assert min(seen.values()) >= 25
