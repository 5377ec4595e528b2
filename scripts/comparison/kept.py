"""What comparisons have in common: grids, files of results, and a journal."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from mjoa_gym.evaluation.journal import FILE, Journal, code_fingerprint, digest
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write
from mjoa_gym.testbed.settings import slowdown
from mjoa_gym.validation import count, positive

COLD, RESIDENT = "cold", "resident"
CONDITIONS, ROWS, TIMES, TIMELINE = (
    "conditions.json", "measurements.csv", "layer_times.json", "timeline.json",
)  # fmt: skip
READ: dict[Any, Any] = {
    "str": str, "int": int, "float": float,
    "bool | None": {"True": True, "False": False, "": None}.__getitem__,
}  # fmt: skip
"""For each type of a field, the function that converts a text to it."""
Note = dict[str, Any]
R = TypeVar("R")


def machine_now() -> dict[str, str]:
    """Describe this machine and how busy it was in the last minutes."""
    found = machine("torch", "torchvision")
    if hasattr(os, "getloadavg"):
        found["Processes that wanted a core"] = f"{os.getloadavg()[1]:.1f} (mean of 5 minutes)"
    return found


class AnyGrid:
    """The base of all grids, which are dataclasses with rates, repeats and slowdowns."""

    def check(self, counts: Sequence[str], seconds: Sequence[str] = ()) -> None:
        """Check rates, slowdowns, the fields that are counts, and those that are seconds.

        Raises:
            ValueError: Naming field, value and what is allowed.
        """
        for rate in getattr(self, "rates_mbps"):  # noqa: B009
            positive("rates_mbps", rate)
        for name in (*counts, "profile_repeats"):
            count(name, getattr(self, name))
        for name in seconds:
            positive(name, getattr(self, name))
        for name in ("ue_slowdown", "edge_slowdown"):
            slowdown(name, getattr(self, name))

    def but(self, changes: Mapping[str, Any]) -> Self:
        """Return a grid with these changes; lists from JSON and command lines become tuples."""
        settings = (asdict(self) | changes).items()  # type: ignore[call-overload]
        return type(self)(**{key: tuple(x) if isinstance(x, list) else x for key, x in settings})


def save(
    folder: Path,
    grid: Any,
    machine: Mapping[str, str],
    rows: Sequence[Any],
    kind: type,
    times: Note,
    timeline: Note | None,
) -> None:
    """Write the results of a comparison into a folder.

    Args:
        folder: The folder.
        grid: What was measured.
        machine: The machine on which it was measured.
        rows: The measurements, dataclasses of type `kind`.
        kind: Their type.
        times: The layer times.
        timeline: A timeline to show; None deletes the file of an earlier one.
    """
    conditions = {"grid": asdict(grid), "machine": machine}
    write(folder / CONDITIONS, json.dumps(conditions, indent=1) + "\n")
    texts = [tuple("" if x is None else str(x) for x in astuple(row)) for row in rows]
    write(folder / ROWS, Table("", tuple(each.name for each in fields(kind)), texts).csv())
    write(folder / TIMES, json.dumps(times))
    if timeline is None:
        (folder / TIMELINE).unlink(missing_ok=True)
    else:
        write(folder / TIMELINE, json.dumps(timeline))


def load(folder: Path, grid: Any, kind: type[R]) -> tuple[Any, Note, list[R], Note, Note | None]:
    """Read what `save` wrote: the grid, the machine, the rows, the layer times, the timeline.

    Columns that are missing get the defaults of their fields.
    """
    conditions, times = (
        json.loads((folder / name).read_text("utf-8")) for name in (CONDITIONS, TIMES)
    )
    known: Any = fields(kind)  # type: ignore[arg-type]
    with (folder / ROWS).open(newline="", encoding="utf-8") as file:
        rows = [
            kind(**{f.name: READ[f.type](line[f.name]) for f in known if f.name in line})
            for line in csv.DictReader(file)
        ]
    shown = folder / TIMELINE
    timeline = json.loads(shown.read_text("utf-8")) if shown.exists() else None
    return grid.but(conditions["grid"]), conditions["machine"], rows, times, timeline


class Keeping:
    """The results of a running comparison, each of them saved in a `Journal`."""

    def take(self, **entry: Any) -> None:
        """Add the results in an entry of the journal."""
        raise NotImplementedError

    def go_on(self, folder: Path, grid: Any, growing: Sequence[str], fresh: bool) -> None:
        """Continue where the same comparison stopped, or start it.

        Args:
            folder: The folder of the journal.
            grid: The comparison's grid, which must be the same as before,
            growing: except for these fields.
            fresh: Whether to delete earlier results.
        """
        settings = asdict(grid) | dict.fromkeys(growing, ())
        identity = {"setting": digest(json.dumps(settings).encode()), "code": code_fingerprint()}
        self._journal = Journal(folder / FILE, identity, fresh)
        for entry in self._journal.entries:
            self.take(**entry)

    def keep(self, **entry: Any) -> None:
        """Save results in the journal and add them."""
        self._journal.append(entry)
        self.take(**entry)
