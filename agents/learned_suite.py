"""Trained agents beside their yardsticks in several settings: played, tabled, drawn.

`configs/learned/*.yaml` list the settings. Agents are folders in `results/agents`, one for each
training seed, with the card, the weights and the log of their training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agents import cards
from agents.benchmark.plots import encoded
from agents.benchmark.report import Section
from agents.benchmark.store import write_atomically
from agents.benchmark.suite import ENVIRONMENTS
from agents.decision_time import decision_times
from agents.evaluation import Setting, label_of
from agents.evaluation_report import (
    bars_figure,
    learned_against_planners,
    publish,
    rounds_figure,
    table,
)
from agents.evaluation_results import SEED, Results, kept_results
from agents.evaluation_runner import FIRST_SEED, Episodes, run
from agents.learning_curves import curves_figure
from mjoa_gym import Scenario
from mjoa_gym.validation import choice, count

AGENTS = Path(__file__).resolve().parent.parent / "results" / "agents"
KEYS = ("title", "environment", "scenario", "episodes", "planners")


@dataclass(frozen=True)
class Entry:
    """One setting of a suite.

    Attributes:
        name: Of its folder.
        title: For people.
        setting: Where agents act.
        episodes: How many.
        planners: Yardsticks; the first is what the others are compared with.
    """

    name: str
    title: str
    setting: Setting
    episodes: int
    planners: tuple[str, ...]


def load_entries(file: Path) -> list[Entry]:
    """The settings in a file.

    Raises:
        ValueError: If one is not as it should be.
        OSError: If the file cannot be read.
    """
    content = yaml.safe_load(file.read_text("utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must hold settings by name")
    return [_entry(name, given) for name, given in content.items()]


def _entry(name: str, given: Mapping[str, Any]) -> Entry:
    for key in given:
        choice(f"{name}: key", key, KEYS)
    if missing := [key for key in KEYS if key not in given and key != "scenario"]:
        raise ValueError(f"{name}: {missing[0]} is missing")
    if not given["planners"]:
        raise ValueError(f"{name}: planners=[]: the first is what the others are compared with")
    return Entry(
        name=name,
        title=str(given["title"]),
        setting=Setting(given["environment"], Scenario.of(given.get("scenario"))),
        episodes=count(f"{name}: episodes", given["episodes"]),
        planners=tuple(given["planners"]),
    )


def trained_for(environment: str, folder: Path) -> list[str]:
    """The paths of all trained agents for an environment, in order of their names."""
    found = sorted(file.parent for file in folder.glob("*/card.yaml"))
    wanted = ENVIRONMENTS[environment]
    return [str(path) for path in found if cards.read(path)["environment"] == wanted]


def play_entry(
    entry: Entry,
    out: Path,
    processes: int,
    progress: bool,
    trained: Path,
    fresh: bool,
    keep_planners: bool = False,
) -> Results:
    """Play what is missing of a setting, and return all of it."""
    seeds = range(FIRST_SEED, FIRST_SEED + entry.episodes)
    kept = kept_results(out / entry.name, seeds, entry.planners if keep_planners else ())
    learned = trained_for(entry.setting.environment, trained)
    agents = [*(name for name in entry.planners if name not in kept.episodes), *learned]
    episodes = Episodes(out / entry.name, entry.setting, fresh)
    run(episodes, agents, seeds, processes=processes, progress=progress)
    rows = {label_of(agent): episodes.of(agent, seeds) for agent in agents}
    played = Results.of(seeds, rows, entry.planners[0])
    return played.with_more(kept, [*entry.planners, *map(label_of, learned)])


def run_suite(
    file: Path,
    out: Path,
    processes: int = 1,
    progress: bool = True,
    trained: Path = AGENTS,
    fresh: bool = False,
    keep_planners: bool = False,
) -> list[Section]:
    """Play and publish all settings of a suite.

    Args:
        file: Of the suite.
        out: Each setting gets a folder in it.
        processes: Batches of episodes at a time.
        progress: Whether to show bars.
        trained: Folder of the trained agents.
        fresh: Whether to forget earlier results.
        keep_planners: Whether planners whose results are in `out` already are not played again.

    Returns:
        For a report: a section per setting, and one with the learning curves.
    """
    sections = []
    entries = load_entries(file)
    for entry in entries:
        results = play_entry(entry, out, processes, progress, trained, fresh, keep_planners)
        publish(results, out / entry.name, entry.setting.persists)
        sections.append(_section(entry, results))
    first = {entry.setting.environment: entry for entry in reversed(entries)}
    sections += [_decisions(entry, out, trained) for entry in first.values()]
    curves = curves_figure(trained)
    if curves is not None:
        write_atomically(out / "learning_curves.png", encoded(curves, "png"))
        caption = (
            "Mean latency on the validation episodes against MJOA-MU's while training: mean over "
            "training seeds, and its 95 % interval (Student's t)."
        )
        sections.append(Section("Learning curves", [(caption, encoded(curves, "png"))], []))
    return sections


def _section(entry: Entry, results: Results) -> Section:
    figures = [(f"Mean latency; {len(results.seeds)} episodes.", bars_figure(results))]
    if entry.setting.persists:
        caption = "Mean latency round by round: uploads of early rounds pay in later ones."
        figures.append((caption, rounds_figure(results)))
    tables = [table(results), learned_against_planners(results)]
    images = [(caption, encoded(figure, "png")) for caption, figure in figures]
    return Section(entry.title, images, [t for t in tables if t.rows])


def _decisions(entry: Entry, out: Path, trained: Path) -> Section:
    """How long everybody takes to decide in a setting; of a family, one agent."""
    environment = entry.setting.environment
    by_family = {SEED.sub("", label_of(path)): path for path in trained_for(environment, trained)}
    times = decision_times([*entry.planners, *by_family.values()], entry.setting, FIRST_SEED)
    write_atomically(out / f"decision_times-{environment}.csv", times.csv())
    return Section(f"Decision time, {environment}", [], [times])


def markdown(sections: list[Section]) -> str:
    """The tables for a README."""
    parts = []
    for section in sections:
        if section.tables:
            parts.append(f"**{section.title}**")
            parts += [f"{t.markdown()}\n\n{t.caption}".strip() for t in section.tables]
    return "\n\n".join(parts)
