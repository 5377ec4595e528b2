"""Results on disk: append-only JSON lines, so that a killed run continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = "journal.jsonl"
Row = dict[str, Any]
"""Measurements of one round of an episode (see `mjoa_gym.evaluation.episodes.play`)."""
Key = tuple[Any, ...]
"""Identifies an episode by texts and numbers."""
DECIDING = ("agent.py", "episodes.py")
"""The files of this folder that results depend on; the others only report results."""


class Journal:
    """An append-only file of JSON lines, the first of which identifies the configuration.

    When an existing file is opened, an incomplete last line is cut off. The file's "setting" and
    "code" must then be the same, unless `fresh` starts a new file. `entries` are the lines read.

    Raises:
        ValueError: If the file is damaged, or belongs to another configuration or other code. The
            message names the `option` with which the user can choose another folder.
    """

    def __init__(
        self, path: Path, identity: Row, fresh: bool = False, option: str = "--out"
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        content = path.read_bytes() if path.exists() and not fresh else b""
        whole = content[: content.rfind(b"\n") + 1]
        first, *self.entries = _lines_of(path, whole) or [{}]
        if not self.entries:  # there is nothing to mix with
            path.unlink(missing_ok=True)
            self.append(identity)
            return
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        for key, what in (("setting", "configuration"), ("code", "version of the code")):
            if first.get(key) != identity[key]:
                raise ValueError(
                    f"{path} holds results of another {what} ({first.get(key)} instead of "
                    f"{identity[key]}). Results must not be mixed: start again with --fresh, or "
                    f"keep them and write elsewhere with {option}."
                )

    def append(self, entry: Row) -> None:
        """Append a line; it is on disk when this method returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _lines_of(path: Path, content: bytes) -> list[Row]:
    """Return the lines of a journal; a ValueError names one that is damaged."""
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            rows.append(dict(json.loads(line)))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: is damaged ({error}); start again with --fresh"
            ) from error
    return rows


class EpisodeStore:
    """Finished episodes: by key, a row per round; with a folder, also in a `Journal` there."""

    def __init__(
        self, folder: Path | None, setting: str, fresh: bool = False, option: str = "--out"
    ) -> None:
        self.rows: dict[Key, list[Row]] = {}
        self._journal: Journal | None = None
        if folder is not None:
            identity = {"setting": setting, "code": code_fingerprint()}
            self._journal = Journal(folder / FILE, identity, fresh, option)
            self.rows = {tuple(entry["key"]): entry["rows"] for entry in self._journal.entries}

    def add(self, key: Key, rows: list[Row]) -> None:
        """Add a finished episode; with a journal, it is on disk when this method returns."""
        if self._journal is not None:
            self._journal.append({"key": key, "rows": rows})
        self.rows[key] = rows


def code_fingerprint() -> str:
    """Return a digest that changes with the code and data that results depend on."""
    here = Path(__file__).parent
    package = here.parent
    telling = {here, package / "rendering", package / "cli"}
    files = [f for f in package.rglob("*") if f.suffix in (".py", ".json", ".yaml", ".csv")]
    kept = [f for f in files if telling.isdisjoint(f.parents)]
    return digest_of([*kept, *(here / name for name in DECIDING)])


def digest_of(files: Sequence[Path]) -> str:
    """Return a digest that changes when a file changes, or is added, removed or renamed."""
    return digest(b"".join(f.name.encode() + f.read_bytes() for f in sorted(files)))


def digest(data: bytes) -> str:
    """Return a short hash of some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]
