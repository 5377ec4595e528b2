"""Results on disk: one line per finished cell, so that a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import agents
import mjoa_gym
from agents.benchmark.suite import Cell, Suite

FILE = "cells.jsonl"
Row = dict[str, Any]
"""What one round of one cell measured (see `agents.benchmark.episode`)."""


class Journal:
    """An append-only file of JSON lines, the first of which says what the others belong to.

    A line that a kill left incomplete is cut off when the file is opened again.

    Args:
        path: The file; made if need be, with its folder.
        identity: What the lines are results of: "suite" and "code" must be the same when the file
            is opened again.
        fresh: Whether to begin anew.

    Attributes:
        entries: The lines that were there, but for the first.

    Raises:
        ValueError: If the file belongs to another configuration or other code.
    """

    def __init__(self, path: Path, identity: Row, fresh: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        lines = [json.loads(line) for line in _complete_lines(path)]
        if lines[1:]:
            _refuse_other(path, lines[0], identity)
        else:  # nothing that could be mixed
            path.unlink(missing_ok=True)
            self.append(identity)
        self.entries: list[Row] = lines[1:]

    def append(self, entry: Row) -> None:
        """Add a line; it is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Store:
    """The journal of a run; every line is one finished cell.

    Args:
        folder: Where the file lies; made if need be.
        suite: What is run.
        fresh: Whether to begin anew.

    Raises:
        ValueError: If the file belongs to another configuration or other code.
    """

    def __init__(self, folder: Path, suite: Suite, fresh: bool = False) -> None:
        identity = {"suite": fingerprint(suite), "code": code_fingerprint(), "name": suite.name}
        self._journal = Journal(folder / FILE, identity, fresh)
        self.path = self._journal.path
        self.rows: dict[Cell, list[Row]] = {
            Cell(*entry["cell"]): entry["rows"] for entry in self._journal.entries
        }

    def add(self, cell: Cell, rows: list[Row]) -> None:
        """Keep a finished cell; it is on disk when this returns."""
        self._journal.append({"cell": cell, "rows": rows})
        self.rows[cell] = rows

    def __iter__(self) -> Iterator[tuple[Cell, Row]]:
        """All rows, in the order in which cells finished."""
        return ((cell, row) for cell, rows in self.rows.items() for row in rows)


def fingerprint(suite: Suite) -> str:
    """Changes whenever anything in the suite does."""
    return digest(json.dumps(asdict(suite), sort_keys=True, default=str).encode())


def code_fingerprint() -> str:
    """Changes whenever code or data does that results depend on: the world and the episode."""
    package = Path(mjoa_gym.__file__).parent
    files = [f for f in package.rglob("*") if f.suffix in (".py", ".json", ".yaml", ".csv")]
    deciding = Path(agents.__file__).parent
    files += [deciding / "planner_agent.py", deciding / "benchmark" / "episode.py"]
    drawing = package / "rendering"
    kept = sorted(f for f in files if drawing not in f.parents and f.exists())
    return digest(b"".join(f.name.encode() + f.read_bytes() for f in kept))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    data = content.encode() if isinstance(content, str) else content
    temporary.write_bytes(data)
    temporary.replace(path)


def digest(data: bytes) -> str:
    """A short name of some bytes that no others have."""
    return hashlib.sha256(data).hexdigest()[:16]


def _complete_lines(path: Path) -> list[bytes]:
    """The file's lines; a last one without its end is removed from the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return whole.splitlines()


def _refuse_other(path: Path, found: Row, wanted: Row) -> None:
    for key, what in (("suite", "configuration"), ("code", "version of the code")):
        if found.get(key) != wanted[key]:
            raise ValueError(
                f"{path} holds results of another {what} ({found.get(key)} instead of "
                f"{wanted[key]}): results are not mixed. Begin anew with --fresh, or keep them and "
                "write elsewhere with --out."
            )
