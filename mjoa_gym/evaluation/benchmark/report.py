"""The outputs of a finished run: CSVs, figures, the report, the README's table."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mjoa_gym.evaluation.agent_source import LOWER_BOUND
from mjoa_gym.evaluation.benchmark import figures as draw
from mjoa_gym.evaluation.benchmark.budgets import (
    Budgeted,
    budget_caption,
    budget_table,
    gaps_of,
    plans_on_budgets,
)
from mjoa_gym.evaluation.benchmark.example import find_example
from mjoa_gym.evaluation.benchmark.findings import effect_table, findings, summary
from mjoa_gym.evaluation.benchmark.results import SuiteResults, overview_table, tables_of
from mjoa_gym.evaluation.benchmark.suite import Cell, Suite, Sweep
from mjoa_gym.evaluation.decision_time import Timing, measure_layers, measure_ues
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, KINDS
from mjoa_gym.evaluation.journal import Row
from mjoa_gym.evaluation.page import Section, figure_html, items, items_html, page, update_pages
from mjoa_gym.evaluation.plots import write_figure
from mjoa_gym.evaluation.processes import Failure
from mjoa_gym.evaluation.statistics import LEVEL, RESAMPLES
from mjoa_gym.evaluation.table import Table, digits
from mjoa_gym.files import write
from mjoa_gym.planners import planner_names

OVERVIEW = (
    "Left: by how much the mean latency falls in each sweep. Right: by how much one change of the "
    "world changes the latency of our plans. Bars are 95 % intervals."
)
FEW_EPISODES = 20
"""With fewer episodes, percentile bootstraps of their means are too narrow (with 5 they cover 83 %
instead of 95 %, as a test with 30 other episodes showed)."""
COLUMNS = (
    "sweep", "point", "x", "environment", "world", "planner", "seed", "round", "n_ues",
    "weighted_mean_s", "local_weighted_mean_s", "reward", "planning_s",
    "ue_mean_s", "ue_median_s", "ue_p95_s", "ue_max_s", "edge_share_per_dnn", "placement_kinds",
)  # fmt: skip
"""Columns of the CSV; a lower bound has no placements. Shares per DNN are name=share."""
LATENCY = (
    "Mean latency. What is far worse than all-local is not shown. Planners within "
    f"{100 * draw.ALIKE:.0f} % of each other at every point share a line."
)
FIGURES = {
    "ablation": ("Every combination of partitioning and allocation.", draw.ablation_figure),
    "optimum": (
        "How far from optimal: mean excess over the certified lower bound.", draw.gap_figure,
    ),
    "sweep": (LATENCY, draw.sweep_figure),
    "condition": (LATENCY, draw.sweep_figure),
    "energy": ("Latency against energy: each planner at all prices.", draw.energy_figure),
    "deadlines": ("Deadlines that are met.", draw.deadline_figure),
}  # fmt: skip
"""By the kind of sweep."""


def publish(
    suite: Suite,
    played: Mapping[Cell, Sequence[Row]],
    out: Path,
    command: str,
    pages: Sequence[Path] = (),
    more: Sequence[Section] = (),
    failures: Sequence[Failure] = (),
) -> Path:
    """Write all outputs of a run and return the report's path.

    The report shows the command, and the given sections in addition to the suite's. In the pages,
    the parts `benchmark` (the summary) and `benchmark-results` (all findings and the overview) are
    replaced. Failures are those of planners that stopped playing.
    """
    results = SuiteResults(suite, played)
    write(out / "rounds.csv", rounds_csv(suite, played))
    first, others = summary(results), findings(results)
    overview, effects = overview_table(results), effect_table(results)
    for name, table in (("overview", overview), ("effects", effects)):
        write(out / "tables" / f"{name}.csv", table.csv())
    sections = [
        _example(suite, out),
        *(_of_sweep(results, s, out) for s in suite.sweeps if s.kind != "budgets"),
        *(_placements(results, sweep, out) for sweep in suite.compared[:1]),
        _planning_time(suite, out),
        *(_budgets(results, s, out) for s in suite.sweeps if s.kind == "budgets"),
        *more,
    ]
    parts = [
        f"<p>{html.escape(suite.about)}</p>",
        *_opening(results, out, first, others),
        overview.html(suite.ours),
        *([effects.html()] if effects.rows else []),
        *(section.html(suite.ours) for section in sections),
        f"<h2>Method</h2>{items_html(_method(suite))}",
        f"<h2>Repeat it</h2><pre><code>{html.escape(command)}</code></pre>",
    ]
    title = f"mjoa-gym benchmark: {suite.name}"
    write(out / "report.html", page(title, parts, failures))
    written = {
        "benchmark": items(first),
        "benchmark-results": findings_section([*first, *others], suite, overview, command),
    }
    update_pages(pages, written)
    return out / "report.html"


def _opening(
    results: SuiteResults, out: Path, first: Sequence[str], others: Sequence[str]
) -> list[str]:
    """Return the summary, its figure, and the other findings."""
    shown = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in first)
    figure = draw.overview_figure(results)
    drawn = [] if figure is None else [figure_html(*_shown(out, "overview", OVERVIEW, figure))]
    return [f'<div class="headline">{shown}</div>', *drawn, items_html(others)]


def rounds_csv(suite: Suite, played: Mapping[Cell, Sequence[Row]]) -> str:
    """Return the tidy CSV of a run: one row per setting, planner, seed and round."""
    rows = [_flat(suite, cell, row) for cell in suite.cells() for row in played.get(cell, ())]
    texts = [tuple(str(row.get(name, "")) for name in COLUMNS) for row in rows]
    return Table("", COLUMNS, texts).csv()


def _flat(suite: Suite, cell: Cell, row: Row) -> Row:
    sweep = suite.sweep(cell.sweep)
    flat: Row = {**cell._asdict(), "environment": sweep.environment, "round": row["round"]}
    flat["x"] = next(p.x for p in sweep.points if p.label == cell.point)
    numbers = {
        "weighted_mean_s": row["latency_s"], "local_weighted_mean_s": row["local_s"],
        "reward": row["reward"], "planning_s": row["planning_s"],
    }  # fmt: skip
    if "ue_latency_s" in row:
        seconds = np.array(row["ue_latency_s"])
        median, p95 = np.percentile(seconds, (50, 95))
        numbers |= {"ue_mean_s": seconds.mean(), "ue_median_s": median}
        numbers |= {"ue_p95_s": p95, "ue_max_s": seconds.max()}
        shares: dict[str, list[float]] = {d: [] for d in sorted(set(row["dnn"]))}
        for dnn, share in zip(row["dnn"], row["edge_share"], strict=True):
            shares[dnn].append(share)
        kinds = (f"{kind}={row['kind'].count(k)}" for k, kind in enumerate(KINDS))
        flat |= {
            "n_ues": len(seconds),
            "edge_share_per_dnn": ";".join(f"{d}={np.mean(s):.4f}" for d, s in shares.items()),
            "placement_kinds": ";".join(kinds),
        }
    return flat | {name: digits(number) for name, number in numbers.items()}


def _shown(out: Path, name: str, caption: str, figure: Figure) -> tuple[str, bytes]:
    """Write a figure; return its caption and PNG for a section."""
    return caption, write_figure(figure, out / "figures" / name)


def _example(suite: Suite, out: Path) -> Section:
    """Write one inference, also as an interactive page if plotly is installed."""
    example, note = find_example(suite), ""
    figure = _shown(out, "serial_against_parallel", example.caption, example.figure())
    if find_spec("plotly") is not None:
        write(out / "timeline.html", example.page())
        note = (
            '<p><a href="timeline.html">Look into this inference</a>: every planner, both ways '
            "of uploading, and what each layer computes and sends.</p>"
        )
    return Section("Serial against parallel uploading", [figure], note=note)


def _of_sweep(results: SuiteResults, sweep: Sweep, out: Path) -> Section:
    """Write a sweep's tables and figures; return their section."""
    tables = tables_of(results, sweep)
    figures = []
    for k, table in enumerate(tables):
        write(out / "tables" / f"{sweep.name}_{k}.csv", table.csv())
    if sweep.kind != "optimum" or LOWER_BOUND in sweep.planners:
        caption, figure_of = FIGURES[sweep.kind]
        figures.append(_shown(out, sweep.name, caption, figure_of(results, sweep)))
    if sweep.environment == "streaming":
        caption = "Mean latency round by round, in the parallel world."
        figure = draw.rounds_figure(results, sweep)
        figures.append(_shown(out, f"{sweep.name}_rounds", caption, figure))
    return Section(sweep.title, figures, tables, _conditions(sweep))


def _conditions(sweep: Sweep) -> str:
    base, changes = sweep.scenario.get("base", "default"), dict(sweep.scenario)
    changes.pop("base", None)
    listed = ", ".join(f"{key} = {value}" for key, value in changes.items())
    conditions = (
        f"{ENVIRONMENTS[sweep.environment]}; uploading: {', '.join(sweep.worlds)}; {sweep.seeds} "
        f"seeds of {sweep.rounds} round{'s' if sweep.rounds > 1 else ''}; {base} "
        f"scenario{' with ' + listed if listed else ''}."
    )
    return f"<p>{html.escape(conditions)}</p>"


def _placements(results: SuiteResults, sweep: Sweep, out: Path) -> Section:
    ours = results.suite.ours
    shares = f"Share of layers that {ours} runs at the edge (all points of the sweep)."
    kinds = "Kinds of placements, and how many different ones each planner chose."
    figures = [
        _shown(out, "edge_share", shares, draw.placement_figure(results, sweep)),
        _shown(out, "diversity", kinds, draw.diversity_figure(results, sweep)),
    ]
    return Section("What the plans look like", figures)


def _planning_time(suite: Suite, out: Path) -> Section:
    timed = [suite.ours, *(p for p in ("iao", "dads-serial") if p in planner_names())]
    timings = [*measure_layers(suite.timed_dnns), *measure_ues(timed, suite.timed_ues)]
    rows = [(*map(str, t[:5]), f"{t.seconds:.6g}") for t in timings]
    write(out / "planning_time.csv", Table("", Timing._fields, rows).csv())
    caption = "Median planning time of a call, everything compiled."
    figure = _shown(out, "planning_time", caption, draw.runtime_figure(timings))
    return Section("Planning time", [figure])


def _budgets(results: SuiteResults, sweep: Sweep, out: Path) -> Section:
    plans = plans_on_budgets(results, sweep)
    rows = [(*map(str, plan[:3]), *map(digits, plan[3:])) for plan in plans]
    write(out / f"{sweep.name}.csv", Table("", Budgeted._fields, rows).csv())
    gaps = gaps_of(plans)
    table = budget_table(sweep, gaps)
    write(out / "tables" / f"{sweep.name}_0.csv", table.csv())
    caption = budget_caption(sweep, results.suite.reference)
    figure = _shown(out, sweep.name, caption, draw.budget_figure(results, sweep, gaps))
    return Section(sweep.title, [figure], [table], _conditions(sweep))


def findings_section(found: Sequence[str], suite: Suite, table: Table, command: str) -> str:
    """Return the part of a page with the findings, the overview, and its samples."""
    return (
        f"{items(found)}\n\n{table.markdown()}\n\n{table.caption}; {samples(suite)}. Repeat it "
        f"with `{command}`."
    )


def samples(suite: Suite) -> str:
    """Describe the samples behind the overview, and the quality of its intervals."""
    sizes = sorted({(s.seeds, s.rounds) for s in suite.compared})
    parts = [f"{n} seeds of {rounds} rounds" for n, rounds in sizes]
    others = [s for s in suite.sweeps if s.kind == "sweep" and s not in suite.compared]
    parts += [
        f"{s.title}: {s.seeds} episodes of {s.rounds} rounds, which are resampled whole"
        + (" and are few: its intervals are too narrow" if s.seeds < FEW_EPISODES else "")
        for s in others
    ]
    return "; ".join(parts)


def _method(suite: Suite) -> list[str]:
    sweeps = ", ".join(s.title for s in suite.compared)
    chosen = ", ".join(s.title for s in suite.compared if not s.typical)
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
