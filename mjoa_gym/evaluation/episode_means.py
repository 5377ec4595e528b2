"""Means over the rounds and over the episodes of what several agents have played.

There is a row per agent and episode, and one per agent and round; as two CSV files, tables and
figures can be made of them again without playing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.processes import Failure
from mjoa_gym.evaluation.table import Table, digits

BY_EPISODE = ("latency_s", "local_s", "reward", "planning_s")
BY_ROUND = ("latency_s", "reward")
EPISODES, ROUNDS = "episodes.csv", "by_round.csv"
SEED = re.compile(r"-seed\d+$")
"""How the label of an agent ends that was trained with several seeds."""


@dataclass(frozen=True)
class EpisodeMeans:
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

    @classmethod
    def of(
        cls,
        seeds: Sequence[int],
        rows: Mapping[str, Mapping[int, Sequence[Row]]],
        reference: str,
        failures: Sequence[Failure] = (),
        setting: Setting | None = None,
    ) -> Self:
        """From what was played: by agent's label and seed, a row per round."""
        episodes, rounds = {}, {}
        nothing = [np.nan] * len(BY_EPISODE)
        columns = [BY_EPISODE.index(name) for name in BY_ROUND]
        for label, played in rows.items():
            every = {s: [[row[n] for n in BY_EPISODE] for row in e] for s, e in played.items()}
            means = [np.mean(every[seed], axis=0) if seed in every else nothing for seed in seeds]
            episodes[label] = np.array(means)
            if len(every) == len(seeds):
                rounds[label] = np.mean([every[seed] for seed in seeds], axis=0)[:, columns]
        complete = {SEED.sub("", label) for label in rounds}
        reference = reference if reference in complete else ""
        return cls(seeds, episodes, rounds, reference, tuple(failures), setting)

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

    def with_more(self, other: EpisodeMeans, order: Sequence[str]) -> Self:
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

    @classmethod
    def kept(cls, folder: Path, seeds: Sequence[int], labels: Collection[str]) -> Self:
        """What a folder's CSV files say of the agents that are asked for and played these seeds.

        Agents of which they do not are left out; so is everybody if there are no files.
        """
        played, by_round = _numbers(folder / EPISODES), _numbers(folder / ROUNDS)
        whole = [x for x in labels if x in by_round and list(played.get(x, ())) == list(seeds)]
        episodes, rounds = (
            {label: np.array(list(each[label].values())) for label in whole}
            for each in (played, by_round)
        )
        return cls(seeds, episodes, rounds, next(iter(whole), ""))


def _numbers(file: Path) -> dict[str, dict[int, list[float]]]:
    """By the agent and the number in the first columns of a CSV file, the other columns."""
    found: dict[str, dict[int, list[float]]] = {}
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as content:
            for agent, which, *numbers in list(csv.reader(content))[1:]:
                found.setdefault(agent, {})[int(which)] = list(map(float, numbers))
    return found
