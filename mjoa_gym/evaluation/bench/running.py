"""Runs a planner or agent on the frozen problems, and keeps finished answers in a journal."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mjoa_gym.evaluation.agent import LowerBoundAgent, PlannerAgent
from mjoa_gym.evaluation.agent_source import AgentSource
from mjoa_gym.evaluation.bench.frozen import cases, evenly, identity, scenes
from mjoa_gym.evaluation.bench.playing import (
    COLD_START,
    NO_LIMIT,
    answer_cases,
    lost_answer,
    lost_episode,
    play_episodes,
    takes_budget,
)
from mjoa_gym.evaluation.bench.reference import reference_seconds
from mjoa_gym.evaluation.bench.result import (
    BUDGETS,
    DYNAMIC,
    STATIC,
    TRACKS,
    Key,
    Result,
    check_names,
    check_reference,
)
from mjoa_gym.evaluation.journal import EpisodeStore, digest, digest_of
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.processes import WARM_UP, Job, Playing, play_missing
from mjoa_gym.planners.registry import Planner

GIVE_UP = 5
"""After this many answers on a budget that end its process, an agent is not called again there."""
ANSWERING = ("instances.py", "playing.py", "reference.py")
"""The files of this folder that answers depend on."""


class Asked(NamedTuple):
    """What to run: tracks, budgets in milliseconds, and how much of each track.

    `instances` is a number of instances, evenly spread, and `seeds` the number of seeds of each
    scenario. None stands for all.
    """

    tracks: Sequence[str] = TRACKS
    budgets: Sequence[str] = BUDGETS
    instances: int | None = None
    seeds: int | None = None
    scenarios: Sequence[str] | None = None


def run(
    source: AgentSource, text: str, asked: Asked, how: Playing, folder: Path, fresh: bool = False
) -> tuple[Result, list[str]]:
    """Play everything that a folder's journal lacks.

    Args:
        source: The planner or agent.
        text: Its name in the result.
        asked: What to run.
        how: The processes in which to play.
        folder: Folder of the journal.
        fresh: Whether to discard an existing journal.

    Returns:
        The result, and remarks on what went wrong.

    Raises:
        ValueError: If a name is not allowed, if the static track is requested for an agent that is
            not a planner, if the journal belongs to other problems or other code, if there is no
            answer, or if this machine's speed is not plausible.
    """
    check_names(source.label, text)
    check_reference("reference_s", reference_seconds())
    planner = planner_in(source, STATIC in asked.tracks)
    here = Path(__file__).parent
    setting = json.dumps([identity(), digest_of([here / name for name in ANSWERING])])
    store = EpisodeStore(folder, digest(setting.encode()), fresh, "--journal")
    timely = planner is not None and takes_budget(planner)
    tracks: dict[str, dict[str, dict[Key, Any]]] = {track: {} for track in TRACKS}
    result = Result(source.label, text, timely, made_by(), tracks)
    unfinished = _Unfinished(source, result, asked, how, store)
    for track in asked.tracks:
        for budget in budgets_of(track, asked, timely):
            if answers := unfinished.answers(track, budget):
                tracks[track][budget] = answers
    remarks = list(dict.fromkeys(unfinished.remarks))  # most are the same for every budget
    if not any(tracks.values()):
        raise ValueError("; ".join(remarks) or f"{source.label}: there is nothing to run")
    return result, remarks


def first_invalid(result: Result) -> list[str]:
    """Return a sentence for each track with invalid answers: why the first of them is."""
    found = []
    for track, budgets in result.tracks.items():
        answers = [answer for own in budgets.values() for answer in own.values()]
        rows = answers if track == STATIC else [row for answer in answers for row in answer]
        if reasons := [row["invalid"] for row in rows if "invalid" in row]:
            found.append(
                f"{track}: {len(reasons)} of {len(rows)} answers are invalid; the first one: "
                f"{reasons[0]}"
            )
    return found


def planner_in(source: AgentSource, needed: bool) -> Planner | None:
    """Return a source's planner; for an agent return None, or raise a ValueError if `needed`."""
    try:
        agent = source.agent(COLD_START if needed else scenes()["default"].setting)
    except ValueError as error:  # it may be an agent for only some of the scenarios
        if needed:
            raise ValueError(
                f"{source.label}: {error}; for agents of the streaming environment, use --track "
                "dynamic"
            ) from error
        return None
    if isinstance(agent, LowerBoundAgent):
        raise ValueError(f"{source.label}: the lower bound has no plans, so it is no submission")
    if isinstance(agent, PlannerAgent):
        return agent.planner
    if needed:
        raise ValueError(
            f"{source.label}: the static track is for planners, functions Instance -> Plan; for "
            "agents, use --track dynamic"
        )
    return None


def made_by() -> dict[str, str]:
    """Return the machine, the versions, the date, and how busy the machine is."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return machine() | {"Processes that wanted a core": load}


def budgets_of(track: str, asked: Asked, timely: bool) -> list[str]:
    """Return the budgets to play; planners that accept no budget start without one.

    That is enough for the static track. In the dynamic track, a late decision changes later rounds.
    """
    if timely:
        return list(asked.budgets)
    limited = [budget for budget in asked.budgets if budget != NO_LIMIT]
    return [NO_LIMIT] if track == STATIC else [NO_LIMIT, *limited]


class _Unfinished:
    """Plays what a journal lacks, with `remarks` on what went wrong."""

    def __init__(
        self, source: AgentSource, result: Result, asked: Asked, how: Playing, store: EpisodeStore
    ) -> None:
        self._source, self._result, self._asked, self._store = source, result, asked, store
        self._how = how._replace(together=1)  # so that an end of the process loses one answer
        self._version = digest(json.dumps([source.version, result.planner, how.timeout_s]).encode())
        self._hopeless = ""  # why the process ended in a warm-up
        self.remarks: list[str] = []

    def answers(self, track: str, budget: str) -> dict[Key, Any]:
        """Return a track's answers on a budget, without those already in the result."""
        jobs = (self._static_jobs if track == STATIC else self._dynamic_jobs)(budget)
        wanted: list[Job] = []
        for job in jobs:
            # answers that were on time without a limit are the same with one
            left = {
                s: k
                for s, k in job.episodes.items()
                if self._result.answer(track, budget, k[3:]) is None
            }
            if left:
                wanted.append(job._replace(episodes=left))
        self._play(wanted, track)
        rows = self._store.rows
        there = {k[3:]: rows[k] for job in wanted for k in job.episodes.values() if k in rows}
        return {key: own[0] if track == STATIC else own for key, own in there.items()}

    def _static_jobs(self, budget: str) -> list[Job]:
        """Return one job for the instances, whose numbers are its seeds."""
        names = list(cases())
        key = STATIC, budget, self._version
        chosen = evenly(list(range(len(names))), self._asked.instances)
        episodes = {number: (*key, names[number]) for number in chosen}
        return [Job(self._source, COLD_START, episodes, partial(answer_cases, budget=budget))]

    def _dynamic_jobs(self, budget: str) -> list[Job]:
        """Return a job for every scenario."""
        key = DYNAMIC, budget, self._version
        how, asked = partial(play_episodes, budget=budget), self._asked
        return [
            Job(
                self._source, scene.setting,
                {s: (*key, scene.id, str(s)) for s in scene.seeds[: asked.seeds]}, how,
            )
            for scene in scenes().values()
            if asked.scenarios is None or scene.id in asked.scenarios
        ]  # fmt: skip

    def _play(self, jobs: list[Job], track: str) -> None:
        """Play until everything is answered; if the agent's process ends, the answer is invalid."""
        unit = "instance" if track == STATIC else "episode"
        ends = 0
        while not self._hopeless and (failures := play_missing(jobs, self._store, self._how, unit)):
            for failure in failures:
                (seed,) = failure.seeds
                job = next(job for job in jobs if seed in job.episodes)
                if failure.round is None:  # the agent cannot be made for this setting
                    self.remarks.append(str(failure))
                    jobs = [other for other in jobs if other is not job]
                    continue
                where = "in the warm-up before" if failure.round == WARM_UP else "in"
                which = " ".join(job.episodes[seed][3:])
                self.remarks.append(f"{failure.agent}, {where} {unit} {which}: {failure.reason}")
                self._lose(job, seed, failure.reason)
                ends += 1
                if failure.round == WARM_UP:
                    self._hopeless = failure.reason
                elif ends >= GIVE_UP:
                    self._lose_all(jobs, failure.reason)
        if self._hopeless:
            self._lose_all(jobs, self._hopeless)

    def _lose_all(self, jobs: Sequence[Job], reason: str) -> None:
        for job in jobs:
            for seed in job.episodes:
                self._lose(job, seed, reason)

    def _lose(self, job: Job, seed: int, reason: str) -> None:
        """Record an answer that was lost when the agent's process ended."""
        key: Any = job.episodes[seed]
        if key not in self._store.rows:
            lost = lost_answer if key[0] == STATIC else partial(lost_episode, job.setting, seed)
            self._store.add(key, lost(self._how.timeout_s, reason))
