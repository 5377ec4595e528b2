"""Trained agents compared with planners in several settings: episodes, tables and figures.

`configs/learned/*.yaml` list the settings. Agents are folders in `results/agents`, one for each
training seed, with the card, the weights and the training log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents import cards
from agents.learning_curves import curves_figure
from mjoa_gym import Scenario
from mjoa_gym.evaluation.agent_source import source_of
from mjoa_gym.evaluation.comparison import SEED, Comparison, play_comparison, save, standing
from mjoa_gym.evaluation.decision_time import decision_times
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, FIRST_SEED, Setting
from mjoa_gym.evaluation.page import Section
from mjoa_gym.evaluation.plots import encoded
from mjoa_gym.evaluation.processes import Playing
from mjoa_gym.evaluation.table import percent, with_captions
from mjoa_gym.files import write, yaml_mapping
from mjoa_gym.validation import choice, count

ROOT = Path(__file__).resolve().parent.parent
AGENTS, SUITES = ROOT / "results" / "agents", ROOT / "configs" / "learned"
KEYS = ("title", "environment", "scenario", "episodes", "planners")


@dataclass(frozen=True)
class Entry:
    """One setting of a suite."""

    name: str  # name of its folder
    title: str
    setting: Setting
    episodes: int
    planners: tuple[str, ...]  # and other yardsticks; agents are compared with the first


def load_entries(file: Path) -> list[Entry]:
    """Read the settings in a file.

    Raises:
        ValueError: If a setting is invalid.
        OSError: If the file cannot be read.
    """
    content = yaml_mapping(file.read_text("utf-8"), file)
    return [_entry(name, given) for name, given in content.items()]


def _entry(name: str, given: Mapping[str, Any]) -> Entry:
    for key in given:
        choice(f"{name}: key", key, KEYS)
    if missing := [key for key in KEYS if key not in given and key != "scenario"]:
        raise ValueError(f"{name}: {missing[0]} is missing")
    if not given["planners"]:
        raise ValueError(f"{name}: planners=[]: the first is what the others are compared with")
    for planner in given["planners"]:
        source_of(planner)  # raises if there is none
    return Entry(
        name=name,
        title=str(given["title"]),
        setting=Setting(given["environment"], Scenario.of(given.get("scenario"))),
        episodes=count(f"{name}: episodes", given["episodes"]),
        planners=tuple(given["planners"]),
    )


def trained_for(environment: str, folder: Path) -> list[str]:
    """Return the paths of all trained agents for an environment, sorted by name."""
    found = sorted(file.parent for file in folder.glob("*/card.yaml"))
    wanted = ENVIRONMENTS[environment]
    return [str(path) for path in found if cards.read(path)["environment"] == wanted]


def play_entry(
    entry: Entry, out: Path, how: Playing, trained: Path, fresh: bool, keep_planners: bool = False
) -> Comparison:
    """Play the missing episodes of a setting, and return all results."""
    folder, seeds = out / entry.name, range(FIRST_SEED, FIRST_SEED + entry.episodes)
    planners = [source_of(name) for name in entry.planners]
    kept = Comparison.kept(folder, seeds, [p.label for p in planners] if keep_planners else ())
    kept = replace(kept, setting=entry.setting)
    sources = [*planners, *map(source_of, trained_for(entry.setting.environment, trained))]
    missing = [source for source in sources if source.label not in kept.episodes]
    if not missing:
        return kept
    first = planners[0].label
    reference = first if first not in kept.episodes else None
    played = play_comparison(missing, entry.setting, seeds, how, reference, folder, fresh)
    labels = [source.label for source in sources]
    return replace(played, reference=first).with_more(kept, labels)


def run_suite(
    file: Path,
    out: Path,
    how: Playing = Playing(),  # noqa: B008 - immutable
    trained: Path = AGENTS,
    fresh: bool = False,
    keep_planners: bool = False,
) -> list[Section]:
    """Play and publish all settings of a suite.

    Args:
        file: The suite's file.
        out: Folder of the results; each setting gets a folder in it.
        how: How episodes are played.
        trained: Folder of the trained agents.
        fresh: Whether to discard earlier results.
        keep_planners: Whether to reuse the results of planners that are already in `out`.

    Returns:
        Sections for a report: one per setting, and one with the learning curves.
    """
    sections = []
    entries = load_entries(file)
    for entry in entries:
        results = play_entry(entry, out, how, trained, fresh, keep_planners)
        sections.append(save(results, out / entry.name)._replace(title=entry.title))
    first = {entry.setting.environment: entry for entry in reversed(entries)}
    sections += [_decisions(entry, out, trained) for entry in first.values()]
    curves = curves_figure(trained)
    if curves is not None:
        write(out / "learning_curves.png", encoded(curves, "png"))
        caption = (
            "Mean latency on the validation episodes against MJOA-MU's while training: mean over "
            "training seeds, and its 95 % interval (Student's t)."
        )
        sections.append(Section("Learning curves", [(caption, encoded(curves, "png"))]))
    return sections


def beside(suite: str, out: Path, how: Playing, fresh: bool) -> list[Section]:
    """Return sections on trained agents for `mjoa-gym benchmark`; none without a suite."""
    file = SUITES / f"{suite}.yaml"
    return run_suite(file, out / "learned", how, fresh=fresh) if file.exists() else []


def _decisions(entry: Entry, out: Path, trained: Path) -> Section:
    """Return the decision times in a setting, with one agent of each family."""
    environment = entry.setting.environment
    paths = trained_for(environment, trained)
    by_family = {SEED.sub("", source_of(path).label): path for path in paths}
    times = decision_times([*entry.planners, *by_family.values()], entry.setting, FIRST_SEED)
    write(out / f"decision_times-{environment}.csv", times.csv())
    return Section(f"Decision time, {environment}", tables=[times])


def summary(file: Path, out: Path, trained: Path = AGENTS) -> list[str]:
    """Return a sentence with all mean latencies for each setting of a suite with results."""
    sentences = []
    for entry in load_entries(file):
        learned = trained_for(entry.setting.environment, trained)
        labels = [source_of(name).label for name in (*entry.planners, *learned)]
        seeds = range(FIRST_SEED, FIRST_SEED + entry.episodes)
        results = Comparison.kept(out / entry.name, seeds, labels)
        changes = {f: standing(results, f).change for f in results.families if f != labels[0]}
        ranked = sorted(changes, key=lambda family: changes[family].value)
        shown = "; ".join(f"`{family}` {percent(changes[family], '+')}" for family in ranked)
        sentences.append(
            f"{entry.title}, {entry.episodes} held-out episodes, mean latency against "
            f"`{labels[0]}`: {shown}."
        )
    return sentences


def markdown(sections: list[Section]) -> str:
    """Return the tables for a page."""
    shown = [each for each in sections if each.tables]
    return "\n\n".join(f"**{each.title}**\n\n{with_captions(each.tables)}" for each in shown)
