"""Planners and agents on the same episodes: `compare` plays them, a `Comparison` holds the numbers.

A comparison has a row per agent and episode, and one per agent and round; as two CSV files, tables
and figures can be made of them again without playing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.evaluation.agent_source import AgentSource, source_of
from mjoa_gym.evaluation.episodes import FIRST_SEED, Setting
from mjoa_gym.evaluation.journal import EpisodeStore, Row
from mjoa_gym.evaluation.processes import TIMEOUT_S, Failure, Job, Playing, play_missing
from mjoa_gym.evaluation.table import Table, digits
from mjoa_gym.validation import choice, count, positive
from mjoa_gym.world.scenario import Scenario

BY_EPISODE = ("latency_s", "local_s", "reward", "planning_s")
BY_ROUND = ("latency_s", "reward")
EPISODES, ROUNDS = "episodes.csv", "by_round.csv"
SEED = re.compile(r"-seed\d+$")
"""How the label of an agent ends that was trained with several seeds."""
OURS = "mjoa-mu"


@dataclass(frozen=True)
class Comparison:
    """The episodes of several agents, the same for all.

    Agents whose labels differ in their training seed only are taken together, as one family.

    Attributes:
        seeds: Of the episodes.
        episodes: By agent's label, (seeds, columns of `BY_EPISODE`) means over rounds; NaN where an
            agent has not played.
        rounds: By the label of agents that have played all, (rounds, columns of `BY_ROUND`) means
            over episodes.
        reference: The family that the others are compared with; "" for none.
        failures: The agents that could not play on, and why.
        setting: Where they played, if that is known.
    """

    seeds: Sequence[int]
    episodes: Mapping[str, NDArray[np.float64]]
    rounds: Mapping[str, NDArray[np.float64]]
    reference: str
    failures: Sequence[Failure] = ()
    setting: Setting | None = None

    @staticmethod
    def of(
        seeds: Sequence[int],
        rows: Mapping[str, Mapping[int, Sequence[Row]]],
        reference: str,
        failures: Sequence[Failure] = (),
        setting: Setting | None = None,
    ) -> Comparison:
        """From what was played: by agent's label and seed, a row per round."""
        episodes, rounds = {}, {}
        for label, played in rows.items():
            every = {s: [[row[n] for n in BY_EPISODE] for row in e] for s, e in played.items()}
            nothing = [np.nan] * len(BY_EPISODE)
            means = [np.mean(every[seed], axis=0) if seed in every else nothing for seed in seeds]
            episodes[label] = np.array(means)
            if len(every) == len(seeds):
                columns = [BY_EPISODE.index(name) for name in BY_ROUND]
                rounds[label] = np.array([every[seed] for seed in seeds]).mean(axis=0)[:, columns]
        complete = {SEED.sub("", label) for label in rounds}
        reference = reference if reference in complete else ""
        return Comparison(seeds, episodes, rounds, reference, tuple(failures), setting)

    @property
    def rows(self) -> list[Row]:
        """A dictionary per agent and episode: agent, seed, and means over its rounds."""
        return [
            {"agent": label, "seed": int(seed), **dict(zip(BY_EPISODE, numbers, strict=True))}
            for label, each in self.episodes.items()
            for seed, numbers in zip(self.seeds, each.tolist(), strict=True)
            if not np.isnan(numbers[0])
        ]

    @property
    def families(self) -> dict[str, list[str]]:
        """The labels of each family, of agents that have played all episodes."""
        found: dict[str, list[str]] = {}
        for label in self.rounds:
            found.setdefault(SEED.sub("", label), []).append(label)
        return found

    def by_episode(self, family: str, name: str) -> NDArray[np.float64]:
        """(training seeds, seeds) a column of `BY_EPISODE`."""
        column = BY_EPISODE.index(name)
        return np.array([self.episodes[label][:, column] for label in self.families[family]])

    def by_round(self, family: str, name: str) -> NDArray[np.float64]:
        """(training seeds, rounds) a column of `BY_ROUND`."""
        column = BY_ROUND.index(name)
        return np.array([self.rounds[label][:, column] for label in self.families[family]])

    def with_more(self, other: Comparison, order: Sequence[str]) -> Comparison:
        """These and other agents' episodes of the same seeds, in the order of their labels."""
        episodes, rounds = (
            {label: each[label] for label in order if label in each}
            for each in ({**self.episodes, **other.episodes}, {**self.rounds, **other.rounds})
        )
        reference = self.reference or other.reference
        return replace(self, episodes=episodes, rounds=rounds, reference=reference)

    def files(self) -> dict[str, str]:
        """The contents of the CSV files, by their names."""
        episodes = [
            (row["agent"], str(row["seed"]), *(digits(row[name]) for name in BY_EPISODE))
            for row in self.rows
        ]
        rounds = [
            (label, str(k), *map(digits, numbers))
            for label, each in self.rounds.items()
            for k, numbers in enumerate(each)
        ]
        return {
            EPISODES: Table("", ("agent", "seed", *BY_EPISODE), episodes).csv(),
            ROUNDS: Table("", ("agent", "round", *BY_ROUND), rounds).csv(),
        }

    def table(self) -> str:
        """How everybody did, as text: the fastest first, then who could not play on."""
        from mjoa_gym.evaluation.comparison_report import text

        return text(self)

    def save(self, folder: str | Path) -> Path:
        """Write CSV files, tables, figures and `report.html`; returns the folder.

        Without matplotlib there are no figures.
        """
        from mjoa_gym.evaluation.comparison_report import save

        return save(self, Path(folder))


def compare(
    agents: Mapping[str, Any],
    env: str = "MJOA/Streaming-v0",
    episodes: int = 40,
    seed: int = FIRST_SEED,
    n_ues: int | None = None,
    scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
    rounds: int | None = None,
    reference: str | None = None,
    processes: int = 2,
    timeout_s: float = TIMEOUT_S,
    progress: bool | None = None,
) -> Comparison:
    """Let planners and agents play the same episodes.

    Args:
        agents: By label: a planner (a function `Instance -> Plan`), a planner's name, an agent or
            what makes one, a model of Stable-Baselines3, or a text as on the command line
            (`mjoa_gym.evaluation.agent_source`).
        env: The environment's id, or "streaming" or "cold-start".
        episodes: How many; all agents meet the same ones.
        seed: Of the first.
        n_ues: Overrides the scenario's.
        scenario: What `Scenario.of` takes.
        rounds: Overrides the scenario's.
        reference: The label of whom the others are compared with; default "mjoa-mu" if there is one
            of that name, else the first.
        processes: Episodes that are played at a time, in processes of their own; 0 for this one,
            where an agent that is stuck in compiled code cannot be ended.
        timeout_s: What a decision may take.
        progress: Whether to show a bar; None for wherever somebody looks.

    Raises:
        ValueError: Naming argument, value and what is allowed. What goes wrong while an agent plays
            spoils its own results only: see `Comparison.failures`.
    """
    if not isinstance(agents, Mapping) or not agents:
        raise ValueError(f"agents={agents!r}: a dictionary of agents by their labels is needed")
    given = Scenario.of(dict(scenario) if isinstance(scenario, Mapping) else scenario)
    setting = Setting(env, given.with_changes(n_ues=n_ues, rounds=rounds))
    sources = [source_of(agent, str(label)) for label, agent in agents.items()]
    last = int(seed) + count("episodes", episodes)
    how = Playing(processes, positive("timeout_s", timeout_s), progress=progress)
    return play_comparison(sources, setting, range(int(seed), last), how, reference)


def play_comparison(
    sources: Sequence[AgentSource],
    setting: Setting,
    seeds: Sequence[int],
    how: Playing,
    reference: str | None = None,
    folder: Path | None = None,
    fresh: bool = False,
) -> Comparison:
    """Let agents play the same episodes, but for those that a folder's journal has.

    Args:
        sources: Who plays.
        setting: Where.
        seeds: Of the episodes.
        how: How they are played.
        reference: See `compare`.
        folder: Of the journal; None for none.
        fresh: Whether to forget what it has.

    Raises:
        ValueError: If two agents have the same label, or one is not for the setting; nothing has
            been played then.
    """
    labels = [source.label for source in sources]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"several agents are called {', '.join(sorted(twice))}")
    families = list(dict.fromkeys(SEED.sub("", label) for label in labels))
    if reference is None:
        reference = OURS if OURS in families else families[0]
    choice("reference", reference, families)
    for source in sources:
        source.check(setting)
    store = EpisodeStore(folder, setting.fingerprint, fresh)
    versions = ["" if folder is None else source.version for source in sources]
    keys = {
        label: {seed: (label, version, seed) for seed in seeds}
        for label, version in zip(labels, versions, strict=True)
    }
    jobs = [Job(source, setting, keys[source.label]) for source in sources]
    failures = play_missing(jobs, store, how)
    rows = {
        label: {seed: store.rows[key] for seed, key in of.items() if key in store.rows}
        for label, of in keys.items()
    }
    return Comparison.of(seeds, rows, reference, failures, setting)


def kept_results(folder: Path, seeds: Sequence[int], labels: Collection[str]) -> Comparison:
    """What a folder's CSV files say of the agents that are asked for, and played just these seeds.

    Agents of which they do not are left out; so is everybody if there are no files.
    """
    episodes, rounds = _columns(folder / EPISODES, BY_EPISODE), _columns(folder / ROUNDS, BY_ROUND)
    whole = [
        label
        for label in labels
        if label in rounds and list(episodes.get(label, ())) == list(seeds)
    ]
    return Comparison(
        seeds,
        {label: np.array(list(episodes[label].values())) for label in whole},
        {label: np.array(list(rounds[label].values())) for label in whole},
        next(iter(whole), ""),
    )


def _columns(file: Path, names: Sequence[str]) -> dict[str, dict[int, list[float]]]:
    """By agent and second column, the numbers of some columns."""
    found: dict[str, dict[int, list[float]]] = {}
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as content:
            for row in csv.DictReader(content):
                which = int(row["seed"] if "seed" in row else row["round"])
                found.setdefault(row["agent"], {})[which] = [float(row[name]) for name in names]
    return found
