"""Planners and agents on the same episodes: `compare` plays them and returns a `Comparison`.

Everything is paired: all agents play the same episodes, and the intervals resample the same
episodes for all agents (`mjoa_gym.evaluation.statistics`). The interquartile mean is SciPy's
trimmed mean. The tables and figures of a comparison can be made again from its CSV files, without
playing.
"""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.evaluation.agent_source import AgentSource, source_of
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, FIRST_SEED, Setting
from mjoa_gym.evaluation.journal import EpisodeStore, Row
from mjoa_gym.evaluation.page import Section, page
from mjoa_gym.evaluation.processes import TIMEOUT_S, Failure, Job, Playing, play_missing
from mjoa_gym.evaluation.statistics import Estimate, change
from mjoa_gym.evaluation.table import Table, digits, percent, with_captions
from mjoa_gym.files import write
from mjoa_gym.validation import choice, count, positive
from mjoa_gym.world.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS = "mjoa-mu"
BY_EPISODE = ("latency_s", "local_s", "reward", "planning_s")
BY_ROUND = ("latency_s", "reward")
EPISODES, ROUNDS, FAILURES = "episodes.csv", "by_round.csv", "failures.txt"
SEED = re.compile(r"-seed\d+$")
"""Ending of the label of an agent that was trained with several seeds."""
HEADER = (
    "Agent", "Training seeds", "Latency, ms", "Against {reference}", "Cost against {reference}",
    "Interquartile mean, ms", "Probability of improvement", "Reward", "Planning, ms",
)  # fmt: skip
COST = HEADER[4]
"""A column for scenarios with prices."""


class Standing(NamedTuple):
    """The performance of a family; latencies are means over UEs and rounds of an episode."""

    runs: int  # training seeds
    latency_s: float
    change: Estimate  # against the reference, as a fraction; negative is better
    middle_s: float  # interquartile mean over episodes
    improvement: float  # probability of a faster episode than the reference's; ties count half
    reward: float
    cost_change: Estimate  # like `change`, of the cost in units of all-local, `1 - reward`
    planning_s: float


@dataclass(frozen=True)
class Comparison:
    """The results of several agents on the same episodes, with a table and a report.

    Agents whose labels differ only in their training seed form a family.

    Attributes:
        seeds: Seeds of the episodes.
        episodes: By agent's label, (seeds, columns of `BY_EPISODE`) means over rounds; NaN where an
            agent has not played.
        rounds: By the label of agents that have played all episodes, (rounds, columns of
            `BY_ROUND`) means over episodes.
        reference: The family that the others are compared with; "" for none.
        failures: The agents that failed, and why.
        setting: The setting in which they played, if it is known.
    """

    seeds: Sequence[int]
    episodes: Mapping[str, NDArray[np.float64]]
    rounds: Mapping[str, NDArray[np.float64]]
    reference: str
    failures: Sequence[Failure] = ()
    setting: Setting | None = None

    @staticmethod
    def of(
        seeds: Sequence[int],
        rows: Mapping[str, Mapping[int, Sequence[Row]]],
        reference: str,
        failures: Sequence[Failure] = (),
        setting: Setting | None = None,
    ) -> Comparison:
        """Make a comparison from played episodes: by agent's label and seed, a row per round."""
        episodes, rounds = {}, {}
        nothing = [np.nan] * len(BY_EPISODE)
        columns = [BY_EPISODE.index(name) for name in BY_ROUND]
        for label, played in rows.items():
            every = {s: [[row[n] for n in BY_EPISODE] for row in e] for s, e in played.items()}
            means = [np.mean(every[seed], axis=0) if seed in every else nothing for seed in seeds]
            episodes[label] = np.array(means)
            if len(every) == len(seeds):
                rounds[label] = np.mean([every[seed] for seed in seeds], axis=0)[:, columns]
        complete = {SEED.sub("", label) for label in rounds}
        reference = reference if reference in complete else ""
        return Comparison(seeds, episodes, rounds, reference, tuple(failures), setting)

    @property
    def rows(self) -> list[Row]:
        """A dictionary per agent and episode: agent, seed, and means over its rounds."""
        return [
            {"agent": label, "seed": int(seed), **dict(zip(BY_EPISODE, numbers, strict=True))}
            for label, each in self.episodes.items()
            for seed, numbers in zip(self.seeds, each.tolist(), strict=True)
            if not np.isnan(numbers[0])
        ]

    @property
    def families(self) -> dict[str, list[str]]:
        """The labels of each family's agents that have played all episodes."""
        found: dict[str, list[str]] = {}
        for label in self.rounds:
            found.setdefault(SEED.sub("", label), []).append(label)
        return found

    def by_episode(self, family: str, name: str = "latency_s") -> NDArray[np.float64]:
        """Return a column of `BY_EPISODE` as (training seeds, seeds)."""
        column = BY_EPISODE.index(name)
        return np.array([self.episodes[label][:, column] for label in self.families[family]])

    def with_more(self, other: Comparison, order: Sequence[str]) -> Comparison:
        """Return these and other agents' episodes of the same seeds, with labels in `order`."""
        episodes, rounds = (
            {label: each[label] for label in order if label in each}
            for each in ({**self.episodes, **other.episodes}, {**self.rounds, **other.rounds})
        )
        reference = self.reference or other.reference
        return replace(self, episodes=episodes, rounds=rounds, reference=reference)

    @staticmethod
    def kept(folder: Path, seeds: Sequence[int], labels: Collection[str]) -> Comparison:
        """Read the results of the given agents and seeds from a folder's CSV files.

        Agents without such results are left out; without files, all agents are.
        """
        played, by_round = _numbers(folder / EPISODES), _numbers(folder / ROUNDS)
        whole = [x for x in labels if x in by_round and list(played.get(x, ())) == list(seeds)]
        episodes, rounds = (
            {label: np.array(list(each[label].values())) for label in whole}
            for each in (played, by_round)
        )
        return Comparison(seeds, episodes, rounds, next(iter(whole), ""))

    def table(self) -> str:
        """Return the results as text: the fastest agent first, then the agents that failed."""
        found = table(self)
        failures = [f"Could not play on: {failure}" for failure in self.failures]
        return "\n\n".join(["\n".join([found.text(), *failures]), found.caption])

    def save(self, folder: str | Path) -> Path:
        """Write CSV files, tables, figures and `report.html`; return the folder.

        Without matplotlib, there are no figures.
        """
        save(self, Path(folder))
        return Path(folder)


def _numbers(file: Path) -> dict[str, dict[int, list[float]]]:
    """Return the columns of a CSV file by the agent and the number in its first columns."""
    found: dict[str, dict[int, list[float]]] = {}
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as content:
            for agent, which, *numbers in list(csv.reader(content))[1:]:
                found.setdefault(agent, {})[int(which)] = list(map(float, numbers))
    return found


def standing(results: Comparison, family: str) -> Standing:
    """Return the performance of a family; without a reference it is compared with itself."""
    from scipy.stats import trim_mean  # takes a second to import

    own = results.by_episode(family)
    other = results.by_episode(results.reference or family).mean(axis=0)
    return Standing(
        runs=len(own),
        latency_s=float(own.mean()),
        change=change(own, other),
        middle_s=float(trim_mean(own.ravel(), 0.25)),
        improvement=float(np.mean((own < other) + 0.5 * (own == other))),
        reward=float(results.by_episode(family, "reward").mean()),
        cost_change=change(
            1.0 - results.by_episode(family, "reward"),
            1.0 - results.by_episode(results.reference or family, "reward").mean(axis=0),
        ),
        planning_s=float(results.by_episode(family, "planning_s").mean()),
    )


def table(results: Comparison) -> Table:
    """Return the results of all families, the fastest first, then the agents that failed."""
    standings = {family: standing(results, family) for family in results.families}
    rows = []
    for family, own in sorted(standings.items(), key=lambda pair: pair[1].latency_s):
        compared = results.reference not in ("", family)
        several = SEED.search(results.families[family][0])
        against = [percent(each, "+") if compared else "" for each in (own.change, own.cost_change)]
        rows.append(
            (
                family, str(own.runs) if several else "", f"{1e3 * own.latency_s:.1f}", *against,
                f"{1e3 * own.middle_s:.1f}", f"{own.improvement:.3f}" if compared else "",
                f"{own.reward:.4f}", f"{1e3 * own.planning_s:.2f}",
            )
        )  # fmt: skip
    failed = [(failure.agent, "", "failed", *[""] * 6) for failure in results.failures]
    world = None if results.setting is None else results.setting.scenario
    has_prices = world is not None and max(world.energy_price_s_per_j, world.miss_price_s) > 0
    shown = [k for k, name in enumerate(HEADER) if has_prices or name != COST]
    header = tuple(HEADER[k].format(reference=results.reference or "nobody") for k in shown)
    n_rounds = max((len(each) for each in results.rounds.values()), default=0)
    caption = (
        f"Weighted mean latency over the UEs of {len(results.seeds)} episodes of {n_rounds} rounds "
        f"(seeds {min(results.seeds)} to {max(results.seeds)}), the same for all agents. In "
        "brackets: 95 % bootstrap interval over episodes, resampled in pairs, and over training "
        "seeds. Interquartile mean: of the episodes' mean latencies. Probability of improvement: "
        f"part of the episodes that are faster than with {results.reference}. Planning: on the "
        "machine that played; learned agents decide for a batch of episodes at once."
    )
    if has_prices:
        caption += (
            " Cost: what the UEs' inferences count as at the scenario's prices of energy and of "
            "missed deadlines, in units of all-local execution."
        )
    return Table(caption, header, [tuple(row[k] for k in shown) for row in (*rows, *failed)])


def learned_against_planners(results: Comparison) -> Table:
    """Return the mean latency of trained families against that of every other agent."""
    learned = [f for f, labels in results.families.items() if SEED.search(labels[0])]
    seconds = {family: results.by_episode(family) for family in results.families}
    others = [family for family in seconds if family not in learned]
    rows = [
        (family, *(percent(change(seconds[family], seconds[other][0]), "+") for other in others))
        for family in learned
    ]
    return Table("", ("Mean latency of", *(f"against {other}" for other in others)), rows)


def latency_figure(results: Comparison) -> Figure:
    """Draw mean latencies; the interval belongs to the ratio to the reference."""
    from mjoa_gym.evaluation.plots import GREY, HIGHLIGHT, bars_figure

    bars = {}
    for family in results.families:
        own = standing(results, family)
        base = own.latency_s / (1 + own.change.value)
        latency_ms = Estimate(*(1e3 * base * (1 + part) for part in own.change))
        compared = results.reference not in ("", family)
        excess = f"  ({100 * own.change.value:+.1f} %)" if compared else ""
        bars[family] = latency_ms, f"{latency_ms.value:.0f}{excess}"
    colours = dict.fromkeys(bars, HIGHLIGHT) | {results.reference: GREY}
    label = f"mean latency (ms); interval of the ratio to {results.reference}"
    return bars_figure(bars, label, colours)


def rounds_figure(results: Comparison) -> Figure:
    """Draw the mean latency in every round of the episode."""
    from matplotlib.ticker import MaxNLocator

    from mjoa_gym.evaluation.plots import lines_figure, planner_looks

    column = BY_ROUND.index("latency_s")
    lines = {
        family: 1e3 * np.mean([results.rounds[label][:, column] for label in labels], axis=0)
        for family, labels in results.families.items()
    }
    rounds = np.arange(len(next(iter(lines.values())))) + 1
    labels = ("", "round", "mean latency (ms)")
    figure = lines_figure(rounds, lines, planner_looks(lines, "", ""), labels)
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _write_figures(results: Comparison, folder: Path) -> list[tuple[str, bytes]]:
    """Write the figures; return captions and PNGs. There are none without matplotlib."""
    if not results.families or find_spec("matplotlib") is None:
        return []
    from mjoa_gym.evaluation.plots import write_figure

    caption = f"Mean latency; {len(results.seeds)} episodes."
    figures = [(caption, write_figure(latency_figure(results), folder / "latency"))]
    if results.setting is None or results.setting.persists:  # else all rounds are alike
        caption = "Mean latency round by round: uploads of early rounds pay in later ones."
        figures.append((caption, write_figure(rounds_figure(results), folder / "rounds")))
    return figures


def save(results: Comparison, folder: Path) -> Section:
    """Write numbers, tables, figures and a report; return the report's section."""
    tables = table(results), learned_against_planners(results)
    figures = _write_figures(results, folder)
    shown = Section("Who is faster?", figures, [each for each in tables if each.rows])
    where = "" if results.setting is None else (
        f"{ENVIRONMENTS[results.setting.environment]}, scenario {results.setting.scenario.name}, "
        f"{results.setting.scenario.n_ues} UEs, {results.setting.scenario.rounds} rounds"
    )  # fmt: skip
    parts = [f"<p>{html.escape(where)}</p>", shown.html(results.reference)]
    episodes = [
        (row["agent"], str(row["seed"]), *(digits(row[name]) for name in BY_EPISODE))
        for row in results.rows
    ]
    rounds = [
        (label, str(k), *map(digits, numbers))
        for label, each in results.rounds.items()
        for k, numbers in enumerate(each)
    ]
    files = {
        EPISODES: Table("", ("agent", "seed", *BY_EPISODE), episodes).csv(),
        ROUNDS: Table("", ("agent", "round", *BY_ROUND), rounds).csv(),
        "table.md": with_captions(shown.tables) + "\n",
        "report.html": page("mjoa-gym: planners and agents compared", parts, results.failures),
    }
    (folder / FAILURES).unlink(missing_ok=True)
    if results.failures:
        files[FAILURES] = "\n".join(f"{f}\n{f.trace}" for f in results.failures)
    for name, content in files.items():
        write(folder / name, content)
    return shown


def compare(
    agents: Mapping[str, Any],
    env: str = "MJOA/Streaming-v1",
    episodes: int = 40,
    seed: int = FIRST_SEED,
    n_ues: int | None = None,
    scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
    rounds: int | None = None,
    reference: str | None = None,
    processes: int = 2,
    timeout_s: float = TIMEOUT_S,
    progress: bool | None = None,
) -> Comparison:
    """Let planners and agents play the same episodes.

    Args:
        agents: By label: a planner (a function `Instance -> Plan`), a planner's name, an agent,
            something that makes an agent, a model of Stable-Baselines3, or a text as on the command
            line (`mjoa_gym.evaluation.agent_source`).
        env: The environment's id, or "streaming" or "cold-start".
        episodes: Number of episodes; all agents play the same ones.
        seed: Seed of the first episode.
        n_ues: Number of UEs; overrides the scenario's.
        scenario: Anything that `Scenario.of` accepts.
        rounds: Rounds of an episode; overrides the scenario's.
        reference: The label that the others are compared with; by default "mjoa-mu" if there is
            such a label, else the first.
        processes: Number of processes that play episodes. With 0, this process plays them, and an
            agent that is stuck in compiled code cannot be stopped.
        timeout_s: Maximum seconds of a decision.
        progress: Whether to show a progress bar; None for only if standard error is a terminal.

    Raises:
        ValueError: If an argument is invalid; names it, its value and what is allowed. An error
            while an agent plays affects only its own results: see `Comparison.failures`.
    """
    if not isinstance(agents, Mapping) or not agents:
        raise ValueError(f"agents={agents!r}: must be a dictionary of agents by their labels")
    given = Scenario.of(dict(scenario) if isinstance(scenario, Mapping) else scenario)
    setting = Setting(env, given.with_changes(n_ues=n_ues, rounds=rounds))
    sources = [source_of(agent, str(label)) for label, agent in agents.items()]
    last = int(seed) + count("episodes", episodes)
    how = Playing(processes, positive("timeout_s", timeout_s), progress=progress)
    return play_comparison(sources, setting, range(int(seed), last), how, reference)


def play_comparison(
    sources: Sequence[AgentSource],
    setting: Setting,
    seeds: Sequence[int],
    how: Playing,
    reference: str | None = None,
    folder: Path | None = None,
    fresh: bool = False,
) -> Comparison:
    """Let agents play the same episodes, except those that a folder's journal already has.

    Raises a ValueError, before anything is played, if two agents have the same label, or an agent
    does not support the setting.
    """
    labels = [source.label for source in sources]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ValueError(f"several agents are called {', '.join(sorted(twice))}")
    families = list(dict.fromkeys(SEED.sub("", label) for label in labels))
    if reference is None:
        reference = OURS if OURS in families else families[0]
    choice("reference", reference, families)
    for source in sources:
        source.check(setting)
    store = EpisodeStore(folder, setting.fingerprint, fresh)
    jobs = []
    for source in sources:
        version = "" if folder is None else source.version
        jobs.append(Job(source, setting, {seed: (source.label, version, seed) for seed in seeds}))
    failures = play_missing(jobs, store, how)
    rows = {
        job.source.label: {s: store.rows[k] for s, k in job.episodes.items() if k in store.rows}
        for job in jobs
    }
    return Comparison.of(seeds, rows, reference, failures, setting)
