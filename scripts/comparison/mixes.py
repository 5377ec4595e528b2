"""The comparison with several UEs and its results: a journal during the run, files after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from comparison import kept
from comparison.kept import COLD, RESIDENT, AnyGrid, Keeping, Note, machine_now
from mjoa_gym.testbed.controller import COMPUTE, STRETCHED
from mjoa_gym.validation import choice

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
class RoundGrid(AnyGrid):
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
    paced: bool = True  # layers count with their first measured times
    compute: str = STRETCHED  # how layers of several UEs share the server
    shaped_below: bool = False  # the operating system shapes one bottleneck for all UEs

    def __post_init__(self) -> None:
        for mix in self.mixes:
            choice("mixes", mix, MIXES)
        choice("compute", self.compute, COMPUTE)
        self.check(("repeats", "rounds"))

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
        """Write the results as files into a folder."""
        kept.save(folder, self.grid, self.machine, self.parts, Part, self.tables, self.timeline)

    @classmethod
    def load(cls, folder: Path) -> Rounds:
        """Read what `save` wrote."""
        return cls(*kept.load(folder, RoundGrid(), Part))


class RoundStore(Rounds, Keeping):
    """The results of a comparison that is running.

    A later run may add mixes and rates; the rest of the grid must be the same. Besides parts it
    keeps each model's `table` of layer times, so that paced layers have the same times in later
    runs, and the `timeline` that the report shows.
    """

    def __init__(self, folder: Path, grid: RoundGrid, fresh: bool = False) -> None:
        super().__init__(grid, machine_now())
        self.done: set[RoundCell] = set()
        self.go_on(folder, grid, ("mixes", "rates_mbps"), fresh)

    def add(self, cell: RoundCell, parts: Sequence[Part]) -> None:
        """Save a finished cell."""
        self.keep(cell=asdict(cell), parts=[asdict(part) for part in parts])

    def take(  # type: ignore[override]
        self,
        cell: Note | None = None,
        parts: Sequence[Note] = (),
        model: str = "",
        table: Note | None = None,
        timeline: Note | None = None,
    ) -> None:
        """Add the results in an entry of the journal."""
        if cell is not None:
            self.done.add(RoundCell(**cell))
        self.parts += [Part(**part) for part in parts]
        if table is not None:
            self.tables[model] = table
        self.timeline = timeline or self.timeline
