"""Measure the gain from sharing by content and from retaining: the table of `docs/scenarios.md`.

The planners play the same training episodes on servers with and without sharing of equal layers,
and with and without `retain`. Changes are against the server with neither, with the interval of
paired episodes.
"""

from __future__ import annotations

from itertools import product

from mjoa_gym import Scenario
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation import compare
from mjoa_gym.evaluation.statistics import change
from mjoa_gym.evaluation.table import Table, percent

PLANNERS = ("mjoa-mu", "mjoa-mu-prefetch", "far-sighted")
FIRST_SEED = 600_000
"""First seed of the training episodes; no evaluation uses these."""


def measure(scenario: Scenario, episodes: int) -> Table:
    """Return the table: a row per server, with mean latency and change per planner."""
    rows, base = [], {}
    for shared, retain in product((False, True), repeat=2):
        changes = {"share_parameters": shared, "retain": retain}
        found = compare(
            {name: name for name in PLANNERS}, "streaming", episodes, FIRST_SEED,
            scenario=scenario.with_changes(**changes),
        )  # fmt: skip
        cells = ["yes" if shared else "no", "yes" if retain else "no"]
        for name in PLANNERS:
            latency_s = found.by_episode(name)
            text = f"{1e3 * latency_s.mean():.1f}"
            if name in base:
                text += f" ({percent(change(latency_s, base[name]), '+')})"
            base.setdefault(name, latency_s[0])
            cells.append(text)
        rows.append(tuple(cells))
    caption = f"Mean latency in ms, {episodes} episodes"
    return Table(caption, ("shared", "retain", *PLANNERS), rows)


def main(argv: list[str] | None = None) -> int:
    """Play and print."""
    parser = command_line(__doc__)
    parser.add_argument("--scenario", default="default", help="a name, or a YAML file")
    parser.add_argument("--episodes", type=int, default=20, help="number of episodes (%(default)s)")
    args = parser.parse_args(argv)
    table = measure(Scenario.load(args.scenario), args.episodes)
    print(f"\n### {table.caption}\n\n{table.markdown()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
