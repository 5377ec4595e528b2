"""The comparison with one UE and its results: a journal during the run, files after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from comparison import kept
from comparison.kept import COLD, RESIDENT, AnyGrid, Keeping, Note, machine_now

JOINS = "joins on the UE"
"""In place of a planner: layers with several inputs on the UE, all others installed at the edge."""


@dataclass(frozen=True)
class Grid(AnyGrid):
    """A comparison: cold inferences, and rows of queries between which parameters stay."""

    models: tuple[str, ...] = ("alexnet", "vgg16", "resnet18", "googlenet", "mobilenet_v2")
    rates_mbps: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0)  # of both directions
    planners: tuple[str, ...] = (  # for cold inferences, in each of `uploads`
        "local-only", "edge-only", "single-cut", "dads-serial", "pbt-dp+equal",
    )  # fmt: skip
    uploads: tuple[str, ...] = ("serial", "parallel")
    other_uploads: tuple[str, ...] = ("whole", "preinstalled")  # with the last planner only
    residents: tuple[str, ...] = ("pbt-dp+equal", "mjoa-mu-prefetch")  # planners of rows of queries
    queries: int = 10  # queries of a row
    cap_s: float = 16.0  # inferences with a longer prediction are not run
    repeat_s: float = 3.0  # shorter inferences are repeated until they took this long in total,
    repeats: int = 9  # but at most this often, all plans of a rate in turn; the median counts
    profile_repeats: int = 7  # inferences whose median gives the layer times
    ue_slowdown: float = 10.0  # how much slower than this machine the UE is
    edge_slowdown: float = 1.0  # the same for its share of the server
    paced: bool = False  # layers count with their first measured times, whatever they take
    shaped_below: bool = False  # the operating system shapes the links, in a network namespace

    def __post_init__(self) -> None:
        self.check(("queries", "repeats"), ("cap_s", "repeat_s"))

    def cells(self, model: str) -> Iterator[GridCell]:
        """Yield a model's cells."""
        for rate in self.rates_mbps:
            for upload in self.uploads:
                for planner in self.planners:
                    yield GridCell(model, rate, planner, upload, COLD)
            for upload in self.other_uploads:
                yield GridCell(model, rate, self.planners[-1], upload, COLD)
            yield GridCell(model, rate, JOINS, "preinstalled", COLD)
            for planner in self.residents:
                yield GridCell(model, rate, planner, "parallel", RESIDENT)


QUICK = Grid(
    models=("resnet18", "mobilenet_v2"), rates_mbps=(50.0, 300.0), queries=3, cap_s=3.0, repeats=1,
    profile_repeats=3,
)  # fmt: skip
PACED = {"paced": True, "edge_slowdown": 4.0}
"""Changes that make a grid independent of the machine's noise: the server has slack too."""


@dataclass(frozen=True)
class GridCell:
    """One inference of the grid (`scenario` is `COLD`), or one row of queries (`RESIDENT`)."""

    model: str
    rate_mbps: float
    planner: str
    upload: str
    scenario: str


@dataclass(frozen=True)
class Measurement(GridCell):
    """The result of a cell, or of one query of it; one line of `measurements.csv`."""

    query: int  # from 1
    placement: str  # a digit per layer, 0 = UE
    predicted_s: float  # simulated with the layer times and the cost of a message measured before
    bytes_only_s: float  # the same without the cost of messages besides their bytes
    in_turn_s: float  # the same if a message kept its link busy until it is usable
    own_times_s: float = math.nan  # the same with the layer times of this inference, if known
    measured_s: float = math.nan  # median of the repeats; NaN if it was not run
    runs: int = 0  # repeats
    same_as: str = ""  # the planner with the same placement, whose measurement this is
    correct: bool | None = None  # whether outputs equal local execution's; None if not run
    failure: str = ""  # the server's failure
    overhead_bytes: int = 0  # on the uplink, besides parameters and activations
    noise: float = math.nan  # the repeats' median deviation from their median, relative to it
    overruns: int = 0  # paced layers that were late, in all repeats together

    @property
    def cell(self) -> GridCell:
        """The cell of this measurement."""
        return GridCell(*(getattr(self, each.name) for each in fields(GridCell)))

    @property
    def was_run(self) -> bool:
        """Whether there is a measurement."""
        return not math.isnan(self.measured_s)

    @property
    def mode(self) -> str:
        """The line of the error table for this measurement."""
        if "1" not in self.placement:
            return "on the UE"
        if self.planner == JOINS and "0" in self.placement:  # a chain has no joins
            return JOINS
        return "with residency" if self.scenario == RESIDENT else self.upload


@dataclass(eq=False)
class Measurements:
    """Everything that a report needs."""

    grid: Grid  # what was run, with the models and rates of the last run
    machine: dict[str, str]  # the machine on which it was run
    rows: list[Measurement] = field(default_factory=list)
    layer_times: dict[str, list[Note]] = field(default_factory=dict)  # by model, each time
    timeline: Note | None = None  # an inference to show, as simulated and as measured

    def save(self, folder: Path) -> None:
        """Write the results as files into a folder."""
        found = (self.grid, self.machine, self.rows, Measurement, self.layer_times, self.timeline)
        kept.save(folder, *found)

    @classmethod
    def load(cls, folder: Path) -> Measurements:
        """Read what `save` wrote."""
        return cls(*kept.load(folder, Grid(), Measurement))


class MeasurementStore(Measurements, Keeping):
    """The results of a comparison that is running.

    A later run may add models and rates; the rest of the grid must be the same. Besides rows it
    keeps each model's `layer_times`, and the `timeline` that the report shows.
    """

    def __init__(self, folder: Path, grid: Grid, fresh: bool = False) -> None:
        super().__init__(grid, machine_now())
        self.done: set[GridCell] = set()  # the cells that are finished
        self.go_on(folder, grid, ("models", "rates_mbps"), fresh)

    def add(self, cells: Sequence[GridCell], rows: Sequence[Measurement]) -> None:
        """Save cells that were finished together."""
        self.keep(cells=[asdict(c) for c in cells], rows=[asdict(row) for row in rows])

    def take(  # type: ignore[override]
        self,
        cells: Sequence[Note] = (),
        rows: Sequence[Note] = (),
        model: str = "",
        layer_times: Note | None = None,
        timeline: Note | None = None,
    ) -> None:
        """Add the results in an entry of the journal."""
        self.done.update(GridCell(**cell) for cell in cells)
        self.rows += [Measurement(**row) for row in rows]
        if layer_times is not None:
            self.layer_times.setdefault(model, []).append(layer_times)
        self.timeline = timeline or self.timeline
