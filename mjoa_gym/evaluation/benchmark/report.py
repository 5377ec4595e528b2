"""Everything a finished run leaves behind: CSVs, figures, the report, the README's table."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark import figures as draw
from mjoa_gym.evaluation.benchmark.example import Example, find_example
from mjoa_gym.evaluation.benchmark.planning_time import Timing, measure_layers, measure_ues
from mjoa_gym.evaluation.benchmark.results import SuiteResults, compared_sweeps
from mjoa_gym.evaluation.benchmark.suite import Cell, Suite, Sweep
from mjoa_gym.evaluation.benchmark.tables import all_tables, headline, overview_table
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, KINDS
from mjoa_gym.evaluation.journal import Row, write_atomically
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.page import Section, items_html, page, update_readme
from mjoa_gym.evaluation.plots import encoded
from mjoa_gym.evaluation.processes import Failure
from mjoa_gym.evaluation.statistics import LEVEL, RESAMPLES
from mjoa_gym.evaluation.table import Table, digits
from mjoa_gym.planners import planner_names

FEW_EPISODES = 20
"""Below, percentile bootstraps of episodes' means are known to be too narrow (83 % instead of 95 %
with 5, found by playing 30 others)."""
COLUMNS = (
    "sweep", "point", "x", "environment", "world", "planner", "seed", "round", "n_ues",
    "weighted_mean_s", "local_weighted_mean_s", "reward", "planning_s",
    "ue_mean_s", "ue_median_s", "ue_p95_s", "ue_max_s", "edge_share_per_dnn", "placement_kinds",
)  # fmt: skip
"""Of the CSV; a lower bound has no placements. Shares per DNN are name=share."""


class Picture(NamedTuple):
    """A figure, its file's name, the section it belongs to, and its caption."""

    name: str
    section: str
    caption: str
    figure: Figure


def publish(
    suite: Suite,
    played: Mapping[Cell, Sequence[Row]],
    out: Path,
    command: str,
    readme: Path | None,
    more: Sequence[Section] = (),
    failures: Sequence[Failure] = (),
) -> Path:
    """Write all outputs of a run and return the report's path.

    Args:
        suite: What was run.
        played: What its cells came to.
        out: The folder of the outputs.
        command: How to repeat it, for the report.
        readme: A README whose table is to be replaced, or None.
        more: Sections for the report that are not of the suite.
        failures: Planners that could not play on.
    """
    results = SuiteResults(suite, played)
    write_atomically(out / "rounds.csv", rounds_csv(suite, played))
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
    parts = _report(results, images, tables, command, more, timeline, failures)
    write_atomically(out / "report.html", page(f"mjoa-gym benchmark: {suite.name}", parts))
    if readme is not None:
        section = readme_section(suite, headline(results), overview_table(results), command)
        update_readme(readme, section)
    return out / "report.html"


def rounds_csv(suite: Suite, played: Mapping[Cell, Sequence[Row]]) -> str:
    """The tidy CSV of a run: one row per setting, planner, seed and round, as in the suite."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for cell in suite.cells():
        for row in played.get(cell, ()):
            writer.writerow(_flat(suite, cell, row))
    return text.getvalue()


def _flat(suite: Suite, cell: Cell, row: Row) -> Row:
    sweep = suite.sweep(cell.sweep)
    flat: Row = {
        **cell._asdict(),
        "x": next(p.x for p in sweep.points if p.label == cell.point),
        "environment": sweep.environment,
        "round": row["round"],
        "weighted_mean_s": digits(row["latency_s"]),
        "local_weighted_mean_s": digits(row["local_s"]),
        "reward": digits(row["reward"]),
        "planning_s": digits(row["planning_s"]),
    }
    if "ue_latency_s" not in row:
        return flat
    seconds = np.array(row["ue_latency_s"])
    shares: dict[str, list[float]] = {d: [] for d in sorted(set(row["dnn"]))}
    for dnn, share in zip(row["dnn"], row["edge_share"], strict=True):
        shares[dnn].append(share)
    return flat | {
        "n_ues": len(seconds),
        "ue_mean_s": digits(seconds.mean()),
        "ue_median_s": digits(float(np.median(seconds))),
        "ue_p95_s": digits(float(np.percentile(seconds, 95))),
        "ue_max_s": digits(seconds.max()),
        "edge_share_per_dnn": ";".join(f"{d}={np.mean(s):.4f}" for d, s in shares.items()),
        "placement_kinds": ";".join(f"{k}={row['kind'].count(i)}" for i, k in enumerate(KINDS)),
    }


def _write_timeline(example: Example, out: Path) -> str:
    """Write the example's timelines if plotly is installed; returns what leads to them."""
    if find_spec("plotly") is None:
        return ""
    write_atomically(out / "timeline.html", example.page())
    return (
        '<p><a href="timeline.html">Look into this inference</a>: every planner, both ways '
        "of uploading, and what each layer computes and sends.</p>"
    )


def _pictures(
    results: SuiteResults, layers: list[Timing], ues: list[Timing], example: Example
) -> list[Picture]:
    suite = results.suite
    pictures = []
    for sweep in suite.sweeps:
        if sweep.kind == "ablation":
            caption = "Every combination of partitioning and allocation."
            figure = draw.ablation_figure(results, sweep)
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
        figure = draw.placement_figure(results, sweep)
        pictures.append(Picture("edge_share", "placements", caption, figure))
        caption = "Kinds of placements, and how many different ones each planner chose."
        figure = draw.diversity_figure(results, sweep)
        pictures.append(Picture("diversity", "placements", caption, figure))
        caption = example.caption
        pictures.append(Picture("serial_against_parallel", "mechanism", caption, example.figure()))
    caption = "Median planning time of a call, everything compiled."
    figure = draw.runtime_figure(layers, ues)
    return [*pictures, Picture("planning_time", "runtime", caption, figure)]


def _timings(suite: Suite) -> tuple[list[Timing], list[Timing]]:
    timed = [suite.ours, *(p for p in ("iao", "dads-serial") if p in planner_names())]
    return measure_layers(suite.timed_dnns), measure_ues(timed, suite.timed_ues)


def _timings_table(timings: list[Timing]) -> Table:
    rows = [(*map(str, t[:5]), f"{t.seconds:.6g}") for t in timings]
    return Table("", Timing._fields, rows)


def _report(
    results: SuiteResults,
    figures: Mapping[str, Sequence[tuple[str, bytes]]],
    tables: Mapping[str, Sequence[Table]],
    command: str,
    more: Sequence[Section],
    timeline: str,
    failures: Sequence[Failure],
) -> list[str]:
    """The parts of the report's page."""
    suite, ours = results.suite, results.suite.ours
    sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in headline(results))
    parts = [
        f"<h1>mjoa-gym benchmark: {html.escape(suite.name)}</h1>",
        f"<p>{html.escape(suite.about)}</p>",
        f'<div class="headline">{sentences}</div>',
        overview_table(results).html(ours),
        Section("Serial against parallel uploading", figures.get("mechanism", ())).html(
            ours, timeline
        ),
    ]
    if failures:
        parts.insert(1, items_html([f"Could not play on: {failure}" for failure in failures]))
    for sweep in suite.sweeps:
        section = Section(sweep.title, figures.get(sweep.name, ()), tables.get(sweep.name, ()))
        parts.append(section.html(ours, f"<p>{html.escape(_conditions(sweep))}</p>"))
    return [
        *parts,
        Section("What the plans look like", figures.get("placements", ())).html(),
        Section("Planning time", figures.get("runtime", ())).html(),
        *(section.html(ours) for section in more),
        f"<h2>Method</h2>{items_html(_method(results))}",
        "<h2>Machine and versions</h2>",
        Table("", ("", "value"), list(machine().items())).html(),
        f"<h2>Repeat it</h2><pre><code>{html.escape(command)}</code></pre>",
    ]


def readme_section(suite: Suite, sentences: Sequence[str], table: Table, command: str) -> str:
    """What belongs between the README's markers: the headline, the overview, and of what it is."""
    items = "\n".join(f"* {sentence}" for sentence in sentences)
    return (
        f"{items}\n\n{table.markdown()}\n\n{table.caption}; {samples(suite)}. Repeat it with "
        f"`{command}`."
    )


def samples(suite: Suite) -> str:
    """Of what the overview is made, and what its intervals are worth."""
    compared = compared_sweeps(suite)
    sizes = sorted({(s.seeds, s.rounds) for s in compared})
    parts = [f"{n} seeds of {rounds} rounds" for n, rounds in sizes]
    others = [s for s in suite.sweeps if s.kind == "sweep" and s not in compared]
    parts += [
        f"{s.title}: {s.seeds} episodes of {s.rounds} rounds, which are resampled whole"
        + (" and are few: its intervals are too narrow" if s.seeds < FEW_EPISODES else "")
        for s in others
    ]
    return "; ".join(parts)


def _conditions(sweep: Sweep) -> str:
    changes = ", ".join(f"{key} = {value}" for key, value in sweep.scenario.items())
    return (
        f"{ENVIRONMENTS[sweep.environment]}; worlds: {', '.join(sweep.worlds)}; {sweep.seeds} "
        f"seeds of {sweep.rounds} rounds; default scenario{' with ' + changes if changes else ''}."
    )


def _method(results: SuiteResults) -> list[str]:
    suite = results.suite
    sweeps = ", ".join(s.title for s in compared_sweeps(suite))
    chosen = ", ".join(s.title for s in compared_sweeps(suite) if not s.typical)
    return [
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
