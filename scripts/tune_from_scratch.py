"""Search for hyper-parameters of rows of `configs/from_scratch.yaml`, with as many trials for each.

    python scripts/tune_from_scratch.py --rows ppo-shares-outlook --trials 10 --jobs 2
    python scripts/train_from_scratch.py --config configs/tuned.yaml --runs runs/tuned \
        --out results/tuned --pages docs/learning.md

The first trial has the row's own settings, the others draw from the ranges in
`configs/tuning.yaml`. A trial trains with a seed of its own. It is judged on training episodes that
no agent trains with, so the validation episodes of the second command are new to the settings that
are chosen. These are written to `configs/tuned.yaml`, and all trials to `results/tuning`. If the
search is stopped, run the same command again to continue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from tqdm import tqdm

from agents.training.config import TrainingConfig, new_config, short_name
from agents.training.run import RunOptions, claim, train
from agents.training.validation import score
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write, yaml_mapping
from mjoa_gym.validation import choice, count
from scripts.train_from_scratch import arguments_in, read_rows

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
SEED = 10
"""Seed of all trials; rows train with smaller ones."""
FIRST_EPISODE = 600_000
"""Seed of the first episode on which trials are judged."""
REWARD = "reward.json"
HEADER = ("Agent", "Environment", "Trials", "Steps", "Own settings", "Best", "Settings of the best")


class Trial(NamedTuple):
    """One draw of hyper-parameters for a row in an environment."""

    row: str
    env_id: str
    number: int  # 0 has the row's own settings
    drawn: dict[str, Any]  # what differs from these
    config: TrainingConfig

    @property
    def name(self) -> str:
        """The name of the trial's folder."""
        return f"{self.row}-{short_name(self.env_id)}-trial{self.number}"


def draw(ranges: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Draw one value from each range; trial 0 draws nothing."""
    if number == 0:
        return {}
    generator = np.random.default_rng(number)
    found = {}
    for name, values in ranges.items():
        if isinstance(values, Mapping):
            low, high = np.log([values["low"], values["high"]])
            found[name] = float(f"{np.exp(generator.uniform(low, high)):.2g}")
        else:
            found[name] = values[generator.integers(len(values))]
    return found


def trials_of(
    given: dict[str, Any], tuning: dict[str, Any], number: int, timesteps: float
) -> list[Trial]:
    """Return the trials of all rows in all environments."""
    found = []
    for row, settings in given["rows"].items():
        algorithm = choice("algorithm", settings["algorithm"], tuning["algorithms"])
        ranges = tuning["algorithms"][algorithm]
        for env_id, common in given["settings"].items():
            own = arguments_in(env_id, common, settings)
            for k in range(number):
                drawn = draw(ranges | tuning["environments"].get(env_id, {}), k)
                config = new_config(env_id=env_id, seed=SEED, n_timesteps=timesteps, **own | drawn)
                found.append(Trial(row, env_id, k, drawn, config))
    return found


def judged(trial: Trial, runs: Path, episodes: int) -> float:
    """Train and judge a trial, unless that is done; return its reward."""
    folder = runs / trial.name
    claim(folder, trial.config)
    file = folder / REWARD
    if not file.is_file():
        options = RunOptions(trial.config.n_timesteps, 0, tensorboard=False, progress=False)
        agent = train(trial.config, folder, options)
        reward = score(agent, trial.config.setting, episodes, FIRST_EPISODE).reward
        write(file, json.dumps(reward))
    return float(json.loads(file.read_text("utf-8")))


Results = dict[tuple[str, str], list[tuple[float, Trial]]]
"""Rewards and trials, in the order of the trials' numbers, by row and environment."""


def best_of(results: list[tuple[float, Trial]]) -> tuple[float, Trial]:
    """Return the greatest reward, and the first trial that has it."""
    return max(results, key=itemgetter(0))


def tuned(given: dict[str, Any], results: Results) -> str:
    """Return the file of the rows with the best settings."""
    rows = {
        row: settings | {
            "title": f"{settings['title']}, tuned",
            "by_environment": {
                env_id: best_of(results[row, env_id])[1].drawn for env_id in given["settings"]
            },
        }
        for row, settings in given["rows"].items()
    }  # fmt: skip
    plain = json.loads(json.dumps(given | {"rows": rows}))  # without references to shared parts
    text = yaml.safe_dump(plain, sort_keys=False, width=100)
    return "# Rows as in from_scratch.yaml, written by scripts/tune_from_scratch.py.\n" + text


def table(given: dict[str, Any], results: Results) -> Table:
    """Return what the trials found, one line for each row and environment."""
    found = []
    for (row, env_id), own in results.items():
        reward, best = best_of(own)
        drawn = ", ".join(f"{name} {value}" for name, value in best.drawn.items())
        found.append(
            (given["rows"][row]["title"], env_id.split("/")[1], str(len(own)),
             f"{best.config.n_timesteps:,}", f"{own[0][0]:.3f}", f"{reward:.3f}",
             drawn or "its own")
        )  # fmt: skip
    return Table("", HEADER, found)


def main(argv: list[str] | None = None) -> int:
    """Run all trials, and write what was found."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--config", type=Path, default=CONFIGS / "from_scratch.yaml", help="file of the rows")
    add("--ranges", type=Path, default=CONFIGS / "tuning.yaml", help="file of the ranges")
    add("--rows", nargs="+", metavar="ROW", help="rows to tune (all)")
    add("--trials", type=int, default=10, help="trials of each row in each environment")
    add("--timesteps", type=float, help="steps of a trial (the file's)")
    add("--episodes", type=int, default=50, help="episodes that judge a trial (%(default)s)")
    add("--jobs", type=int, default=1, help="processes (%(default)s)")
    add("--runs", type=Path, default=Path("runs/tuning"), help="folder of the trials (%(default)s)")
    add("--out", type=Path, default=ROOT / "results" / "tuning", help="results folder")
    add("--tuned", type=Path, default=CONFIGS / "tuned.yaml", help="file that gets the best rows")
    args = parser.parse_args(argv)
    given = read_rows(args.config, args.rows)
    tuning = yaml_mapping(args.ranges.read_text("utf-8"), args.ranges)
    timesteps = args.timesteps or given["timesteps"]
    trials = trials_of(given, tuning, count("trials", args.trials), timesteps)
    with ProcessPoolExecutor(count("jobs", args.jobs), get_context("spawn")) as pool:
        waiting = [pool.submit(judged, trial, args.runs, args.episodes) for trial in trials]
        rewards = [each.result() for each in tqdm(waiting, unit="trial")]
    results: Results = {}
    for trial, reward in zip(trials, rewards, strict=True):
        results.setdefault((trial.row, trial.env_id), []).append((reward, trial))
    write(args.tuned, tuned(given, results))
    lines = [
        json.dumps({"trial": trial.name, "reward": reward, **trial.drawn})
        for trial, reward in zip(trials, rewards, strict=True)
    ]
    write(args.out / "trials.jsonl", "\n".join(lines) + "\n")
    text = table(given, results).markdown()
    write(args.out / "table.md", text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
