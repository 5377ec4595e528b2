"""Answers of a planner or agent to the frozen problems, and their times.

The reference kernel is timed next to every answer. An answer is invalid if the agent raises an
exception, does not return a plan, or returns one with which an inference never ends. An answer that
takes more than `LATE` budgets is late. In both cases the UEs stay local.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mjoa_gym.dnn import DNN
from mjoa_gym.envs.actions import PlanView
from mjoa_gym.envs.core import ONE, Core
from mjoa_gym.evaluation.agent import Agent, PlannerAgent, signature_of
from mjoa_gym.evaluation.bench.frozen import INVALID, Case, cases
from mjoa_gym.evaluation.bench.instances import plain_plan, read_plan
from mjoa_gym.evaluation.bench.reference import NOMINAL_S, Stopwatch, normalised, reference_seconds
from mjoa_gym.evaluation.episodes import Decider, PlayError, Setting, Watch
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.processes import WARM_UP
from mjoa_gym.evaluation.user_code import reason_of
from mjoa_gym.model.instance import UE, Instance, Plan, evaluate_cost
from mjoa_gym.planners.registry import ANYTIME, PLANNERS, Planner, plan_with
from mjoa_gym.planners.trivial import local_only
from mjoa_gym.world.rounds import Decision, Outcome, plan_of
from mjoa_gym.world.scenario import Scenario

NO_LIMIT = "none"
"""The budget of answers without a time limit."""
LATE = 2.0
"""An answer is late if it takes more than this many budgets."""
COLD_START = Setting("cold-start", Scenario())
"""The setting for which planners of the static track are made; they see only the instance."""
WARM_UP_SEED = 0
ENDLESS = 1e100
"""A cost from which an inference counts as one that never ends; far below what would overflow."""


def takes_budget(planner: Planner) -> bool:
    """Return whether a planner accepts a time limit, as `budget_s`."""
    signature = signature_of(planner)
    told = signature is not None and "budget_s" in signature.parameters
    return told or _anytime(planner) is not None


def _anytime(planner: Planner) -> str | None:
    """Return the name of a planner in `ANYTIME`, to which `plan_with` passes the budget."""
    return next((name for name in ANYTIME if PLANNERS[name] is planner), None)


def is_late(seconds: float, reference_s: float, budget: str) -> bool:
    """Return whether an answer that took these seconds is late on a budget in milliseconds."""
    return budget != NO_LIMIT and normalised(seconds, reference_s) > LATE * float(budget) / 1e3


class Clocked:
    """A planner that gets its budget in the seconds of this machine, if it accepts a budget.

    Attributes:
        reference_s: The current seconds of the reference kernel.
        seconds: How long the last call took.
    """

    def __init__(self, planner: Planner, budget: str) -> None:
        self._call: Callable[..., Plan] = planner
        self._budget_s = None
        if budget != NO_LIMIT and takes_budget(planner):
            self._budget_s = float(budget) / 1e3
            if (name := _anytime(planner)) is not None:
                self._call = partial(plan_with, name)
        self.reference_s, self.seconds = NOMINAL_S, 0.0

    def tick(self) -> float:
        """Time the reference kernel, and return its current seconds."""
        self.reference_s = reference_seconds()
        return self.reference_s

    def __call__(self, instance: Instance) -> Plan:
        """Return the plan."""
        watch = Stopwatch()
        try:
            if self._budget_s is None:
                return self._call(instance)
            return self._call(instance, budget_s=self._budget_s / normalised(1.0, self.reference_s))
        finally:
            self.seconds = watch.read()


def answer_cases(
    agent: Agent, setting: Setting, numbers: Sequence[int], watch: Watch, budget: str = NO_LIMIT
) -> list[list[Row]]:
    """Let a planner answer frozen instances, by their numbers: one row each.

    A row has `seconds`, `reference_s`, and either `plan` and `cost`, or `invalid` with the reason.
    """
    if not isinstance(agent, PlannerAgent):
        raise PlayError(None) from ValueError("the static track is for planners: Instance -> Plan")
    planner, every = Clocked(agent.planner, budget), list(cases().values())
    _warm(agent.planner, budget, watch)
    rows = []
    for number in numbers:
        watch(number, True)
        rows.append([answered(planner, every[number])])
        watch(number, False)
    return rows


def answered(planner: Clocked, case: Case) -> Row:
    """Return a planner's answer to an instance that it has not seen."""
    # a copy, in which nothing is cached, and which the planner may change
    instance = replace(case.instance, ues=tuple(replace(ue) for ue in case.instance.ues))
    row: Row = {"reference_s": planner.tick()}
    try:
        plan = planner(instance)
        if not isinstance(plan, Plan):
            raise TypeError(f"the planner gave {type(plan).__name__}, not a Plan")
        plain = plain_plan(plan)
        cost = cost_of(case.instance, read_plan(plain))
    except BaseException as error:  # a process that plays does not get Ctrl-C
        return row | {"seconds": planner.seconds, "invalid": reason_of(error)}
    return row | {"seconds": planner.seconds, "plan": plain, "cost": cost}


def cost_of(instance: Instance, plan: Plan) -> float:
    """Return a plan's cost in weighted seconds; a ValueError says why it is not an answer."""
    cost = float(evaluate_cost(instance, plan).sum())
    if not cost < ENDLESS:
        raise ValueError("an inference never ends, for want of a share that it needs")
    return cost


_seen: list[tuple[Any, ...]] = []


def _first_time(*key: Any) -> bool:
    """Return whether a key is new to this process; its first part is compared by identity."""
    if any(own[0] is key[0] and own[1:] == key[1:] for own in _seen):
        return False
    _seen.append(key)
    return True


def _warm(planner: Planner, budget: str, watch: Watch) -> None:
    """Compile and load everything before planning is timed."""
    if not _first_time(planner, budget):
        return
    watch(WARM_UP, True)
    clocked = Clocked(planner, budget)
    for instance in warm_up_instances():
        with suppress(BaseException):
            planner(instance)
            clocked(instance)
    watch(WARM_UP, False)


def warm_up_instances() -> list[Instance]:
    """Return a chain, a DAG, and an instance with deadlines and messages, not in the benchmark."""
    ues = []
    for name in ("alexnet", "googlenet"):
        dnn = DNN.load(name)
        seconds = dnn.flops / 5e9
        ues.append(UE(dnn, seconds, seconds / 20, 100.0, 100.0, deadline_s=float(seconds.sum())))
    both = Instance(ues, 20e6, message_s=0.001, miss_price_s=0.5)
    return [Instance([ue, ue], 20e6) for ue in ues] + [both]


def play_episodes(
    agent: Agent, setting: Setting, seeds: Sequence[int], watch: Watch, budget: str = NO_LIMIT
) -> list[list[Row]]:
    """Play frozen episodes, one after the other: for each seed a row per round.

    Of a planner only its call is timed, as in the static track. Of an agent everything is timed
    that it does between an observation and its decision.

    A row has `seconds`, `reference_s`, `cost`, `local` (the cost of all-local), and the executed
    plan: the agent's, or all-local if the agent's was late or invalid. `invalid` has the reason.
    """
    planner = agent.planner if isinstance(agent, PlannerAgent) else None
    clock, new = Clocked(planner or local_only, budget), _first_time(planner or agent, setting)
    if planner is not None:
        agent = PlannerAgent(clock, setting.scenario)
    if new:
        watch(WARM_UP, True)
        _warm_episode(agent, setting)
        watch(WARM_UP, False)
    return [_episode(agent, setting, seed, watch, clock, budget) for seed in seeds]


def _warm_episode(agent: Agent, setting: Setting) -> None:
    """Warm up like `_warm`: let the agent decide two rounds of an episode that does not count."""
    with suppress(BaseException):
        game = Game(agent, setting, WARM_UP_SEED)
        for _ in range(2):
            game.advance(game.decided())


def _episode(
    agent: Agent, setting: Setting, seed: int, watch: Watch, clock: Clocked, budget: str
) -> list[Row]:
    game = Game(agent, setting, seed)
    rows: list[Row] = []
    while not game.over:
        row: Row = {"reference_s": clock.tick()}
        watch(len(rows), True)
        stopwatch = Stopwatch()
        try:
            decision = game.decided()
            reason = ""
        except BaseException as error:
            decision, reason = None, reason_of(error)
        whole = stopwatch.read()
        row["seconds"] = clock.seconds if isinstance(agent, PlannerAgent) else whole
        watch(len(rows), False)
        if decision is None or is_late(row["seconds"], row["reference_s"], budget):
            decision = game.decision_of(local_only(game.instance))
        try:
            played = game.advance(decision)
        except ValueError as error:  # an inference never ends
            reason = reason_of(error)
            played = game.advance(game.decision_of(local_only(game.instance)))
        rows.append(row | played | ({"invalid": reason} if reason else {}))
    return rows


def lost_answer(seconds: float, reason: str) -> list[Row]:
    """Return the row for an answer that ended a planner's process."""
    return [{"seconds": seconds, "reference_s": reference_seconds(), "invalid": reason}]


def lost_episode(setting: Setting, seed: int, seconds: float, reason: str) -> list[Row]:
    """Return the rows for an episode in which an agent's process ended: all-local every round."""
    game = Game(PlannerAgent(local_only, setting.scenario), setting, seed)
    rows: list[Row] = []
    while not game.over:
        rows.append(game.advance(game.decided()) | lost_answer(seconds, reason)[0])
    return rows


class Game:
    """An episode that is played decision by decision, by an agent or from plans.

    Attributes:
        instance: The problem of the current round.
    """

    def __init__(self, agent: Agent, setting: Setting, seed: int) -> None:
        self._envs = setting.environments(agent, 1)
        self._core: Core = self._envs.unwrapped.core  # type: ignore[attr-defined]
        self._observation, _ = self._envs.reset(seed=[seed])  # type: ignore[arg-type]
        self._decide = Decider(agent, self._core)
        self._plans = PlanView(setting.scenario, persists=True)
        self.instance: Instance = self._core.batch.instance(0)

    @property
    def over(self) -> bool:
        """Whether all rounds of the episode have been played."""
        return bool(self._core.batch.over()[0])

    def decided(self) -> Decision:
        """Return the agent's decision for this round, which may take several actions."""
        try:
            return self._decide.decision(self._observation)
        except BaseException:
            self._core.view.restart(ONE)
            raise

    def decision_of(self, plan: Plan) -> Decision:
        """Return a plan as a decision; raise a ValueError if it does not fit this round."""
        plan.check_fits(self.instance)
        action = self._plans.single(self._plans.encode(plan))
        return self._plans.decode(action, self._core.batch.state, ONE)[0]

    def advance(self, decision: Decision) -> Row:
        """Execute a decision; return its cost, the cost of all-local, and the decision as a plan.

        Raises a ValueError, and nothing changes, if an inference never ends.
        """
        local = float(self.instance.local_cost.sum())
        plan = plan_of(decision, 0, self.instance)
        cost_of(self.instance, plan)
        outcome: Outcome = self._core.batch.play(decision, ONE, endless=False)
        cost = (1.0 - float(outcome.reward[0])) * local
        if not self.over:
            self._core.view.restart(ONE)
            self._observation = self._core.observe()
            self.instance = self._core.batch.instance(0)
        return {"cost": cost, "local": local, "plan": plain_plan(plan)}


def replayed(setting: Setting, seed: int, plans: Sequence[Plan]) -> list[Row]:
    """Return the cost of an episode, round by round, if these plans are executed."""
    agent = PlannerAgent(local_only, setting.scenario)
    game = Game(agent, setting, seed)
    rows: list[Row] = []
    for plan in plans:
        if game.over:
            raise ValueError(f"has {len(plans)} rounds: the episode has {len(rows)}")
        rows.append(game.advance(game.decision_of(plan)))
    if not game.over:
        raise ValueError(f"has {len(plans)} rounds: the episode has more")
    return rows


def counted(row: Mapping[str, Any], local: float, budget: str) -> float:
    """Return the cost that an answer counts as: its cost, but at most `INVALID` times all-local.

    An invalid answer counts as this maximum, and a late answer as all-local.
    """
    if "invalid" in row:
        return INVALID * local
    if is_late(row["seconds"], row["reference_s"], budget):
        return local
    return min(float(row["cost"]), INVALID * local)


def episode_cost(rows: Sequence[Mapping[str, Any]], budget: str) -> float:
    """Return the cost that an episode counts as: the mean over its rounds."""
    return float(np.mean([counted(row, row["local"], budget) for row in rows]))
