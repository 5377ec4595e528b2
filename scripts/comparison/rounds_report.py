"""The report of the comparison with several UEs: errors, the order of planners, gains, figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kendalltau

from comparison import pages
from comparison.kept import COLD, RESIDENT, Note
from comparison.mixes import MIXES, OURS, Part, RoundCell, RoundGrid, Rounds
from comparison.pages import FREE, PACED, percent
from mjoa_gym.evaluation.page import items
from mjoa_gym.evaluation.plots import COLOURS, new_figure, plain_log
from mjoa_gym.evaluation.table import Table
from mjoa_gym.testbed.controller import FAIR

FAIR_TURNS = "The server serves layers of different UEs in fair turns. "
LINKS = {
    False: "Each UE shapes its uplink to its share, the server the downlinks and its layers.",
    True: "The operating system shapes the links: one bottleneck for all, divided as granted.",
}
PACING = " (layers take what a table says, so this checks links, messages and shares)"
EQUAL, EARLIER, LOCAL = "pbt-dp+equal", "dads-serial", "local-only"


class Objective(NamedTuple):
    """The weighted sum of latencies of a round, in seconds, promised and measured."""

    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """The error relative to the measurement; below 0 if the simulator promises too much."""
        return self.predicted_s / self.measured_s - 1.0


class Order(NamedTuple):
    """The result of trusting the simulator among the planners of a mix and a rate."""

    mix: str
    rate_mbps: float
    tau: float  # Kendall's rank correlation; NaN if all are equal
    best: str  # the planner that the simulator prefers
    regret: float  # how much higher its objective was than the best in reality


def good(parts: Sequence[Part]) -> list[Part]:
    """Return the parts with a measurement in which nothing failed."""
    return [part for part in parts if not part.failure and not math.isnan(part.measured_s)]


def errors(parts: Sequence[Part]) -> np.ndarray:
    """Return (n,) relative errors of UEs' latencies, predicted against measured."""
    return np.array([part.predicted_s / part.measured_s - 1.0 for part in good(parts)])


def objectives(parts: Sequence[Part]) -> dict[RoundCell, list[Objective]]:
    """Return the rounds of every cell, in order, in which all UEs have a measurement."""
    rounds: dict[tuple[RoundCell, int], list[Part]] = defaultdict(list)
    for part in good(parts):
        rounds[part.cell, part.round].append(part)
    found: dict[RoundCell, list[Objective]] = defaultdict(list)
    for (cell, _), own in sorted(rounds.items(), key=lambda item: item[0][1]):
        if len(own) == len(MIXES[cell.mix]):
            sums = (
                float(sum(part.weight * getattr(part, name) for part in own))
                for name in ("predicted_s", "measured_s")
            )
            found[cell].append(Objective(*sums))
    return dict(found)


def totals(parts: Sequence[Part]) -> dict[RoundCell, Objective]:
    """Return every cell's objective: the median of cold repeats, the sum over a row of rounds."""
    found = {}
    for cell, rounds in objectives(parts).items():
        together: Callable[..., float] = np.median if cell.scenario == COLD else np.sum
        columns = zip(*rounds, strict=True)
        found[cell] = Objective(*(float(together(list(column))) for column in columns))
    return found


def orders(parts: Sequence[Part]) -> list[Order]:
    """Return one order per mix and rate, of cold rounds."""
    groups: dict[tuple[str, float], dict[str, Objective]] = defaultdict(dict)
    for cell, objective in totals(parts).items():
        if cell.scenario == COLD:
            groups[cell.mix, cell.rate_mbps][cell.planner] = objective
    found = []
    for key, planners in groups.items():
        best = min(planners, key=lambda name: planners[name].predicted_s)
        fastest = min(objective.measured_s for objective in planners.values())
        tau = math.nan
        if len({round(objective.predicted_s, 6) for objective in planners.values()}) > 1:
            tau = float(kendalltau(*zip(*planners.values(), strict=True)).statistic)
        found.append(Order(*key, tau, best, planners[best].measured_s / fastest - 1.0))
    return found


def gain(ours: Objective, other: Objective) -> tuple[float, float]:
    """Return how much our objective is below another one: promised, and measured."""
    promised, measured = (1.0 - a / b for a, b in zip(ours, other, strict=True))
    return promised, measured


def gains(parts: Sequence[Part], than: str) -> dict[RoundCell, tuple[float, float]]:
    """Return MJOA-MU's gain over another planner, promised and measured, by its cold cell."""
    found = totals(parts)
    pairs = {
        cell: found.get(RoundCell(cell.mix, cell.rate_mbps, than, COLD))
        for cell in found
        if cell.planner == OURS and cell.scenario == COLD
    }
    return {cell: gain(found[cell], other) for cell, other in pairs.items() if other is not None}


def mean_gain(parts: Sequence[Part], than: str) -> tuple[float, float] | None:
    """Return the mean of `gains`, promised and measured; None if there is none."""
    if not (both := list(gains(parts, than).values())):
        return None
    promised, measured = np.mean(both, axis=0)
    return float(promised), float(measured)


def verdict(results: Rounds) -> str:
    """Return the findings as a list of sentences, compared with the aims."""
    parts, grid = results.parts, results.grid
    signed = errors(parts)
    against = pages.errors_against(PACED if grid.paced else FREE, signed)
    rounds = [each for rows in objectives(parts).values() for each in rows]
    found = orders(parts)
    taus = [order.tau for order in found if not math.isnan(order.tau)]
    sentences = [
        _pace(parts, grid),
        f"Latency of one UE, predicted against measured: median error {against}, over "
        f"{len(signed):,} inferences.",
        f"Weighted sum of a round's latencies: median error "
        f"{percent(float(np.median([abs(each.error) for each in rounds])))} over {len(rounds)} "
        "rounds.",
        f"Kendall's tau of the planners' order: {np.mean(taus):.2f} on average over {len(taus)} "
        f"mixes and rates; trusting the simulator costs {percent(max(o.regret for o in found))} "
        "at most." if taus else "All planners' plans are alike.",
    ]  # fmt: skip
    for than, what in ((LOCAL, "all-local execution"), (EQUAL, "equal shares"),
                       (EARLIER, "the earlier system `dads-serial`")):  # fmt: skip
        if both := mean_gain(parts, than):
            promised, measured = both
            sentences.append(
                f"MJOA-MU gains {percent(measured)} over {what} in reality; the simulator promised "
                f"{percent(promised)} (means over {len(gains(parts, than))} mixes and rates, cold)."
            )
    wrong = sum(part.correct is False for part in parts)
    failed = sum(bool(part.failure) for part in parts)
    fallen = sum(part.planned_by != part.planner for part in parts)
    sentences.append(
        f"Results that differ from local execution: {wrong} of {len(parts):,}. Inferences in which "
        f"the server failed, not counted: {failed}; in which the planner gave no plan in time: "
        f"{fallen}."
    )
    return items(sentences)


def summary(results: Rounds) -> str:
    """Return the most important sentence."""
    parts = results.parts
    size = np.abs(errors(parts))
    shown = []
    for than, what in ((EQUAL, "equal shares"), (EARLIER, "`dads-serial`")):
        if both := mean_gain(parts, than):
            shown.append(f"{percent(both[1])} over {what} (simulated: {percent(both[0])})")
    return (
        f"With several devices on one real server, the latency of a device is off by "
        f"{percent(float(np.median(size)))} in the median over {len(size):,} "
        f"{'paced ' if results.grid.paced else ''}inferences"
        f"{PACING if results.grid.paced else ''}"
        f"{'; MJOA-MU gains ' if shown else ''}{' and '.join(shown)}."
    )


def variants(folder: Path, link: str) -> str:
    """Return a table of the comparisons beside a folder whose names begin with its name.

    `link` is the path of the folder as seen from the page.
    """
    rows = []
    for path in sorted(folder.parent.glob(f"{folder.name}-*")):
        results = Rounds.load(path)
        size = np.abs(errors(results.parts))
        gained = [mean_gain(results.parts, than) for than in (LOCAL, EQUAL, EARLIER)]
        rows.append((
            f"[`{path.name}`]({link}-{path.name[len(folder.name) + 1 :]}/report.md)",
            "the system" if results.grid.shaped_below else "the testbed",
            results.grid.compute, f"{len(size):,}",
            *(percent(float(x)) for x in np.quantile(size, (0.5, 0.9))),
            *("" if x is None else f"{percent(x[1])} ({percent(x[0])})" for x in gained),
        ))  # fmt: skip
    header = (
        "Folder", "Links shaped by", "Server", "Inferences", "Median error", "90 %",
        *(f"MJOA-MU over {than} (simulated)" for than in (LOCAL, EQUAL, EARLIER)),
    )  # fmt: skip
    return Table("", header, rows).markdown() if rows else ""


def _pace(parts: Sequence[Part], grid: RoundGrid) -> str:
    if not grid.paced:
        return "Free: layers take what they take, and the machine's noise counts."
    layers, late = sum(len(part.placement) for part in parts), sum(p.overruns for p in parts)
    return (
        "Paced: each layer is executed for real and counts as finished when its table says. "
        f"{pages.late_layers(late, layers)}"
    )


def error_table(results: Rounds) -> Table:
    """Return errors per mix, per scenario and in total."""
    lines = []
    for mix in (*dict.fromkeys(part.mix for part in results.parts), "all"):
        for scenario in (COLD, RESIDENT):
            own = [p for p in results.parts if mix in (p.mix, "all") and p.scenario == scenario]
            if not good(own):
                continue
            size = np.abs(errors(own))
            rounds = [each for rows in objectives(own).values() for each in rows]
            whole = percent(float(np.median([abs(each.error) for each in rounds])))
            layers = sum(len(part.placement) for part in own)
            late = sum(part.overruns for part in own) / layers
            lines.append((
                mix, "-" if mix == "all" else str(len(MIXES[mix])), scenario, str(len(size)),
                percent(float(np.median(size))), percent(float(np.quantile(size, 0.9))),
                percent(float(size.max())), percent(float(errors(own).mean()), "+"), whole,
                percent(late),
            ))  # fmt: skip
    header = ("Mix", "UEs", "Rounds", "Inferences", "Median", "90 %", "Worst", "Bias",
              "Median, weighted sum", "Late layers")  # fmt: skip
    return Table("Errors", header, lines)


def cell_table(results: Rounds) -> Table:
    """Return every cell's objective, promised and measured."""
    planning: dict[RoundCell, list[float]] = defaultdict(list)
    for part in results.parts:
        planning[part.cell].append(part.planning_s)
    lines = [
        (cell.mix, f"{cell.rate_mbps:g}", cell.scenario, cell.planner,
         f"{objective.predicted_s:.3f}", f"{objective.measured_s:.3f}",
         percent(objective.error, "+"), f"{1e3 * float(np.median(planning[cell])):.0f}")
        for cell, objective in totals(results.parts).items()
    ]  # fmt: skip
    header = ("Mix", "Mbit/s", "Rounds", "Planner", "Promised, s", "Measured, s", "Error",
              "Planning, ms")  # fmt: skip
    return Table("Cells", header, lines)


def order_table(results: Rounds) -> Table:
    """Return the planners' order per mix and rate."""
    lines = [
        (o.mix, f"{o.rate_mbps:g}", "-" if math.isnan(o.tau) else f"{o.tau:.2f}", o.best,
         percent(o.regret))
        for o in orders(results.parts)
    ]  # fmt: skip
    return Table("Order", ("Mix", "Mbit/s", "Tau", "Simulator's best", "Regret"), lines)


def gain_table(results: Rounds) -> Table:
    """Return MJOA-MU's gains, promised and measured."""
    lines = []
    for than in (LOCAL, EQUAL, EARLIER):
        for cell, (promised, measured) in gains(results.parts, than).items():
            lines.append((than, cell.mix, f"{cell.rate_mbps:g}", percent(promised, "+"),
                          percent(measured, "+")))  # fmt: skip
    return Table("Gains", ("Over", "Mix", "Mbit/s", "Promised", "Measured"), lines)


def paired_figure(results: Rounds) -> Figure:
    """Draw one UE's latency, promised and measured (left), and MJOA-MU's gains (right)."""
    figure = new_figure(10.0, 4.8)
    left, right = figure.subplots(1, 2)
    colours = dict(zip(dict.fromkeys(p.planner for p in results.parts), cycle(COLOURS),
                       strict=False))  # fmt: skip
    for planner, colour in colours.items():
        own = [part for part in good(results.parts) if part.planner == planner]
        left.scatter([p.measured_s for p in own], [p.predicted_s for p in own], s=14, alpha=0.6,
                     color=colour, label=planner, linewidths=0)  # fmt: skip
    both = [s for part in good(results.parts) for s in (part.measured_s, part.predicted_s)]
    pages.equality(left, both)
    plain_log(left.xaxis)
    plain_log(left.yaxis)
    left.legend(fontsize=8, frameon=False, loc="upper left")
    marks = dict(zip((LOCAL, EQUAL, EARLIER), "so^", strict=True))
    for than, marker in marks.items():
        pairs = list(gains(results.parts, than).values())
        if pairs:
            promised, measured = zip(*pairs, strict=True)
            right.scatter(100 * np.array(measured), 100 * np.array(promised), marker=marker, s=30,
                          label=f"over {than}", alpha=0.75)  # fmt: skip
    right.axline((0, 0), slope=1, color="#888888", linewidth=0.8, zorder=0)
    right.set(xlabel="MJOA-MU's gain, measured (%)", ylabel="promised (%)")
    if right.collections:
        right.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def timeline_figure(content: Note) -> Figure:
    """Draw the measured timelines of a round's UEs, each below the predicted one."""
    heads = [f"UE {number}, {ue['model']}" for number, ue in enumerate(content["ues"], 1)]
    return pages.timelines_figure(content["ues"], heads)


def publish(results: Rounds, out: Path, command: str, into: Sequence[Path] = ()) -> Path:
    """Write results, figures and the report, update the pages, and return the report's path.

    Raises:
        ValueError: If nothing was measured.
    """
    if not good(results.parts):
        raise ValueError(f"nothing was measured; {out} would be empty")
    shown = results.timeline
    figures = {
        "gains.png": paired_figure(results),
        "timelines.png": None if shown is None else timeline_figure(shown),
    }

    def parts(folder: str) -> dict[str, str]:
        text = (
            f"{verdict(results)}\n\n![Several UEs, simulated and measured]({folder}/gains.png)\n\n"
            f"Repeat it with `{command}`. [The report]({folder}/report.md) has every cell."
        )
        if others := variants(out, folder):
            text += (
                f"\n\nSmaller grids, in which the server or the links work otherwise:\n\n{others}"
            )
        return {"testbed-multi": items([summary(results)]), "testbed-multi-results": text}

    return pages.publish(results, out, figures, _report(results, command), into, parts)


def _report(results: Rounds, command: str) -> str:
    grid = results.grid
    mixes = [
        f"* *{mix}*: " + ", ".join(f"{model} (weight {weight:g})" for model, weight in MIXES[mix])
        for mix in dict.fromkeys(part.mix for part in results.parts)
    ]
    sections = [
        "# Several UEs: simulated against measured",
        verdict(results),
        "![Several UEs, simulated and measured](gains.png)",
        "## How it was measured",
        "A server with a controller, and every UE in a process of its own: the UEs' layers on one "
        "core, the server's on another. The cell's rate is shared. "
        f"{LINKS[grid.shaped_below]} UEs are this machine slowed down "
        f"{grid.ue_slowdown:g} times, the server {grid.edge_slowdown:g} times. Cold rounds are "
        f"repeated {grid.repeats} times, from nothing at the server, and the median counts; rows "
        f"have {grid.rounds} rounds between which parameters stay, and their sum counts. "
        f"{FAIR_TURNS if grid.compute == FAIR else ''}The simulator has the layer times that the "
        "controller was told.",
        "\n".join(mixes),
        pages.machine_table(results.machine),
        f"Repeat it with `{command}`.",
        "## Errors",
        "Relative to the measured latency of each UE; bias below 0: the simulator promises too "
        "much.",
        error_table(results).markdown(),
        "## What MJOA-MU gains",
        "Of the weighted sum of latencies, in cold rounds.",
        gain_table(results).markdown(),
        "## The order of the planners",
        order_table(results).markdown(),
        "## All cells",
        "Weighted sums of latencies: the median of cold repeats, the sum over a row.",
        cell_table(results).markdown(),
    ]
    if results.timeline is not None:
        shown = f"{results.timeline['mix']}, {results.timeline['rate_mbps']:g} Mbit/s"
        sections += ["## One round", f"{shown}, {OURS}.", "![Timelines](timelines.png)"]
    return "\n\n".join(sections) + "\n"
