"""Measure what menus of placements cost against free placement; prints a Markdown table.

The expert plays both environments: MJOA-MU in ColdStart, MJOA-MU with prefetch in Streaming. Every
inference that it sends to the edge is simulated again at the same shares, link and residency, under
PBT-DP's own answer and under every entry of the menu. Then the whole round: with the menu's best
entries at the expert's shares, and with the band and the server divided anew by ARA.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

import gymnasium as gym
import numpy as np
from tqdm import tqdm

import mjoa_gym
from mjoa_gym import Instance, Plan, Scenario, evaluate
from mjoa_gym.cli.ending import run
from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.planners import ara, plan_with
from mjoa_gym.planners.menu import ENTRIES, Menu, menu_of
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition
from mjoa_gym.validation import count

EXPERTS = {
    False: ("MJOA/ColdStart-v0", "mjoa-mu"),
    True: ("MJOA/Streaming-v0", "mjoa-mu-prefetch"),
}
HEADER = (
    "| Scenario | Environment | Entries | Inferences | Mean gap | 95 % | Worst "
    "| Rounds | Objective, same shares | Worst round | Objective, ARA's shares |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


class Gap(NamedTuple):
    """Latency in excess of free placement, as fractions of it.

    Attributes:
        inferences: Of every inference that the expert sends to the edge.
        same_shares: Of the round's weighted latencies against the expert's, at its shares.
        divided_anew: The same, with ARA's shares for the menu's placements.
    """

    inferences: list[float]
    same_shares: float
    divided_anew: float


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--scenario", nargs="+", default=["default", "chains", "crowded", "slow-uplink"],
        metavar="NAME", help="packaged scenarios or YAML files (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--entries", type=int, nargs="+", default=[ENTRIES], metavar="M",
        help="most entries of a menu (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--episodes", type=int, default=5, help="of each environment (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (%(default)s)")
    return parser.parse_args(argv)


def expert_rounds(
    scenario: Scenario, streaming: bool, episodes: int, seed: int
) -> Iterator[tuple[Instance, Plan]]:
    """The rounds of whole episodes, played by the expert."""
    name, planner = EXPERTS[streaming]
    env = gym.make(name, scenario=scenario).unwrapped
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        truncated = False
        while not truncated:
            instance = mjoa_gym.decode_observation(observation, scenario)
            plan = plan_with(planner, instance)
            yield instance, plan
            observation, _, _, truncated, _ = env.step(env.view.encode(plan))


def gap_of(scenario: Scenario, menu: Menu, instance: Instance, plan: Plan) -> Gap:
    """What the menu costs in one round."""
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


def rows(name: str, args: argparse.Namespace, streaming: bool) -> Iterator[str]:
    """The rows of a scenario and an environment, one per length of the menu."""
    scenario = Scenario.load(name)
    menus = [menu_of(scenario, streaming, entries) for entries in args.entries]
    environment = EXPERTS[streaming][0].removeprefix("MJOA/")
    gaps: list[list[Gap]] = [[] for _ in menus]
    for instance, plan in tqdm(
        expert_rounds(scenario, streaming, args.episodes, args.seed),
        desc=f"{name}, {environment}",
        total=args.episodes * scenario.rounds,
        unit="round",
        leave=False,
    ):
        for menu, found in zip(menus, gaps, strict=True):
            found.append(gap_of(scenario, menu, instance, plan))
    for entries, found in zip(args.entries, gaps, strict=True):
        yield f"| `{scenario.name}` | {environment} | {entries} | {cells(found)} |"


def cells(gaps: list[Gap]) -> str:
    """The numbers of a row."""
    inferences = 100.0 * np.concatenate([gap.inferences for gap in gaps])
    if not len(inferences):
        raise ValueError("the expert never uses the edge in these episodes")
    same = 100.0 * np.array([gap.same_shares for gap in gaps])
    anew = 100.0 * np.array([gap.divided_anew for gap in gaps])
    return (
        f"{len(inferences)} | {inferences.mean():.2f} % | {np.quantile(inferences, 0.95):.1f} % "
        f"| {inferences.max():.1f} % | {len(gaps)} | {same.mean():.2f} % | {same.max():.1f} % "
        f"| {anew.mean():.2f} %"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    args = arguments(argv)
    count("episodes", args.episodes)
    print(HEADER, flush=True)
    for name in args.scenario:
        for streaming in EXPERTS:
            for row in rows(name, args, streaming):
                print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
