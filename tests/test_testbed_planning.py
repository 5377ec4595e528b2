"""Planners in a process of their own, whatever they do; and layers that are paced."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("msgspec")

from mjoa_gym import DNN, UE, Instance, Plan  # noqa: E402
from mjoa_gym.testbed.clock import now  # noqa: E402
from mjoa_gym.testbed.executor import Execution, Executor, Work  # noqa: E402
from mjoa_gym.testbed.planning import PlannerProcess, PlanningError, check_plan  # noqa: E402
from mjoa_gym.testbed.ue import Pacing  # noqa: E402

from .testbed_helpers import run, toy_server, toy_ue, until  # noqa: E402
from .testbed_network import ToyNetwork, diamond  # noqa: E402

PLANNER = """
import os, time
import numpy as np
from mjoa_gym import Plan

print("this is not part of the answer")

def planner(instance):
    which, n = instance.ues[0].weight, instance.n_ues
    if which == 2: raise RuntimeError("no idea")
    if which == 3: return 5
    if which == 4: return lambda: 5
    if which == 5: time.sleep(1000)
    if which == 6: os._exit(3)
    if which == 7: raise SystemExit
    share = [1 / n] * n if which == 1 else [0] * n
    return Plan([np.ones(ue.dnn.n_layers) for ue in instance.ues], share, share)
"""
TOY = DNN("toy", [1.0, 1.0], [8e3, 8e3], [8e3, 8e3], [[-1], [0]], 8e3)


def instance_of(weight: float = 1.0, rate: float = 1e7) -> Instance:
    rates = {"uplink_bps": rate, "downlink_bps": rate}
    return Instance([UE(TOY, [1.0, 1.0], [0.1, 0.1], weight=weight, **rates) for _ in range(2)])


def test_whatever_a_planner_does_it_costs_its_budget_at_most(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLANNER)
    cases = [
        (2, "the planner raised RuntimeError: no idea"),
        (3, "the planner gave int, not a Plan"),
        (4, "the planner gave function, not a Plan"),
        (7, "the planner raised SystemExit"),
        (8, "UE 0 lacks a share of what its placement needs"),
        (5, "no plan within 0.5 s"),
        (6, "process has ended"),
    ]

    async def main() -> None:
        async with PlannerProcess(f"{file}:planner") as process:
            for which, reason in cases:
                async with asyncio.timeout(20):
                    while process._process is None:  # it has been killed, and begins again
                        with pytest.raises(PlanningError, match="is being started again"):
                            await process.plan(instance_of(), 1.0)
                        await asyncio.sleep(0.1)
                start = now()
                with pytest.raises(PlanningError, match=reason):
                    await process.plan(instance_of(which), 0.5 if which == 5 else 5.0)
                assert now() - start < 2.0
                if which not in (5, 6):
                    plan = await process.plan(instance_of(), 5.0)
                    assert plan.bandwidth_share.tolist() == [0.5, 0.5]

    run(main())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mjoa", "planner='mjoa': allowed are .* did you mean|planner='mjoa': allowed are"),
        ("os:path", "planner='os:path': module cannot be called"),
        ("nowhere.py:planner", "there is no file nowhere.py"),
    ],
)
def test_a_planner_that_is_none_is_said(name: str, message: str) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=message):
            async with PlannerProcess(name):
                pass

    run(main())


def test_a_search_that_has_a_plan_at_any_time_gives_it_within_the_budget() -> None:
    async def main() -> None:
        async with PlannerProcess("mjoa-mu") as process:
            plan = await process.plan(instance_of(), 2.0)
            assert plan.placements[0].any()

    run(main())


def test_plans_that_cannot_be_emulated_are_refused() -> None:
    ones = [[1, 1], [0, 0]]
    check_plan(Plan(ones, [1.0, 0.0], [1.0, 0.0]), instance_of())
    for shares, reason in (
        (([1e-5, 0.0], [1.0, 0.0]), "less than 1000 bit/s"),
        (([1.0, 0.0], [1e-5, 0.0]), "less than 1/10000 of the server"),
    ):
        with pytest.raises(PlanningError, match=reason):
            check_plan(Plan(ones, *shares), instance_of())
    with pytest.raises(PlanningError, match="placements has 1 entries for 2 UEs"):
        check_plan(Plan([[1, 1]], [1.0], [1.0]), instance_of())


class Sleeping(ToyNetwork):
    """Its layers, a chain, take a while, and no time of the core."""

    def __init__(self, seconds: float, n_layers: int = 3) -> None:
        self.__dict__.update(ToyNetwork([[n - 1] for n in range(n_layers)]).__dict__)
        self.seconds = seconds

    def run(self, layer: int, bundles: Any, parameters: Any) -> Any:
        time.sleep(self.seconds)
        return super().run(layer, bundles, parameters)


def execute(
    networks: list[ToyNetwork],
    table: list[float] | None,
    slowdown: float,
    shares: Sequence[float] = (),
) -> list[Work]:
    """Works of several networks at a time on one executor, until they have ended.

    With shares, it serves them in turns.
    """
    ended = threading.Semaphore(0)

    def on_done(work: Work, _: Execution | None) -> None:
        if work.done:
            ended.release()

    executor = Executor(fair=bool(shares))
    works = []
    for k, network in enumerate(networks):
        layers = list(range(network.dnn.n_layers))
        work = Work(network, layers, network.parameters, slowdown, on_done, table=table)
        work.share = shares[k] if shares else 1.0
        work.bundles[-1] = (torch.randn(1, network.width),)
        works.append(work)
        executor.submit(work)
    for _ in works:
        assert ended.acquire(timeout=20)
    executor.close()
    return works


def test_paced_layers_count_as_their_table_says() -> None:
    (work,) = execute([Sleeping(0.001)], [0.02, 0.0, 0.05], 2.0)
    a, b, c = work.executions
    assert a.end - a.start == pytest.approx(0.04)
    assert b.start == a.end
    assert [overrun.layer for overrun in work.overruns] == [1]  # nothing is done in no time
    assert c.start == b.end
    assert c.end - c.start == pytest.approx(0.1)


def test_works_that_share_a_thread_are_done_in_time() -> None:
    """Six thirds of a second are executed within one: what waits for the thread has slack."""
    networks: list[ToyNetwork] = [Sleeping(0.03), Sleeping(0.03), Sleeping(0.03)]
    works = execute(networks, [0.03, 0.03, 0.03], 6.0)
    for work in works:
        assert not work.overruns
        for execution in work.executions:
            assert execution.end - execution.start == pytest.approx(0.18)
    starts = [work.executions[0].start for work in works]
    assert max(starts) - min(starts) < 0.02  # when they could begin, not when they were executed
    # told while another layer was being executed
    assert max(work.executions[-1].end for work in works) < min(starts) + 0.65


@pytest.mark.parametrize("paced", [True, False])
def test_a_fair_executor_serves_one_layer_after_the_other(paced: bool) -> None:
    """In proportion to the shares while several have something to do, and all of it to one."""
    n, table = 12, [0.01] * 12
    networks: list[ToyNetwork] = [Sleeping(0.0, n), Sleeping(0.0, n)]
    works = execute(networks, table if paced else None, 3.0, [0.75, 0.25])
    served = sorted((e.start, e.end, k) for k, work in enumerate(works) for e in work.executions)
    for before, after in pairwise(served):
        assert after[0] >= before[1] - 1e-9
        if paced:  # both always have something to execute
            assert after[0] == pytest.approx(before[1], abs=1e-9)
    if paced:
        first_ends = works[0].executions[-1].end
        meanwhile = [k for _, end, k in served if end <= first_ends].count(1)
        assert meanwhile == pytest.approx(n / 3, abs=1)
        alone = [e.end - e.start for e in works[1].executions if e.start >= first_ends]
        assert np.median(alone) == pytest.approx(0.03, abs=0.005)  # not stretched


def test_a_work_that_comes_later_is_not_ahead() -> None:
    """What it did not use while it was not there it does not get afterwards."""
    executor, ended = Executor(fair=True), threading.Semaphore(0)

    def on_done(work: Work, _: Execution | None) -> None:
        if work.done:
            ended.release()

    works = []
    for wait_s in (0.1, 0.0):
        network = Sleeping(0.0, 40)
        layers = list(range(40))
        work = Work(network, layers, network.parameters, 2.0, on_done, table=[0.01] * 40)
        work.share = 0.5
        work.bundles[-1] = (torch.randn(1, network.width),)
        executor.submit(work)
        works.append(work)
        time.sleep(wait_s)
    for _ in works:
        assert ended.acquire(timeout=20)
    executor.close()
    early, late = works
    begun = late.executions[0].start
    together = [e for e in early.executions if e.start > begun]
    assert len(together) >= 10
    turns = sorted((e.start, k) for k, w in enumerate((together, late.executions)) for e in w)
    assert [k for _, k in turns[:10]].count(0) == pytest.approx(5, abs=1)


def test_layers_that_take_longer_than_their_slot_are_counted() -> None:
    (work,) = execute([Sleeping(0.05)], [0.01, 0.2, 0.01], 1.0)
    assert [overrun.layer for overrun in work.overruns] == [0, 2]
    assert all(0.035 < overrun.seconds < 0.2 for overrun in work.overruns)
    for before, after in zip(work.executions, work.executions[1:], strict=False):
        assert after.start == before.end


def test_a_paced_inference_takes_what_its_tables_say() -> None:
    """On both sides of a connection, and by itself, to the microsecond."""
    network = diamond()
    value = torch.randn(1, network.width)
    ue_s, edge_s = [0.02] * 7, [0.01] * 7

    async def main() -> None:
        async with toy_server(network) as server, toy_ue(server.port, network) as ue:
            ue.pacing = Pacing(ue_s, edge_s)
            alone = await ue.infer((value,), [0] * 7)
            assert alone.latency_s == pytest.approx(0.14, rel=0.5)
            if not alone.overruns:
                assert alone.latency_s == pytest.approx(0.14, abs=2e-3)
            both = await ue.infer((value,), [0, 0, 1, 1, 1, 1, 0])
            assert both.failure is None
            assert all(map(torch.allclose, both.outputs, network.expected(value)))
            spent = [i.end - i.start for i in both.timeline if i.resource == "edge"]
            if not both.overruns:
                assert spent == pytest.approx([0.01] * 4)

    run(main())


def test_rates_can_change_while_something_is_sent() -> None:
    network = diamond(width=256)
    value = torch.randn(1, network.width)

    async def main() -> None:
        async with (
            toy_server(network) as server,
            toy_ue(server.port, network, uplink_bps=2e6) as ue,
        ):
            running = asyncio.create_task(ue.infer((value,), np.ones(7)))
            await until(lambda: bool(server.sessions) and server.sessions[0].query is not None)
            listener = ue._connection.listener  # type: ignore[union-attr]
            await until(lambda: listener.link is not None)  # type: ignore[attr-defined]
            listener.link.set_rate(200e6)  # type: ignore[union-attr, attr-defined]
            got = await running
            assert got.failure is None
            assert got.latency_s < 2.0  # at the first rate it would be six
            assert all(map(torch.allclose, got.outputs, network.expected(value)))

    run(main())
