"""A UE that takes part in a controller's rounds, and goes on by itself when there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from mjoa_gym.execution.layered_model import Bundle
from mjoa_gym.testbed.connection import Connection, EdgeError
from mjoa_gym.testbed.frames import Begin, Done, Grant, Kind, Profile, ProtocolError
from mjoa_gym.testbed.live import Teller
from mjoa_gym.testbed.query import Query
from mjoa_gym.testbed.ue import MeasuredInference, UserEquipment


@dataclass(frozen=True, eq=False)
class Taken:
    """A UE's part in a round.

    Attributes:
        grant: What the controller granted; None if there was no controller, and all was local.
        inference: What came of it.
    """

    grant: Grant | None
    inference: MeasuredInference


class Participant:
    """Lets a UE register with a server's controller and do what it is granted, round by round.

    Args:
        ue: The UE; nobody else is to use it meanwhile.
        profile: What the controller is told. Without `digests`, nothing is shared by content.
    """

    def __init__(self, ue: UserEquipment, profile: Profile) -> None:
        profile.check(ue.program.dnn.n_layers)
        self.ue = ue
        self.profile = profile
        self._registered: Connection | None = None

    async def round(self, inputs: Bundle) -> Taken:
        """Wait for a round, and take part; whatever happens to the server, the outputs are right.

        Without a server, or if it does not answer for `stall_s`, or grants nothing for `hang_s`,
        the inference is local.
        """
        try:
            grant = await self._ask()
        except EdgeError as error:
            local = await self.ue.infer(inputs, np.zeros(self.ue.program.dnn.n_layers))
            return Taken(None, replace(local, failure=str(error)))
        infinite = float("inf")
        settings = replace(self.ue.settings, uplink_bps=grant.uplink_bps)
        told = partial(self._tell, grant)
        begin = Begin(grant.placement, grant.prefetch, grant.upload, 1.0, grant.downlink_bps)
        connection = self._registered
        assert connection is not None, "it has granted this"
        async with Teller(self.ue, connection, grant.round) as teller:
            inference = await self.ue.take(begin, inputs, infinite, settings, told)
            teller.tell(inference.timeline)
        return Taken(grant, inference)

    async def _ask(self) -> Grant:
        """Ask for a plan; an EdgeError without one."""
        connection, s = await self.ue.connect(), self.ue.settings
        if connection is not self._registered:
            connection.frames.write(Kind.REGISTER, self.profile)
            self._registered = connection
        answer = await connection.ask(Kind.ASK, s.stall_s, s.hang_s)
        grant = answer.header
        try:
            if not isinstance(grant, Grant):
                raise ProtocolError(f"{answer.kind.name} instead of GRANT")
            grant.begin.check(self.ue.program.dnn.n_layers)
        except ProtocolError as error:
            reason = f"what the server sends is wrong: {error}"
            connection.close(reason)
            raise EdgeError(reason) from error
        return grant

    def _tell(self, grant: Grant, query: Query) -> None:
        """Say that all outputs are here."""
        connection = self._registered
        if connection is not None and connection.lost is None:
            latency_s, late = query.end - query.start, len(query.work.overruns)
            failed = int(query.failure is not None)
            connection.frames.write(Kind.DONE, Done(grant.round, latency_s, failed, late))
