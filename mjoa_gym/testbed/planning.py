"""Runs any planner within a time budget, in a process that can be killed.

A planner may raise, hang (compiled code cannot be interrupted), end its process, or give something
that is not a plan. Each of these costs the controller one budget at most. A process that hangs or
ends is replaced. Instances and plans go through pipes as pickles, which is safe because the process
runs the operator's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
from asyncio.subprocess import Process
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mjoa_gym import child_process
from mjoa_gym.dnn import DNN
from mjoa_gym.model.instance import UE, Horizon, Instance, Plan, evaluate
from mjoa_gym.planners.trivial import local_only
from mjoa_gym.testbed.frames import LEAST_RATE_BPS, MOST_SLOWDOWN

START_S = 600.0
"""Seconds that a planner may take to be ready. The first time, compiling may take minutes."""
ANYTIME_SHARE = 0.7
"""Part of the budget for which planners search that can give a plan at any time."""
MOST_ANSWER_BYTES = 1 << 28
LENGTH = struct.Struct("!I")


class PlanningError(Exception):
    """The planner gave no plan that can be executed; the message says why."""


def check_plan(plan: Any, instance: Instance) -> Plan:
    """Return a plan if it can be executed.

    Every UE's latency must be finite. A UE that uses the edge needs a rate of at least
    `LEAST_RATE_BPS`, and at least 1 / `MOST_SLOWDOWN` of the server if it executes layers there.

    Raises:
        PlanningError: If the plan cannot be executed, or is not a plan.
    """
    if not isinstance(plan, Plan):
        raise PlanningError(f"the planner gave {type(plan).__name__}, not a Plan")
    try:
        plan.check_fits(instance)
    except ValueError as error:
        raise PlanningError(str(error)) from error
    seconds = evaluate(instance, plan)
    for i, ue in enumerate(instance.ues):
        marks = plan.placements[i] if plan.prefetch is None else plan.prefetch[i]
        if not np.isfinite(seconds[i]):
            raise PlanningError(f"UE {i} lacks a share of what its placement needs")
        if not (plan.placements[i].any() or marks.any()):
            continue
        assert ue.uplink_bps is not None, "UEs of a testbed have rates"
        share, part = plan.bandwidth_share[i], plan.compute_share[i]
        if share > 0 and share * min(ue.uplink_bps, ue.downlink_bps or 0.0) < LEAST_RATE_BPS:
            raise PlanningError(f"UE {i} has less than {LEAST_RATE_BPS:g} bit/s")
        if plan.placements[i].any() and part * MOST_SLOWDOWN < 1:
            raise PlanningError(f"UE {i} has less than 1/{MOST_SLOWDOWN:g} of the server")
    return plan


def example(share: bool = False) -> Instance:
    """Return a problem for which the same kernels are compiled as for the problems of rounds."""
    dnn = DNN.load("resnet18")
    seconds = [0.01] * dnn.n_layers, [0.001] * dnn.n_layers
    ues = [UE(dnn, *seconds, uplink_bps=1e8, downlink_bps=1e8, message_s=1e-3) for _ in range(2)]
    return Instance(ues, horizon=Horizon(9, 1.0, 1e9, share_parameters=share, retain=True))


def compile_checks() -> None:
    """Check a plan once, so that no round has to wait until kernels are compiled."""
    instance = example()
    check_plan(local_only(instance), instance)


class PlannerProcess:
    """A planner or an agent in a separate process, for one plan at a time.

    Use it as `async with PlannerProcess("mjoa-mu") as planner`.

    Args:
        planner: What `mjoa-gym evaluate` takes: a planner's name, `module:callable` or
            `file.py:name`, a trained agent's folder, `ppo:path/of/model.zip`.
        share: Whether the instances will have shared parameters, which an agent must support.

    Raises:
        ValueError: On entering, if there is no such planner.
    """

    def __init__(self, planner: str, share: bool = False) -> None:
        self.planner = planner
        self.share = share
        self._process: Process | None = None  # once it is ready
        self._starting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PlannerProcess:
        try:
            self._process = await self._start()
        except PlanningError as error:
            raise ValueError(str(error)) from error
        await asyncio.to_thread(compile_checks)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self._end()

    async def plan(self, instance: Instance, budget_s: float) -> Plan:
        """Return the planner's plan.

        Raises:
            PlanningError: If it gives no plan that can be executed within the budget of seconds.
        """
        if self._process is None:
            raise PlanningError("the planner is being started again")
        try:
            async with asyncio.timeout(budget_s):
                answer = await _ask(self._process, (instance, budget_s))
        except TimeoutError as error:
            await self._replace()
            raise PlanningError(f"no plan within {budget_s:g} s") from error
        except PlanningError:
            await self._replace()
            raise
        if isinstance(answer, str):
            raise PlanningError(answer)
        return check_plan(answer, instance)

    async def _start(self) -> Process:
        """Start a process and return it when the planner is ready."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *child_process.command(__name__), stdin=pipe, stdout=pipe, limit=MOST_ANSWER_BYTES,
            env=child_process.environment(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_S):
                problem = await _ask(process, (self.planner, self.share))
            if problem is not None:
                raise PlanningError(problem)
        except TimeoutError as error:
            await _kill(process)
            raise PlanningError(f"the planner is not ready within {START_S:g} s") from error
        except BaseException:
            await _kill(process)
            raise
        return process

    async def _replace(self) -> None:
        """Kill the process, and start another one in the background."""
        await self._end()

        async def again() -> None:
            with contextlib.suppress(PlanningError):
                self._process = await self._start()

        self._starting = asyncio.create_task(again())

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _kill(process)


async def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process._transport.close()  # type: ignore[attr-defined]
    await process.wait()


async def _ask(process: Process, message: Any) -> Any:
    """Send a message to the process and return its answer.

    Raises:
        PlanningError: If the process has ended, or its answer cannot be read.
    """
    data = pickle.dumps(message)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(LENGTH.pack(len(data)) + data)
        await process.stdin.drain()
        (size,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        return pickle.loads(await process.stdout.readexactly(size))
    except (asyncio.IncompleteReadError, OSError) as error:
        raise PlanningError("the planner's process has ended") from error
    except Exception as error:  # unpickling a planner's answer may raise anything
        reason = f"the planner's answer cannot be read ({type(error).__name__}: {error})"
        raise PlanningError(reason) from error


def serve() -> None:
    """Answer the instances on standard input until it ends. Other output goes to standard error."""
    incoming, outgoing = child_process.channels()
    try:
        plan = _planner(*_read(incoming))
    except Exception as error:
        _write(outgoing, " ".join(str(error).split()) or type(error).__name__)
        return
    _write(outgoing, None)
    while True:
        try:
            instance, budget_s = _read(incoming)
        except EOFError:
            return
        try:
            answer: Any = plan(instance, budget_s)
        except (Exception, SystemExit) as error:
            answer = " ".join(f"the planner raised {type(error).__name__}: {error}".split())
        try:
            _write(outgoing, answer)
        except (pickle.PicklingError, AttributeError, TypeError):
            _write(outgoing, f"the planner gave {type(answer).__name__}, not a Plan")


def _planner(name: str, share: bool) -> Any:
    """Return a function of an instance and a budget in seconds that gives a plan.

    The package's own planners have compiled their kernels when this returns.
    """
    from mjoa_gym.evaluation.agent_source import is_planner, source_of
    from mjoa_gym.evaluation.saved_model import ALGORITHMS
    from mjoa_gym.evaluation.user_code import imported
    from mjoa_gym.planners.registry import ANYTIME, PLANNERS, plan_with, planner_of

    if name in PLANNERS or (":" not in name and Path(name).name == name):
        planner_of(name)  # raises if there is no such planner
        anytime = name in ANYTIME

        def plan(instance: Instance, budget_s: float) -> Any:
            return plan_with(name, instance, ANYTIME_SHARE * budget_s if anytime else None)

        if name in PLANNERS:
            plan(example(share), START_S)
        return plan
    before, colon, _ = name.partition(":")
    if colon and before.lower().replace("_", "-") not in ALGORITHMS:  # those are saved models
        thing = imported(name, "planner")[1]
        if not callable(thing) and not hasattr(thing, "predict"):
            raise ValueError(f"planner={name!r}: {type(thing).__name__} cannot be called")
        if not (isinstance(thing, type) or hasattr(thing, "predict")) and is_planner(thing):
            return lambda instance, _budget_s: thing(instance)
    return _Deciding(source_of(name), share)


class _Deciding:
    """An agent as a planner, which prepares for new UEs in a second thread."""

    def __init__(self, source: Any, share: bool) -> None:
        from mjoa_gym.evaluation.agent_planner import AgentPlanner

        self.planner = AgentPlanner(source)
        self._preparing = ThreadPoolExecutor(1)
        try:
            self.planner(example(share))  # this also compiles the kernels
        except ValueError as error:
            hint = "" if share else " (parameters are shared with --share)"
            raise ValueError(f"{error}{hint}") from error

    def __call__(self, instance: Instance, budget_s: float) -> Any:
        ready = self._preparing.submit(self.planner.prepared, instance)
        try:
            ready.result(ANYTIME_SHARE * budget_s)
        except TimeoutError as error:
            raise RuntimeError("the agent is still preparing for these UEs") from error
        return self.planner(instance)


def _read(incoming: BinaryIO) -> Any:
    head = incoming.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise EOFError
    return pickle.loads(incoming.read(LENGTH.unpack(head)[0]))


def _write(outgoing: BinaryIO, message: Any) -> None:
    data = pickle.dumps(message)
    outgoing.write(LENGTH.pack(len(data)) + data)
    outgoing.flush()
