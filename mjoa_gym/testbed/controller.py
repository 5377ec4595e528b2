"""The controller of a server: it plans rounds for all UEs and grants them shares.

A round is that of the timing model. At its start all UEs that have asked for a plan get a grant at
the same time: a placement, layers to prefetch, a share of the band and a share of the server. The
round ends when all outputs have arrived and its period is over. Prefetching ends with it.

* A UE that arrives during a round takes part in the next one.
* If a UE leaves or fails, the others get its shares at once, in proportion to their own. No UE gets
  less than it was promised. The next round is planned without the UE that is gone.
* The controller stops waiting for a UE that takes much longer than planned. If the server is
  serving that UE, its connection is closed, and the UE finishes by itself.

The problem of a round is an ordinary `Instance` whose UEs have given rates, so `evaluate` predicts
the latencies. The controller passes every plan and its outcome to its listener.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.model.instance import UE, Horizon, Instance, Plan, evaluate
from mjoa_gym.planners.trivial import local_only
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.frames import (
    LEAST_RATE_BPS,
    MOST_SLOWDOWN,
    Begin,
    Done,
    Grant,
    Profile,
    ProtocolError,
)
from mjoa_gym.testbed.planning import PlannerProcess, PlanningError, check_plan
from mjoa_gym.validation import choice, count, positive, positive_or_inf

log = logging.getLogger(__name__)
GRANTED_MODES = tuple(mode for mode in UPLOAD_MODES if mode != "preinstalled")
COMPUTE = STRETCHED, FAIR = "stretched", "fair"
"""How layers of several UEs share the server; see `executor`."""
LOCAL = "all on the UEs"
LAST = "the last plan"
LEAST_SHARE = 1.0 / MOST_SLOWDOWN
"""The least share of the server that counts when layers are served in turns."""


@dataclass(frozen=True)
class ControllerSettings:
    """How a controller plans.

    Attributes:
        planner: The planner or agent, as `PlannerProcess` takes it.
        uplink_bps: Rate of the cell towards the edge in bits per second; no UE gets more.
        downlink_bps: Rate of the cell towards the UEs in bits per second; no UE gets more.
        budget_s: Seconds that the planner may take for a round.
        period_s: Shortest duration of a round in seconds.
        upload: Upload mode of all inferences: "parallel", "serial" or "whole".
        compute: How layers of several UEs share the server: "stretched", or in "fair" turns.
        share: Whether equal layers are shared, by the digests of their parameters.
        rounds: Number of later rounds that the planner is told are left.
        first: Number of UEs to wait for before rounds begin, and again after all UEs have left.
        gather_s: Seconds to wait for the UEs of the last round.
        patience: A UE may take this many times its planned latency,
        patience_s: or this many seconds more than its planned latency, whichever is longer.
        most_weight: Largest weight that a UE may have.
        most_share: Largest share of the band or the server that one of several UEs may have, at
            least 0.5.
        watched: Whether clients that know the token may watch (see `live`).

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    planner: str = "mjoa-mu"
    uplink_bps: float = 100e6
    downlink_bps: float = 100e6
    _: KW_ONLY
    budget_s: float = 1.0
    period_s: float = 0.01
    upload: str = "parallel"
    compute: str = STRETCHED
    share: bool = False
    rounds: int = 10
    first: int = 1
    gather_s: float = 1.0
    patience: float = 2.0
    patience_s: float = 2.0
    most_weight: float = 10.0
    most_share: float = 1.0
    watched: bool = True

    def __post_init__(self) -> None:
        for name in ("uplink_bps", "downlink_bps"):
            if not positive(name, getattr(self, name)) >= LEAST_RATE_BPS:
                value = getattr(self, name)
                raise ValueError(f"{name}={value!r}: must be at least {LEAST_RATE_BPS:g}")
        names = ("budget_s", "period_s", "gather_s", "patience", "patience_s", "most_share")
        for name in names:
            positive(name, getattr(self, name))
        if not 0.5 <= self.most_share <= 1:
            raise ValueError(f"most_share={self.most_share!r}: must be in [0.5, 1]")
        positive_or_inf("most_weight", self.most_weight)
        for name in ("rounds", "first"):
            count(name, getattr(self, name))
        choice("upload", self.upload, GRANTED_MODES)
        choice("compute", self.compute, COMPUTE)


@dataclass(eq=False)
class Member:
    """A UE that has registered.

    Its session provides the functions. `tell` sends a grant, or a new rate of the uplink in bits
    per second, or (None) the end of the round. `serving` returns whether the server has an open
    query of this UE. `expel` closes the connection with a reason.
    """

    number: int
    name: str  # of its network
    dnn: DNN
    profile: Profile
    resident: Callable[[], NDArray[np.float64]]  # (L,) fractions of parameters at the server
    retain: Callable[[Collection[int]], None]  # sets the layers to drop last
    tell: Callable[[Grant | float | None], None]
    serving: Callable[[], bool]
    expel: Callable[[str], None]
    idle_rounds: NDArray[np.int64]  # (L,) rounds since each layer was used
    asked: bool = False  # whether it waits for a plan
    expected: bool = True  # whether the next round waits for it
    grant: Grant | None = None  # its last grant
    begun: bool = False  # whether it has begun at the server with this grant
    bandwidth_share: float = 0.0  # its present shares of the band and the server
    compute_share: float = 0.0
    limit_s: float = math.inf  # time of the clock at which the controller gives it up
    done: Done | None = None  # its report on the last grant
    gone: bool = False  # whether it has left


@dataclass(frozen=True)
class Round:
    """The plan of a round and its outcome; lists have one entry for each UE.

    Attributes:
        round: Number of the round, from 1.
        date: Local date and time of its start.
        ues: Numbers of the UEs, in the order in which they registered.
        resident: (L,) fractions of the parameters at the server before the round.
        placements: One digit per layer, 0 = UE, 1 = edge.
        prefetch: Layers that are uploaded in addition.
        retain: Layers that the server drops last.
        bandwidth_share: Share of the cell's rates.
        compute_share: Share of the server.
        predicted_s: Simulated latency in seconds.
        measured_s: Latency in seconds that the UE reports; None without a report.
        failed: Whether the UE gave the server up, or gave no report.
        overruns: Number of paced layers that were late.
        planned_by: Source of the plan: the planner's name, `LAST` or `LOCAL`.
        problem: Why the planner gave no plan; empty if it did.
        planning_s: Seconds that planning took.
        round_s: Seconds from the grants to the end of the round.
    """

    round: int
    date: str
    ues: list[int]
    resident: list[list[float]]
    placements: list[str]
    prefetch: list[list[int]]
    retain: list[list[int]]
    bandwidth_share: list[float]
    compute_share: list[float]
    predicted_s: list[float]
    planned_by: str
    problem: str
    planning_s: float
    measured_s: list[float | None] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    overruns: list[int] = field(default_factory=list)
    round_s: float = 0.0


class Controller:
    """Plans rounds for the UEs that have registered. It belongs to the server's event loop.

    Args:
        settings: How the controller plans.
        planner: The process that it asks for plans.
        memory_bytes: Bytes of parameters that the server can keep.
        listener: Called with every event: a UE that joins or leaves, a plan, the outcome of a
            round. Events can be written as JSON.
    """

    def __init__(
        self,
        settings: ControllerSettings,
        planner: PlannerProcess,
        memory_bytes: float,
        listener: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.planner = planner
        self.memory_bytes = memory_bytes
        self.listener = listener
        self.members: list[Member] = []
        self.rounds = 0
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self._running: list[Member] = []  # UEs of the current round
        self._last: dict[int, tuple[Any, ...]] = {}  # a UE's number: its part of the last plan

    def check(self, profile: Profile) -> None:
        """Raise a ProtocolError if a UE's weight is larger than allowed."""
        if profile.weight > self.settings.most_weight:
            raise ProtocolError(
                f"REGISTER: weight={profile.weight:g}: at most {self.settings.most_weight:g} is "
                "allowed"
            )

    def join(self, **of_session: Any) -> Member:
        """Add a UE that has registered, with these fields of a `Member`, and return it."""
        n_layers = of_session["dnn"].n_layers
        idle = np.zeros(n_layers, np.int64)
        member = Member(number=next(self._numbers), idle_rounds=idle, **of_session)
        self.members.append(member)
        profile, cell = member.profile, self.settings
        self.listener({
            "joined": member.number, "model": member.name, "weight": profile.weight,
            "ue_s": profile.ue_s, "edge_s": profile.edge_s,
            "uplink_bps": min(profile.uplink_bps, cell.uplink_bps),
            "downlink_bps": min(profile.downlink_bps, cell.downlink_bps),
            "message_s": profile.message_s,
            "deadline_s": profile.deadline_s if math.isfinite(profile.deadline_s) else None,
        })  # fmt: skip
        self._changed.set()
        return member

    def leave(self, member: Member, why: str) -> None:
        """Remove a UE that has left or failed, and give its shares to the others."""
        member.gone = True
        self.members.remove(member)
        self.listener({"left": member.number, "why": why})
        self._tell_rates(self._hand_out(member))
        self._changed.set()

    def ask(self, member: Member) -> None:
        """Note that a UE waits for a plan."""
        member.asked = member.expected = True
        self._changed.set()

    def finished(self, member: Member, done: Done) -> None:
        """Note a UE's report that it has all outputs of a round.

        Raises:
            ProtocolError: If there was no such round.
        """
        if done.round < 1 or done.round > self.rounds:
            raise ProtocolError(f"DONE: round={done.round}: allowed are 1 to {self.rounds}")
        if member.grant is not None and done.round == member.grant.round and member.done is None:
            member.done = done
            self._changed.set()

    async def run(self) -> None:
        """Plan one round after the other, without end."""
        while True:
            members = await self._gather()
            try:
                if members:
                    await self._round(members)
            except Exception:  # a bug must not end all rounds: the UEs connect again
                log.exception("a round has failed")
                self._running = []
                for member in members:
                    if not member.gone:
                        member.expel("the controller has failed")
                await asyncio.sleep(self.settings.gather_s)

    async def _gather(self) -> list[Member]:
        """Wait until enough UEs have asked, then a while for the others; return all that have.

        A UE that has not asked by then but is still being served is disconnected.
        """
        await self._until(self._enough, math.inf)
        patience = now() + self.settings.gather_s
        await self._until(lambda: all(m.asked or not m.expected for m in self.members), patience)
        for member in self.members:
            if not member.asked:
                member.expected = False
                if member.grant is not None and member.serving():
                    member.expel("the round is over")
        return [member for member in self.members if member.asked]

    def _enough(self) -> bool:
        """Return whether as many UEs have asked as a round needs."""
        least = 1 if any(m.grant is not None for m in self.members) else self.settings.first
        return sum(m.asked for m in self.members) >= least

    async def _until(self, condition: Callable[[], bool], when: float) -> bool:
        """Wait until a condition holds, or until a time of the clock; return whether it holds."""
        while not condition():
            self._changed.clear()
            left = when - now()
            if left <= 0:
                return False
            try:
                async with asyncio.timeout(left if math.isfinite(left) else None):
                    await self._changed.wait()
            except TimeoutError:
                return condition()
        return True

    async def _round(self, members: Sequence[Member]) -> None:
        instance = self._instance(members)
        began = now()
        plan, planned_by, problem = await self._plan(members, instance)
        planning_s = now() - began
        plan = self._capped(plan)
        predicted = evaluate(instance, plan)
        self.rounds += 1
        marks = _layers(plan.prefetch, members), _layers(plan.retain, members)
        note = Round(
            self.rounds, time.strftime("%Y-%m-%d %H:%M:%S"), [m.number for m in members],
            [ue.resident.round(6).tolist() for ue in instance.ues],
            ["".join(map(str, sides.tolist())) for sides in plan.placements], *marks,
            plan.bandwidth_share.tolist(), plan.compute_share.tolist(), predicted.tolist(),
            planned_by, problem, planning_s,
        )  # fmt: skip
        self.listener({"planned": self.rounds} | asdict(note))
        start = now()
        self._grant(members, instance, plan, predicted)
        await self._see_through(start)
        done = [member.done for member in members]
        for member, ue in zip(members, instance.ues, strict=True):
            self._settle(member, ue.resident)
        note = replace(
            note,
            measured_s=[None if each is None else each.latency_s for each in done],
            failed=[each is None or bool(each.failed) for each in done],
            overruns=[0 if each is None else each.overruns for each in done],
            round_s=now() - start,
        )
        self.listener(asdict(note))

    def _instance(self, members: Sequence[Member]) -> Instance:
        s = self.settings
        ues = [
            UE(
                m.dnn, m.profile.ue_s, m.profile.edge_s, resident=m.resident(),
                weight=m.profile.weight, uplink_bps=min(m.profile.uplink_bps, s.uplink_bps),
                downlink_bps=min(m.profile.downlink_bps, s.downlink_bps),
                message_s=m.profile.message_s, deadline_s=m.profile.deadline_s,
            )
            for m in members
        ]  # fmt: skip
        horizon = Horizon(
            s.rounds, s.period_s, self.memory_bytes, share_parameters=s.share, retain=True,
            idle_rounds=tuple(m.idle_rounds for m in members),
        )  # fmt: skip
        return Instance(ues, upload=s.upload, horizon=horizon)

    async def _plan(self, members: Sequence[Member], instance: Instance) -> tuple[Plan, str, str]:
        """Return a plan, its source, and why the planner gave none (empty if it did)."""
        problem = ""
        try:
            plan = await self.planner.plan(instance, self.settings.budget_s)
            planned_by = self.settings.planner
        except PlanningError as error:
            problem = str(error)
            log.warning("planning for %d UEs: %s", len(members), problem)
            plan, planned_by = self._fallback(members, instance)
        nothing = [np.zeros_like(sides) for sides in plan.placements]
        parts = zip(
            plan.placements, plan.prefetch or nothing, plan.retain or nothing,
            plan.bandwidth_share, plan.compute_share, strict=True,
        )  # fmt: skip
        self._last = {m.number: part for m, part in zip(members, parts, strict=True)}
        return plan, planned_by, problem

    def _fallback(self, members: Sequence[Member], instance: Instance) -> tuple[Plan, str]:
        """Return the last plan, with newcomers local, if it still fits, else an all-local plan."""
        rows = []
        for m in members:
            nothing = np.zeros(m.dnn.n_layers, np.int8)
            rows.append(self._last.get(m.number, (nothing, nothing, nothing, 0.0, 0.0)))
        placements, prefetch, retain, bandwidth, compute = map(list, zip(*rows, strict=True))
        plan = Plan(placements, bandwidth, compute, prefetch, retain)
        try:
            used = any(sides.any() for sides in plan.placements)
            return check_plan(plan, instance), LAST if used else LOCAL
        except PlanningError:  # for instance because links have changed
            return local_only(instance), LOCAL

    def _capped(self, plan: Plan) -> Plan:
        """Return the plan with no share above `most_share`.

        The other UEs get the excess in proportion to their shares. This lifts none of them above
        `most_share`, because that is at least one half.
        """
        most = self.settings.most_share

        def capped(share: NDArray[np.float64]) -> NDArray[np.float64]:
            over = np.maximum(share - most, 0.0).sum()
            others = np.where(share < most, share, 0.0)
            if len(share) == 1 or over == 0.0 or others.sum() == 0.0:
                return share
            return np.minimum(share, most) + over * others / others.sum()

        shares = capped(plan.bandwidth_share), capped(plan.compute_share)
        return Plan(plan.placements, *shares, plan.prefetch, plan.retain)

    def _grant(
        self, members: Sequence[Member], instance: Instance, plan: Plan, predicted: NDArray
    ) -> None:
        """Grant a plan to all its UEs at once, except those that have left during planning."""
        s = self.settings
        self._running = list(members)
        for i, m in enumerate(members):
            m.bandwidth_share = float(plan.bandwidth_share[i])
            m.compute_share = float(plan.compute_share[i])
            m.done, m.asked, m.begun = None, False, False
            expected = float(predicted[i])
            m.limit_s = now() + max(s.patience * expected, expected + s.patience_s)
        for m in members:
            if m.gone:
                self._hand_out(m)
        for i, m in enumerate(members):
            if not m.gone:
                m.retain([] if plan.retain is None else np.flatnonzero(plan.retain[i]).tolist())
                m.grant = self._granted(m, plan, i, float(predicted[i]))
                m.tell(m.grant)

    def _granted(self, member: Member, plan: Plan, i: int, predicted_s: float) -> Grant:
        """Return the grant of UE `i` of a plan."""
        marks = np.zeros_like(plan.placements[i])
        if plan.prefetch is not None and member.bandwidth_share > 0:
            marks = plan.prefetch[i]
        mode = UPLOAD_MODES.index(self.settings.upload)
        return Grant(
            member.number, self.rounds, plan.placements[i].tobytes(), marks.tobytes(), mode,
            *self.rates(member), slowdown_of(member.compute_share), predicted_s,
        )  # fmt: skip

    def allows(self, member: Member, begin: Begin) -> bool:
        """Return whether a UE may begin with this query, and note that it has begun.

        Each UE may begin once in a round, with exactly its grant.
        """
        grant = member.grant
        if grant is None or member.begun or member not in self._running:
            return False
        asked = begin.placement, begin.prefetch, begin.upload
        member.begun = asked == (grant.placement, grant.prefetch, grant.upload)
        return member.begun

    def phase(self, member: Member) -> str:
        """Return a UE's state: "infers", "is done" (others are not), "waits" or "is idle"."""
        if member in self._running:
            return "infers" if member.done is None else "is done"
        return "waits" if member.asked else "is idle"

    def rates(self, member: Member) -> tuple[float, float]:
        """Return the rates of a UE's uplink and downlink with its share, in bits per second."""
        s, p = self.settings, member.profile
        cells = (min(p.uplink_bps, s.uplink_bps), min(p.downlink_bps, s.downlink_bps))
        up, down = (max(LEAST_RATE_BPS, member.bandwidth_share * cell) for cell in cells)
        return up, down

    async def _see_through(self, start: float) -> None:
        """Wait until all UEs are done and the period is over, then end prefetching."""
        while waiting := [m for m in self._running if m.done is None and not m.gone]:
            nearest = min(m.limit_s for m in waiting)
            await self._until(lambda: any(m.done or m.gone for m in waiting), nearest)
            for m in waiting:
                if m.done is None and not m.gone and now() >= m.limit_s:
                    self._give_up(m)
        await self._until(lambda: False, start + self.settings.period_s)
        running, self._running = self._running, []
        for m in running:
            if not m.gone and m.serving():
                m.tell(None)

    def _give_up(self, member: Member) -> None:
        """Stop waiting for a UE: end its connection if it is served, and give away its shares."""
        member.limit_s = math.inf
        member.expected = False
        if member.serving():
            member.expel(f"not done after {self.settings.patience:g} times the planned latency")
        self._tell_rates(self._hand_out(member))

    def _hand_out(self, member: Member) -> list[Member]:
        """Give a UE's shares to the other UEs of the round, in proportion, and return those."""
        if member not in self._running:
            return []
        self._running.remove(member)
        others = [m for m in self._running if not m.gone]
        for name in ("bandwidth_share", "compute_share"):
            freed, left = getattr(member, name), sum(getattr(m, name) for m in others)
            setattr(member, name, 0.0)
            if freed > 0 and left > 0:
                for m in others:
                    setattr(m, name, getattr(m, name) * (1 + freed / left))
        return others

    def _tell_rates(self, members: Sequence[Member]) -> None:
        for m in members:
            if m.serving() or m.done is None:
                m.tell(self.rates(m)[0])

    def _settle(self, member: Member, before: NDArray[np.float64]) -> None:
        """Update the number of rounds since each of a UE's layers was used."""
        if member.gone or member.grant is None:
            return
        after = member.resident()
        used = np.frombuffer(member.grant.placement, np.int8).astype(bool) | (after > before)
        member.idle_rounds = np.where(used | (after <= 0), 0, member.idle_rounds + 1)


def slowdown_of(share: float) -> float:
    """Return how many times longer layers take with a share of the server; 1 for no share."""
    return max(1.0, min(MOST_SLOWDOWN, 1.0 / share)) if share > 0 else 1.0


def _layers(marks: Sequence[NDArray] | None, members: Sequence[Member]) -> list[list[int]]:
    if marks is None:
        return [[] for _ in members]
    return [np.flatnonzero(row).tolist() for row in marks]
