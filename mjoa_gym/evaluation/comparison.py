"""Planners and agents on the same episodes: `compare` plays them and gives a `Comparison`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mjoa_gym.evaluation import comparison_report
from mjoa_gym.evaluation.agent_source import AgentSource, source_of
from mjoa_gym.evaluation.episode_means import SEED, EpisodeMeans
from mjoa_gym.evaluation.episodes import FIRST_SEED, Setting
from mjoa_gym.evaluation.journal import EpisodeStore
from mjoa_gym.evaluation.processes import TIMEOUT_S, Job, Playing, play_missing
from mjoa_gym.validation import choice, count, positive
from mjoa_gym.world.scenario import Scenario

OURS = "mjoa-mu"


class Comparison(EpisodeMeans):
    """What several agents reached on the same episodes, with a table and a report."""

    def table(self) -> str:
        """How everybody did, as text: the fastest first, then who could not play on."""
        return comparison_report.text(self)

    def save(self, folder: str | Path) -> Path:
        """Write CSV files, tables, figures and `report.html`; returns the folder.

        Without matplotlib there are no figures.
        """
        comparison_report.save(self, Path(folder))
        return Path(folder)


def compare(
    agents: Mapping[str, Any],
    env: str = "MJOA/Streaming-v0",
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
        agents: By label: a planner (a function `Instance -> Plan`), a planner's name, an agent or
            what makes one, a model of Stable-Baselines3, or a text as on the command line
            (`mjoa_gym.evaluation.agent_source`).
        env: The environment's id, or "streaming" or "cold-start".
        episodes: How many; all agents meet the same ones.
        seed: Of the first.
        n_ues: Overrides the scenario's.
        scenario: What `Scenario.of` takes.
        rounds: Overrides the scenario's.
        reference: The label of whom the others are compared with; default "mjoa-mu" if there is one
            of that name, else the first.
        processes: Episodes that are played at a time, in processes of their own; 0 for this one,
            where an agent that is stuck in compiled code cannot be ended.
        timeout_s: What a decision may take.
        progress: Whether to show a bar; None for wherever somebody looks.

    Raises:
        ValueError: Naming argument, value and what is allowed. What goes wrong while an agent plays
            spoils its own results only: see `Comparison.failures`.
    """
    if not isinstance(agents, Mapping) or not agents:
        raise ValueError(f"agents={agents!r}: a dictionary of agents by their labels is needed")
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
    """Let agents play the same episodes, but for those that a folder's journal has.

    Args:
        sources: Who plays.
        setting: Where.
        seeds: Of the episodes.
        how: How they are played.
        reference: See `compare`.
        folder: Of the journal; None for none.
        fresh: Whether to forget what it has.

    Raises:
        ValueError: If two agents have the same label, or one is not for the setting; nothing has
            been played then.
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
