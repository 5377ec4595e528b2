"""Measure which limits of a scenario bind: the tables of `docs/scenarios.md`.

The first table lifts one limit at a time: the band, the server's speed, the UEs' speed, the
server's memory. A limit binds if plans and latencies change without it. The second table shows how
often UEs run all layers themselves, by network and device: where they nearly always do, there is
nothing to decide.
"""

from __future__ import annotations

from typing import NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from mjoa_gym import Scenario, decode_observation
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import ENVIRONMENTS
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.statistics import change
from mjoa_gym.evaluation.table import Table, percent
from mjoa_gym.planners import plan_with

FIRST_SEED = 600_000
"""First seed of the training episodes; no evaluation uses these."""
PLAYERS = {"cold-start": "mjoa-mu", "streaming": "mjoa-mu-prefetch"}
LIMITS = {
    "band": {"bandwidth_hz": 1e11},
    "server's speed": {"edge_speed": 1e6},
    "UEs' speed": {"ue_speed_min": 1e6, "ue_speed_max": 1e6},
    "server's memory": {"server_memory_bytes": 1e15},
}
"""Changes that lift a limit: values so high that the limit does not matter."""


class Played(NamedTuple):
    """Results of a planner, for every round or UE, in order."""

    latency_s: NDArray[np.float64]  # (episodes, rounds) means over the UEs
    local_s: NDArray[np.float64]  # likewise, with all layers on the UE
    placements: list[bytes]  # of every UE in every round
    kinds: list[tuple[str, str]]  # of the same: network and device


def play(environment: str, scenario: Scenario, episodes: int) -> Played:
    """Let the environment's planner play an episode per seed."""
    env = gym.make(ENVIRONMENTS[environment], scenario=scenario, disable_env_checker=True)
    view = env.unwrapped.view  # type: ignore[attr-defined]
    names = [name if isinstance(name, str) else name.name for name in scenario.dnns]
    devices = [device.name for device in scenario.devices]
    seconds, placements, kinds = [], [], []
    for seed in bar(range(FIRST_SEED, FIRST_SEED + episodes), unit="episode", leave=False):
        observation, over = env.reset(seed=seed)[0], False
        while not over:
            plan = plan_with(PLAYERS[environment], decode_observation(observation, scenario))
            placements += [sides.tobytes() for sides in plan.placements]
            pairs = zip(observation["dnn"], observation["ue_device"], strict=True)
            kinds += [(names[d], devices[k]) for d, k in pairs]
            observation, _, _, over, info = env.step(view.encode(plan))
            seconds.append((info["latency_s"].mean(), info["local_s"].mean()))
    latency_s, local_s = np.array(seconds).T.reshape(2, episodes, -1)
    return Played(latency_s, local_s, placements, kinds)


def units(environment: str, latency_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the resampled units (units,): rounds if they are independent, else episodes."""
    return latency_s.ravel() if environment == "cold-start" else latency_s.mean(axis=1)


def limits_table(scenario: Scenario, base: dict[str, Played], episodes: int) -> Table:
    """Return the change of latency, and the fraction of changed placements, without each limit."""
    rows = []
    for limit, changes in LIMITS.items():
        cells = [limit]
        for environment, before in base.items():
            if limit == "server's memory" and environment == "cold-start":
                cells += ["", ""]
                continue
            found = play(environment, scenario.with_changes(**changes), episodes)
            after = units(environment, found.latency_s)
            each = change(after[None], units(environment, before.latency_s))
            pairs = zip(found.placements, before.placements, strict=True)
            others = np.mean([one != another for one, another in pairs])
            cells += [percent(each, "+"), f"{100 * others:.0f} %"]
        rows.append(tuple(cells))
    heads = [f"{env}, {what}" for env in base for what in ("latency", "other placements")]
    return Table("Without a limit", ("limit lifted", *heads), rows)


def home_table(base: dict[str, Played]) -> Table:
    """Return how often UEs run all layers themselves, by network and device."""
    kinds = sorted({kind for played in base.values() for kind in played.kinds})
    rows = []
    for kind in kinds:
        parts = []
        for played in base.values():
            own = zip(played.kinds, played.placements, strict=True)
            local = [not any(sides) for each, sides in own if each == kind]
            parts.append(f"{100 * np.mean(local):.0f} %" if local else "-")
        rows.append((*kind, *parts))
    return Table("UEs that run all layers", ("network", "device", *base), rows)


def main(argv: list[str] | None = None) -> int:
    """Play and print."""
    parser = command_line(__doc__)
    parser.add_argument("--scenario", default="default", help="a name, or a YAML file")
    parser.add_argument("--episodes", type=int, default=40, help="number of episodes (%(default)s)")
    args = parser.parse_args(argv)
    scenario = Scenario.load(args.scenario)
    base = {name: play(name, scenario, args.episodes) for name in PLAYERS}
    for name, played in base.items():
        latency_s, local_s = played.latency_s.mean(), played.local_s.mean()
        print(
            f"{name}, {PLAYERS[name]}: {1e3 * latency_s:.0f} ms on average, {1e3 * local_s:.0f} ms"
            f" with all layers on the UEs"
        )
    for table in (limits_table(scenario, base, args.episodes), home_table(base)):
        print(f"\n### {table.caption}\n\n{table.markdown()}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
