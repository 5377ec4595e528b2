"""Estimate what a clairvoyant policy gains over the far-sighted planner on `MJOA/Streaming-v1`.

    python scripts/streaming_headroom.py --episodes 20

In each of the first rounds, random changes of the far-sighted plan are tried: another placement,
prefetch or retention of one UE, or a part of a share for another UE. Each change is played to the
end of the look-ahead, with the far-sighted planner in the rounds after it and the actual future
draws, and the best change so far is kept. So this policy is clairvoyant, and no agent can expect
the same gain. The script prints mean latencies, and a bootstrap interval of the difference.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from gymnasium.utils import seeding
from tqdm import tqdm

from mjoa_gym import Instance, Plan, Scenario, evaluate
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.envs.actions.plan import PlanView
from mjoa_gym.evaluation.statistics import change
from mjoa_gym.planners import planner_of
from mjoa_gym.planners.far_sighted import placements_of, up_to_size
from mjoa_gym.world.batch import Batch

PARTS = (0.1, 0.3, 0.6)
"""Fractions of a share that are given to another UE."""
PATIENCE = 1.3
"""Changes that make a round this many times as long are not played."""
ALL = np.ones(1, np.bool_)


class Episode:
    """One environment, played with plans; its state can be saved and restored."""

    def __init__(self, scenario: Scenario, planner: str, seed: int) -> None:
        self.batch, self.view = Batch(scenario, True, 1), PlanView(scenario, True)
        self.planner = planner_of(planner)
        self.batch.seed(0, seeding.np_random(seed)[0])
        self.batch.begin(ALL)

    def step(self, plan: Plan) -> float:
        """Play a round; return its weighted mean latency in seconds."""
        weights = self.batch.state.population.weight[0].copy()
        action = self.view.single(self.view.encode(plan))
        decision, _ = self.view.decode(action, self.batch.state, ALL)
        outcome = self.batch.play(decision, ALL, endless=True)
        return float(np.average(outcome.latency_s[0], weights=weights))

    def rest(self, rounds: int) -> float:
        """Let the planner play up to `rounds` rounds; return the sum of their latencies."""
        left = int(self.batch.scenario.rounds - self.batch.state.round[0])
        return sum(
            self.step(self.planner(self.batch.instance(0))) for _ in range(min(left, rounds))
        )


def changed(instance: Instance, plan: Plan, rng: np.random.Generator) -> Plan:
    """Return a plan with one random change."""
    placements, prefetch, retain = (
        [
            np.zeros_like(own) if rows is None else rows[i].copy()
            for i, own in enumerate(plan.placements)
        ]
        for rows in (plan.placements, plan.prefetch, plan.retain)
    )
    shares = plan.bandwidth_share.copy(), plan.compute_share.copy()
    i, j = rng.integers(instance.n_ues, size=2)
    on_menu = placements_of(instance)[i]
    rows = np.concatenate([on_menu, up_to_size(instance.ues[i].dnn)])
    kind = int(rng.integers(5))
    if kind == 0:
        placements[i] = on_menu[rng.integers(len(on_menu))].copy()
    elif kind < 3:
        (prefetch, retain)[kind - 1][i] = rows[rng.integers(len(rows))].copy()
    else:
        given = rng.choice(PARTS) * shares[kind - 3][i]
        shares[kind - 3][i] -= given
        shares[kind - 3][j] += given
    prefetch = [marks & (1 - own) for marks, own in zip(prefetch, placements, strict=True)]
    return Plan(placements, *shares, prefetch, None if plan.retain is None else retain)


def best_change(
    episode: Episode, plan: Plan, tries: int, ahead: int, rng: np.random.Generator
) -> Plan:
    """Return the best plan found, from changes that are tried one after the other."""
    state, instance = deepcopy(episode.batch.state), episode.batch.instance(0)
    limit = PATIENCE * evaluate(instance, plan).mean()
    least = episode.step(plan) + episode.rest(ahead)
    for _ in range(tries):
        trial = changed(instance, plan, rng)
        if evaluate(instance, trial).mean() <= limit:
            episode.batch.state = deepcopy(state)
            total = episode.step(trial) + episode.rest(ahead)
            if total < least:
                least, plan = total, trial
    episode.batch.state = state
    return plan


def main(argv: list[str] | None = None) -> int:
    """Play, search, print."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--scenario", default="default", help="name, or a YAML file")
    add("--planner", default="far-sighted", help="(%(default)s)")
    add("--episodes", type=int, default=20, help="(%(default)s)")
    add("--seed", type=int, default=700_000, help="seed of the first episode (%(default)s)")
    add("--rounds", type=int, default=3, help="rounds in which changes are tried (%(default)s)")
    add("--tries", type=int, default=60, help="changes tried in each round (%(default)s)")
    add("--ahead", type=int, default=5, help="rounds of look-ahead (%(default)s)")
    args = parser.parse_args(argv)
    scenario, found = Scenario.of(args.scenario), []
    for seed in tqdm(range(args.seed, args.seed + args.episodes), unit="episode"):
        usual = Episode(scenario, args.planner, seed).rest(scenario.rounds)
        episode, rng, total = (
            Episode(scenario, args.planner, seed),
            np.random.default_rng(seed),
            0.0,
        )
        for _ in range(min(args.rounds, scenario.rounds)):
            plan = episode.planner(episode.batch.instance(0))
            total += episode.step(best_change(episode, plan, args.tries, args.ahead, rng))
        found.append((usual, total + episode.rest(scenario.rounds)))
    usual_s, clairvoyant_s = np.array(found).T / scenario.rounds
    gained = change(clairvoyant_s[None], usual_s)
    print(
        f"{args.planner}: {1e3 * usual_s.mean():.1f} ms; with the changes "
        f"{1e3 * clairvoyant_s.mean():.1f} ms, {100 * gained.value:+.2f} % "
        f"[{100 * gained.low:+.2f}, {100 * gained.high:+.2f}]"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
