"""The comparison and its results: a grid of cells, a journal during the run, files after it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from mjoa_gym.evaluation.journal import FILE, Journal, code_fingerprint, digest
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write
from mjoa_gym.testbed.settings import slowdown
from mjoa_gym.validation import count, positive

COLD, RESIDENT = "cold", "resident"
JOINS = "joins on the UE"
"""Replaces a planner: layers with several inputs on the UE, all others at the edge, installed."""
CONDITIONS, ROWS, TIMES, TIMELINE = (
    "conditions.json", "measurements.csv", "layer_times.json", "timeline.json",
)  # fmt: skip
READ: dict[Any, Any] = {
    "str": str, "int": int, "float": float,
    "bool | None": {"True": True, "False": False, "": None}.__getitem__,
}  # fmt: skip
"""Functions that parse a field from text, by the field's type."""
Note = dict[str, Any]


@dataclass(frozen=True)
class Grid:
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
        for rate in self.rates_mbps:
            positive("rates_mbps", rate)
        for name in ("queries", "repeats", "profile_repeats"):
            count(name, getattr(self, name))
        for name in ("cap_s", "repeat_s"):
            positive(name, getattr(self, name))
        for name in ("ue_slowdown", "edge_slowdown"):
            slowdown(name, getattr(self, name))

    def but(self, changes: Mapping[str, Any]) -> Grid:
        """Return a changed grid; lists, as in JSON and command lines, become tuples."""
        settings = (asdict(self) | changes).items()
        return Grid(**{key: tuple(x) if isinstance(x, list) else x for key, x in settings})

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
        """Write files with all results."""
        conditions = {"grid": asdict(self.grid), "machine": self.machine}
        write(folder / CONDITIONS, json.dumps(conditions, indent=1) + "\n")
        texts = [tuple("" if x is None else str(x) for x in astuple(row)) for row in self.rows]
        header = tuple(each.name for each in fields(Measurement))
        write(folder / ROWS, Table("", header, texts).csv())
        write(folder / TIMES, json.dumps(self.layer_times))
        if self.timeline is None:
            (folder / TIMELINE).unlink(missing_ok=True)
        else:
            write(folder / TIMELINE, json.dumps(self.timeline))

    @classmethod
    def load(cls, folder: Path) -> Measurements:
        """Read these files."""
        conditions, times = (
            json.loads((folder / name).read_text("utf-8")) for name in (CONDITIONS, TIMES)
        )
        with (folder / ROWS).open(newline="", encoding="utf-8") as file:
            rows = [
                Measurement(
                    **{
                        f.name: READ[f.type](line[f.name])
                        for f in fields(Measurement)
                        if f.name in line
                    }
                )
                for line in csv.DictReader(file)
            ]
        shown = folder / TIMELINE
        timeline = json.loads(shown.read_text("utf-8")) if shown.exists() else None
        return cls(Grid().but(conditions["grid"]), conditions["machine"], rows, times, timeline)


class MeasurementStore(Measurements):
    """The results of a running comparison, each saved in a `Journal`.

    You can add models and rates to it; the rest of the grid must be the same.
    """

    def __init__(self, folder: Path, grid: Grid, fresh: bool = False) -> None:
        super().__init__(grid, machine("torch", "torchvision"))
        self.done: set[GridCell] = set()  # the cells that are finished
        settings = asdict(grid) | {"models": (), "rates_mbps": ()}
        identity = {"setting": digest(json.dumps(settings).encode()), "code": code_fingerprint()}
        self._journal = Journal(folder / FILE, identity, fresh)
        for entry in self._journal.entries:
            self._take(**entry)

    def add(self, cells: Sequence[GridCell], rows: Sequence[Measurement]) -> None:
        """Save cells that were finished together."""
        self.keep(cells=[asdict(c) for c in cells], rows=[asdict(row) for row in rows])

    def keep(self, **entry: Any) -> None:
        """Save a model's latest `layer_times`, or the `timeline` that the report shows."""
        self._journal.append(entry)
        self._take(**entry)

    def _take(
        self,
        cells: Sequence[Note] = (),
        rows: Sequence[Note] = (),
        model: str = "",
        layer_times: Note | None = None,
        timeline: Note | None = None,
    ) -> None:
        self.done.update(GridCell(**cell) for cell in cells)
        self.rows += [Measurement(**row) for row in rows]
        if layer_times is not None:
            self.layer_times.setdefault(model, []).append(layer_times)
        self.timeline = timeline or self.timeline
