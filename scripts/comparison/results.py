"""What a comparison has found: a journal while it runs, files for readers when it is done."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any

from comparison.cells import Grid, GridCell, Measurement
from mjoa_gym.evaluation.journal import (
    FILE,
    Journal,
    code_fingerprint,
    digest,
    write_atomically,
)
from mjoa_gym.evaluation.machine import machine

CONDITIONS, ROWS, TIMES, TIMELINE = (
    "conditions.json", "measurements.csv", "layer_times.json", "timeline.json",
)  # fmt: skip
Note = dict[str, Any]


@dataclass(eq=False)
class Measurements:
    """Everything that a report is made of.

    Attributes:
        grid: What was run; of the models and rates, the last that were asked for.
        machine: What it was run on.
        rows: The measurements.
        layer_times: By model, its layer times each time that they were measured.
        timeline: An inference as simulated and as measured, if there is one to show.
    """

    grid: Grid
    machine: dict[str, str]
    rows: list[Measurement] = field(default_factory=list)
    layer_times: dict[str, list[Note]] = field(default_factory=dict)
    timeline: Note | None = None

    def save(self, folder: Path) -> None:
        """Write files that tell their readers everything."""
        conditions = {"grid": asdict(self.grid), "machine": self.machine}
        write_atomically(folder / CONDITIONS, json.dumps(conditions, indent=1) + "\n")
        write_atomically(folder / ROWS, _table(self.rows))
        write_atomically(folder / TIMES, json.dumps(self.layer_times))
        if self.timeline is None:
            (folder / TIMELINE).unlink(missing_ok=True)
        else:
            write_atomically(folder / TIMELINE, json.dumps(self.timeline))

    @classmethod
    def load(cls, folder: Path) -> Measurements:
        """Read them again.

        Raises:
            OSError: If a file is missing.
        """
        conditions, times = (
            json.loads((folder / name).read_text("utf-8")) for name in (CONDITIONS, TIMES)
        )
        settings = conditions["grid"].items()
        grid = Grid(**{key: tuple(x) if isinstance(x, list) else x for key, x in settings})
        shown = folder / TIMELINE
        return cls(
            grid,
            conditions["machine"],
            list(_rows(folder / ROWS)),
            times,
            json.loads(shown.read_text("utf-8")) if shown.exists() else None,
        )


class MeasurementStore:
    """The results of a comparison that is running; every line of its journal is safe on disk.

    Args:
        folder: Where the journal lies; made if need be.
        grid: What is run. Models and rates may be added to a journal, all else must be the same.
        fresh: Whether to begin anew.

    Raises:
        ValueError: If the journal belongs to other settings or other code.
    """

    def __init__(self, folder: Path, grid: Grid, fresh: bool = False) -> None:
        settings = asdict(grid) | {"models": (), "rates_mbps": ()}
        identity = {"setting": digest(json.dumps(settings).encode()), "code": code_fingerprint()}
        self.results = Measurements(grid, machine("torch", "torchvision"))
        self._journal = Journal(folder / FILE, identity, fresh)
        self._done: set[GridCell] = set()
        for entry in self._journal.entries:
            self._take(entry)

    def has(self, cell: GridCell) -> bool:
        """Whether a cell is done."""
        return cell in self._done

    def add(self, cells: Sequence[GridCell], rows: Sequence[Measurement]) -> None:
        """Keep cells that were finished together."""
        self._keep({"cells": [asdict(c) for c in cells], "rows": [asdict(row) for row in rows]})

    def add_layer_times(self, model: str, note: Note) -> None:
        """Keep what a model's layers took just now."""
        self._keep({"model": model, "layer_times": note})

    def add_timeline(self, timeline: Note) -> None:
        """Keep the inference that the report shows."""
        self._keep({"timeline": timeline})

    def _keep(self, entry: Note) -> None:
        self._journal.append(entry)
        self._take(entry)

    def _take(self, entry: Note) -> None:
        results = self.results
        if "cells" in entry:
            self._done.update(GridCell(**cell) for cell in entry["cells"])
            results.rows += [Measurement(**row) for row in entry["rows"]]
        elif "layer_times" in entry:
            results.layer_times.setdefault(entry["model"], []).append(entry["layer_times"])
        else:
            results.timeline = entry["timeline"]


def _table(rows: Sequence[Measurement]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Measurement)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _rows(path: Path) -> Iterator[Measurement]:
    kinds = {f.name: str(f.type) for f in fields(Measurement)}
    parse = {
        "str": str, "float": float, "int": int,
        "bool | None": {"True": True, "False": False, "": None}.__getitem__,
    }  # fmt: skip
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            yield Measurement(**{name: parse[kinds[name]](text) for name, text in line.items()})
