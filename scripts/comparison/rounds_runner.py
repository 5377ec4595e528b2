"""Runs the mixes, with UEs in separate processes and the server and its controller in this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from comparison.kept import COLD
from comparison.mixes import MIXES, OURS, Part, RoundCell, RoundStore
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.model.instance import UE, Instance, Plan, timelines
from mjoa_gym.testbed import clock
from mjoa_gym.testbed.controller import Controller, ControllerSettings
from mjoa_gym.testbed.models import server_program
from mjoa_gym.testbed.namespace import (
    HOST_ADDRESS,
    ShapedNamespace,
    shaped_namespace,
    ue_address,
)
from mjoa_gym.testbed.planning import PlannerProcess
from mjoa_gym.testbed.processes import cores
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.server import EdgeServer
from mjoa_gym.testbed.settings import ServerSettings
from mjoa_gym.testbed.tls import make_certificate

MEGA = 1e6
MEASURING_BPS = 1e9
BUSY = 0.5
"""Fraction of stretched time in which UEs execute layers, in total over all UEs of a core."""
PATIENCE_S = 30.0
"""Long timeouts, because a busy machine is no reason to abort a measurement."""


class UEProcess:
    """A UE process that follows orders; see `ue_worker`."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def do(self, what: str, **order: Any) -> Any:
        """Send an order and return the answer.

        Raises:
            OSError: If the process has ended.
        """
        assert self.process.stdin is not None
        self.process.stdin.write((json.dumps({"do": what} | order) + "\n").encode())
        return await self.answer()

    async def answer(self) -> Any:
        """Return the next answer of the process, from one line of JSON."""
        assert self.process.stdout is not None
        if not (line := await self.process.stdout.readline()):
            raise OSError("a UE's process has ended; see above")
        return json.loads(line)


class Links:
    """The links between the server and UEs on loopback, which both sides shape themselves."""

    def __init__(self) -> None:
        self.server: dict[str, Any] = {}  # further settings of the server
        self.before: Sequence[str] = ()  # words to put before the UEs' commands

    def of_ue(self, number: int, server: EdgeServer) -> dict[str, Any]:
        """Return a UE's settings for connecting to the server, as JSON."""
        return {"token": server.settings.token, "port": server.port}

    def divide(self, event: dict[str, Any], controller: Controller | None) -> None:
        """Give the UEs their shares of the links when a round is planned."""


class KernelLinks(Links):
    """The links to UEs in a namespace: one bottleneck, which the kernel divides as planned."""

    def __init__(self, namespace: ShapedNamespace, n_ues: int, folder: Path) -> None:
        super().__init__()
        self.namespace = namespace
        self.n_ues = n_ues
        certificate, key = make_certificate(folder, [HOST_ADDRESS])
        self.server = {"host": HOST_ADDRESS, "certificate": certificate, "key": key}
        self.before = namespace.command
        namespace.add_ues(n_ues)
        namespace.divide(n_ues * MEASURING_BPS, [(MEASURING_BPS, MEASURING_BPS)] * n_ues)

    def of_ue(self, number: int, server: EdgeServer) -> dict[str, Any]:
        """Return a UE's settings for connecting to the server, as JSON."""
        own = {
            "host": HOST_ADDRESS, "certificate": str(self.server["certificate"]),
            "own_host": ue_address(number), "shaped_below": True,
        }  # fmt: skip
        return super().of_ue(number, server) | own

    def divide(self, event: dict[str, Any], controller: Controller | None) -> None:
        """Divide the bottleneck by the shares of a planned round."""
        assert controller is not None, "it has planned"
        settings = controller.settings
        rates = [(0.0, 0.0)] * self.n_ues
        for number, share in zip(event["ues"], event["bandwidth_share"], strict=True):
            place = self._place(number, controller)
            rates[place] = (share * settings.uplink_bps, share * settings.downlink_bps)
        self.namespace.divide(max(settings.uplink_bps, settings.downlink_bps), rates)

    def _place(self, number: int, controller: Controller) -> int:
        """Return which UE is this member of the controller, from the address of its connection."""
        (member,) = (m for m in controller.members if m.number == number)
        session = member.tell.__self__  # type: ignore[attr-defined]
        peer = session.frames.writer.get_extra_info("peername")[0]
        return [ue_address(k) for k in range(self.n_ues)].index(peer)


@contextlib.contextmanager
def _links(shaped_below: bool, n_ues: int) -> Iterator[Links]:
    """Make the links of a mix, and remove them at the end.

    Raises:
        OSError: If the user may not create a network namespace.
    """
    if not shaped_below:
        yield Links()
        return
    with shaped_namespace() as namespace, tempfile.TemporaryDirectory() as folder:
        yield KernelLinks(namespace, n_ues, Path(folder))


@contextlib.asynccontextmanager
async def ue_processes(
    models: Sequence[str], ue_slowdown: float, before: Sequence[str] = ()
) -> AsyncIterator[list[UEProcess]]:
    """Start a UE process for each network, all on one core, and end them afterwards.

    Args:
        models: The networks' names.
        ue_slowdown: How many times slower than this machine the UEs are.
        before: Words to put before each process's command.
    """
    worker = Path(__file__).with_name("ue_worker.py")
    started: list[UEProcess] = []
    try:
        for model in models:
            what = {
                "model": model, "core": cores()[0], "ue_slowdown": ue_slowdown,
                "busy": BUSY / len(models),
            }  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                *before, sys.executable, str(worker), json.dumps(what), stdin=PIPE, stdout=PIPE,
                limit=1 << 26, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
            started.append(UEProcess(process))
        for ue in started:
            await ue.answer()  # the process is ready
        yield started
    finally:
        for ue in started:
            with contextlib.suppress(ProcessLookupError):
                ue.process.kill()
            ue.process._transport.close()  # type: ignore[attr-defined]
            await ue.process.wait()


def run_rounds(store: RoundStore) -> None:
    """Run what is not done yet, and show a progress bar.

    Raises:
        OSError: If a UE's process ends, or the user may not create a network namespace.
    """
    clock.run(_run(store))


async def _run(store: RoundStore) -> None:
    grid = store.grid
    cells = {mix: list(grid.cells(mix)) for mix in grid.mixes}
    todo = {mix: [cell for cell in own if cell not in store.done] for mix, own in cells.items()}
    total, left = (sum(map(len, each.values())) for each in (cells, todo))
    programs = {
        model: partial(server_program, model, {}) for mix in todo for model, _ in MIXES[mix]
    }
    with bar(total=total, initial=total - left, unit="cell") as shown:
        for mix, missing in todo.items():
            if missing:
                shown.set_postfix_str(mix)
                await _run_mix(store, mix, missing, programs, shown)


async def _run_mix(
    store: RoundStore, mix: str, missing: Sequence[RoundCell], programs: Any, shown: Any
) -> None:
    grid = store.grid
    models = [model for model, _ in MIXES[mix]]
    async with contextlib.AsyncExitStack() as stack:
        cell_of_all = stack.enter_context(_links(grid.shaped_below, len(models)))
        settings = ServerSettings(
            secrets.token_hex(16), core=cores()[1], slowdown=grid.edge_slowdown,
            shaped_below=grid.shaped_below, **cell_of_all.server,
        )  # fmt: skip
        starting = ue_processes(models, grid.ue_slowdown, cell_of_all.before)
        ues = await stack.enter_async_context(starting)
        async with EdgeServer(settings, programs) as alone:
            where = [cell_of_all.of_ue(k, alone) for k in range(len(ues))]
            await _measure(store, models, ues, where)
        control = ControllerSettings(
            OURS, budget_s=grid.budget_s, first=len(ues), gather_s=PATIENCE_S,
            patience_s=PATIENCE_S, period_s=1e-3, most_weight=1e6, compute=grid.compute,
        )  # fmt: skip
        log: list[dict[str, Any]] = []

        def listen(event: dict[str, Any]) -> None:
            log.append(event)
            if "planned" in event:  # before the UEs get their grants
                cell_of_all.divide(event, server.controller)

        async with EdgeServer(settings, programs, control, listen) as server:
            mixed = Mixed(store, mix, ues, server, log)
            await mixed.join([cell_of_all.of_ue(k, server) for k in range(len(ues))])
            for cell in missing:
                shown.set_postfix_str(f"{mix}, {cell.rate_mbps:g} Mbit/s, {cell.planner}")
                store.add(cell, await mixed.run(cell))
                shown.update()


async def _measure(
    store: RoundStore,
    models: Sequence[str],
    ues: Sequence[UEProcess],
    where: Sequence[dict[str, Any]],
) -> None:
    """Measure each network's layer times, or keep the first measured ones if layers are paced."""
    grid = store.grid
    for model, (ue, server) in dict(zip(models, zip(ues, where, strict=True), strict=True)).items():
        if not (grid.paced and model in store.tables):
            table = await ue.do(
                "measure", server=server, rate_bps=MEASURING_BPS, paced=grid.paced,
                edge_slowdown=grid.edge_slowdown, repeats=grid.profile_repeats,
            )  # fmt: skip
            store.keep(model=model, table=table)


class Mixed:
    """The UEs of a mix, and the server that they share."""

    def __init__(
        self,
        store: RoundStore,
        mix: str,
        ues: Sequence[UEProcess],
        server: EdgeServer,
        log: list[dict[str, Any]],
    ) -> None:
        self.store = store
        self.mix = MIXES[mix]
        self.ues = ues
        self.server = server
        self.log = log

    async def join(self, where: Sequence[dict[str, Any]]) -> None:
        """Let every UE join the controller's rounds, with its layer times and weight."""
        for ue, server, (model, weight) in zip(self.ues, where, self.mix, strict=True):
            table, paced = self.store.tables[model], self.store.grid.paced
            await ue.do("join", server=server, table=table, weight=weight, paced=paced)

    async def run(self, cell: RoundCell) -> list[Part]:
        """Run a cell's rounds and return the UEs' parts in them."""
        controller, grid = self.server.controller, self.store.grid
        assert controller is not None
        rate_bps = cell.rate_mbps * MEGA
        controller.settings = replace(
            controller.settings, planner=cell.planner, uplink_bps=rate_bps, downlink_bps=rate_bps
        )
        cold = cell.scenario == COLD
        parts: list[Part] = []
        async with PlannerProcess(cell.planner) as controller.planner:
            for repeat in range(grid.repeats if cold else 1):
                parts += await self._rounds(cell, repeat, 1 if cold else grid.rounds)
        return parts

    async def _rounds(self, cell: RoundCell, before: int, count: int) -> list[Part]:
        """Run some rounds, starting with an empty server."""
        begun = len(self.log)
        answers = await asyncio.gather(*(ue.do("rounds", count=count) for ue in self.ues))
        for ue in self.ues:  # after all are done, because the others would get its shares
            await ue.do("leave")
        while self.server.sessions:  # until all have left
            await asyncio.sleep(0.005)
        said = self.log[begun:]
        rounds = [event for event in said if "round_s" in event and "planned" not in event]
        parts = []
        for number, event in enumerate(rounds, 1):
            rows = [self._taken(event, answer) for answer in answers]
            for ue, taken in enumerate(rows):
                if taken is not None:
                    parts.append(self._part(cell, before + number, ue, event, taken))
            self._keep_timeline(cell, event, rows, said)
        return parts

    def _taken(self, event: dict[str, Any], answer: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return what a UE reports about a round, if it took part."""
        return next((taken for taken in answer if taken["round"] == event["round"]), None)

    def _part(
        self, cell: RoundCell, number: int, ue: int, event: dict[str, Any], taken: dict[str, Any]
    ) -> Part:
        place = event["ues"].index(taken["ue"])
        model, weight = self.mix[ue]
        shares = (event[name][place] for name in ("bandwidth_share", "compute_share"))
        return Part(
            cell.mix, cell.rate_mbps, cell.planner, cell.scenario, number, ue, model, weight,
            event["placements"][place], *shares, event["predicted_s"][place], taken["latency_s"],
            taken["correct"], taken["failure"], taken["overruns"], event["planned_by"],
            event["planning_s"],
        )  # fmt: skip

    def _keep_timeline(
        self, cell: RoundCell, event: dict[str, Any], rows: Sequence[Any], said: Sequence[Any]
    ) -> None:
        """Save the timeline of our planner's first cold round at a medium rate, for the report."""
        rates = sorted(self.store.grid.rates_mbps)
        middle = rates[len(rates) // 2]
        if (cell.planner, cell.scenario, cell.rate_mbps) != (OURS, COLD, middle):
            return
        if event["round"] == 0 or any(row is None for row in rows):
            return
        kept = self.store.timeline
        if kept is not None and len(kept["ues"]) >= len(rows):
            return
        instance, plan = replayed(event, said, self.server)
        simulated = timelines(instance, plan)
        content = []
        for ue, taken in enumerate(rows):
            expected = simulated[event["ues"].index(taken["ue"])]
            content.append({
                "model": self.mix[ue][0],
                "predicted": {"latency_s": expected.latency, "intervals": expected.intervals},
                "measured": {"latency_s": taken["latency_s"], "intervals": taken["intervals"]},
            })  # fmt: skip
        self.store.keep(timeline={"mix": cell.mix, "rate_mbps": cell.rate_mbps, "ues": content})


def replayed(
    event: dict[str, Any], said: Sequence[dict[str, Any]], server: EdgeServer
) -> tuple[Instance, Plan]:
    """Return the instance and the plan of a round, from the controller's messages."""
    joined = {each["joined"]: each for each in said if "joined" in each}
    programs: dict[str, LayeredProgram] = server._programs
    ues = []
    for number, resident in zip(event["ues"], event["resident"], strict=True):
        own = joined[number]
        ues.append(
            UE(
                programs[own["model"]].dnn,
                own["ue_s"],
                own["edge_s"],
                resident=resident,
                weight=own["weight"],
                uplink_bps=own["uplink_bps"],
                downlink_bps=own["downlink_bps"],
                message_s=own["message_s"],
            )
        )
    placements = [[int(digit) for digit in text] for text in event["placements"]]
    marks = [[int(n in own) for n in range(len(sides))]
             for own, sides in zip(event["prefetch"], placements, strict=True)]  # fmt: skip
    shares = event["bandwidth_share"], event["compute_share"]
    return Instance(ues), Plan(placements, *shares, marks)
