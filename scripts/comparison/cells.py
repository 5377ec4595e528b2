"""What is compared: the grid of models, rates, planners and upload modes, and what it gives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mjoa_gym.testbed.settings import slowdown
from mjoa_gym.validation import count, positive

COLD, RESIDENT = "cold", "resident"
LOCAL = "local-only"


@dataclass(frozen=True)
class Grid:
    """A comparison.

    Attributes:
        models: Networks.
        rates_mbps: Rates of both directions.
        planners: Who places layers in cold inferences, in both upload modes.
        uploads: The upload modes of cold inferences.
        other_uploads: Modes in which only the last planner is tried.
        residents: Planners of a row of queries in which parameters stay.
        queries: Queries of such a row.
        cap_s: Inferences that would take longer by prediction are not run.
        repeat_s: Shorter ones are repeated until they took so long together ...
        repeats: ... but at most so many times, all plans of a rate in turn; the median counts.
        profile_repeats: Inferences whose median gives the layer times.
        ue_slowdown: How much slower than this machine the UE is.
        edge_slowdown: The same for its share of the server.
        shaped_below: The operating system shapes the links, in a network namespace.
    """

    models: tuple[str, ...] = ("alexnet", "vgg16", "resnet18", "googlenet", "mobilenet_v2")
    rates_mbps: tuple[float, ...] = (10.0, 30.0, 100.0, 300.0)
    planners: tuple[str, ...] = (LOCAL, "edge-only", "single-cut", "dads-serial", "pbt-dp+equal")
    uploads: tuple[str, ...] = ("serial", "parallel")
    other_uploads: tuple[str, ...] = ("whole", "preinstalled")
    residents: tuple[str, ...] = ("pbt-dp+equal", "mjoa-mu-prefetch")
    queries: int = 10
    cap_s: float = 16.0
    repeat_s: float = 3.0
    repeats: int = 9
    profile_repeats: int = 7
    ue_slowdown: float = 10.0
    edge_slowdown: float = 1.0
    shaped_below: bool = False

    def __post_init__(self) -> None:
        for rate in self.rates_mbps:
            positive("rates_mbps", rate)
        for name in ("queries", "repeats", "profile_repeats"):
            count(name, getattr(self, name))
        for name in ("cap_s", "repeat_s"):
            positive(name, getattr(self, name))
        for name in ("ue_slowdown", "edge_slowdown"):
            slowdown(name, getattr(self, name))


QUICK = Grid(
    models=("resnet18", "mobilenet_v2"),
    rates_mbps=(50.0, 300.0),
    queries=3,
    cap_s=3.0,
    repeats=1,
    profile_repeats=3,
)


@dataclass(frozen=True)
class GridCell:
    """One inference of the grid, or one row of queries (`RESIDENT`)."""

    model: str
    rate_mbps: float
    planner: str
    upload: str
    scenario: str


def cells_of(grid: Grid, model: str) -> Iterator[GridCell]:
    """A model's cells."""
    for rate in grid.rates_mbps:
        for upload in grid.uploads:
            for planner in grid.planners:
                yield GridCell(model, rate, planner, upload, COLD)
        for upload in grid.other_uploads:
            yield GridCell(model, rate, grid.planners[-1], upload, COLD)
        for planner in grid.residents:
            yield GridCell(model, rate, planner, "parallel", RESIDENT)


@dataclass(frozen=True)
class Measurement:
    """What came of a cell, or of one query of it; one line of `measurements.csv`.

    Attributes:
        model: As the cell.
        rate_mbps: As the cell.
        planner: As the cell.
        upload: As the cell.
        scenario: As the cell.
        query: Number of the query, from 1.
        placement: A digit per layer, 0 = UE.
        predicted_s: Simulated with the layer times and the cost of a message measured before.
        bytes_only_s: The same without the cost of messages beside their bytes.
        own_times_s: As `predicted_s`, with the layer times of the very inference, where it executed
            them.
        measured_s: Median of the repeats; NaN if it was not run.
        runs: Repeats.
        same_as: The planner with the same placement, whose measurement this is; empty for its own.
        correct: Whether all outputs were those of local execution; None if it was not run.
        failure: What went wrong with the server.
        overhead_bytes: Bytes on the uplink beside parameters and activations.
    """

    model: str
    rate_mbps: float
    planner: str
    upload: str
    scenario: str
    query: int
    placement: str
    predicted_s: float
    bytes_only_s: float
    own_times_s: float = math.nan
    measured_s: float = math.nan
    runs: int = 0
    same_as: str = ""
    correct: bool | None = None
    failure: str = ""
    overhead_bytes: int = 0

    @property
    def cell(self) -> GridCell:
        """The cell that this belongs to."""
        return GridCell(self.model, self.rate_mbps, self.planner, self.upload, self.scenario)

    @property
    def was_run(self) -> bool:
        """Whether there is a measurement."""
        return not math.isnan(self.measured_s)
