"""The live view of a server with a controller: plans, shares, memory and every use of a resource.

While nobody watches, only UEs that come and go and the plans and results of the last rounds are
kept, and UEs report nothing. Otherwise UEs report what they execute and send (`Teller`), and the
server knows its own part. The view contains no tensors, no parameters and no token.

Cost: for five UEs with networks of 60 layers, an answer takes 0.05 ms. Twice a second it takes 0.6
ms, because the state of the memory is computed again. Answers are at least `LOOK_S` apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mjoa_gym.model.simulator import Interval
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.connection import Connection
from mjoa_gym.testbed.event_log import EventLog
from mjoa_gym.testbed.frames import ALL_USES, OWN_USES, Kind, Used
from mjoa_gym.testbed.store import SHARED, ParameterStore
from mjoa_gym.testbed.ue import UserEquipment

if TYPE_CHECKING:
    from mjoa_gym.testbed.controller import Controller, Member
    from mjoa_gym.testbed.server import Session

LOOK_S = 0.05
"""Shortest time between two answers to an observer, in seconds."""
TELL_S = 0.2
"""Seconds between two reports of a UE."""
MEMORY_S = 0.5
"""Largest age, in seconds, of the reported state of the memory."""
LATE_S = 1.0
"""Seconds by which a reported use may end after now: the server learns of a UE's start late."""
USES_PER_LAYER = 16
"""Uses per layer that a UE may report in a round on average, so that it cannot fill the log."""
ABSENT, NOTHING, COMPLETE, SHARED_LAYER = ".", "-", "#", "s"
"""The state of a layer at the server: absent, without parameters, complete, shared. Other layers
have the digit of the tenths that have arrived."""
Use = tuple[int, int, float, float]
"""Index in `ALL_USES`, layer, start and end of a use."""


@dataclass
class _Account:
    """What has been reported of a UE's part in a round."""

    round: int
    origin: float  # time at which the UE's inference began
    noted: dict[tuple[int, int, float], float] = field(default_factory=dict)  # the end of each use

    def fresh(self, uses: Iterable[Use]) -> list[Use]:
        """Return and note the uses that are new or have become longer."""
        found = [use for use in uses if self.noted.get(use[:3]) != use[3]]
        self.noted.update((use[:3], use[3]) for use in found)
        return found


class Live:
    """Collects the events of a server for its observers. It belongs to the server's event loop.

    Args:
        controller: The controller whose rounds are shown.
        store: The server's memory for parameters.
    """

    def __init__(self, controller: Controller, store: ParameterStore) -> None:
        self.controller = controller
        self.store = store
        self.log = EventLog()
        self.observers: set[Session] = set()
        self.ues: dict[int, Session] = {}
        self._accounts: dict[int, _Account] = {}  # by the UE's number
        self._memory: dict[str, Any] = {}
        self._memory_at = -MEMORY_S

    def observe(self, session: Session, on: bool) -> None:
        """Note that an observer begins or ceases to watch."""
        if (session in self.observers) == on:
            return
        (self.observers.add if on else self.observers.discard)(session)
        if len(self.observers) == on:  # the first one begins, or the last one ceases
            for ue in self.ues.values():
                self._let_know(ue)

    def joined(self, session: Session, member: Member) -> None:
        """Note that a UE has registered."""
        self.ues[member.number] = session
        if self.observers:
            self._let_know(session)
        dnn, profile = member.dnn, member.profile
        event = {
            "joined": member.number, "model": member.name, "layers": dnn.layer_names,
            "parameter_bytes": dnn.parameter_bytes.tolist(), "weight": profile.weight,
            "local_s": sum(profile.ue_s), "at": now(),
        }  # fmt: skip
        self.log.add(event, key=member.number)

    def said(self, event: dict[str, Any]) -> None:
        """Note an event of the controller."""
        if "left" in event:
            self.log.drop(event["left"])
            self.ues.pop(event["left"], None)
            self._accounts.pop(event["left"], None)
            self.log.add(event | {"at": now()})
        elif "planned" in event:
            time, number = now(), event["round"]
            self._accounts = {ue: _Account(number, time) for ue in event["ues"]}
            kept = ("resident", "measured_s", "failed", "overruns", "round_s")
            self.log.add({k: v for k, v in event.items() if k not in kept} | {"at": time})
        elif "round_s" in event:
            kept = ("measured_s", "failed", "overruns", "round_s", "ues")
            self.log.add({"over": event["round"], "at": now()} | {key: event[key] for key in kept})

    def began(self, member: Member) -> None:
        """Note that a UE has begun its inference. The seconds that it reports count from now."""
        if (account := self._accounts.get(member.number)) is not None:
            account.origin = now()
            began = {"began": member.number, "round": account.round, "at": account.origin}
            self.log.add(began)

    def told(self, member: Member, said: Used) -> None:
        """Note the uses that a UE reports.

        Reports of other rounds, impossible uses and too many uses are ignored.
        """
        account = self._accounts.get(member.number)
        if account is None or account.round != said.round or not self.observers:
            return
        latest = now() - account.origin + LATE_S
        uses = [
            (kind, layer, account.origin + start, account.origin + end)
            for kind, layer, start, end in said.uses
            if layer < member.dnn.n_layers and start <= end <= latest
        ]
        if len(account.noted) + len(uses) <= USES_PER_LAYER * member.dnn.n_layers:
            self._note(member.number, account, uses)

    def note(self, session: Session) -> None:
        """Note the server's uses of resources in a UE's open query."""
        member, query = session.member, session.query
        account = None if member is None else self._accounts.get(member.number)
        if member is None or query is None or account is None or not self.observers:
            return
        kinds = (ALL_USES.index(("edge", "execute")), ALL_USES.index(("downlink", "activation")))
        uses = [(kind, *use) for kind, own in zip(kinds, query.uses(), strict=True) for use in own]
        self._note(member.number, account, uses)

    def look(self, since: int) -> bytes:
        """Return the events from a number on and the present state, as JSON."""
        for session in self.ues.values():
            self.note(session)
        found = self.log.since(since)
        head = {
            "now": now(), "next": found.next, "lost": found.lost, "state": self._state(),
            "memory": self._held(),
        }  # fmt: skip
        return found.below(head)

    def _note(self, ue: int, account: _Account, uses: Sequence[Use]) -> None:
        if fresh := account.fresh(uses):
            rows = [(*use[:2], round(use[2], 6), round(use[3], 6)) for use in fresh]
            self.log.add({"ue": ue, "round": account.round, "uses": rows})

    def _let_know(self, session: Session) -> None:
        session.tell_watched(bool(self.observers))

    def _state(self) -> dict[str, Any]:
        controller = self.controller
        s = controller.settings
        return {
            "planner": s.planner, "uplink_bps": s.uplink_bps, "downlink_bps": s.downlink_bps,
            "rounds": controller.rounds,
            "ues": [
                [m.number, m.bandwidth_share, m.compute_share, controller.phase(m)]
                for m in controller.members
            ],
        }  # fmt: skip

    def _held(self) -> dict[str, Any]:
        """Return what each UE has in the server's memory, at most `MEMORY_S` old."""
        time = now()
        if time - self._memory_at >= MEMORY_S:
            held = self.store.held_bytes()
            rows = {ue: [held[s], self._layers(s)] for ue, s in self.ues.items()}
            self._memory_at = time
            self._memory = {
                "capacity_bytes": self.store.capacity_bytes, "used_bytes": self.store.used_bytes,
                "dropped": self.store.dropped, "shared_bytes": held[SHARED], "ues": rows,
            }  # fmt: skip
        return self._memory

    def _layers(self, session: Session) -> str:
        """Return the state of a UE's layers at the server, a character for each."""

        def shown(layer: int) -> str:
            if session.program.parameters[layer] is None:
                return NOTHING
            incoming = self.store.get(session, layer)
            if incoming is None:
                return ABSENT
            if incoming.complete:
                return SHARED_LAYER if self.store.shares(session, layer) else COMPLETE
            return str(10 * incoming.received // incoming.layout.total_bytes)

        return "".join(map(shown, range(session.program.dnn.n_layers)))


class Teller:
    """Reports what a UE executes and sends in a round to the server while somebody watches.

    Use it as `async with Teller(...) as teller`, and call `tell` with the whole timeline at the
    end.

    Args:
        ue: The UE.
        connection: Its connection to the server.
        number: Number of the round.
    """

    def __init__(self, ue: UserEquipment, connection: Connection, number: int) -> None:
        self.ue = ue
        self.connection = connection
        self.account = _Account(number, 0.0)

    async def __aenter__(self) -> Teller:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self.connection.watched.wait()
            if self.ue.query is not None:
                self.tell(self.ue.query.timeline(None))
            await asyncio.sleep(TELL_S)

    def tell(self, intervals: Iterable[Interval]) -> None:
        """Report the UE's own uses in a timeline that have not been reported yet."""
        if self.connection.lost is not None or not self.connection.watched.is_set():
            return
        places = {use: place for place, use in enumerate(OWN_USES)}
        own = [
            (place, i.layer, max(0.0, i.start), max(0.0, i.end))
            for i in intervals
            if (place := places.get((i.resource, i.what))) is not None
        ]
        if fresh := self.account.fresh(own):
            self.connection.frames.write(Kind.USED, Used(self.account.round, fresh))
