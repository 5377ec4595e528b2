"""What a comparison has found: a table with intervals, figures, a report.

Everything is paired: agents meet the same episodes, and intervals resample episodes, for all agents
the same ones (`mjoa_gym.evaluation.statistics`). The interquartile mean is SciPy's trimmed mean.
"""

from __future__ import annotations

import html
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mjoa_gym.evaluation.episode_means import SEED, EpisodeMeans
from mjoa_gym.evaluation.episodes import ENVIRONMENTS
from mjoa_gym.evaluation.journal import write_atomically
from mjoa_gym.evaluation.page import Section, page
from mjoa_gym.evaluation.statistics import Estimate, change
from mjoa_gym.evaluation.table import Table, signed, with_captions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = (
    "Agent", "Training seeds", "Latency, ms", "Against {reference}", "Interquartile mean, ms",
    "Probability of improvement", "Reward", "Planning, ms",
)  # fmt: skip
FAILURES = "failures.txt"


class Standing(NamedTuple):
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


def standing(results: EpisodeMeans, family: str) -> Standing:
    """How a family did; without a reference it is compared with itself."""
    from scipy.stats import trim_mean  # takes a second to import

    own = results.by_episode(family, "latency_s")
    other = results.by_episode(results.reference or family, "latency_s").mean(axis=0)
    return Standing(
        runs=len(own),
        latency_s=float(own.mean()),
        change=change(own, other),
        middle_s=float(trim_mean(own.ravel(), 0.25)),
        improvement=float(np.mean((own < other) + 0.5 * (own == other))),
        reward=float(results.by_episode(family, "reward").mean()),
        planning_s=float(results.by_episode(family, "planning_s").mean()),
    )


def table(results: EpisodeMeans) -> Table:
    """How everybody did, the fastest family first, then who could not play on."""
    standings = {family: standing(results, family) for family in results.families}
    rows = []
    for family, own in sorted(standings.items(), key=lambda pair: pair[1].latency_s):
        compared = results.reference not in ("", family)
        rows.append(
            (
                family, str(own.runs) if SEED.search(results.families[family][0]) else "",
                f"{1e3 * own.latency_s:.1f}", signed(own.change) if compared else "",
                f"{1e3 * own.middle_s:.1f}", f"{own.improvement:.3f}" if compared else "",
                f"{own.reward:.4f}", f"{1e3 * own.planning_s:.2f}",
            )
        )  # fmt: skip
    failed = [(failure.agent, "", "failed", *[""] * 5) for failure in results.failures]
    header = tuple(name.format(reference=results.reference or "nobody") for name in HEADER)
    return Table(note(results), header, [*rows, *failed])


def learned_against_planners(results: EpisodeMeans) -> Table:
    """The mean latency of trained families, against every other agent's."""
    learned = [f for f, labels in results.families.items() if SEED.search(labels[0])]
    seconds = {f: results.by_episode(f, "latency_s") for f in results.families}
    others = [family for family in seconds if family not in learned]
    rows = [
        (family, *(signed(change(seconds[family], seconds[other][0])) for other in others))
        for family in learned
    ]
    return Table("", ("Mean latency of", *(f"against {other}" for other in others)), rows)


def text(results: EpisodeMeans) -> str:
    """The table for a terminal, what its numbers are, and who could not play on."""
    found = table(results)
    failures = [f"Could not play on: {failure}" for failure in results.failures]
    return "\n\n".join(["\n".join([found.text(), *failures]), found.caption])


def note(results: EpisodeMeans) -> str:
    """What the table's numbers are."""
    first, last = min(results.seeds), max(results.seeds)
    rounds = max((len(each) for each in results.rounds.values()), default=0)
    return (
        f"Weighted mean latency over the UEs of {len(results.seeds)} episodes of {rounds} rounds "
        f"(seeds {first} to {last}), the same for all agents. In brackets: 95 % bootstrap interval "
        "over episodes, resampled in pairs, and over training seeds. Interquartile mean: of the "
        "episodes' mean latencies. Probability of improvement: part of the episodes that are "
        f"faster than with {results.reference}. Planning: on the machine that played; learned "
        "agents decide for a batch of episodes at once."
    )


def latency_figure(results: EpisodeMeans) -> Figure:
    """Mean latencies; the interval is that of the ratio to the reference."""
    from mjoa_gym.evaluation.plots import GREY, OURS, bars_figure

    bars = {}
    for family in results.families:
        own = standing(results, family)
        base = own.latency_s / (1 + own.change.value)
        latency_ms = Estimate(*(1e3 * base * (1 + part) for part in own.change))
        compared = results.reference not in ("", family)
        excess = f"  ({100 * own.change.value:+.1f} %)" if compared else ""
        bars[family] = latency_ms, f"{latency_ms.value:.0f}{excess}"
    colours = dict.fromkeys(bars, OURS) | {results.reference: GREY}
    label = f"mean latency (ms); interval of the ratio to {results.reference}"
    return bars_figure(bars, label, colours)


def rounds_figure(results: EpisodeMeans) -> Figure:
    """Mean latency in every round of the episode."""
    from matplotlib.ticker import MaxNLocator

    from mjoa_gym.evaluation.plots import lines_figure, planner_looks

    lines = {f: 1e3 * results.by_round(f, "latency_s").mean(axis=0) for f in results.families}
    rounds = np.arange(len(next(iter(lines.values())))) + 1
    labels = ("", "round", "mean latency (ms)")
    figure = lines_figure(rounds, lines, planner_looks(lines, "", ""), labels)
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _write_figures(results: EpisodeMeans, folder: Path) -> list[tuple[str, bytes]]:
    """Write the figures; returns captions and PNGs. There are none without matplotlib."""
    if not results.families or find_spec("matplotlib") is None:
        return []
    from mjoa_gym.evaluation.plots import write_figure

    caption = f"Mean latency; {len(results.seeds)} episodes."
    figures = [(caption, write_figure(latency_figure(results), folder / "latency"))]
    if results.setting is None or results.setting.persists:  # else rounds are all alike
        caption = "Mean latency round by round: uploads of early rounds pay in later ones."
        figures.append((caption, write_figure(rounds_figure(results), folder / "rounds")))
    return figures


def save(results: EpisodeMeans, folder: Path) -> Section:
    """Write numbers, tables, figures and a report of them; returns the report's section."""
    tables = table(results), learned_against_planners(results)
    figures = _write_figures(results, folder)
    shown = Section("Who is faster?", figures, [each for each in tables if each.rows])
    where = "" if results.setting is None else (
        f"{ENVIRONMENTS[results.setting.environment]}, scenario {results.setting.scenario.name}, "
        f"{results.setting.scenario.n_ues} UEs, {results.setting.scenario.rounds} rounds"
    )  # fmt: skip
    parts = [f"<p>{html.escape(where)}</p>", shown.html(results.reference)]
    files = {
        **results.files(),
        "table.md": with_captions(shown.tables) + "\n",
        "report.html": page("mjoa-gym: planners and agents compared", parts, results.failures),
    }
    (folder / FAILURES).unlink(missing_ok=True)
    if results.failures:
        files[FAILURES] = "\n".join(f"{f}\n{f.trace}" for f in results.failures)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return shown
