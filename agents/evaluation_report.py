"""What an evaluation has found: tidy numbers, a table with intervals, figures.

Everything is paired: agents meet the same episodes, and intervals resample episodes, for all agents
the same ones. Bootstraps are those of the benchmark (`agents.benchmark.statistics`); the
interquartile mean is SciPy's trimmed mean.
"""

from __future__ import annotations

import re
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
from agents.benchmark.statistics import Estimate, change
from agents.benchmark.store import Row, write_atomically
from agents.benchmark.tables import Table

COLUMNS = ("agent", "seed", "latency_s", "local_s", "reward", "planning_s")
BY_ROUND = ("agent", "round", "latency_s", "reward")
HEADER = (
    "Agent", "Training seeds", "Latency, ms", "Against {reference}", "Interquartile mean, ms",
    "Probability of improvement", "Reward", "Planning, ms",
)  # fmt: skip
SEED = re.compile(r"-seed\d+$")
"""How the label of an agent ends that was trained with several seeds."""


class Results(NamedTuple):
    """The episodes of several agents, the same for all.

    Agents whose labels differ in their training seed only are taken together, as one family.

    Attributes:
        seeds: Of the episodes.
        rows: By agent's label, for each seed a row per round.
        reference: The family that the others are compared with.
    """

    seeds: Sequence[int]
    rows: Mapping[str, Sequence[Sequence[Row]]]
    reference: str

    @property
    def families(self) -> dict[str, list[str]]:
        """The labels of each family."""
        found: dict[str, list[str]] = {}
        for label in self.rows:
            found.setdefault(SEED.sub("", label), []).append(label)
        return found

    def column(self, family: str, name: str) -> NDArray[np.float64]:
        """(training seeds, seeds, rounds) of a quantity."""
        labels = self.families[family]
        return np.array([[[row[name] for row in ep] for ep in self.rows[k]] for k in labels])


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
    own, other = _episodes(results, family), _episodes(results, results.reference).mean(axis=0)
    return Score(
        runs=len(own),
        latency_s=float(own.mean()),
        change=change(own, other),
        middle_s=float(trim_mean(own.ravel(), 0.25)),
        improvement=float(np.mean((own < other) + 0.5 * (own == other))),
        reward=float(results.column(family, "reward").mean()),
        planning_s=float(results.column(family, "planning_s").mean()),
    )


def _episodes(results: Results, family: str) -> NDArray[np.float64]:
    """(training seeds, seeds) mean latencies of episodes."""
    return results.column(family, "latency_s").mean(axis=2)


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
        own = _episodes(results, family)
        changes = (change(own, _episodes(results, other)[0]) for other in others)
        rows.append((family, *map(signed, changes)))
    header = ("Mean latency of", *(f"against {other}" for other in others))
    return Table("", header, rows)


def signed(estimate: Estimate) -> str:
    """A change with its interval."""
    return "{:+.1f} % [{:+.1f}, {:+.1f}]".format(*(100 * part for part in estimate))


def note(results: Results) -> str:
    """What the table's numbers are."""
    first, last = min(results.seeds), max(results.seeds)
    rounds = results.column(results.reference, "reward").shape[2]
    return (
        f"Weighted mean latency over the UEs of {len(results.seeds)} episodes of {rounds} rounds "
        f"(seeds {first} to {last}), the same for all agents. In brackets: 95 % bootstrap interval "
        "over episodes, resampled in pairs, and over training seeds. Interquartile mean: of the "
        "episodes' mean latencies. Probability of improvement: part of the episodes that are "
        f"faster than with {results.reference}. Planning: on the machine that played; learned "
        "agents decide for a batch of episodes at once."
    )


def by_episode(results: Results) -> str:
    """The mean over rounds of every agent and seed, as CSV."""
    rows = [
        (agent, str(seed), *(_mean(episode, name) for name in COLUMNS[2:]))
        for agent, episodes in results.rows.items()
        for seed, episode in zip(results.seeds, episodes, strict=True)
    ]
    return Table("", COLUMNS, rows).csv()


def by_round(results: Results) -> str:
    """The mean over episodes of every agent and round, as CSV."""
    rows = [
        (agent, str(k), *(_mean(rows_of_round, name) for name in BY_ROUND[2:]))
        for agent, episodes in results.rows.items()
        for k, rows_of_round in enumerate(zip(*episodes, strict=True))
    ]
    return Table("", BY_ROUND, rows).csv()


def _mean(rows: Sequence[Row], name: str) -> str:
    return f"{np.mean([row[name] for row in rows]):.9g}"


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
        latency_s = results.column(agent, "latency_s").mean(axis=(0, 1))
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
        write_atomically(folder / "by_round.csv", by_round(results))
    for name, figure in figures.items():
        for kind in ("svg", "png"):
            write_atomically(folder / f"{name}.{kind}", encoded(figure, kind))
    write_atomically(folder / "episodes.csv", by_episode(results))
    both = table(results), learned_against_planners(results)
    text = "\n\n".join(f"{t.markdown()}\n\n{t.caption}".strip() for t in both if t.rows)
    write_atomically(folder / "table.md", text + "\n")
    return folder / "table.md"
