"""What an evaluation has found: tidy numbers, a table with intervals, figures.

Everything is paired: agents meet the same episodes, and intervals resample episodes, for all agents
the same ones. Bootstraps are those of the benchmark (`agents.benchmark.statistics`); the
interquartile mean is SciPy's trimmed mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
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
from agents.benchmark.statistics import Estimate, change
from agents.benchmark.store import write_atomically
from agents.benchmark.tables import Table
from agents.evaluation_results import SEED, Results

HEADER = (
    "Agent", "Training seeds", "Latency, ms", "Against {reference}", "Interquartile mean, ms",
    "Probability of improvement", "Reward", "Planning, ms",
)  # fmt: skip


class Score(NamedTuple):
    """How a family did; latencies are means over UEs and rounds of an episode.

    Attributes:
        runs: Training seeds.
        latency_s: Mean over episodes.
        change: Of the mean latency against the reference, as a fraction; negative is better.
        middle_s: Interquartile mean over episodes.
        improvement: How probably an episode is faster than with the reference; ties count half.
        reward: Mean over rounds.
        planning_s: Mean over rounds.
    """

    runs: int
    latency_s: float
    change: Estimate
    middle_s: float
    improvement: float
    reward: float
    planning_s: float


def score(results: Results, family: str) -> Score:
    """How a family did."""
    own, other = (results.by_episode(name, "latency_s") for name in (family, results.reference))
    other = other.mean(axis=0)
    return Score(
        runs=len(own),
        latency_s=float(own.mean()),
        change=change(own, other),
        middle_s=float(trim_mean(own.ravel(), 0.25)),
        improvement=float(np.mean((own < other) + 0.5 * (own == other))),
        reward=float(results.by_episode(family, "reward").mean()),
        planning_s=float(results.by_episode(family, "planning_s").mean()),
    )


def table(results: Results) -> Table:
    """How everybody did, the fastest family first."""
    scores = {family: score(results, family) for family in results.families}
    rows = []
    for family in sorted(scores, key=lambda name: scores[name].latency_s):
        own = scores[family]
        against, improvement = "", ""
        if family != results.reference:
            against, improvement = signed(own.change), f"{own.improvement:.3f}"
        rows.append(
            (
                family, str(own.runs) if SEED.search(results.families[family][0]) else "",
                f"{1e3 * own.latency_s:.1f}", against, f"{1e3 * own.middle_s:.1f}", improvement,
                f"{own.reward:.4f}", f"{1e3 * own.planning_s:.2f}",
            )
        )  # fmt: skip
    header = tuple(name.format(reference=results.reference) for name in HEADER)
    return Table(note(results), header, rows)


def learned_against_planners(results: Results) -> Table:
    """The mean latency of trained families, against every other agent's."""
    learned = [f for f, labels in results.families.items() if SEED.search(labels[0])]
    others = [family for family in results.families if family not in learned]
    rows = []
    for family in learned:
        own = results.by_episode(family, "latency_s")
        changes = (change(own, results.by_episode(other, "latency_s")[0]) for other in others)
        rows.append((family, *map(signed, changes)))
    header = ("Mean latency of", *(f"against {other}" for other in others))
    return Table("", header, rows)


def signed(estimate: Estimate) -> str:
    """A change with its interval."""
    return "{:+.1f} % [{:+.1f}, {:+.1f}]".format(*(100 * part for part in estimate))


def note(results: Results) -> str:
    """What the table's numbers are."""
    first, last = min(results.seeds), max(results.seeds)
    rounds = results.by_round(results.reference, "reward").shape[1]
    return (
        f"Weighted mean latency over the UEs of {len(results.seeds)} episodes of {rounds} rounds "
        f"(seeds {first} to {last}), the same for all agents. In brackets: 95 % bootstrap interval "
        "over episodes, resampled in pairs, and over training seeds. Interquartile mean: of the "
        "episodes' mean latencies. Probability of improvement: part of the episodes that are "
        f"faster than with {results.reference}. Planning: on the machine that played; learned "
        "agents decide for a batch of episodes at once."
    )


def bars_figure(results: Results) -> Figure:
    """Mean latencies; the interval is that of the ratio to the reference."""
    scores = {family: score(results, family) for family in results.families}
    agents = sorted(scores, key=lambda name: -scores[name].latency_s)
    base = scores[results.reference].latency_s
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
    for k, agent in enumerate(results.families):
        latency_s = results.by_round(agent, "latency_s").mean(axis=0)
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


def publish(results: Results, folder: Path, persists: bool) -> Path:
    """Write the numbers, `table.md` and the figures; returns the table's path.

    Args:
        results: What was found.
        folder: Where to.
        persists: Whether rounds of an episode differ, so that a figure of them says something.
    """
    figures = {"latency": bars_figure(results)}
    if persists:
        figures["rounds"] = rounds_figure(results)
    for name, figure in figures.items():
        for kind in ("svg", "png"):
            write_atomically(folder / f"{name}.{kind}", encoded(figure, kind))
    for file, content in results.files().items():
        write_atomically(folder / file, content)
    both = table(results), learned_against_planners(results)
    text = "\n\n".join(f"{t.markdown()}\n\n{t.caption}".strip() for t in both if t.rows)
    write_atomically(folder / "table.md", text + "\n")
    return folder / "table.md"
