"""Reports as one HTML file with everything inside, and the marked parts of a README."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write

BENCHMARK, LEARNED = "benchmark", "learned"
"""The README's marked parts."""


class Section(NamedTuple):
    """A part of a report: figures as captions and PNGs, tables, and HTML that comes first."""

    title: str
    figures: Sequence[tuple[str, bytes]] = ()
    tables: Sequence[Table] = ()
    note: str = ""

    def html(self, ours: str = "") -> str:
        """The section, its first table open; nothing if there is nothing in it."""
        if not self.figures and not self.tables:
            return ""
        parts = [f"<h2>{html.escape(self.title)}</h2>", self.note]
        parts += [figure_html(*figure) for figure in self.figures]
        parts += [table.html(ours) for table in self.tables[:1]]
        if len(self.tables) > 1:
            others = "".join(table.html(ours) for table in self.tables[1:])
            parts.append(f"<details><summary>More numbers</summary>{others}</details>")
        return "".join(parts)


def page(title: str, parts: Sequence[str], failures: Sequence[object] = ()) -> str:
    """A page that needs nothing else; it ends with the machine and the versions of everything."""
    head = html.escape(title)
    style = (resources.files("mjoa_gym.evaluation") / "page.css").read_text("utf-8")
    shown = [
        f"<h1>{head}</h1>",
        items_html([f"Could not play on: {failure}" for failure in failures]),
        *parts,
        "<h2>Machine and versions</h2>",
        Table("", ("", "value"), list(machine().items())).html(),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{head}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head>\n<body>\n" + "\n".join(shown) + "\n</body></html>\n"
    )


def figure_html(caption: str, png: bytes) -> str:
    """A figure with the picture inside."""
    data, text = base64.b64encode(png).decode(), html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def items_html(sentences: Sequence[str]) -> str:
    """Sentences as a list; nothing if there are none."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def update_readme(path: Path, section: str, part: str = BENCHMARK) -> None:
    """Replace what stands between the markers of a part of a README, which must have both."""
    text = path.read_text("utf-8")
    first, last = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
    begin, end = text.find(first), text.find(last)
    if begin < 0 or end < begin or text.count(first) > 1 or text.count(last) > 1:
        raise ValueError(f"{path.name} needs one line {first!r} and after it one line {last!r}")
    write(path, f"{text[: begin + len(first)]}\n{section}\n{text[end:]}")
