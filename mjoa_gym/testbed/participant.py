"""A UE that takes part in a controller's rounds, and infers locally without one."""

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
        grant: What the controller granted; None if there was no grant and all was local.
        inference: The result of the UE's inference.
    """

    grant: Grant | None
    inference: MeasuredInference


class Participant:
    """A UE that registers with a server's controller and infers as granted, round by round.

    Args:
        ue: The UE; do not use it for anything else meanwhile.
        profile: What the UE reports to the controller. Without `digests`, none of its layers are
            shared by content.

    Raises:
        ProtocolError: If the profile does not fit the UE's network.
    """

    def __init__(self, ue: UserEquipment, profile: Profile) -> None:
        profile.check(ue.program.dnn.n_layers)
        self.ue = ue
        self.profile = profile
        self._registered: Connection | None = None

    async def round(self, inputs: Bundle) -> Taken:
        """Wait for a round and take part in it.

        The outputs are right whatever happens to the server. The inference is local if there is no
        server, if the server is silent for `stall_s`, or if it grants nothing for `hang_s`.
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
        assert connection is not None, "the grant came over it"
        async with Teller(self.ue, connection, grant.round) as teller:
            inference = await self.ue.take(begin, inputs, infinite, settings, told)
            teller.tell(inference.timeline)
        return Taken(grant, inference)

    async def _ask(self) -> Grant:
        """Ask for a plan and return the grant; raise an EdgeError without one."""
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
            reason = f"the server broke the protocol: {error}"
            connection.close(reason)
            raise EdgeError(reason) from error
        return grant

    def _tell(self, grant: Grant, query: Query) -> None:
        """Report to the controller that all outputs are on the UE."""
        connection = self._registered
        if connection is not None and connection.lost is None:
            latency_s, late = query.end - query.start, len(query.work.overruns)
            failed = int(query.failure is not None)
            connection.frames.write(Kind.DONE, Done(grant.round, latency_s, failed, late))
