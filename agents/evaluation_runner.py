"""Play the episodes of an evaluation that are not played yet, in several processes, and keep them.

Every finished batch of episodes is on disk at once, so that a killed evaluation goes on where it
stopped. An agent whose code or weights have changed since is played anew.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from agents.benchmark.runner import end_with_parent
from agents.benchmark.store import Journal, Row, code_fingerprint
from agents.evaluation import Setting, agent_of, label_of, play, version_of

FILE = "episodes.jsonl"
FIRST_SEED = 1_000_000
"""Evaluations begin here; nothing is trained or tuned on these seeds."""


class Batch(NamedTuple):
    """Episodes of one agent that are played together."""

    agent: str
    seeds: tuple[int, ...]


class Episodes:
    """The episodes played so far in one setting.

    Args:
        folder: Where the file lies; made if need be.
        setting: Where agents act.
        fresh: Whether to begin anew.

    Attributes:
        rows: By version of the agent and seed, a row per round.

    Raises:
        ValueError: If the file belongs to another setting or another version of the world.
    """

    def __init__(self, folder: Path, setting: Setting, fresh: bool = False) -> None:
        identity = {"suite": setting.fingerprint, "code": code_fingerprint()}
        self._journal = Journal(folder / FILE, identity, fresh)
        self.setting = setting
        self.rows: dict[tuple[str, int], list[Row]] = {
            (entry["version"], entry["seed"]): entry["rows"] for entry in self._journal.entries
        }

    def add(self, batch: Batch, episodes: list[list[Row]]) -> None:
        """Keep finished episodes."""
        version, label = version_of(batch.agent), label_of(batch.agent)
        for seed, rows in zip(batch.seeds, episodes, strict=True):
            entry = {"agent": label, "version": version, "seed": seed, "rows": rows}
            self._journal.append(entry)
            self.rows[version, seed] = rows

    def of(self, agent: str, seeds: Sequence[int]) -> list[list[Row]]:
        """An agent's episodes."""
        version = version_of(agent)
        return [self.rows[version, seed] for seed in seeds]

    def missing(self, agents: Sequence[str], seeds: Sequence[int], together: int) -> list[Batch]:
        """What is still to be played, at most `together` episodes at a time."""
        batches = []
        for agent in agents:
            version = version_of(agent)
            left = [seed for seed in seeds if (version, seed) not in self.rows]
            batches += [
                Batch(agent, tuple(left[k : k + together])) for k in range(0, len(left), together)
            ]
        return batches


def run(
    episodes: Episodes,
    agents: Sequence[str],
    seeds: Sequence[int],
    together: int = 20,
    processes: int = 1,
    progress: bool = True,
) -> None:
    """Play what is missing.

    Args:
        episodes: What there is, and where the rest goes.
        agents: Names or paths.
        seeds: Of the episodes.
        together: Episodes that are stepped together.
        processes: Batches at a time; with 1, in this process.
        progress: Whether to show a bar.

    Raises:
        ValueError: If there is no such agent, or two have the same label.
    """
    labels = [label_of(agent) for agent in agents]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"several agents are called {', '.join(sorted(twice))}")
    batches = episodes.missing(agents, seeds, together)
    total = len(agents) * len(seeds)
    left = sum(len(batch.seeds) for batch in batches)
    with tqdm(total=total, initial=total - left, unit="episode", disable=not progress) as bar:
        played = _serially if processes == 1 else _in_processes
        for batch, rows in played(episodes.setting, batches, processes):
            episodes.add(batch, rows)
            bar.set_postfix_str(label_of(batch.agent), refresh=False)
            bar.update(len(batch.seeds))


def _serially(
    setting: Setting, batches: list[Batch], processes: int
) -> Iterator[tuple[Batch, list[list[Row]]]]:
    for batch in batches:
        yield batch, _play(setting, batch)


def _in_processes(
    setting: Setting, batches: list[Batch], processes: int
) -> Iterator[tuple[Batch, list[list[Row]]]]:
    """Fresh processes (not forks: numeric libraries have threads) that end with this one."""
    for agent in {batch.agent for batch in batches}:  # compile here: processes find it in the cache
        _play(setting.shortened(2), Batch(agent, (FIRST_SEED,)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, end_with_parent, (os.getpid(),)) as pool:
        running = {pool.submit(_play, setting, batch): batch for batch in batches}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _play(setting: Setting, batch: Batch) -> list[list[Row]]:
    agent = agent_of(batch.agent, setting.scenario, setting.persists)
    return play(agent, setting, batch.seeds)
