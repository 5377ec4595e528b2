"""The code of a documentation page, taken apart for the tests that run it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)


class Code(NamedTuple):
    """What a page asks its reader to save, to run in Python, and to type.

    Attributes:
        files: The contents of blocks with a title, by that title.
        python: All other Python blocks, one after the other.
        commands: Every line that calls `mjoa-gym`, as its words.
    """

    files: dict[str, str]
    python: str
    commands: list[list[str]]


def code_of(page: Path) -> Code:
    """The code of a page."""
    files: dict[str, str] = {}
    python: list[str] = []
    commands: list[list[str]] = []
    for language, title, text in _BLOCK.findall(page.read_text("utf-8")):
        if title:
            files[title] = text
        elif language == "python":
            python.append(text)
        elif language == "bash":
            lines = text.replace("\\\n", " ").splitlines()
            calls = [line for line in lines if line.startswith("mjoa-gym ")]
            commands += [shlex.split(line, comments=True)[1:] for line in calls]
    return Code(files, "\n".join(python), commands)
