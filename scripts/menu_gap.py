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
from mjoa_gym import Instance, Plan, Scenario, evaluate, kernel
from mjoa_gym.actions.menu import Menu, menu_of
from mjoa_gym.instance import job_of, link_of
from mjoa_gym.planners import ara, plan_with
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition

ENVIRONMENTS = {
    False: ("MJOA/ColdStart-v0", "mjoa-mu"),
    True: ("MJOA/Streaming-v0", "mjoa-mu-prefetch"),
}
HEADER = (
    "| Scenario | Environment | Inferences | Mean gap | 95 % | Worst "
    "| Rounds | Objective, same shares | Worst round | Objective, ARA's shares |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
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
    parser.add_argument("--episodes", type=int, default=5, help="of each environment (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (%(default)s)")
    return parser.parse_args(argv)


def expert_rounds(
    scenario: Scenario, streaming: bool, episodes: int, seed: int
) -> Iterator[tuple[Instance, Plan]]:
    """The rounds of whole episodes, played by the expert."""
    name, planner = ENVIRONMENTS[streaming]
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
        job = job_of(packed, i)
        link = link_of(packed, i, plan.bandwidth_share[i], plan.compute_share[i])
        d, n = scenario.profiles.index(ue.dnn), ue.dnn.n_layers
        entries = np.ascontiguousarray(menu.placements[d, : menu.size[d], :n])
        seconds = kernel.run_many(entries, job, link, packed.mode)
        free_s = best_partition(job, link, packed.mode, WIDTH, np.zeros(n, np.int8))
        inferences.append(float(seconds.min() / free_s - 1.0))
        placements[i] = entries[seconds.argmin()]
    expert_s = instance.weights @ evaluate(instance, plan)
    same = Plan(placements, plan.bandwidth_share, plan.compute_share)
    anew = Plan(placements, *ara(instance, placements))
    same_s, anew_s = (instance.weights @ evaluate(instance, p) for p in (same, anew))
    return Gap(inferences, float(same_s / expert_s - 1.0), float(anew_s / expert_s - 1.0))


def row(name: str, args: argparse.Namespace, streaming: bool) -> str:
    """One row of the table."""
    scenario = Scenario.load(name)
    menu = menu_of(scenario, streaming)
    rounds = tqdm(
        expert_rounds(scenario, streaming, args.episodes, args.seed),
        desc=f"{name}, {ENVIRONMENTS[streaming][0]}",
        total=args.episodes * scenario.rounds,
        unit="round",
        leave=False,
    )
    gaps = [gap_of(scenario, menu, instance, plan) for instance, plan in rounds]
    inferences = 100.0 * np.concatenate([gap.inferences for gap in gaps])
    same, anew = (100.0 * np.array([gap[k] for gap in gaps]) for k in (1, 2))
    if not len(inferences):
        raise ValueError(f"scenario {name!r}: the expert never uses the edge in these episodes")
    environment = ENVIRONMENTS[streaming][0].removeprefix("MJOA/")
    return (
        f"| `{scenario.name}` | {environment} | {len(inferences)} | {inferences.mean():.2f} % "
        f"| {np.quantile(inferences, 0.95):.1f} % | {inferences.max():.1f} % "
        f"| {len(gaps)} | {same.mean():.2f} % | {same.max():.1f} % | {anew.mean():.2f} % |"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    args = arguments(argv)
    if args.episodes < 1:
        print(f"menu_gap: --episodes {args.episodes}: at least 1 is needed", file=sys.stderr)
        return 2
    print(HEADER, flush=True)
    try:
        for name in args.scenario:
            for streaming in ENVIRONMENTS:
                print(row(name, args, streaming), flush=True)
    except (ValueError, OSError) as error:
        print(f"menu_gap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
