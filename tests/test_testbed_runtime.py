"""Whole inferences over real sockets: right results, the rules of the timing model, residency."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from mjoa_gym import DNN, evaluate, simulate  # noqa: E402
from mjoa_gym.model.simulator import Interval  # noqa: E402
from mjoa_gym.planners import plan_with  # noqa: E402
from mjoa_gym.testbed.connection import EdgeError  # noqa: E402
from mjoa_gym.testbed.measure import (  # noqa: E402
    LayerTimes,
    measure,
    plan_one,
    predict,
    seconds_of,
)
from mjoa_gym.testbed.program import LayeredProgram  # noqa: E402
from mjoa_gym.testbed.settings import UESettings  # noqa: E402
from mjoa_gym.testbed.ue import MeasuredInference  # noqa: E402

from .testbed_helpers import placements, run, toy_server, toy_ue, until  # noqa: E402
from .testbed_network import ToyNetwork, diamond  # noqa: E402

N = 7
MODES = ("parallel", "serial", "whole")


def same(outputs: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    return len(outputs) == len(expected) and all(map(torch.equal, outputs, expected))


def check_laws(
    dnn: DNN, placement: Sequence[int], mode: str, got: MeasuredInference, resident: Sequence[float]
) -> None:
    """What the timing model says must be so, whatever the times were."""
    sides = np.asarray(placement)
    by: dict[str, list[Interval]] = {"ue": [], "edge": [], "uplink": [], "downlink": []}
    for interval in got.timeline:
        by[interval.resource].append(interval)
    slack = 2e-3  # two processes' clocks, and a chunk that has been sent before it was noted
    for lane in by.values():
        assert all(a.end <= b.start + slack for a, b in itertools.pairwise(lane))
    assert [i.layer for i in by["ue"]] == np.flatnonzero(sides == 0).tolist()
    assert [i.layer for i in by["edge"]] == np.flatnonzero(sides).tolist()
    program = LayeredProgram(ToyNetwork(dnn.predecessors, parameterless=[3]))
    ups, downs = program.crossing(placement)
    ends = {(i.resource, i.what, i.layer): i.end for i in got.timeline}  # the last piece's
    sent = [i.layer for i in by["uplink"] if i.what == "activation"]
    assert sorted(set(sent)) == sorted(ups)
    assert [i.layer for i in by["downlink"]] == [n for n in np.flatnonzero(sides) if n in downs]
    stream = list(dict.fromkeys(i.layer for i in by["uplink"] if i.what == "parameters"))
    assert stream == [
        n for n in np.flatnonzero(sides) if dnn.parameter_bytes[n] > 0 and resident[n] < 1
    ]
    executed = {i.layer: i for i in (*by["ue"], *by["edge"])}
    for layer, own in executed.items():
        lane = "uplink" if sides[layer] else "downlink"
        for p in dnn.predecessors[layer]:
            if p >= 0 and sides[p] == sides[layer]:
                assert executed[p].end <= own.start + slack
            elif p >= 0 or sides[layer]:
                assert ends[lane, "activation", p] <= own.start + slack
        needed = stream if mode == "whole" else [layer]
        if sides[layer]:
            for n in set(needed) & set(stream):
                assert ends["uplink", "parameters", n] <= own.start + slack
    if mode == "serial":
        for piece in by["uplink"]:
            if piece.what == "parameters":
                before = [executed[p].end for p in dnn.predecessors[piece.layer] if p >= 0]
                assert max(before, default=0.0) <= piece.start + slack


def test_every_placement_and_mode_gives_the_local_result_and_keeps_the_laws() -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    expected = network.expected(value)

    async def main() -> None:
        rates = {"uplink_bps": 40e6, "downlink_bps": 40e6}
        async with toy_server(network) as server, toy_ue(server.port, network, **rates) as ue:
            for placement in placements(N, 12, seed=1):
                for mode in MODES:
                    await ue.close()  # cold
                    before = await ue.resident() if any(placement) else np.zeros(N)
                    got = await ue.infer((value,), placement, mode)
                    assert got.failure is None
                    assert got.recovered == ()
                    assert same(got.outputs, expected)
                    check_laws(network.dnn, placement, mode, got, before)
            await ue.install()
            assert (await ue.resident() == 1).all()
            for placement in placements(N, 12, seed=2):
                for mode in (*MODES, "preinstalled"):
                    got = await ue.infer((value,), placement, mode)
                    assert same(got.outputs, expected)
                    check_laws(network.dnn, placement, mode, got, np.ones(N))
                    assert not any(i.what == "parameters" for i in got.timeline)

    run(main())


def test_what_is_sent_is_what_the_timing_model_charges() -> None:
    """On a slow link the transfers dominate, so the latency is the simulated one."""
    network = diamond(width=128)
    value = torch.randn(1, network.width)
    program = LayeredProgram(network)
    rate = 20e6

    async def main() -> None:
        settings = {"uplink_bps": rate, "downlink_bps": rate}
        async with toy_server(network) as server, toy_ue(server.port, network, **settings) as ue:
            got = await ue.infer((value,), [1] * N)
            charged = 8 * program.parameter_bytes / rate
            assert got.latency_s > charged
            carried = sum(i.end - i.start for i in got.timeline if i.resource == "uplink")
            total = program.parameter_bytes + program.tensors[-1].total_bytes
            assert carried == pytest.approx(8 * (total + got.overhead_bytes) / rate, rel=1e-6)
            assert got.overhead_bytes < 0.05 * total

    run(main())


def test_activations_go_before_parameters() -> None:
    """A UE layer's output does not wait for the megabytes that are being uploaded."""
    network = ToyNetwork([[-1], [0], [1], [2]], width=256)
    value = torch.randn(1, network.width)

    async def main() -> None:
        rates = {"uplink_bps": 30e6, "ue_slowdown": 200.0}
        async with toy_server(network) as server, toy_ue(server.port, network, **rates) as ue:
            got = await ue.infer((value,), [0, 1, 1, 1])
            lane = [i for i in got.timeline if i.resource == "uplink"]
            kinds = [(i.what, i.layer) for i in lane]
            assert kinds[0] == ("parameters", 1)
            assert ("activation", 0) in kinds
            assert kinds.index(("activation", 0)) < kinds.index(("parameters", 3))

    run(main())


def test_parameters_stay_and_uploads_go_on_where_they_stopped() -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    expected = network.expected(value)

    async def main() -> None:
        async with toy_server(network) as server:
            async with toy_ue(server.port, network, uplink_bps=4e6) as ue:
                first = await ue.infer(
                    (value,), [1, 0, 0, 0, 0, 0, 0], prefetch=[0, 1, 1, 1, 1, 1, 1]
                )
                partial = (first.resident > 0) & (first.resident < 1)
                assert first.resident[0] == 1
                assert first.resident[6] < 1
                later = first.resident
                while later.sum() == first.resident.sum():  # the machine may be busy
                    await ue.infer((value,), [0] * N, prefetch=[1] * N, until_s=0.02)
                    later = await ue.resident()
                assert (later >= first.resident).all()
                assert partial.sum() <= 1
                second = await ue.infer((value,), [1] * N)
                assert same(second.outputs, expected)
                uploaded = sum(
                    i.end - i.start for i in second.timeline if i.what == "parameters"
                ) * 4e6 / 8  # fmt: skip
                missing = ((1 - later) * network.dnn.parameter_bytes).sum()
                assert uploaded == pytest.approx(missing, rel=0.05, abs=500)
                third = await ue.infer((value,), [1] * N)
                assert not any(i.what == "parameters" for i in third.timeline)
                assert (third.resident == 1).all()
            await until(lambda: len(server.sessions) == 0)
            assert server.store.used_bytes == 0

    run(main())


def test_a_prefetch_does_not_hold_up_the_inference_and_goes_on_until_told() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with (
            toy_server(network) as server,
            toy_ue(server.port, network, uplink_bps=4e6) as ue,
        ):
            got = await ue.infer(
                (value,), [1, 0, 0, 0, 0, 0, 0], prefetch=[1] * N, until_s=30.0
            )  # ends when everything is there
            assert (got.resident == 1).all()
            prefetched = [i for i in got.timeline if i.what == "prefetch"]
            assert [i.layer for i in prefetched] == [1, 2, 4, 5, 6]
            assert got.latency_s < prefetched[-1].end

    run(main())


def test_several_ues_with_little_memory_get_right_answers() -> None:
    networks = [diamond(seed=seed) for seed in range(4)]
    size = LayeredProgram(networks[0]).parameter_bytes
    done, turn = asyncio.Barrier(len(networks)), asyncio.Lock()

    async def one(port: int, network: ToyNetwork, seed: int, failures: list[str]) -> None:
        async with toy_ue(port, network, uplink_bps=100e6, edge_slowdown=4.0) as ue:
            for placement in placements(N, 10, seed):
                value = torch.randn(1, network.width)
                got = await ue.infer((value,), placement, MODES[sum(placement) % 3])
                assert same(got.outputs, network.expected(value))
                failures.append(got.failure or "")
            await done.wait()
            async with turn:  # nothing is in use but one's own, so that everybody finds room
                value = torch.randn(1, network.width)
                got = await ue.infer((value,), [1] * N)
                assert got.failure is None
                assert same(got.outputs, network.expected(value))
            await done.wait()  # who leaves gives memory back

    async def main() -> None:
        failures: list[str] = []
        # all seeds have the same program: the parameters differ, and each UE brings its own
        async with toy_server(networks[0], memory_bytes=int(2.2 * size)) as server:
            for network in networks:
                network.offset = networks[0].offset
            await asyncio.gather(
                *(one(server.port, n, seed, failures) for seed, n in enumerate(networks))
            )
            assert server.store.dropped > 0
            await until(lambda: len(server.sessions) == 0)
            assert server.store.used_bytes == 0
        assert all(failure == "" or "no memory" in failure for failure in failures)
        assert "" in failures

    run(main())


def test_memory_drops_the_least_recently_used_layers() -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    program = LayeredProgram(network)
    layer_bytes = program.parameters[0].total_bytes  # type: ignore[union-attr]

    async def main() -> None:
        memory = 3 * layer_bytes + 100
        async with (
            toy_server(network, memory_bytes=memory) as server,
            toy_ue(server.port, network) as ue,
        ):
            for layer in (0, 1, 2):
                await ue.infer((value,), [int(n == layer) for n in range(N)])
            await ue.infer((value,), [1, 0, 0, 0, 0, 0, 0])  # 0 has been used again
            got = await ue.infer((value,), [0, 0, 0, 0, 1, 0, 0])
            assert np.flatnonzero(got.resident).tolist() == [0, 2, 3, 4]  # 3 has no parameters
            refused = await ue.infer((value,), [1] * N)
            assert refused.failure is not None
            assert "no memory" in refused.failure
            assert same(refused.outputs, network.expected(value))
            assert (await ue.infer((value,), [1, 0, 0, 0, 0, 0, 0])).failure is None
            filled = await ue.infer((value,), [0] * N, prefetch=[1] * N, until_s=5.0)
            assert filled.failure is None
            with pytest.raises(EdgeError, match="no memory"):
                await ue.install()

    run(main())


def test_a_prefetched_layer_for_which_there_is_no_room_is_not_sent() -> None:
    network = ToyNetwork([[-1], [0], [1]], width=256)
    value = torch.randn(1, network.width)
    layer_bytes = LayeredProgram(network).parameters[0].total_bytes  # type: ignore[union-attr]

    async def main() -> None:
        async with (
            toy_server(network, memory_bytes=layer_bytes) as server,
            toy_ue(server.port, network, uplink_bps=8e6) as ue,
        ):
            got = await ue.infer((value,), [0] * 3, prefetch=[1] * 3, until_s=10.0)
            assert got.failure is None
            assert got.resident.tolist() == [1, 0, 0]
            (session,) = server.sessions
            assert session.reader.payload_bytes < 2 * layer_bytes

    run(main())


def test_preinstalled_needs_what_it_says() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as ue:
            got = await ue.infer((value,), [1] * N, "preinstalled")
            assert got.failure is not None
            assert "not at the server" in got.failure
            assert same(got.outputs, network.expected(value))
            await ue.install([0, 1])
            assert (await ue.infer((value,), [1, 1, 0, 0, 0, 0, 0], "preinstalled")).failure is None

    run(main())


TIMES = LayerTimes(np.linspace(0.01, 0.02, N), np.linspace(0.001, 0.002, N), message_s=0.003)


def test_layer_times_are_measured_on_both_sides() -> None:
    network = diamond()
    value = torch.randn(1, network.width)
    predict(TIMES.instance(network.dnn, 1e6, 1e6), np.ones(N))  # compiles, perhaps for a minute

    async def main() -> None:
        slow = {"ue_slowdown": 5.0, "edge_slowdown": 2.0}
        async with toy_server(network) as server, toy_ue(server.port, network, **slow) as ue:
            times = await measure(ue, (value,), repeats=1)
            assert (times.ue_s > 0).all()
            assert (times.edge_s > 0).all()
            assert 0 < times.message_s < 1
            assert not ue.connected
            got = await ue.infer((value,), [0] * N)
            seconds = seconds_of(got.timeline, "ue", N)
            assert 0 < seconds.sum() <= got.latency_s + 1e-9  # waking up takes time, too

    run(main())


@pytest.mark.parametrize("message_s", [0.003, 0.0])
@pytest.mark.parametrize("rates", [(40e6, 80e6), (80e6, 10e6), (float("inf"), 1e9)])
def test_planners_see_what_is_predicted(message_s: float, rates: tuple[float, float]) -> None:
    known, dnn = replace(TIMES, message_s=message_s), diamond().dnn
    instance = known.instance(dnn, *rates)
    placement, marks = asyncio.run(plan_one("edge-only", instance))
    assert placement.all()
    assert not marks.any()
    told = evaluate(instance, plan_with("edge-only", instance))[0]
    own = simulate(dnn, placement, known.ue_s, known.edge_s, *rates, message_s=message_s)
    assert told == pytest.approx(predict(instance, placement).latency, rel=1e-12)
    assert told == pytest.approx(own.latency, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"uplink_bps": 0}, "uplink_bps=0"),
        ({"downlink_bps": -1}, "downlink_bps=-1"),
        ({"ue_slowdown": 0.5}, "ue_slowdown=0.5"),
        ({"edge_slowdown": float("inf")}, "edge_slowdown=inf"),
        ({"stall_s": 0}, "stall_s=0"),
    ],
)
def test_settings_are_checked(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UESettings("t", 1, **arguments)  # type: ignore[arg-type]


def test_inputs_and_placements_are_checked() -> None:
    network = diamond()
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as ue:
            with pytest.raises(ValueError, match="placement"):
                await ue.infer((value,), [1])
            with pytest.raises(ValueError, match="upload"):
                await ue.infer((value,), [1] * N, "paralel")
            with pytest.raises(ValueError, match="prefetch"):
                await ue.infer((value,), [1] * N, prefetch=[2] * N)
            with pytest.raises(ValueError, match="input"):
                await ue.infer((value[:, 1:],), [0] * N)

    run(main())


def test_crossing_tensors_are_those_of_the_simulator() -> None:
    network = diamond()
    program = LayeredProgram(network)
    ones = np.ones(N)
    for placement in placements(N, 60, seed=3):
        ups, downs = program.crossing(placement)
        shown = simulate(network.dnn, placement, ones, ones, 1e6, 1e6).by_resource
        activations = {i.layer for i in shown["uplink"] if i.what == "activation"}
        assert activations == set(ups)
        assert {i.layer for i in shown["downlink"]} == set(downs)


def test_the_network_is_the_one_that_the_tests_assume() -> None:
    dnn = diamond().dnn
    assert dnn.n_layers == N
    assert np.flatnonzero(dnn.parameter_bytes == 0).tolist() == [3]
    assert np.flatnonzero(dnn.is_sink).tolist() == [6]
    assert any(len(read) > 1 for read in dnn.predecessors)
