"""Runs the grid: measures layer times, calls planners, executes plans and records latencies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from comparison.kept import COLD
from comparison.measurements import JOINS, GridCell, Measurement, MeasurementStore
from mjoa_gym.dnn import DNN
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model.link import BITS_PER_BYTE
from mjoa_gym.model.simulator import Timeline
from mjoa_gym.testbed import clock
from mjoa_gym.testbed.commands import close
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.measure import LayerTimes, measure, plan_one, predict, seconds_of
from mjoa_gym.testbed.models import program_of
from mjoa_gym.testbed.namespace import ShapedNamespace, shaped_namespace
from mjoa_gym.testbed.processes import ServerProcess, cores, server_process
from mjoa_gym.testbed.settings import UESettings
from mjoa_gym.testbed.ue import MeasuredInference, Pacing, UserEquipment

MEGA = 1e6
FAST_MBPS = 10_000.0
"""Rate of the operating system's links while nothing that depends on them is measured."""
MEASURING_MBPS = 1000.0
TIMELINE_RATE_MBPS = 100.0


class Planned(NamedTuple):
    """A planner's answer, and the part of its input that changes between queries."""

    placement: NDArray[np.int8]  # (L,) 0 = UE
    resident: NDArray[np.float64] | None  # (L,) fractions of parameters at the server, if any
    marks: NDArray[np.int8]  # (L,) whether the layer is prefetched


@dataclass(eq=False)
class ModelRun:
    """One network with its program on the UE, its layer times and its local result."""

    model: str
    server: ServerProcess
    executor: Executor
    store: MeasurementStore
    namespace: ShapedNamespace | None

    def __post_init__(self) -> None:
        self.grid = self.store.grid
        self.program, self.inputs = program_of(self.model, {})
        self.dnn = self.program.dnn
        self.times: LayerTimes
        self.pacing: Pacing | None = None  # set once there are layer times, if layers are paced
        self.expected: Any = None

    def ue(self, rate_mbps: float) -> UserEquipment:
        """Make a UE with links of this rate."""
        settings = UESettings(
            self.server.token,
            self.server.port,
            self.server.host,
            model=self.model,
            uplink_bps=rate_mbps * MEGA,
            downlink_bps=rate_mbps * MEGA,
            ue_slowdown=self.grid.ue_slowdown,
            shaped_below=self.namespace is not None,
            edge_slowdown=self.grid.edge_slowdown,
            certificate=self.server.certificate,
            stall_s=30.0,  # a busy machine is no reason to abort a measurement
        )
        return UserEquipment(self.program, self.executor, settings, self.pacing)

    def shape(self, rate_mbps: float) -> None:
        """Set the rate of the links, if the operating system shapes them."""
        if self.namespace is not None:
            self.namespace.shape(rate_mbps * MEGA, rate_mbps * MEGA)

    async def measure(self, when: str) -> None:
        """Measure layer times on both sides, and compute the expected result.

        If layers are paced, their first measured times count.
        """
        if self.pacing is not None:
            return
        self.shape(MEASURING_MBPS)  # message_s is the time besides bytes at this rate
        ue = self.ue(MEASURING_MBPS)
        self.expected = (await ue.infer(self.inputs, np.zeros(self.dnn.n_layers))).outputs
        times = await measure(ue, self.inputs, self.grid.profile_repeats, self.grid.paced)
        self.times, self.pacing = times, ue.pacing
        note = {"when": when, "date": time.strftime("%Y-%m-%d %H:%M:%S")}
        note |= {"ue_s": times.ue_s.tolist(), "edge_s": times.edge_s.tolist()}
        self.store.keep(model=self.model, layer_times=note | {"message_s": times.message_s})

    def predicted(
        self, cell: GridCell, planned: Planned, times: LayerTimes, dnn: DNN | None = None
    ) -> Timeline:
        """Simulate the inference of a cell, with `dnn` in place of the network if it is given."""
        rate = cell.rate_mbps * MEGA
        instance = times.instance(dnn or self.dnn, rate, rate, planned.resident, cell.upload)
        return predict(instance, planned.placement, planned.marks)

    def own_times(self, got: MeasuredInference) -> LayerTimes:
        """Return an inference's own layer times, and those measured before for other layers."""
        n, before = self.dnn.n_layers, self.times
        ue_s, edge_s = (seconds_of(got.timeline, side, n) for side in ("ue", "edge"))
        return LayerTimes(
            np.where(ue_s > 0, ue_s, before.ue_s),
            np.where(edge_s > 0, edge_s, before.edge_s),
            before.message_s,
        )

    async def cold(self, cells: Sequence[GridCell], shown: Any) -> list[Measurement]:
        """Return the rows of cold cells of one rate; a progress bar shows the current cell.

        All plans are executed once, then all once more and so on, so that a machine that is slow
        for some seconds slows all plans down rather than all repeats of one plan.
        """
        plans = {cell: await self._plan(cell) for cell in cells}
        rows = {cell: self._row(cell, 1, planned) for cell, planned in plans.items()}
        first: dict[tuple[str, str], GridCell] = {}
        for cell in cells:
            first.setdefault(_plan_of(rows[cell]), cell)
        runs: dict[GridCell, list[MeasuredInference]] = {
            c: [] for c in first.values() if rows[c].predicted_s <= self.grid.cap_s
        }
        for _ in range(self.grid.repeats):
            for cell, had in runs.items():
                if sum(run.latency_s for run in had) < self.grid.repeat_s:
                    shown.set_postfix_str(_name(cell))
                    had.append(await self._execute(cell, plans[cell]))
        for cell, had in runs.items():
            rows[cell] = self._filled(rows[cell], plans[cell], had)
            self._keep_timeline(cell, plans[cell], had[-1])
        return [_like(rows[cell], rows[first[_plan_of(rows[cell])]]) for cell in cells]

    async def _plan(self, cell: GridCell, resident: NDArray[np.float64] | None = None) -> Planned:
        if cell.planner == JOINS:
            joins = [len(read) > 1 for read in self.dnn.predecessors]
            placement = 1 - np.array(joins, dtype=np.int8)
            return Planned(placement, None, np.zeros_like(placement))
        rate = cell.rate_mbps * MEGA
        instance = self.times.instance(self.dnn, rate, rate, resident, cell.upload)
        placement, marks = await plan_one(cell.planner, instance)
        return Planned(placement, resident, marks)

    async def _execute(self, cell: GridCell, planned: Planned) -> MeasuredInference:
        """Run an inference with a server that holds only preinstalled parameters."""
        placement, _, marks = planned
        async with self.ue(cell.rate_mbps) as ue:  # then the server deletes its parameters
            if cell.upload == "preinstalled" and placement.any():
                self.shape(FAST_MBPS)
                await ue.install(list(self.program.to_upload(placement.tolist())))
            self.shape(cell.rate_mbps)
            return await ue.infer(self.inputs, placement, cell.upload, marks)

    async def queries(self, cell: GridCell) -> list[Measurement]:
        """Return the rows of queries between which parameters stay."""
        self.shape(cell.rate_mbps)
        rows: list[Measurement] = []
        async with self.ue(cell.rate_mbps) as ue:
            for query in range(1, self.grid.queries + 1):
                planned = await self._plan(cell, await ue.resident())
                row = self._row(cell, query, planned)
                if row.predicted_s > self.grid.cap_s:
                    return [*rows, row]
                got = await ue.infer(self.inputs, planned.placement, cell.upload, planned.marks)
                rows.append(self._filled(row, planned, [got]))
        return rows

    def _row(self, cell: GridCell, query: int, planned: Planned) -> Measurement:
        placement = "".join(map(str, planned.placement.tolist()))
        bytes_only = replace(self.times, message_s=0.0)
        dnn = self.dnn
        more = self.times.message_s * cell.rate_mbps * MEGA / BITS_PER_BYTE  # keeps a link busy
        larger = replace(
            dnn, output_bytes=dnn.output_bytes + more, input_bytes=dnn.input_bytes + more
        )
        cases = (self.times, dnn), (bytes_only, dnn), (bytes_only, larger)
        seconds = (self.predicted(cell, planned, *case).latency for case in cases)
        return Measurement(*asdict(cell).values(), query, placement, *seconds)

    def _filled(
        self, row: Measurement, planned: Planned, runs: list[MeasuredInference]
    ) -> Measurement:
        own = [self.predicted(row, planned, self.own_times(run)).latency for run in runs]
        seconds = np.array([run.latency_s for run in runs])
        middle = float(np.median(seconds))
        spread = float(np.median(np.abs(seconds - middle))) / middle if len(runs) > 1 else np.nan
        return replace(
            row,
            own_times_s=float(np.median(own)),
            measured_s=middle,
            noise=spread,
            overruns=sum(run.overruns for run in runs),
            runs=len(runs),
            correct=all(close(run.outputs, self.expected) for run in runs),
            failure="; ".join(run.failure for run in runs if run.failure is not None),
            overhead_bytes=max(run.overhead_bytes for run in runs),
        )

    def _keep_timeline(self, cell: GridCell, planned: Planned, got: MeasuredInference) -> None:
        """Save the timeline of the last planner's first partial parallel plan at a medium rate."""
        if (
            self.store.timeline is None
            and (cell.planner, cell.upload) == (self.grid.planners[-1], "parallel")
            and 0 < planned.placement.sum() < len(planned.placement)
            and cell.rate_mbps >= min(TIMELINE_RATE_MBPS, max(self.grid.rates_mbps))
        ):
            expected = self.predicted(cell, planned, self.times)
            content = {
                "model": cell.model,
                "rate_mbps": cell.rate_mbps,
                "predicted": {"latency_s": expected.latency, "intervals": expected.intervals},
                "measured": {"latency_s": got.latency_s, "intervals": got.timeline},
            }
            self.store.keep(timeline=content)


def run_grid(store: MeasurementStore) -> None:
    """Run what is not done yet, with a server of its own, and show a progress bar.

    Raises:
        EdgeError: If the server fails while layer times are measured.
        OSError: If the server does not start, or the user may not create a network namespace.
    """
    ue_core, edge_core = cores()
    with ExitStack() as stack:
        shaped = store.grid.shaped_below
        namespace = stack.enter_context(shaped_namespace()) if shaped else None
        server = stack.enter_context(server_process(core=edge_core, namespace=namespace))
        executor = stack.enter_context(closing(Executor(ue_core, "UE layers")))
        clock.run(_run_models(store, server, executor, namespace))


async def _run_models(
    store: MeasurementStore,
    server: ServerProcess,
    executor: Executor,
    namespace: ShapedNamespace | None,
) -> None:
    """Run models; measure layer times before a rate's cold cells and before its rows of queries."""
    cells = {model: list(store.grid.cells(model)) for model in store.grid.models}
    todo = {model: [c for c in own if c not in store.done] for model, own in cells.items()}
    total, left = (sum(map(len, each.values())) for each in (cells, todo))
    with bar(total=total, initial=total - left, unit="cell") as shown:
        for model, missing in todo.items():
            if not missing:
                continue
            shown.set_postfix_str(model)
            run = ModelRun(model, server, executor, store, namespace)
            for (rate, scenario), block in groupby(missing, lambda c: (c.rate_mbps, c.scenario)):
                await run.measure(f"before {rate:g} Mbit/s, {scenario}")
                if scenario == COLD:
                    together = list(block)
                    store.add(together, await run.cold(together, shown))
                    shown.update(len(together))
                    continue
                for cell in block:
                    shown.set_postfix_str(_name(cell))
                    store.add([cell], await run.queries(cell))
                    shown.update()
            await run.measure("after")


def _plan_of(row: Measurement) -> tuple[str, str]:
    """Return the key of equal plans at one rate; without offloading, the mode does not matter."""
    return row.placement, row.upload if "1" in row.placement else ""


def _like(row: Measurement, same: Measurement) -> Measurement:
    """Return a planner's row with the measurement of the first planner with the same plan."""
    if row.cell == same.cell or not same.was_run:
        return row
    kept = ("planner", "upload", "predicted_s", "bytes_only_s", "in_turn_s")
    own = {key: getattr(row, key) for key in kept}
    return replace(same, **own, same_as=f"{same.planner}/{same.upload}")


def _name(cell: GridCell) -> str:
    kind = cell.upload if cell.scenario == COLD else "queries"
    return f"{cell.model}, {cell.rate_mbps:g} Mbit/s, {cell.planner}, {kind}"
