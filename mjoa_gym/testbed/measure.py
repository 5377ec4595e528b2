"""What a planner and the simulator need to know about a testbed: layer times, and an instance.

Layers are measured where they will run, by the executor that will run them: the UE's in inferences
that stay on the UE, the server's in inferences of the whole network at the edge, installed before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym import DNN, Instance, simulate
from mjoa_gym.evaluation import explore
from mjoa_gym.execution.layered_model import Bundle
from mjoa_gym.model.link import BITS_PER_BYTE
from mjoa_gym.model.simulator import Interval, Timeline
from mjoa_gym.planners import plan_with
from mjoa_gym.testbed.connection import EdgeError
from mjoa_gym.testbed.ue import UserEquipment

WARM_UPS = 2
FASTEST_BPS = 1e12
"""What planners and the simulator are told of a link without shaping."""


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """Medians over inferences.

    Attributes:
        ue_s: (L,) seconds of each layer on the UE.
        edge_s: (L,) seconds of each layer on the UE's share of the server.
        message_s: Seconds that a tensor takes to the other side beside its bytes at the link's
            rate: what a query at the edge took longer than simulated, a half for each of its two.
    """

    ue_s: NDArray[np.float64]
    edge_s: NDArray[np.float64]
    message_s: float


def seconds_of(intervals: Sequence[Interval], resource: str, n_layers: int) -> NDArray[np.float64]:
    """(L,) seconds that layers have taken on "ue" or "edge"; 0 for those that did not run there."""
    seconds = np.zeros(n_layers)
    for interval in intervals:
        if interval.resource == resource and interval.what == "execute":
            seconds[interval.layer] = interval.end - interval.start
    return seconds


async def measure_ue(ue: UserEquipment, inputs: Bundle, repeats: int) -> NDArray[np.float64]:
    """(L,) median seconds of the layers on the UE."""
    n = ue.program.dnn.n_layers
    runs = [await ue.infer(inputs, np.zeros(n)) for _ in range(WARM_UPS + repeats)]
    return _median([seconds_of(run.timeline, "ue", n) for run in runs[WARM_UPS:]])


async def measure_edge(
    ue: UserEquipment, inputs: Bundle, repeats: int
) -> tuple[NDArray[np.float64], float]:
    """(L,) median seconds of the layers at the server, and `message_s`.

    The server has nothing of the network afterwards.

    Raises:
        EdgeError: If the server fails meanwhile.
    """
    dnn, s = ue.program.dnn, ue.settings
    everything = np.ones(dnn.n_layers)
    await ue.install()
    rows: list[NDArray[np.float64]] = []
    overheads: list[float] = []
    for _ in range(WARM_UPS + repeats):
        run = await ue.infer(inputs, everything, "preinstalled")
        if run.failure is not None:
            raise EdgeError(run.failure)
        rows.append(seconds_of(run.timeline, "edge", dnn.n_layers))
        ideal = simulate(
            dnn, everything, rows[-1], rows[-1], s.uplink_bps, s.downlink_bps, upload="preinstalled"
        )
        overheads.append(run.latency_s - ideal.latency)
    await ue.close()
    messages = 1 + int(dnn.is_sink.sum())
    return _median(rows[WARM_UPS:]), max(0.0, float(np.median(overheads[WARM_UPS:]))) / messages


async def measure(ue: UserEquipment, inputs: Bundle, repeats: int = 3) -> LayerTimes:
    """Everything."""
    ue_s = await measure_ue(ue, inputs, repeats)
    return LayerTimes(ue_s, *await measure_edge(ue, inputs, repeats))


def with_messages(
    dnn: DNN,
    message_s: float,
    uplink_bps: float,
    downlink_bps: float,
    placement: ArrayLike | None = None,
) -> DNN:
    """The network with tensors that are larger by what a message costs beside its bytes.

    Simulating it under `placement` charges `message_s` for each tensor that changes sides. A
    planner does not know yet which way a tensor will go; without `placement` a layer's output is
    charged so that going up and coming down cost twice `message_s` together.
    """
    rates = np.full(dnn.n_layers, 2.0 / (1.0 / uplink_bps + 1.0 / downlink_bps))
    if placement is not None:
        rates = np.where(np.asarray(placement) == 1, downlink_bps, uplink_bps)
    return DNN(
        dnn.name,
        dnn.flops,
        dnn.parameter_bytes,
        dnn.output_bytes + message_s * rates / BITS_PER_BYTE,
        dnn.predecessors,
        dnn.input_bytes + message_s * uplink_bps / BITS_PER_BYTE,
        dnn.kinds,
        dnn.layer_names,
    )


def predict(
    dnn: DNN,
    placement: ArrayLike,
    times: LayerTimes,
    uplink_bps: float,
    downlink_bps: float,
    resident: ArrayLike | None = None,
    upload: str = "parallel",
    prefetch: ArrayLike | None = None,
) -> Timeline:
    """An inference as the simulator sees it, with measured layer times and messages."""
    rates = _finite(uplink_bps, downlink_bps)
    charged = with_messages(dnn, times.message_s, *rates, placement)
    return simulate(
        charged, placement, times.ue_s, times.edge_s, *rates, resident, upload, prefetch
    )


def one_ue_instance(
    dnn: DNN,
    times: LayerTimes,
    uplink_bps: float,
    downlink_bps: float,
    resident: ArrayLike | None = None,
    upload: str = "parallel",
) -> Instance:
    """The problem that planners are asked to solve: one UE, whose links have just these rates.

    Messages are charged (`with_messages`); else plans send many small tensors to and fro.
    """
    rates = _finite(uplink_bps, downlink_bps)
    charged = with_messages(dnn, times.message_s, *rates)
    return explore.one_ue_instance(charged, times.ue_s, times.edge_s, *rates, resident, upload)


async def plan_one(name: str, instance: Instance) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """A planner's placement, and the layers that it prefetches.

    Planned in a thread, because a planner's first call may compile for a minute.
    """
    plan = await asyncio.to_thread(plan_with, name, instance)
    placement = plan.placements[0]
    marks = np.zeros_like(placement) if plan.prefetch is None else plan.prefetch[0]
    return placement, marks


def _finite(uplink_bps: float, downlink_bps: float) -> tuple[float, float]:
    return min(uplink_bps, FASTEST_BPS), min(downlink_bps, FASTEST_BPS)


def _median(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(np.median(rows, axis=0))
