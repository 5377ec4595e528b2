"""The numbers of an evaluation: a row per agent and episode, and a row per agent and round.

They are kept as two CSV files, from which tables and figures can be made again without playing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.benchmark.store import Row
from agents.benchmark.tables import Table

BY_EPISODE = ("latency_s", "local_s", "reward", "planning_s")
BY_ROUND = ("latency_s", "reward")
EPISODES, ROUNDS = "episodes.csv", "by_round.csv"
SEED = re.compile(r"-seed\d+$")
"""How the label of an agent ends that was trained with several seeds."""


class Results(NamedTuple):
    """The episodes of several agents, the same for all.

    Agents whose labels differ in their training seed only are taken together, as one family.

    Attributes:
        seeds: Of the episodes.
        episodes: By agent's label, (seeds, columns of `BY_EPISODE`) means over rounds.
        rounds: By agent's label, (rounds, columns of `BY_ROUND`) means over episodes.
        reference: The family that the others are compared with.
    """

    seeds: Sequence[int]
    episodes: Mapping[str, NDArray[np.float64]]
    rounds: Mapping[str, NDArray[np.float64]]
    reference: str

    @staticmethod
    def of(
        seeds: Sequence[int], rows: Mapping[str, Sequence[Sequence[Row]]], reference: str
    ) -> Results:
        """From what was played: by agent's label, for each seed a row per round."""
        episodes, rounds = {}, {}
        for label, played in rows.items():
            each, after = (
                np.array([[[row[name] for name in names] for row in episode] for episode in played])
                for names in (BY_EPISODE, BY_ROUND)
            )
            episodes[label], rounds[label] = each.mean(axis=1), after.mean(axis=0)
        return Results(seeds, episodes, rounds, reference)

    @property
    def families(self) -> dict[str, list[str]]:
        """The labels of each family."""
        found: dict[str, list[str]] = {}
        for label in self.episodes:
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

    def with_more(self, other: Results, order: Sequence[str]) -> Results:
        """These and other agents' episodes of the same seeds, in the order of their labels."""
        episodes, rounds = (
            {label: each[label] for label in order if label in each}
            for each in ({**self.episodes, **other.episodes}, {**self.rounds, **other.rounds})
        )
        return Results(self.seeds, episodes, rounds, self.reference)

    def files(self) -> dict[str, str]:
        """The contents of the CSV files, by their names."""
        rows = {
            EPISODES: [
                (label, str(seed), *map(_short, numbers))
                for label, each in self.episodes.items()
                for seed, numbers in zip(self.seeds, each, strict=True)
            ],
            ROUNDS: [
                (label, str(k), *map(_short, numbers))
                for label, each in self.rounds.items()
                for k, numbers in enumerate(each)
            ],
        }
        headers = {EPISODES: ("agent", "seed", *BY_EPISODE), ROUNDS: ("agent", "round", *BY_ROUND)}
        return {name: Table("", headers[name], each).csv() for name, each in rows.items()}


def kept_results(folder: Path, seeds: Sequence[int], labels: Collection[str]) -> Results:
    """What a folder's CSV files say of the agents that are asked for, and played just these seeds.

    Agents of which they do not are left out; so is everybody if there are no files.
    """
    episodes, rounds = _columns(folder / EPISODES, BY_EPISODE), _columns(folder / ROUNDS, BY_ROUND)
    whole = [
        label
        for label in labels
        if label in rounds and list(episodes.get(label, ())) == list(seeds)
    ]
    return Results(
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


def _short(number: float) -> str:
    return f"{number:.9g}"
