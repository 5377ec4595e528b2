"""Runs a planner or agent on the frozen problems, and keeps finished answers in a journal."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mjoa_gym.evaluation.agent import PlannerAgent
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
from mjoa_gym.evaluation.bench.result import BUDGETS, DYNAMIC, STATIC, TRACKS, Key, Result
from mjoa_gym.evaluation.journal import EpisodeStore, digest, digest_of
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.processes import Failure, Job, Playing, play_missing
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
        ValueError: If the static track is requested for an agent that is not a planner, if the
            journal belongs to other problems or other code, or if there is no answer.
    """
    here = Path(__file__).parent
    setting = json.dumps([identity(), digest_of([here / name for name in ANSWERING])])
    store = EpisodeStore(folder, digest(setting.encode()), fresh)
    planner = planner_in(source, STATIC in asked.tracks)
    timely = planner is not None and takes_budget(planner)
    tracks: dict[str, dict[str, dict[Key, Any]]] = {track: {} for track in TRACKS}
    result = Result(source.label, text, timely, made_by(), tracks)
    remarks: list[str] = []
    for track in asked.tracks:
        for budget in budgets_of(track, asked, timely):
            answers, more = _played(source, result, track, budget, asked, how, store)
            remarks += more
            if answers:
                tracks[track][budget] = answers
    if not any(tracks.values()):
        raise ValueError("; ".join(remarks) or f"{source.label}: there is nothing to run")
    return result, list(dict.fromkeys(remarks))  # most are the same for every budget


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
    except ValueError:  # it may be an agent for only some of the scenarios
        if needed:
            raise
        return None
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


def _played(
    source: AgentSource,
    result: Result,
    track: str,
    budget: str,
    asked: Asked,
    how: Playing,
    store: EpisodeStore,
) -> tuple[dict[Key, Any], list[str]]:
    """Return a track's answers on a budget, without those already in a result; and remarks."""
    jobs = (static_jobs if track == STATIC else dynamic_jobs)(source, budget, asked)
    wanted: list[Job] = []
    for job in jobs:
        # answers that were on time without a limit are the same with one
        left = {
            s: k for s, k in job.episodes.items() if result.answer(track, budget, k[3:]) is None
        }
        if left:
            wanted.append(job._replace(episodes=left))
    remarks = _play_through(wanted, track, how, store)
    there = [key for job in wanted for key in job.episodes.values() if key in store.rows]
    rows = {key[3:]: store.rows[key] for key in there}
    return {key: own[0] if track == STATIC else own for key, own in rows.items()}, remarks


def static_jobs(source: AgentSource, budget: str, asked: Asked) -> list[Job]:
    """Return one job for the instances, whose numbers are its seeds."""
    names = list(cases())
    chosen = evenly(list(range(len(names))), asked.instances)
    key = STATIC, budget, source.version
    episodes = {number: (*key, names[number]) for number in chosen}
    return [Job(source, COLD_START, episodes, partial(answer_cases, budget=budget))]


def dynamic_jobs(source: AgentSource, budget: str, asked: Asked) -> list[Job]:
    """Return a job for every scenario."""
    key = DYNAMIC, budget, source.version
    how = partial(play_episodes, budget=budget)
    return [
        Job(
            source, scene.setting,
            {s: (*key, scene.id, str(s)) for s in scene.seeds[: asked.seeds]}, how,
        )
        for scene in scenes().values()
        if asked.scenarios is None or scene.id in asked.scenarios
    ]  # fmt: skip


def _play_through(jobs: list[Job], track: str, how: Playing, store: EpisodeStore) -> list[str]:
    """Play until everything is answered; if the agent's process ends, the answer is invalid."""
    remarks: list[str] = []
    while failures := play_missing(jobs, store, how, "instance" if track == STATIC else "episode"):
        for failure in failures:
            remarks.append(str(failure))
            job = next(job for job in jobs if set(failure.seeds) <= set(job.episodes))
            if failure.round is None:  # the agent cannot be made for this setting
                jobs = [other for other in jobs if other is not job]
                continue
            gone = (
                failure.seeds if len(remarks) < GIVE_UP else [s for j in jobs for s in j.episodes]
            )
            for each in jobs:
                _lose([s for s in gone if s in each.episodes], each, track, how, store, failure)
    return remarks


def _lose(
    seeds: Sequence[int], job: Job, track: str, how: Playing, store: EpisodeStore, failure: Failure
) -> None:
    """Record the answers that were lost when an agent's process ended."""
    for seed in seeds:
        key: Any = job.episodes[seed]
        if key not in store.rows:
            lost = lost_answer if track == STATIC else partial(lost_episode, job.setting, seed)
            store.add(key, lost(how.timeout_s, failure.reason))
