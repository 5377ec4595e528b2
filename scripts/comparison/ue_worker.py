"""A UE in a separate process that follows orders, one line of JSON at a time.

The process's first argument, in JSON, has the arguments of `Worker`. It answers each line on
standard input with one line on standard output, and ends when standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mjoa_gym.testbed import clock
from mjoa_gym.testbed.commands import close
from mjoa_gym.testbed.executor import Executor
from mjoa_gym.testbed.frames import Profile
from mjoa_gym.testbed.measure import measure
from mjoa_gym.testbed.models import program_of
from mjoa_gym.testbed.participant import Participant
from mjoa_gym.testbed.settings import UESettings
from mjoa_gym.testbed.ue import Pacing, UserEquipment

INFINITE = float("inf")


class Worker:
    """A network and its inputs, with the state that earlier orders have left."""

    def __init__(self, model: str, core: int | None, ue_slowdown: float, busy: float) -> None:
        self.model = model
        self.slowdown = ue_slowdown
        self.busy = busy
        self.program, self.inputs = program_of(model, {})
        self.executor = Executor(core, "UE layers")
        self.expected: Any = None
        self.participant: Participant | None = None

    def ue(self, server: dict[str, Any], rate_bps: float = INFINITE, **more: Any) -> UserEquipment:
        """Make a UE of a server.

        It waits long for the server, because a busy machine is no reason to abort a measurement.
        """
        if "certificate" in server:
            server = server | {"certificate": Path(server["certificate"])}
        settings = UESettings(
            **server, model=self.model, ue_slowdown=self.slowdown, busy=self.busy, stall_s=30.0,
            uplink_bps=rate_bps, downlink_bps=rate_bps, **more,
        )  # fmt: skip
        return UserEquipment(self.program, self.executor, settings)

    async def measure(
        self,
        server: dict[str, Any],
        rate_bps: float,
        edge_slowdown: float,
        repeats: int,
        paced: bool,
    ) -> dict[str, Any]:
        """Measure the layer times, with a server that serves no other UE meanwhile."""
        ue = self.ue(server, rate_bps, edge_slowdown=edge_slowdown)
        times = await measure(ue, self.inputs, repeats, paced)
        return {
            "ue_s": times.ue_s.tolist(), "edge_s": times.edge_s.tolist(),
            "message_s": times.message_s,
        }  # fmt: skip

    async def join(
        self, server: dict[str, Any], table: dict[str, Any], weight: float, paced: bool
    ) -> dict[str, Any]:
        """Prepare to take part in the controller's rounds, with these layer times."""
        ue = self.ue(server)
        if self.expected is None:
            local = await ue.infer(self.inputs, np.zeros(self.program.dnn.n_layers))
            self.expected = local.outputs
        if paced:
            ue.pacing = Pacing(table["ue_s"])
        profile = Profile(
            table["ue_s"], table["edge_s"], INFINITE, INFINITE, table["message_s"], weight,
            INFINITE, int(paced), [],
        )  # fmt: skip
        self.participant = Participant(ue, profile)
        return {}

    async def rounds(self, count: int) -> list[dict[str, Any]]:
        """Take part in `count` rounds and return the result of each."""
        assert self.participant is not None, "it has joined"
        found = []
        for _ in range(count):
            taken = await self.participant.round(self.inputs)
            got, grant = taken.inference, taken.grant
            found.append({
                "ue": None if grant is None else grant.ue,
                "round": None if grant is None else grant.round,
                "latency_s": got.latency_s, "failure": got.failure or "",
                "overruns": got.overruns, "correct": close(got.outputs, self.expected),
                "intervals": got.timeline,
            })  # fmt: skip
        return found

    async def leave(self) -> dict[str, Any]:
        """Close the connection to the server, which then keeps nothing of this UE."""
        assert self.participant is not None, "it has joined"
        await self.participant.ue.close()
        return {}


async def serve(worker: Worker, answers: Any) -> None:
    """Follow the orders on standard input until it ends."""
    lines = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        order = json.loads(line)
        answer = await getattr(worker, order.pop("do"))(**order)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Run the worker; the output of libraries goes to standard error."""
    torch.set_num_threads(1)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        worker = Worker(**json.loads(sys.argv[1]))
        answers.write("{}\n")
        answers.flush()
        with contextlib.suppress(KeyboardInterrupt):
            clock.run(serve(worker, answers))


if __name__ == "__main__":
    main()
