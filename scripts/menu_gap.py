"""Measure the cost of menus of placements compared with free placement; print a Markdown table.

The expert plays both environments: MJOA-MU in ColdStart, MJOA-MU with prefetch in Streaming. Every
inference that it sends to the edge is simulated again at the same shares, link and residency, with
PBT-DP's own answer and with every entry of the menu. Then the whole round is simulated with the
menu's best entries at the expert's shares, and with the shares that ARA computes for them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from played_rounds import played_rounds

from mjoa_gym import Instance, Plan, Scenario, evaluate
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import ENVIRONMENTS, Setting
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.table import Table
from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.planners import ara, planner_of
from mjoa_gym.planners.menu import ENTRIES, Menu, menu_of
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition
from mjoa_gym.validation import count

EXPERTS = {"cold-start": "mjoa-mu", "streaming": "mjoa-mu-prefetch"}
HEADER = (
    "Scenario", "Environment", "Entries", "Inferences", "Mean gap", "95 %", "Worst", "Rounds",
    "Objective, same shares", "Worst round", "Objective, ARA's shares",
)  # fmt: skip


class Gap(NamedTuple):
    """Latency in excess of free placement, as fractions of it."""

    inferences: list[float]  # one for every inference that the expert sends to the edge
    same_shares: float  # of the round's weighted latencies against the expert's, at its shares
    divided_anew: float  # the same, with ARA's shares for the menu's placements


def gap_of(scenario: Scenario, menu: Menu, instance: Instance, plan: Plan) -> Gap:
    """Return the cost of the menu in one round."""
    packed, inferences = instance.packed, []
    placements = list(plan.placements)
    for i, ue in enumerate(instance.ues):
        if not plan.placements[i].any():
            continue
        inference = packed_inference(packed, i)
        link = packed_link(packed, i, plan.bandwidth_share[i], plan.compute_share[i])
        d, n = scenario.profiles.index(ue.dnn), ue.dnn.n_layers
        entries = np.ascontiguousarray(menu.placements[d, : menu.size[d], :n])
        seconds = kernel.run_many(entries, inference, link)
        free_s = best_partition(inference, link, WIDTH, np.zeros(n, np.int8))
        inferences.append(float(seconds.min() / free_s - 1.0))
        placements[i] = entries[seconds.argmin()]
    expert_s = instance.weights @ evaluate(instance, plan)
    same = Plan(placements, plan.bandwidth_share, plan.compute_share)
    anew = Plan(placements, *ara(instance, placements))
    same_s, anew_s = (instance.weights @ evaluate(instance, p) for p in (same, anew))
    return Gap(inferences, float(same_s / expert_s - 1.0), float(anew_s / expert_s - 1.0))


def rows(setting: Setting, lengths: list[int], seeds: range) -> list[tuple[str, ...]]:
    """Return the rows of a scenario and an environment, one per length of the menu."""
    scenario = setting.scenario
    played = played_rounds(planner_of(EXPERTS[setting.environment]), setting, seeds)
    head = f"`{scenario.name}`", ENVIRONMENTS[setting.environment].removeprefix("MJOA/")
    found = []
    for entries in lengths:
        menu = menu_of(scenario, setting.persists, entries)
        told = bar(played, unit="round", leave=False)
        gaps = [gap_of(scenario, menu, instance, plan) for instance, plan, _ in told]
        found.append((*head, str(entries), *cells(gaps)))
    return found


def cells(gaps: list[Gap]) -> tuple[str, ...]:
    """Return the numbers of a row."""
    inferences = 100.0 * np.concatenate([gap.inferences for gap in gaps])
    if not len(inferences):
        raise ValueError("the expert never uses the edge in these episodes")
    same = 100.0 * np.array([gap.same_shares for gap in gaps])
    anew = 100.0 * np.array([gap.divided_anew for gap in gaps])
    return (
        str(len(inferences)), f"{inferences.mean():.2f} %",
        f"{np.quantile(inferences, 0.95):.1f} %", f"{inferences.max():.1f} %", str(len(gaps)),
        f"{same.mean():.2f} %", f"{same.max():.1f} %", f"{anew.mean():.2f} %",
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--scenario", nargs="+", default=["default", "chains", "crowded", "slow-uplink"],
        metavar="NAME", help="packaged scenarios or YAML files (default: %(default)s)")  # fmt: skip
    add("--entries", type=int, nargs="+", default=[ENTRIES], metavar="M",
        help="maximum entries of a menu (default: %(default)s)")  # fmt: skip
    add("--episodes", type=int, default=5, help="episodes of each environment (%(default)s)")
    add("--seed", type=int, default=0, help="seed of the first episode (%(default)s)")
    args = parser.parse_args(argv)
    seeds = range(args.seed, args.seed + count("episodes", args.episodes))
    found = [
        row
        for name in bar(args.scenario, unit="scenario", leave=False)
        for environment in EXPERTS
        for row in rows(Setting(environment, Scenario.load(name)), args.entries, seeds)
    ]
    print(Table("", HEADER, found).markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
