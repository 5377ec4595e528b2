"""Reports as self-contained HTML files, and the marked parts of Markdown pages."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write


class Section(NamedTuple):
    """A part of a report: figures as captions and PNGs, tables, and HTML that comes first."""

    title: str
    figures: Sequence[tuple[str, bytes]] = ()
    tables: Sequence[Table] = ()
    note: str = ""

    def html(self, ours: str = "") -> str:
        """Return the section with its first table open; "" if the section is empty."""
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
    """Return a self-contained page that ends with the machine and all versions."""
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
    """Return a figure with its picture embedded."""
    data, text = base64.b64encode(png).decode(), html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def items_html(sentences: Sequence[str]) -> str:
    """Return sentences as an HTML list; "" if there are none."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def items(sentences: Sequence[str]) -> str:
    """Return sentences as a Markdown list."""
    return "\n".join(f"* {sentence}" for sentence in sentences)


def update_pages(paths: Sequence[Path], parts: Mapping[str, str]) -> None:
    """Replace the marked parts of pages, each part in all pages that have its markers.

    Raises:
        ValueError: If a page has none of the parts, or lacks one of a part's two markers.
        OSError: If a page cannot be read or written.
    """
    marks = {part: (f"<!-- {part}:begin -->", f"<!-- {part}:end -->") for part in parts}
    for path in paths:
        text = path.read_text("utf-8")
        found = [part for part, both in marks.items() if any(mark in text for mark in both)]
        for part in found or list(parts)[:1]:
            first, last = marks[part]
            begin, end = text.find(first), text.find(last)
            if begin < 0 or end < begin or text.count(first) > 1 or text.count(last) > 1:
                raise ValueError(
                    f"{path.name} needs one line {first!r} and after it one line {last!r}"
                )
            text = f"{text[: begin + len(first)]}\n{parts[part]}\n{text[end:]}"
        write(path, text)
