"""Everything a finished run leaves behind: CSVs, figures, the report, the README's table."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from agents.benchmark import figures as draw
from agents.benchmark import plan_figures
from agents.benchmark.comparison import compared_sweeps
from agents.benchmark.export import rounds_csv
from agents.benchmark.mechanism import Example, find_example
from agents.benchmark.plots import encoded
from agents.benchmark.report import Section, readme_section, report_html, update_readme
from agents.benchmark.runtime import (
    Timing,
    machine,
    measure_layers,
    measure_ues,
)
from agents.benchmark.statistics import Results
from agents.benchmark.store import Store, write_atomically
from agents.benchmark.suite import LOWER_BOUND, Suite
from agents.benchmark.tables import Table, all_tables, overview_table
from mjoa_gym.planners import planner_names


class Picture(NamedTuple):
    """A figure, its file's name, the section it belongs to, and its caption."""

    name: str
    section: str
    caption: str
    figure: Figure


def publish(
    suite: Suite,
    store: Store,
    out: Path,
    command: str,
    readme: Path | None,
    more: Sequence[Section] = (),
) -> Path:
    """Write all outputs of a run and return the report's path.

    Args:
        suite: What was run.
        store: Its results.
        out: The folder of the outputs.
        command: How to repeat it, for the report.
        readme: A README whose table is to be replaced, or None.
        more: Sections for the report that are not of the suite.
    """
    results = Results(suite, store)
    write_atomically(out / "rounds.csv", rounds_csv(suite, store))
    layers, ues = _timings(suite)
    write_atomically(out / "planning_time.csv", _timings_table([*layers, *ues]).csv())
    tables = all_tables(results)
    write_atomically(out / "tables" / "overview.csv", overview_table(results).csv())
    for name, some in tables.items():
        for k, table in enumerate(some):
            write_atomically(out / "tables" / f"{name}_{k}.csv", table.csv())
    images: dict[str, list[tuple[str, bytes]]] = {}
    example = find_example(suite)
    for picture in _pictures(results, layers, ues, example):
        for kind in ("png", "svg"):
            data = encoded(picture.figure, kind)
            write_atomically(out / "figures" / f"{picture.name}.{kind}", data)
            if kind == "png":
                images.setdefault(picture.section, []).append((picture.caption, data))
    timeline = _write_timeline(example, out)
    page = report_html(results, images, tables, machine(), command, more, timeline)
    write_atomically(out / "report.html", page)
    if readme is not None:
        update_readme(readme, readme_section(results, command))
    return out / "report.html"


def _write_timeline(example: Example, out: Path) -> str | None:
    """Write the example's interactive timeline if plotly is installed; returns the file's name."""
    if find_spec("plotly") is None:
        return None
    write_atomically(out / "timeline.html", example.page())
    return "timeline.html"


def _pictures(
    results: Results, layers: list[Timing], ues: list[Timing], example: Example
) -> list[Picture]:
    suite = results.suite
    pictures = []
    for sweep in suite.sweeps:
        if sweep.kind == "ablation":
            caption = "Every combination of partitioning and allocation."
            figure = draw.bars_figure(results, sweep)
        elif sweep.kind == "optimum":
            if LOWER_BOUND not in sweep.planners:
                continue
            caption = "How far from optimal: mean excess over the certified lower bound."
            figure = draw.gap_figure(results, sweep)
        else:
            caption = "Mean latency; what is far worse than all-local is cut off."
            figure = draw.sweep_figure(results, sweep)
        pictures.append(Picture(sweep.name, sweep.name, caption, figure))
        if sweep.environment == "streaming":
            caption = "Mean latency round by round, in the parallel world."
            figure = draw.rounds_figure(results, sweep)
            pictures.append(Picture(f"{sweep.name}_rounds", sweep.name, caption, figure))
    for sweep in compared_sweeps(suite)[:1]:
        caption = f"Share of layers that {suite.ours} runs at the edge (all points of the sweep)."
        figure = plan_figures.placement_figure(results, sweep)
        pictures.append(Picture("edge_share", "placements", caption, figure))
        caption = "Kinds of placements, and how many different ones each planner chose."
        figure = plan_figures.diversity_figure(results, sweep)
        pictures.append(Picture("diversity", "placements", caption, figure))
        caption = example.caption
        pictures.append(Picture("serial_against_parallel", "mechanism", caption, example.figure()))
    caption = "Median planning time of a call, everything compiled."
    figure = plan_figures.runtime_figure(layers, ues)
    return [*pictures, Picture("planning_time", "runtime", caption, figure)]


def _timings(suite: Suite) -> tuple[list[Timing], list[Timing]]:
    timed = [suite.ours, *(p for p in ("iao", "dads-serial") if p in planner_names())]
    return measure_layers(suite.timed_dnns), measure_ues(timed, suite.timed_ues)


def _timings_table(timings: list[Timing]) -> Table:
    rows = [(*map(str, t[:5]), f"{t.seconds:.6g}") for t in timings]
    return Table("", Timing._fields, rows)
