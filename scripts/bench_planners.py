"""Measure planners against each other, side by side in one run on one thread.

All seconds are processor seconds. Planners take turns on the same rounds, so that other work of the
machine affects all of them equally. Each has planned a round before. Do not run anything else at
the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import gymnasium as gym

from mjoa_gym import decode_observation
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.decision_time import first_instance
from mjoa_gym.evaluation.episodes import FIRST_SEED
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.evaluation.table import Table
from mjoa_gym.model.instance import Instance
from mjoa_gym.planners import plan_many, plan_with
from mjoa_gym.world.scenario import Scenario

ALONE = ("dads-serial", "mjoa-mu", "mjoa-mu-prefetch", "far-sighted")
MANY = 1024


def cold_start_rounds(scenario: Scenario, n_ues: int, rounds: int) -> Iterator[Instance]:
    """Yield first rounds of a scenario."""
    for episode in range(rounds):
        yield first_instance(scenario.with_changes(n_ues=n_ues), FIRST_SEED + episode)


def streaming_rounds(scenario: Scenario, n_ues: int, rounds: int) -> Iterator[Instance]:
    """Yield rounds of an episode that MJOA-MU plays, so with parameters on the server."""
    env = gym.make("MJOA/Streaming-v1", scenario=scenario, n_ues=n_ues, rounds=rounds)
    observation, _ = env.reset(seed=FIRST_SEED)
    for _ in range(rounds):
        instance = decode_observation(observation, env.unwrapped.scenario)
        yield instance
        plan = plan_with("mjoa-mu", instance)
        observation, *_ = env.step(env.unwrapped.view.encode(plan))


def seconds_of(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Return the seconds of a call."""
    start = clock()
    call()
    return clock() - start


def alone(
    rounds: Callable[[int, int], Iterator[Instance]], counts: Sequence[int], n: int, caption: str
) -> Table:
    """Return milliseconds of a plan, and their ratio to those of the first planner."""
    rows = []
    for n_ues in bar(counts, desc=caption, leave=False):
        spent = dict.fromkeys(ALONE, 0.0)
        for k, instance in enumerate(rounds(n_ues, n + 1)):
            _ = instance.packed  # all planners need it
            for name in ALONE:
                seconds = seconds_of(partial(plan_with, name, instance))
                spent[name] += seconds if k else 0.0
        base = spent[ALONE[0]]
        cells = [f"{1e3 * spent[p] / n:.1f} ({spent[p] / base:.1f})" for p in ALONE]
        rows.append((f"{n_ues} UEs", *cells))
    return Table(f"{caption}: ms a plan (× {ALONE[0]})", ("", *ALONE), rows)


def many(scenario: Scenario, counts: int) -> Table:
    """Time MJOA-MU on many rounds at once, against one after the other, in wall-clock seconds."""
    instances = list(cold_start_rounds(scenario, 5, counts))
    plan_many("mjoa-mu", instances[:8], threads=2)
    base = seconds_of(lambda: [plan_with("mjoa-mu", i) for i in instances], time.perf_counter)
    rows = [("one by one", f"{1e3 * base / counts:.2f}", "1.00")]
    for threads in (1, 2):
        call = partial(plan_many, "mjoa-mu", instances, threads=threads)
        seconds = seconds_of(call, time.perf_counter)
        label = f"`plan_many`, {threads} thread{'s' * (threads > 1)}"
        rows.append((label, f"{1e3 * seconds / counts:.2f}", f"{seconds / base:.2f}"))
    return Table(f"{counts} rounds of 5 UEs", ("", "ms a plan", "× one by one"), rows)


def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    parser = command_line(__doc__)
    parser.add_argument("--scenario", default="default", help="a name, or a YAML file")
    parser.add_argument("--ues", type=int, nargs="+", default=[5, 10, 20, 50],
                        help="numbers of UEs (default: 5 10 20 50)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=12, help="rounds per number (%(default)s)")
    parser.add_argument("--many", type=int, default=MANY, help="rounds at once (%(default)s)")
    args = parser.parse_args(argv)
    print("; ".join(f"{key} {value}" for key, value in machine().items()))
    scenario = Scenario.load(args.scenario)
    tables = [
        alone(partial(cold_start_rounds, scenario), args.ues, args.rounds, "Cold start"),
        alone(partial(streaming_rounds, scenario), args.ues, args.rounds, "Streaming"),
        many(scenario, args.many),
    ]
    for table in tables:
        print(f"\n### {table.caption}\n\n{table.markdown()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
