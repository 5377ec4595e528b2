"""How far planners are from what any policy can reach on `MJOA/Streaming-v1`, at most.

    python scripts/streaming_bound.py --episodes 12

Every episode has a certified lower bound (`mjoa_gym/planners/streaming_bound.py`), on what a policy
could do that knows all rounds in advance. It holds where nobody walks, so UEs stand still here
whatever the scenario says. Prints a Markdown table; intervals are over episodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from played_rounds import PlayedRound, played_rounds

from mjoa_gym import Scenario
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.statistics import Estimate, bootstrap, change
from mjoa_gym.evaluation.table import Table, percent
from mjoa_gym.planners import planner_of
from mjoa_gym.planners.streaming_bound import streaming_bound

PLANNERS = ("mjoa-mu", "mjoa-mu-prefetch", "far-sighted")
BOUND, AIM = "the bound", "the bound if it lost nothing in certifying"


def in_milliseconds(estimate: Estimate) -> str:
    """Seconds with their interval as milliseconds."""
    value, low, high = (f"{1e3 * seconds:.1f}" for seconds in estimate)
    return f"{value} [{low}, {high}]"


def of_episodes(rounds: list[PlayedRound], episodes: int) -> NDArray[np.float64]:
    """(episodes,) mean latency of played rounds."""
    return np.array([each.row["latency_s"] for each in rounds]).reshape(episodes, -1).mean(axis=1)


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
    return Table("", ("", "latency, ms", "above the bound"), rows)


def main(argv: list[str] | None = None) -> int:
    """Play, bound, print."""
    parser = command_line(__doc__)
    parser.add_argument("--scenario", default="default", help="name, or a YAML file")
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=10_000, help="of the first episode")
    options = parser.parse_args(argv)
    scenario = Scenario.load(options.scenario).with_changes(speed_m_per_s=0.0)
    setting = Setting("streaming", scenario)
    seeds = range(options.seed, options.seed + options.episodes)
    played = {name: played_rounds(planner_of(name), setting, seeds) for name in PLANNERS}
    found = {name: of_episodes(rounds, len(seeds)) for name, rounds in played.items()}
    instances = [each.instance for each in played[PLANNERS[0]]]  # the same, whoever plays
    per_episode = len(instances) // len(seeds)
    starts = bar(range(0, len(instances), per_episode), unit="episode", leave=False)
    bounds = [streaming_bound(instances[k : k + per_episode]) for k in starts]
    found[AIM] = np.array([each.aim_s for each in bounds])
    found[BOUND] = np.array([each.latency_s for each in bounds])
    print(table_of(found).markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
