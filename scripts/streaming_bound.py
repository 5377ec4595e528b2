"""How far planners are from what any policy can reach on `MJOA/Streaming-v1`, at most.

    python scripts/streaming_bound.py --episodes 12 --pages docs/learning.md

Every episode has a certified lower bound (`mjoa_gym/planners/streaming_bound.py`), on what a policy
could do that knows all rounds in advance. It holds where nobody walks, so UEs stand still here
whatever the scenario says. The rows below the bound say what it would be without its parts: if
nothing were lost in certifying it, and, by known placements, if uploads took no time or memory had
no limit. Prints a Markdown table, `--pages` puts it into a page between its markers; intervals are
over episodes, in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from played_rounds import PlayedRound, played_rounds

from mjoa_gym import Instance, Scenario
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.page import update_pages
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.statistics import Estimate, bootstrap, change
from mjoa_gym.evaluation.table import Table, percent
from mjoa_gym.planners import planner_of
from mjoa_gym.planners.streaming_bound import streaming_aim, streaming_bound

PLANNERS = ("local-only", "mjoa-mu", "mjoa-mu-prefetch", "far-sighted")
BOUND, AIM = "**the bound**", "if certifying lost nothing"
WITHOUT: dict[str, dict[str, Any]] = {
    "and uploads took no time": {"period_s": 1e3},
    "and memory had no limit": {"server_memory_bytes": np.inf},
}
"""Limits that are lifted one at a time, as changes to the episodes' horizons."""
PART = "streaming-bound"
"""The name of the table's markers in a page."""


def in_milliseconds(estimate: Estimate) -> str:
    """Seconds with their interval as milliseconds."""
    value, low, high = (f"{1e3 * seconds:.1f}" for seconds in estimate)
    return f"{value} [{low}, {high}]"


def of_episodes(rounds: list[PlayedRound], episodes: int) -> NDArray[np.float64]:
    """(episodes,) mean latency of played rounds."""
    return np.array([each.row["latency_s"] for each in rounds]).reshape(episodes, -1).mean(axis=1)


def with_horizons(rounds: Sequence[Instance], changes: dict[str, Any]) -> list[Instance]:
    """The rounds with other horizons."""
    found = []
    for instance in rounds:
        assert instance.horizon is not None
        found.append(replace(instance, horizon=replace(instance.horizon, **changes)))
    return found


def table_of(found: dict[str, NDArray[np.float64]]) -> Table:
    """The table of mean latencies (episodes,) by name, with distances to the bound."""
    rows = [
        (
            name,
            in_milliseconds(bootstrap(seconds)),
            "" if name == BOUND else percent(change(seconds[None], found[BOUND]), "+"),
        )
        for name, seconds in found.items()
    ]
    return Table("", ("", "latency, ms", "against the bound"), rows)


def main(argv: list[str] | None = None) -> int:
    """Play, bound, print."""
    parser = command_line(__doc__)
    parser.add_argument("--scenario", default="default", help="name, or a YAML file")
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=10_000, help="of the first episode")
    parser.add_argument("--pages", type=Path, nargs="+", default=[], metavar="FILE",
        help="pages whose table is replaced")  # fmt: skip
    options = parser.parse_args(argv)
    scenario = Scenario.load(options.scenario).with_changes(speed_m_per_s=0.0)
    setting = Setting("streaming", scenario)
    seeds = range(options.seed, options.seed + options.episodes)
    played = {name: played_rounds(planner_of(name), setting, seeds) for name in PLANNERS}
    found = {name: of_episodes(rounds, len(seeds)) for name, rounds in played.items()}
    instances = [each.instance for each in played[PLANNERS[0]]]  # the same, whoever plays
    starts = range(0, len(instances), scenario.rounds)
    episodes = [instances[k : k + scenario.rounds] for k in starts]
    bounds = [streaming_bound(own) for own in bar(episodes, unit="episode", leave=False)]
    found[BOUND] = np.array([each.latency_s for each in bounds])
    found[AIM] = np.array([each.aim_s for each in bounds])
    for name, changes in WITHOUT.items():
        aims = [streaming_aim(with_horizons(own, changes)) for own in episodes]
        found[f"{AIM} {name}"] = np.array(aims)
    text = table_of(found).markdown()
    print(text)
    update_pages(options.pages, {PART: text})
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
