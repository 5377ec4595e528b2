"""What an evaluation has found: tidy numbers, a table with intervals, figures.

Everything is paired: agents meet the same episodes, and intervals resample episodes, for all agents
the same ones. Bootstraps are those of the benchmark (`agents.benchmark.statistics`); the
interquartile mean is SciPy's trimmed mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import trim_mean

from agents.benchmark.plots import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    OURS,
    dress,
    encoded,
    new_figure,
    plain_log,
)
from agents.benchmark.statistics import Estimate, bootstrap, reduction
from agents.benchmark.store import Row, write_atomically

COLUMNS = ("agent", "seed", "round", "latency_s", "local_s", "reward", "planning_s")
HEADER = (
    "| Agent | Latency, ms | Against {reference} | Interquartile mean, ms "
    "| Probability of improvement | Reward | Planning, ms |\n|---|---:|---:|---:|---:|---:|---:|\n"
)


class Results(NamedTuple):
    """The episodes of several agents, the same for all.

    Attributes:
        seeds: Of the episodes.
        rows: By agent's label, for each seed a row per round.
        reference: The label of the agent that the others are compared with.
    """

    seeds: Sequence[int]
    rows: Mapping[str, Sequence[Sequence[Row]]]
    reference: str

    def column(self, agent: str, name: str) -> NDArray[np.float64]:
        """(seeds, rounds) of a quantity."""
        return np.array([[row[name] for row in episode] for episode in self.rows[agent]])


class Score(NamedTuple):
    """How an agent did; latencies are means over UEs and rounds of an episode.

    Attributes:
        latency_s: Mean over episodes.
        change: Of the mean latency against the reference, as a fraction; negative is better.
        middle_s: Interquartile mean over episodes.
        improvement: How probably an episode is faster than with the reference; ties count half.
        reward: Mean over rounds.
        planning_s: Mean over rounds.
    """

    latency_s: Estimate
    change: Estimate
    middle_s: float
    improvement: float
    reward: float
    planning_s: float


def score(results: Results, agent: str) -> Score:
    """How an agent did."""
    own, other = (
        results.column(name, "latency_s").mean(axis=1) for name in (agent, results.reference)
    )
    less = reduction(own, other).mean
    return Score(
        latency_s=bootstrap(own),
        change=Estimate(-less.value, -less.high, -less.low),
        middle_s=float(trim_mean(own, 0.25)),
        improvement=float(np.mean((own < other) + 0.5 * (own == other))),
        reward=float(results.column(agent, "reward").mean()),
        planning_s=float(results.column(agent, "planning_s").mean()),
    )


def table(results: Results) -> str:
    """Markdown, the fastest agent first."""
    scores = {agent: score(results, agent) for agent in results.rows}
    lines = []
    for agent in sorted(scores, key=lambda name: scores[name].latency_s.value):
        own = scores[agent]
        against, improvement = "", ""
        if agent != results.reference:
            against = "{:+.1f} % [{:+.1f}, {:+.1f}]".format(*(100 * part for part in own.change))
            improvement = f"{own.improvement:.3f}"
        lines.append(
            f"| {agent} | {1e3 * own.latency_s.value:.1f} | {against} | {1e3 * own.middle_s:.1f} "
            f"| {improvement} | {own.reward:.4f} | {1e3 * own.planning_s:.2f} |\n"
        )
    return HEADER.format(reference=results.reference) + "".join(lines)


def note(results: Results) -> str:
    """What the table's numbers are."""
    first, last = min(results.seeds), max(results.seeds)
    rounds = results.column(results.reference, "reward").shape[1]
    return (
        f"\nWeighted mean latency over the UEs of {len(results.seeds)} episodes of {rounds} rounds "
        f"(seeds {first} to {last}), the same for all agents. In brackets: 95 % bootstrap interval "
        "over episodes, resampled in pairs. Interquartile mean: of the episodes' mean latencies. "
        "Probability of improvement: part of the episodes that are faster than with "
        f"{results.reference}. Planning: seconds per round on the machine that played.\n"
    )


def tidy(results: Results) -> str:
    """All rows as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for agent, episodes in results.rows.items():
        for seed, rows in zip(results.seeds, episodes, strict=True):
            for row in rows:
                writer.writerow([agent, seed, *(row[name] for name in COLUMNS[2:])])
    return file.getvalue()


def bars_figure(results: Results) -> Figure:
    """Mean latencies; the interval is that of the ratio to the reference."""
    scores = {agent: score(results, agent) for agent in results.rows}
    agents = sorted(scores, key=lambda name: -scores[name].latency_s.value)
    base = scores[results.reference].latency_s.value
    figure = new_figure(7.6, 1.2 + 0.42 * len(agents))
    axes = figure.subplots()
    for y, agent in enumerate(agents):
        value, low, high = (1e3 * base * (1 + part) for part in scores[agent].change)
        colour = GREY if agent == results.reference else OURS
        axes.barh(y, value, color=colour, height=0.62)
        axes.errorbar(value, y, xerr=[[value - low], [high - value]], color=INK, capsize=3, lw=1.2)
        text = f"  {value:.0f}"
        if agent != results.reference:
            text += f"  ({100 * scores[agent].change.value:+.1f} %)"
        axes.text(max(value, high), y, text, va="center", fontsize=8.5, color=INK)
    axes.set_yticks(range(len(agents)), agents)
    axes.margins(x=0.22)
    axes.set_xlim(left=0)
    dress(axes, "", f"mean latency (ms); interval of the ratio to {results.reference}", "", "x")
    return figure


def rounds_figure(results: Results) -> Figure:
    """Mean latency in every round of the episode."""
    figure = new_figure(7.6, 4.0)
    axes = figure.subplots()
    for k, agent in enumerate(results.rows):
        latency_s = results.column(agent, "latency_s").mean(axis=0)
        axes.plot(
            np.arange(1, len(latency_s) + 1), 1e3 * latency_s, label=agent,
            color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)], ms=4.5, lw=1.6,
        )  # fmt: skip
    axes.set_yscale("log")  # all-local can take ten times as long as the others
    plain_log(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dress(axes, "", "round", "mean latency (ms)")
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5)
    return figure


def publish(results: Results, folder: Path, by_round: bool) -> Path:
    """Write `rounds.csv`, `table.md` and the figures; returns the table's path.

    Args:
        results: What was found.
        folder: Where to.
        by_round: Whether rounds of an episode differ, so that a figure of them says something.
    """
    figures = {"latency": bars_figure(results)}
    if by_round:
        figures["rounds"] = rounds_figure(results)
    for name, figure in figures.items():
        for kind in ("svg", "png"):
            write_atomically(folder / f"{name}.{kind}", encoded(figure, kind))
    write_atomically(folder / "rounds.csv", tidy(results))
    write_atomically(folder / "table.md", table(results) + note(results))
    return folder / "table.md"
