"""What the tests of the testbed's controller share: a server that plans, and UEs that take part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.testbed import server as edge
from mjoa_gym.testbed.controller import ControllerSettings
from mjoa_gym.testbed.frames import Profile
from mjoa_gym.testbed.participant import Participant
from mjoa_gym.testbed.planning import PlanningError, check_plan, compile_checks
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.server import EdgeServer
from mjoa_gym.testbed.settings import ServerSettings
from mjoa_gym.testbed.ue import Pacing

from .testbed_helpers import TOKEN, toy_ue
from .testbed_network import ToyNetwork, diamond

N = 7
UE_S, EDGE_S = [0.03] * N, [0.003] * N
RATE = 40e6


class PlannerHere:
    """A planner in this process, in the place of one in a process of its own."""

    def __init__(self, planner: Callable[[Instance], Plan]) -> None:
        self.planner = planner

    async def __aenter__(self) -> PlannerHere:
        await asyncio.to_thread(compile_checks)
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def plan(self, instance: Instance, budget_s: float) -> Plan:
        try:
            plan = self.planner(instance)
        except ArithmeticError as error:
            raise PlanningError(str(error)) from error
        return check_plan(plan, instance)


def everything_at_the_edge(instance: Instance) -> Plan:
    """With equal shares."""
    share = np.full(instance.n_ues, 1 / instance.n_ues)
    return Plan([np.ones(ue.dnn.n_layers) for ue in instance.ues], share, share)


@contextlib.asynccontextmanager
async def controlled(
    planner: Callable[[Instance], Plan] = everything_at_the_edge,
    network: ToyNetwork | None = None,
    server: dict[str, Any] | None = None,
    **control: Any,
) -> AsyncIterator[tuple[EdgeServer, list[dict[str, Any]]]]:
    """A server in this process that plans for "toy", and what its controller says."""
    served = diamond() if network is None else network
    log: list[dict[str, Any]] = []
    usual = {"uplink_bps": RATE, "downlink_bps": RATE, "patience_s": 20.0}  # machines are busy
    settings = ControllerSettings(**usual | control)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "PlannerProcess", lambda *_: PlannerHere(planner))
        async with EdgeServer(
            ServerSettings(TOKEN, **(server or {})),
            {"toy": lambda: LayeredProgram(served)},
            settings,
            log.append,
        ) as running:
            yield running, log


def rounds_of(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rounds that are over."""
    return [event for event in log if "round_s" in event and "planned" not in event]


def profile(**changes: Any) -> Profile:
    """What a UE with the toy network registers."""
    fields = {
        "ue_s": UE_S, "edge_s": EDGE_S, "uplink_bps": RATE, "downlink_bps": RATE,
        "message_s": 1e-3, "weight": 1.0, "deadline_s": float("inf"), "paced": 1, "digests": [],
    }  # fmt: skip
    return Profile(**fields | changes)


@contextlib.asynccontextmanager
async def participant(
    port: int,
    network: ToyNetwork | None = None,
    share: bool = False,
    paced: bool = True,
    patience: dict[str, float] | None = None,
    **changes: Any,
) -> AsyncIterator[Participant]:
    """A UE in this process that takes part, with paced layers."""
    async with toy_ue(port, network, **(patience or {})) as ue:
        if paced:
            ue.pacing = Pacing(UE_S)
        said = {"digests": ue.digests() if share else [], "paced": int(paced)}
        yield Participant(ue, profile(**said | changes))


def values() -> Iterator[torch.Tensor]:
    """Inputs."""
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(1, 64, generator=generator)


async def take_part(
    member: Participant, network: ToyNetwork, rounds: int, failures: bool = False
) -> list[Any]:
    """Some rounds, each with a right result; without failures unless they are allowed."""
    taken = []
    generator = torch.Generator().manual_seed(2)
    for _ in range(rounds):
        value = torch.randn(1, network.width, generator=generator)
        got = await member.round((value,))
        expected = network.expected(value)
        assert all(map(torch.allclose, got.inference.outputs, expected))
        assert failures or got.inference.failure is None, got.inference.failure
        taken.append(got)
        await asyncio.sleep(0)
    return taken
