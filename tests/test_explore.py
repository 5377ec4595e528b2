"""One UE's comparison: latencies are what the simulator says of the plans, at the given rates."""

from dataclasses import replace

import numpy as np
import pytest

from mjoa_gym import DNN, UE, Instance, evaluate, simulate
from mjoa_gym.devices import load_device
from mjoa_gym.evaluation.exploration import (
    EDGE,
    LOCAL,
    NOT_FOR_ONE_UE,
    OURS,
    answers_of,
    latencies_against,
    one_ue_planners,
    placement_text,
    with_faster_network,
    with_faster_server,
)
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.model.instance import packed_link
from mjoa_gym.planners import plan_with, planner_names

UP, DOWN = 37e6, 3.3e6
DNN_ = DNN.load("squeezenet1_1")
UE_S, EDGE_S = (load_device(name).seconds(DNN_) for name in ("odroid-xu4", "server-gpu"))
RESIDENT = (np.arange(DNN_.n_layers) % 3 == 0).astype(float)


def problem(**changes):
    arguments = {"uplink_bps": UP, "downlink_bps": DOWN, "resident": RESIDENT, **changes}
    rest = {key: arguments.pop(key) for key in ("upload", "message_s") if key in arguments}
    return Instance([UE(DNN_, UE_S, EDGE_S, **arguments)], **rest)


@pytest.fixture(scope="module")
def answers():
    return answers_of(problem(), uploads=UPLOAD_MODES)


@pytest.mark.parametrize("up", [1e3, 37e6, 1e10])
@pytest.mark.parametrize("down", [1e3, 37e6, 1e10])
def test_at_full_share_the_rates_are_those_given(up, down):
    link = packed_link(problem(uplink_bps=up, downlink_bps=down).packed, 0, 1.0, 1.0)
    assert (link.up, link.down) == (8 / up, 8 / down)


def test_every_planner_is_asked_or_named_as_left_out():
    asked = one_ue_planners()
    assert asked[:2] == (LOCAL, EDGE)
    assert OURS in asked
    left_out = {name for name in planner_names() if name not in asked}
    assert left_out == {*NOT_FOR_ONE_UE, *(n for n in planner_names() if "+" in n)}


def test_latencies_are_those_of_the_simulator_at_the_given_rates(answers):
    assert set(answers) == {(m, p) for m in UPLOAD_MODES for p in one_ue_planners()}
    for (upload, planner), answer in answers.items():
        marks = None if answer.plan.prefetch is None else answer.plan.prefetch[0]
        expected = simulate(
            DNN_, answer.placement, UE_S, EDGE_S, UP, DOWN, RESIDENT, upload, prefetch=marks
        )
        assert answer.latency_s == pytest.approx(expected.latency, rel=1e-9), (upload, planner)
        assert len(answer.timeline.intervals) == len(expected.intervals)
        assert evaluate(answer.instance, answer.plan)[0] == answer.latency_s


def test_every_planner_planned_for_the_mode_that_it_is_measured_in(answers):
    for (upload, planner), answer in answers.items():
        plan = plan_with(planner, problem(upload=upload))
        assert np.array_equal(plan.placements[0], answer.placement)


def test_gains_are_against_everything_on_the_ue(answers):
    local_s = UE_S.sum()
    for answer in answers.values():
        assert answer.gain_s == pytest.approx(local_s - answer.latency_s, abs=1e-12)
        assert answer.gain == pytest.approx(1 - answer.latency_s / local_s, abs=1e-12)
    assert answers["parallel", LOCAL].gain_s == 0.0
    assert answers["parallel", OURS].gain > 0.05
    assert answers["parallel", EDGE].placement.all()


def test_uploaded_bytes_are_what_the_uplink_carries(answers):
    for answer in answers.values():
        seconds = sum(
            i.end - i.start for i in answer.timeline.by_resource["uplink"] if i.what == "parameters"
        )
        assert answer.uploaded_bytes == pytest.approx(seconds * UP / 8, rel=1e-8, abs=1e-6)


def test_the_default_mode_is_the_instances():
    assert set(answers_of(problem(upload="serial"), [LOCAL])) == {("serial", LOCAL)}


def test_sweeps_change_what_they_say_and_planners_plan_anew():
    planners = [LOCAL, OURS]
    factors = [0.25, 1.0, 8.0]
    networks = [with_faster_network(problem(), factor) for factor in factors]
    servers = [with_faster_server(problem(), factor) for factor in factors]
    faster = latencies_against(networks, planners)
    stronger = latencies_against(servers, planners)
    for k, factor in enumerate(factors):
        network = problem(uplink_bps=UP * factor, downlink_bps=DOWN * factor)
        placement = plan_with(OURS, network).placements[0]
        there = simulate(
            DNN_, placement, UE_S, EDGE_S, UP * factor, DOWN * factor, RESIDENT
        ).latency
        assert faster[OURS][k] == pytest.approx(there, rel=1e-9)
        (ue,) = problem().ues
        server = Instance([replace(ue, edge_seconds=EDGE_S / factor)])
        placement = plan_with(OURS, server).placements[0]
        there = simulate(DNN_, placement, UE_S, EDGE_S / factor, UP, DOWN, RESIDENT).latency
        assert stronger[OURS][k] == pytest.approx(there, rel=1e-9)
        assert faster[LOCAL][k] == stronger[LOCAL][k] == pytest.approx(UE_S.sum())


def test_progress_sees_every_step():
    seen = []

    def watch(steps):
        for step in steps:
            seen.append(step)
            yield step

    answers_of(problem(), [LOCAL, EDGE], ["serial"], watch)
    latencies_against([problem()] * 2, [LOCAL], watch)
    assert seen == [("serial", LOCAL), ("serial", EDGE), (0, LOCAL), (1, LOCAL)]


@pytest.mark.parametrize(
    ("placement", "text"),
    [
        ([0, 0, 0], "all on the UE"),
        ([1, 1], "all on the edge"),
        ([1], "all on the edge"),
        ([0, 0, 1, 0], "UE 0-1, edge 2, UE 3"),
        ([1, 0, 1, 0, 0], "edge 0, UE 1, and 2 more"),
    ],
)
def test_placements_are_written_as_ranges(placement, text):
    assert placement_text(placement, 3 if len(placement) < 5 else 2) == text


def test_a_placement_can_be_read_back_from_its_ranges():
    sides = np.random.default_rng(0).integers(2, size=40)
    read = np.full(40, -1)
    for part in placement_text(sides).split(", "):
        side, _, span = part.partition(" ")
        first, _, last = span.partition("-")
        read[int(first) : int(last or first) + 1] = side == "edge"
    assert np.array_equal(read, sides)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uplink_bps": -1.0}, "uplink_bps=-1"),
        ({"downlink_bps": -float("inf")}, "downlink_bps=-inf"),
        ({"uplink_bps": float("nan")}, "uplink_bps=nan"),
        ({"upload": "sideways"}, "upload='sideways'"),
        ({"resident": [2.0] * DNN_.n_layers}, "resident"),
    ],
)
def test_bad_inputs_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        problem(**changes)


def test_bad_questions_are_named():
    ue = UE(DNN_, UE_S, EDGE_S, 1, 1)
    with pytest.raises(ValueError, match="2 UEs"):
        answers_of(Instance([ue, ue], 1e6))
    with pytest.raises(ValueError, match=r"planner='mjoa': .*did you mean 'mjoa-mu'"):
        answers_of(problem(), ["mjoa"])
    with pytest.raises(ValueError, match="planners is empty"):
        latencies_against([problem()], [])
    with pytest.raises(ValueError, match="upload='none'"):
        answers_of(problem(), [LOCAL], ["none"])
    with pytest.raises(ValueError, match="factor=0"):
        with_faster_server(problem(), 0)
