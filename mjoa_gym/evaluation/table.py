"""Tables of text: aligned for a terminal, as Markdown, CSV or HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

from mjoa_gym.evaluation.statistics import Estimate


class Table(NamedTuple):
    """A table; its numbers are already text."""

    caption: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def text(self, left: Sequence[int] = (0,)) -> str:
        """Return the table as aligned columns: `left` to the left, the others to the right.

        Empty columns are left out.
        """
        used = [k for k in range(len(self.header)) if not k or any(row[k] for row in self.rows)]
        cells = [self.header, *self.rows]
        widths = {k: max(len(row[k]) for row in cells) for k in used}
        starts = {k % len(self.header) for k in left}
        lines = [
            "  ".join(
                row[k].ljust(widths[k]) if k in starts else row[k].rjust(widths[k]) for k in used
            ).rstrip()
            for row in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths.values()))
        return "\n".join(lines)

    def markdown(self) -> str:
        """Return the table as a GitHub table."""
        head = f"| {' | '.join(self.header)} |"
        line = "|" + "|".join(["---"] + ["---:"] * (len(self.header) - 1)) + "|"
        return "\n".join([head, line, *(f"| {' | '.join(row)} |" for row in self.rows)])

    def csv(self) -> str:
        """Return the table as comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()

    def html(self, ours: str = "") -> str:
        """Return the table as HTML; the row of `ours` is highlighted."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.header)
        body = ""
        for row in self.rows:
            mark = ' class="ours"' if row[0] == ours else ""
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            body += f"<tr{mark}>{cells}</tr>"
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def with_captions(tables: Sequence[Table]) -> str:
    """Return tables as Markdown with captions below; tables without rows are left out."""
    return "\n\n".join(f"{t.markdown()}\n\n{t.caption}".strip() for t in tables if t.rows)


def percent(estimate: Estimate, sign: str = "-") -> str:
    """Format a fraction with its interval; for a change, use the sign "+"."""
    value, low, high = (f"{100 * part:{sign}.1f}" for part in estimate)
    return f"{value} % [{low}, {high}]"


def milliseconds(seconds: float) -> str:
    """Format seconds as milliseconds with three digits."""
    return f"{1e3 * seconds:.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"


def digits(number: float) -> str:
    """Format a number for a file."""
    return f"{number:.9g}"
