"""The controller: plans for all UEs of a server, round after round, and grants them shares.

A round is that of the timing model. All UEs that have asked for a plan are granted theirs at the
same time: a placement, layers to prefetch, a share of the band and one of the server. It ends when
all outputs are there, and not before its period is over; prefetching ends with it. A UE that comes
while a round is running takes part from the next one on. One that leaves or fails gives its shares
to the others at once, in proportion to theirs, so that nobody gets less than it was promised, and
the next round is planned without it. A UE that takes much longer than planned is waited for no
more: if the server was serving it, its connection is closed, and it goes on by itself.

The problem that is planned is an ordinary `Instance`, of UEs with given rates, so `evaluate` says
what to expect. What comes of each round is kept in `Controller.log` and told to its listeners.
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
"""Ways to share the server out."""
LOCAL = "all on the UEs"
LAST = "the last plan"
LEAST_SHARE = 1.0 / MOST_SLOWDOWN
"""Of the server, where layers are served in turns."""


@dataclass(frozen=True)
class ControllerSettings:
    """How a controller plans.

    Attributes:
        planner: A planner's name, or `module:callable`.
        uplink_bps: Rate of the cell towards the edge; no UE gets more.
        downlink_bps: Rate of the cell towards the UEs.
        budget_s: Seconds that the planner may take for a round.
        period_s: Least seconds of a round.
        upload: Upload mode of all inferences: "parallel", "serial" or "whole".
        compute: How the server is shared out: layers are "stretched", or served in "fair" turns.
        share: Whether layers are shared by content: by the digests of their parameters.
        rounds: Rounds that far-sighted planners look ahead.
        first: How many UEs are waited for when rounds begin: at first, and after all have left.
        gather_s: How long UEs that took part in the last round are waited for.
        patience: How many times its planned latency a UE may take,
        patience_s: or how many seconds more than that latency, whichever is longer.
        most_weight: Largest weight that a UE may give itself.
        most_share: Largest share of the band or the server that one of several UEs may have.
        watched: Whether those who know the token may watch (see `live`).
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

    The functions are its session's: `tell` sends it a grant, the rate of its uplink, or (None) that
    the round is over; `serving` says whether a query of its is open; `expel` closes its connection.
    """

    number: int
    name: str  # its network's
    dnn: DNN
    profile: Profile
    resident: Callable[[], NDArray[np.float64]]  # (L,) fractions of parameters at the server
    retain: Callable[[Collection[int]], None]  # layers that are to be dropped last
    tell: Callable[[Grant | float | None], None]
    serving: Callable[[], bool]
    expel: Callable[[str], None]
    idle_rounds: NDArray[np.int64]  # (L,) rounds since each layer was used
    asked: bool = False  # whether it waits for a plan
    expected: bool = True  # whether the next round waits for it
    grant: Grant | None = None  # of the round that is running
    begun: bool = False  # whether it has asked the server to begin with that
    bandwidth_share: float = 0.0  # what it has of the band and the server
    compute_share: float = 0.0
    limit_s: float = math.inf  # when it is waited for no more
    done: Done | None = None
    gone: bool = False


@dataclass(frozen=True)
class Round:
    """What was planned for a round and what came of it; lists have an entry for each UE.

    Attributes:
        round: Its number, from 1.
        date: When it began.
        ues: The UEs' numbers, in the order in which they came.
        resident: (L,) fractions of the parameters at the server when it was planned.
        placements: A digit per layer, 0 = UE.
        prefetch: Layers that are uploaded in addition.
        retain: Layers that the server drops last.
        bandwidth_share: Of the cell's rates.
        compute_share: Of the server.
        predicted_s: What the simulator says.
        measured_s: What it took by the UE's own account; None if it has not said.
        failed: Whether the UE has given the server up, or the controller the UE.
        overruns: Paced layers that were late.
        planned_by: Whose plan it is: the planner's, `LAST` or `LOCAL`.
        problem: Why the planner gave none.
        planning_s: Seconds that planning took.
        round_s: Seconds that the round took.
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
    """Plans rounds for the UEs that have registered. Belongs to the server's event loop.

    Args:
        settings: How it plans.
        planner: What it asks.
        memory_bytes: Parameters that the server keeps.
        listener: Told everything that happens, as an object of JSON.
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
        self._running: list[Member] = []  # those of the round that is running
        self._last: dict[int, tuple[Any, ...]] = {}  # of the last valid plan, by UE

    def check(self, profile: Profile) -> None:
        """Raise a ProtocolError if a UE wants more than it may."""
        if profile.weight > self.settings.most_weight:
            raise ProtocolError(
                f"REGISTER: weight={profile.weight:g}: at most {self.settings.most_weight:g} is "
                "allowed"
            )

    def join(self, **of_session: Any) -> Member:
        """A UE has registered, with these fields of a `Member`."""
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
        """A UE is gone, or has failed: the others get what it had."""
        member.gone = True
        self.members.remove(member)
        self.listener({"left": member.number, "why": why})
        self._tell_rates(self._hand_out(member))
        self._changed.set()

    def ask(self, member: Member) -> None:
        """A UE is ready for a round."""
        member.asked = member.expected = True
        self._changed.set()

    def finished(self, member: Member, done: Done) -> None:
        """A UE has all outputs of a round; a ProtocolError if it was in none."""
        if done.round < 1 or done.round > self.rounds:
            raise ProtocolError(f"DONE: round={done.round}: allowed are 1 to {self.rounds}")
        if member.grant is not None and done.round == member.grant.round and member.done is None:
            member.done = done
            self._changed.set()

    async def run(self) -> None:
        """Plan rounds for ever."""
        while True:
            members = await self._gather()
            try:
                if members:
                    await self._round(members)
            except Exception:  # a fault of ours: the UEs ask again
                log.exception("a round has failed")
                self._running = []
                for member in members:
                    if not member.gone:
                        member.expel("the controller has failed")
                await asyncio.sleep(self.settings.gather_s)

    async def _gather(self) -> list[Member]:
        """The UEs of the next round: all that have asked, soon after the first has."""
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
        """Whether as many UEs have asked as a round needs."""
        least = 1 if any(m.grant is not None for m in self.members) else self.settings.first
        return sum(m.asked for m in self.members) >= least

    async def _until(self, condition: Callable[[], bool], when: float) -> bool:
        """Wait for something that others change, until then at most; whether it is so."""
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
        """A plan, whose it is, and what is wrong with the planner."""
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
        """The last valid plan, with newcomers local; all-local if there is none."""
        rows = []
        for m in members:
            nothing = np.zeros(m.dnn.n_layers, np.int8)
            rows.append(self._last.get(m.number, (nothing, nothing, nothing, 0.0, 0.0)))
        placements, prefetch, retain, bandwidth, compute = map(list, zip(*rows, strict=True))
        plan = Plan(placements, bandwidth, compute, prefetch, retain)
        try:
            used = any(sides.any() for sides in plan.placements)
            return check_plan(plan, instance), LAST if used else LOCAL
        except PlanningError:  # links have changed
            return local_only(instance), LOCAL

    def _capped(self, plan: Plan) -> Plan:
        """The plan with no UE above its largest share; the others get what is over in proportion.

        At least half of what there is may be one UE's, so none of the others comes above that.
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
        """Tell everybody at once. Who has gone while it was planned has no part in it."""
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
        """What UE i of a plan is told."""
        marks = np.zeros_like(plan.placements[i])
        if plan.prefetch is not None and member.bandwidth_share > 0:
            marks = plan.prefetch[i]
        mode = UPLOAD_MODES.index(self.settings.upload)
        return Grant(
            member.number, self.rounds, plan.placements[i].tobytes(), marks.tobytes(), mode,
            *self.rates(member), slowdown_of(member.compute_share), predicted_s,
        )  # fmt: skip

    def allows(self, member: Member, begin: Begin) -> bool:
        """Whether a UE may begin with this: once, what it was granted, while the round runs."""
        grant = member.grant
        if grant is None or member.begun or member not in self._running:
            return False
        asked = begin.placement, begin.prefetch, begin.upload
        member.begun = asked == (grant.placement, grant.prefetch, grant.upload)
        return member.begun

    def phase(self, member: Member) -> str:
        """What a UE is doing: "infers", "is done" while others are not, "waits", or "is idle"."""
        if member in self._running:
            return "infers" if member.done is None else "is done"
        return "waits" if member.asked else "is idle"

    def rates(self, member: Member) -> tuple[float, float]:
        """Bits per second of a UE's uplink and downlink with its share."""
        s, p = self.settings, member.profile
        cells = (min(p.uplink_bps, s.uplink_bps), min(p.downlink_bps, s.downlink_bps))
        up, down = (max(LEAST_RATE_BPS, member.bandwidth_share * cell) for cell in cells)
        return up, down

    async def _see_through(self, start: float) -> None:
        """Until everybody is done, and the period is over; then prefetching ends."""
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
        """Wait for a UE no more."""
        member.limit_s = math.inf
        member.expected = False
        if member.serving():
            member.expel(f"not done after {self.settings.patience:g} times what was planned")
        self._tell_rates(self._hand_out(member))

    def _hand_out(self, member: Member) -> list[Member]:
        """Give what a UE has to those that are still at it, in proportion; they are returned."""
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
        """Count the rounds since each of a UE's layers was used."""
        if member.gone or member.grant is None:
            return
        after = member.resident()
        used = np.frombuffer(member.grant.placement, np.int8).astype(bool) | (after > before)
        member.idle_rounds = np.where(used | (after <= 0), 0, member.idle_rounds + 1)


def slowdown_of(share: float) -> float:
    """How many times longer layers take with a share of the server; 1 where none is needed."""
    return max(1.0, min(MOST_SLOWDOWN, 1.0 / share)) if share > 0 else 1.0


def _layers(marks: Sequence[NDArray] | None, members: Sequence[Member]) -> list[list[int]]:
    if marks is None:
        return [[] for _ in members]
    return [np.flatnonzero(row).tolist() for row in marks]
