"""Measures what planners and the simulator need: layer times and the cost of a message.

Layers are measured where they will run, by the executor that will run them. The UE's times come
from inferences with all layers on the UE, the server's from inferences with all layers at the edge
and all parameters installed before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.execution.layered_model import Bundle
from mjoa_gym.model.instance import UE, Instance, Plan, timelines
from mjoa_gym.model.simulator import Interval, Timeline
from mjoa_gym.planners import plan_with
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.connection import EdgeError
from mjoa_gym.testbed.transmitter import CHUNK_S
from mjoa_gym.testbed.ue import Pacing, UserEquipment

WARM_UPS = 2


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """Layer times, medians over inferences, and the cost of a message.

    Attributes:
        ue_s: (L,) seconds of each layer on the UE.
        edge_s: (L,) seconds of each layer on the UE's share of the server.
        message_s: Seconds that a message takes in addition to its bytes at the link's rate. If all
            layers are at the edge, one message goes up and one comes down, so it is half of the
            time by which such an inference takes longer than simulated.
    """

    ue_s: NDArray[np.float64]
    edge_s: NDArray[np.float64]
    message_s: float

    def instance(
        self,
        dnn: DNN,
        uplink_bps: float,
        downlink_bps: float,
        resident: ArrayLike | None = None,
        upload: str = "parallel",
    ) -> Instance:
        """Return the problem for a planner: one UE with these rates in bits per second."""
        ue = UE(
            dnn, self.ue_s, self.edge_s, resident=resident, uplink_bps=uplink_bps,
            downlink_bps=downlink_bps,
        )  # fmt: skip
        return Instance([ue], upload=upload, message_s=self.message_s)


def seconds_of(intervals: Sequence[Interval], resource: str, n_layers: int) -> NDArray[np.float64]:
    """Return (L,) seconds that layers took on "ue" or "edge", 0 if they did not run there."""
    seconds = np.zeros(n_layers)
    for interval in intervals:
        if interval.resource == resource and interval.what == "execute":
            seconds[interval.layer] = interval.end - interval.start
    return seconds


async def measure_ue(ue: UserEquipment, inputs: Bundle, repeats: int) -> NDArray[np.float64]:
    """Return (L,) median seconds of the layers on the UE; two warm-ups do not count."""
    n = ue.program.dnn.n_layers
    runs = [await ue.infer(inputs, np.zeros(n)) for _ in range(WARM_UPS + repeats)]
    rows = [seconds_of(run.timeline, "ue", n) for run in runs[WARM_UPS:]]
    return np.median(rows, axis=0).astype(float)


async def measure_message(ue: UserEquipment, repeats: int = 20) -> float:
    """Return the least seconds that a message costs, which a UE can measure without a share.

    That is half the time of a question to the server and its answer, plus half the time of a
    chunk, which may be ahead of the message. Copies and threads that wake each other cost more time
    in addition. The connection is closed afterwards.
    """
    seconds = []
    for _ in range(repeats):
        start = now()
        await ue.resident()
        seconds.append(now() - start)
    await ue.close()
    return float(np.median(seconds)) / 2 + CHUNK_S / 2


async def measure_edge(
    ue: UserEquipment, inputs: Bundle, repeats: int
) -> tuple[NDArray[np.float64], float]:
    """Return (L,) median seconds of the layers at the server, and `message_s`.

    Two warm-ups do not count. The server has nothing of the network afterwards.

    Raises:
        EdgeError: If the server fails.
    """
    dnn, s = ue.program.dnn, ue.settings
    everything = np.ones(dnn.n_layers)
    await ue.install()
    rows, overheads = [], []
    for _ in range(WARM_UPS + repeats):
        run = await ue.infer(inputs, everything, "preinstalled")
        if run.failure is not None:
            raise EdgeError(run.failure)
        rows.append(seconds_of(run.timeline, "edge", dnn.n_layers))
        times = LayerTimes(rows[-1], rows[-1], 0.0)  # of this inference
        ideal = times.instance(dnn, s.uplink_bps, s.downlink_bps, upload="preinstalled")
        overheads.append(run.latency_s - predict(ideal, everything).latency)
    await ue.close()
    edge_s = np.median(rows[WARM_UPS:], axis=0).astype(float)
    return edge_s, max(0.0, float(np.median(overheads[WARM_UPS:]))) / 2


async def measure(
    ue: UserEquipment, inputs: Bundle, repeats: int = 3, paced: bool = False
) -> LayerTimes:
    """Measure all layer times and the cost of a message.

    If `paced`, the layers count with the measured times from now on, and the cost of a message is
    measured again with paced layers.

    Raises:
        EdgeError: If the server fails.
    """
    ue_s = await measure_ue(ue, inputs, repeats)
    edge_s, message_s = await measure_edge(ue, inputs, repeats)
    if paced:
        ue.pacing = Pacing(ue_s.tolist(), edge_s.tolist())
        _, message_s = await measure_edge(ue, inputs, repeats)
    return LayerTimes(ue_s, edge_s, message_s)


def predict(
    instance: Instance, placement: ArrayLike, prefetch: ArrayLike | None = None
) -> Timeline:
    """Simulate the inference of an instance's only UE, with the whole band and server."""
    marks = None if prefetch is None else [prefetch]
    return timelines(instance, Plan([placement], [1.0], [1.0], marks))[0]


async def plan_one(name: str, instance: Instance) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return a planner's placement and its prefetched layers, both (L,), for one UE.

    The planner runs in a thread, because its first call may compile for a minute.
    """
    plan = await asyncio.to_thread(plan_with, name, instance)
    placement = plan.placements[0]
    marks = np.zeros_like(placement) if plan.prefetch is None else plan.prefetch[0]
    return placement, marks
