"""Several UEs: mixes, rates, planners to compare; a journal during the run, files after it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from comparison.measurements import COLD, CONDITIONS, READ, RESIDENT, ROWS, TIMELINE, TIMES, Note
from mjoa_gym.evaluation.journal import FILE, Journal, code_fingerprint, digest
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write
from mjoa_gym.testbed.settings import slowdown
from mjoa_gym.validation import choice, count, positive

OURS = "mjoa-mu"
MIXES: dict[str, tuple[tuple[str, float], ...]] = {
    "two": (("resnet18", 1.0), ("mobilenet_v2", 1.0)),
    "twins": (("squeezenet1_1", 1.0), ("squeezenet1_1", 2.0), ("resnet18", 1.0)),
    "four": (
        ("googlenet", 1.0), ("mobilenet_v2", 2.0), ("resnet18", 1.0), ("squeezenet1_1", 1.0),
    ),
    "five": (
        ("alexnet", 1.0), ("googlenet", 1.0), ("mobilenet_v2", 1.0), ("resnet18", 1.0),
        ("squeezenet1_1", 3.0),
    ),
}  # fmt: skip
"""The UEs of each mix, by its name: each UE's network and weight."""


@dataclass(frozen=True)
class RoundGrid:
    """A comparison: cold rounds, and rows of rounds between which parameters stay."""

    mixes: tuple[str, ...] = ("two", "twins", "five")
    rates_mbps: tuple[float, ...] = (30.0, 100.0, 300.0)  # of the cell, in both directions
    planners: tuple[str, ...] = (
        "local-only", "pbt-dp+equal", "dads-serial", OURS, "mjoa-mu-prefetch",
    )  # fmt: skip
    residents: tuple[str, ...] = ("pbt-dp+equal", OURS, "mjoa-mu-prefetch")  # planners of rows
    repeats: int = 3  # repeats of a cold round; the median counts
    rounds: int = 10  # rounds of a row
    budget_s: float = 2.0  # time limit of the planner
    profile_repeats: int = 5  # inferences whose median gives the layer times
    ue_slowdown: float = 20.0  # how much slower than this machine each UE is
    edge_slowdown: float = 2.5  # the same for the server
    paced: bool = True  # layers count with their first measured times, whatever they take

    def __post_init__(self) -> None:
        for mix in self.mixes:
            choice("mixes", mix, MIXES)
        for rate in self.rates_mbps:
            positive("rates_mbps", rate)
        for name in ("repeats", "rounds", "profile_repeats"):
            count(name, getattr(self, name))
        for name in ("ue_slowdown", "edge_slowdown"):
            slowdown(name, getattr(self, name))

    def but(self, changes: Mapping[str, Any]) -> RoundGrid:
        """Return a changed grid; lists, as in JSON and command lines, become tuples."""
        settings = (asdict(self) | changes).items()
        return RoundGrid(**{key: tuple(x) if isinstance(x, list) else x for key, x in settings})

    def cells(self, mix: str) -> Iterator[RoundCell]:
        """Yield a mix's cells."""
        for rate in self.rates_mbps:
            for planner in self.planners:
                yield RoundCell(mix, rate, planner, COLD)
            for planner in self.residents:
                yield RoundCell(mix, rate, planner, RESIDENT)


QUICK = RoundGrid(
    mixes=("two", "twins"), rates_mbps=(50.0, 200.0),
    planners=("local-only", "pbt-dp+equal", "dads-serial", OURS), residents=(OURS,), repeats=2,
    rounds=4, profile_repeats=3,
)  # fmt: skip


@dataclass(frozen=True)
class RoundCell:
    """One planner at one rate with one mix; cold, or a row of rounds."""

    mix: str
    rate_mbps: float
    planner: str
    scenario: str


@dataclass(frozen=True)
class Part(RoundCell):
    """A UE's part in a round; one line of `measurements.csv`."""

    round: int  # number within its cell, from 1; a cold round's repeats count too
    ue: int  # its place in the mix
    model: str
    weight: float
    placement: str  # a digit per layer, 0 = UE
    bandwidth_share: float
    compute_share: float
    predicted_s: float
    measured_s: float = math.nan
    correct: bool | None = None  # whether its outputs equal local execution's
    failure: str = ""
    overruns: int = 0  # paced layers that were late
    planned_by: str = ""
    planning_s: float = 0.0

    @property
    def cell(self) -> RoundCell:
        """The cell of this part."""
        return RoundCell(*(getattr(self, each.name) for each in fields(RoundCell)))


@dataclass(eq=False)
class Rounds:
    """Everything that a report needs."""

    grid: RoundGrid
    machine: dict[str, str]
    parts: list[Part] = field(default_factory=list)
    tables: dict[str, Note] = field(default_factory=dict)  # layer times by model
    timeline: Note | None = None  # a round to show, as simulated and as measured

    def save(self, folder: Path) -> None:
        """Write files with all results."""
        conditions = {"grid": asdict(self.grid), "machine": self.machine}
        write(folder / CONDITIONS, json.dumps(conditions, indent=1) + "\n")
        texts = [tuple("" if x is None else str(x) for x in astuple(part)) for part in self.parts]
        header = tuple(each.name for each in fields(Part))
        write(folder / ROWS, Table("", header, texts).csv())
        write(folder / TIMES, json.dumps(self.tables))
        if self.timeline is not None:
            write(folder / TIMELINE, json.dumps(self.timeline))

    @classmethod
    def load(cls, folder: Path) -> Rounds:
        """Read these files."""
        conditions, tables = (
            json.loads((folder / name).read_text("utf-8")) for name in (CONDITIONS, TIMES)
        )
        with (folder / ROWS).open(newline="", encoding="utf-8") as file:
            parts = [
                Part(**{f.name: READ[f.type](line[f.name]) for f in fields(Part)})
                for line in csv.DictReader(file)
            ]
        shown = folder / TIMELINE
        timeline = json.loads(shown.read_text("utf-8")) if shown.exists() else None
        grid = RoundGrid().but(conditions["grid"])
        return cls(grid, conditions["machine"], parts, tables, timeline)


class RoundStore(Rounds):
    """The results of a running comparison, each saved in a `Journal`.

    You can add mixes and rates to it; the rest of the grid must be the same. If layers are paced,
    their tables are saved, so that later measurements use the same ones.
    """

    def __init__(self, folder: Path, grid: RoundGrid, fresh: bool = False) -> None:
        super().__init__(grid, machine("torch", "torchvision"))
        self.done: set[RoundCell] = set()
        settings = asdict(grid) | {"mixes": (), "rates_mbps": ()}
        identity = {"setting": digest(json.dumps(settings).encode()), "code": code_fingerprint()}
        self._journal = Journal(folder / FILE, identity, fresh)
        for entry in self._journal.entries:
            self._take(**entry)

    def add(self, cell: RoundCell, parts: Sequence[Part]) -> None:
        """Save a finished cell."""
        self.keep(cell=asdict(cell), parts=[asdict(part) for part in parts])

    def keep(self, **entry: Any) -> None:
        """Save a model's `table`, or the `timeline` that the report shows."""
        self._journal.append(entry)
        self._take(**entry)

    def _take(
        self,
        cell: Note | None = None,
        parts: Sequence[Note] = (),
        model: str = "",
        table: Note | None = None,
        timeline: Note | None = None,
    ) -> None:
        if cell is not None:
            self.done.add(RoundCell(**cell))
        self.parts += [Part(**part) for part in parts]
        if table is not None:
            self.tables[model] = table
        self.timeline = timeline or self.timeline
