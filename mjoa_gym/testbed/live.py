"""What those who watch a server are told: plans, shares, memory, and which layer is where when.

Nothing of it is asked for, computed or kept while nobody watches, but for the plans of the last
rounds. UEs say themselves what they execute and send (`Teller`), the server knows its own part. No
tensor, no parameter, no token is in it.

Cost: for five UEs with networks of 60 layers, an answer takes 0.05 ms, twice a second 0.6 ms, when
it says anew what is in the memory. Answers are `LOOK_S` apart at least.
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
"""An observer that asks more often waits."""
TELL_S = 0.2
MEMORY_S = 0.5
"""How old what is told of the memory may be."""
LATE_S = 1.0
"""By how much what a UE says may end after now: its clock counts from a moment before ours."""
USES_PER_LAYER = 16
"""Of a UE's account of a round, so that nobody can fill the log."""
ABSENT, NOTHING, COMPLETE, SHARED_LAYER = ".", "-", "#", "s"
"""A layer at the server: not there, without parameters, there, shared; else tenths of it."""
Use = tuple[int, int, float, float]
"""Its place in `ALL_USES`, its layer, start and end."""


@dataclass
class _Account:
    """What has been told of a UE's part in a round."""

    round: int
    origin: float  # when it has begun
    noted: dict[tuple[int, int, float], float] = field(default_factory=dict)  # the ends

    def fresh(self, uses: Iterable[Use]) -> list[Use]:
        """Those that are new, or have become longer."""
        found = [use for use in uses if self.noted.get(use[:3]) != use[3]]
        self.noted.update((use[:3], use[3]) for use in found)
        return found


class Live:
    """Collects what happens; belongs to the server's event loop.

    Args:
        controller: Whose rounds they are.
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
        """Somebody begins, or ceases, to watch."""
        if (session in self.observers) == on:
            return
        (self.observers.add if on else self.observers.discard)(session)
        if len(self.observers) == on:  # the first has come, or the last has gone
            for ue in self.ues.values():
                self._let_know(ue)

    def joined(self, session: Session, member: Member) -> None:
        """A UE has registered."""
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
        """The controller has said something."""
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
        """A UE has begun with what it was granted: its seconds count from now."""
        if (account := self._accounts.get(member.number)) is not None:
            account.origin = now()
            began = {"began": member.number, "round": account.round, "at": account.origin}
            self.log.add(began)

    def told(self, member: Member, said: Used) -> None:
        """A UE says what it uses; only what can be is believed, of its round, and not too much."""
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
        """Note what the server does for a UE, in the query that is open."""
        member, query = session.member, session.query
        account = None if member is None else self._accounts.get(member.number)
        if member is None or query is None or account is None or not self.observers:
            return
        kinds = (ALL_USES.index(("edge", "execute")), ALL_USES.index(("downlink", "activation")))
        uses = [(kind, *use) for kind, own in zip(kinds, query.uses(), strict=True) for use in own]
        self._note(member.number, account, uses)

    def look(self, since: int) -> bytes:
        """Everything that is new since an event's number, and how things are now, as JSON."""
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
        """Who holds what in the server's memory."""
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
        """A character for each of a UE's layers."""

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
    """Tells a server, while somebody watches, what a UE executes and sends in a round.

    Use as `async with Teller(...) as teller`, and let it tell the rest in the end.
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
        """Say what of a timeline has not been said; the server's part it knows."""
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
