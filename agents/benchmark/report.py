"""The report: one HTML file with its figures and tables inside, and the README's table."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agents.benchmark.comparison import compared_sweeps
from agents.benchmark.statistics import LEVEL, RESAMPLES, Results
from agents.benchmark.store import write_atomically
from agents.benchmark.suite import ENVIRONMENTS, Suite, Sweep
from agents.benchmark.tables import Table, headline, overview_table

BENCHMARK, LEARNED = "benchmark", "learned"
"""The README's marked parts."""
FEW_EPISODES = 20
"""Below, percentile bootstraps of episodes' means are known to be too narrow (83 % instead of 95 %
with 5, found by playing 30 others)."""
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, sans-serif; color: #1b1b1f; max-width: 1080px; margin: 2rem auto;
       padding: 0 1.2rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.6rem; border-bottom: 1px solid #e4e4ea; }
figure { margin: 1.2rem 0; overflow-x: auto; } figure img { max-width: 100%; }
figcaption, caption { color: #55555f; font-size: .88rem; text-align: left; padding: .3rem 0; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums;
        font-size: .88rem; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #e4e4ea; text-align: right;
         white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.ours td { font-weight: 600; color: #b34a00; }
.headline { background: #f3f3f6; border-left: 4px solid #d55e00; padding: .6rem 1.1rem; }
details summary { cursor: pointer; color: #0072b2; } code { background: #f3f3f6; }
"""


class Section(NamedTuple):
    """A part of the report: figures as captions and PNGs, and tables."""

    title: str
    figures: Sequence[tuple[str, bytes]]
    tables: Sequence[Table]


def report_html(
    results: Results,
    figures: Mapping[str, Sequence[tuple[str, bytes]]],
    tables: Mapping[str, Sequence[Table]],
    machine: Mapping[str, str],
    command: str,
    more: Sequence[Section] = (),
    timeline: str | None = None,
) -> str:
    """The report as one page that needs nothing else.

    Args:
        results: What was measured.
        figures: Caption and PNG of each figure, by the section it belongs to: a sweep's name, or
            "mechanism", "placements" or "runtime".
        tables: The tables of every sweep, by its name; the first is always shown.
        machine: What it was measured on and with.
        command: What to type to repeat it.
        more: Sections that are not of the suite.
        timeline: The file beside the report that has the example's interactive timeline.
    """
    suite = results.suite
    ours = suite.ours
    sentences = "".join(f"<p>{html.escape(s)}</p>" for s in headline(results))
    parts = [
        f"<h1>Benchmark: {html.escape(suite.name)}</h1><p>{html.escape(suite.about)}</p>",
        f'<div class="headline">{sentences}</div>',
        table_html(overview_table(results), ours),
        _section(
            "Serial against parallel uploading", figures.get("mechanism", ()), (), ours,
            _timeline_link(timeline),
        ),
    ]  # fmt: skip
    for sweep in suite.sweeps:
        note = f"<p>{html.escape(_conditions(sweep))}</p>"
        shown = figures.get(sweep.name, ()), tables.get(sweep.name, ())
        parts.append(_section(sweep.title, *shown, ours, note))
    parts += [
        _section("What the plans look like", figures.get("placements", ()), (), ours),
        _section("Planning time", figures.get("runtime", ()), (), ours),
        *(_section(section.title, section.figures, section.tables, ours) for section in more),
        _method(results),
        "<h2>Machine and versions</h2>",
        table_html(Table("", ("", "value"), list(machine.items())), ours),
        f"<h2>Repeat it</h2><pre><code>{html.escape(command)}</code></pre>",
    ]
    title = f"mjoa-gym benchmark: {html.escape(suite.name)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def readme_section(results: Results, command: str) -> str:
    """What belongs between the README's markers."""
    table = overview_table(results)
    sample = f"; {samples(results.suite)}"
    sentences = "\n".join(f"* {sentence}" for sentence in headline(results))
    return (
        f"{sentences}\n\n{table.markdown()}\n\n{table.caption}{sample}. Repeat it with `{command}`."
    )


def samples(suite: Suite) -> str:
    """Of what the overview is made, and what its intervals are worth."""
    compared = compared_sweeps(suite)
    parts = [f"{n} seeds of {rounds} rounds" for n, rounds in sorted({_size(s) for s in compared})]
    others = [s for s in suite.sweeps if s.kind == "sweep" and s not in compared]
    parts += [
        f"{s.title}: {s.seeds} episodes of {s.rounds} rounds, which are resampled whole"
        + (" and are few: its intervals are too narrow" if s.seeds < FEW_EPISODES else "")
        for s in others
    ]
    return "; ".join(parts)


def _size(sweep: Sweep) -> tuple[int, int]:
    return sweep.seeds, sweep.rounds


def update_readme(path: Path, section: str, part: str = BENCHMARK) -> None:
    """Replace what stands between the markers of a part of a README.

    Raises:
        ValueError: If the file lacks a marker, or they are in the wrong order.
    """
    text = path.read_text("utf-8")
    first, last = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
    begin, end = text.find(first), text.find(last)
    if begin < 0 or end < begin or text.count(first) > 1 or text.count(last) > 1:
        raise ValueError(f"{path.name} needs one line {first!r} and after it one line {last!r}")
    write_atomically(path, f"{text[: begin + len(first)]}\n{section}\n{text[end:]}")


def _section(
    title: str,
    figures: Sequence[tuple[str, bytes]],
    tables: Sequence[Table],
    ours: str,
    note: str = "",
) -> str:
    if not figures and not tables:
        return ""
    parts = [f"<h2>{html.escape(title)}</h2>", note]
    parts += [figure_html(*figure) for figure in figures]
    parts += [table_html(table, ours) for table in tables[:1]]
    if len(tables) > 1:
        others = "".join(table_html(table, ours) for table in tables[1:])
        parts.append(f"<details><summary>More numbers</summary>{others}</details>")
    return "".join(parts)


def _timeline_link(file: str | None) -> str:
    """What leads to the interactive timeline, if there is one."""
    if file is None:
        return ""
    return (
        f'<p><a href="{html.escape(file)}">Look into this inference</a>: every planner, both ways '
        "of uploading, and what each layer computes and sends.</p>"
    )


def figure_html(caption: str, png: bytes) -> str:
    """A figure with the picture inside."""
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def table_html(table: Table, ours: str) -> str:
    """A table; the row of `ours` stands out."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    rows = []
    for row in table.rows:
        mark = ' class="ours"' if row[0] == ours else ""
        rows.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>")
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    body = "".join(rows)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _conditions(sweep: Sweep) -> str:
    changes = ", ".join(f"{key} = {value}" for key, value in sweep.scenario.items())
    return (
        f"{ENVIRONMENTS[sweep.environment]}; worlds: {', '.join(sweep.worlds)}; {sweep.seeds} "
        f"seeds of {sweep.rounds} rounds; default scenario{' with ' + changes if changes else ''}."
    )


def _method(results: Results) -> str:
    suite = results.suite
    sweeps = ", ".join(s.title for s in compared_sweeps(suite))
    chosen = ", ".join(s.title for s in compared_sweeps(suite) if not s.typical)
    sentences = [
        "Every planner meets the same instances: seeds are shared by planners, worlds and points.",
        f"Latency is the weighted mean over the UEs of a round; intervals are {100 * LEVEL:.0f} % "
        f"percentile bootstraps with {RESAMPLES} resamples of paired instances (rounds; in "
        "streaming, whole episodes).",
        "A reduction is 1 - mean latency / mean latency of the other; that of an instance is 1 - "
        "latency / latency of the other.",
        f"Earlier systems: {', '.join(suite.earlier)}, each our formulation of its published idea. "
        "The strongest is the one with the lowest mean latency in a setting.",
        "In the serial world a layer's parameters may start only when its predecessors have "
        "finished executing, as in earlier systems; in the parallel world they flow from the "
        f"start. {suite.ours} is always measured in the parallel world here.",
        f"The headline is taken over the cold-start sweeps: {sweeps}.",
        *([f"Its means leave out what was chosen as favourable: {chosen}."] if chosen else []),
        "Planning time is from observation to action, while two processes share the machine.",
    ]
    items = "".join(f"<li>{html.escape(s)}</li>" for s in sentences)
    return f"<h2>Method</h2><ul>{items}</ul>"
