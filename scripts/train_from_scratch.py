"""Train algorithms from scratch, several seeds each, and say what they reach: a table and curves.

    python scripts/train_from_scratch.py --jobs 2
    python scripts/train_from_scratch.py --rows ppo-shares-outlook --timesteps 5e5 --out runs/longer

`configs/from_scratch.yaml` lists the rows. The same command goes on where it was stopped; finished
runs are only read. The folder gets each run's log and configuration, `table.md` and a figure of
learning curves for each environment.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from agents.learning_curves import LOG, half_width, reward_figure
from agents.training.config import TrainingConfig, new_config
from agents.training.run import RUN, RunOptions, train
from agents.training.validation import Score, planner_score
from mjoa_gym import Scenario
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.plots import encoded
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write, yaml_mapping
from mjoa_gym.validation import choice, count

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "configs" / "from_scratch.yaml"
PLANNERS = ("dads-serial", "mjoa-mu")
"""Yardsticks; the last is what 100 % is."""
POINTS = 5
"""How many times a run is validated."""
HEADER = ("Agent", "Environment", "Seeds", "Steps", "Reward", "Of MJOA-MU's", "Minutes")


def configs(given: dict[str, Any], timesteps: float) -> dict[str, TrainingConfig]:
    """Every run's configuration, by the name of its folder."""
    found = {}
    for row, settings in given["rows"].items():
        for env_id, added in given["env_kwargs"].items():
            own = {key: value for key, value in settings.items() if key != "title"}
            own["env_kwargs"] = own["env_kwargs"] | added
            for seed in range(given["seeds"]):
                name = f"{row}-{short_of(env_id)}-seed{seed}"
                found[name] = new_config(env_id=env_id, seed=seed, n_timesteps=timesteps, **own)
    return found


def train_one(name: str, config: TrainingConfig, runs: Path, episodes: int) -> None:
    """Train one run, unless it is finished."""
    if (runs / name / "done").is_file():
        return
    every = -(-config.n_timesteps // POINTS)
    train(config, runs / name, RunOptions(every, episodes, tensorboard=False, progress=False))
    (runs / name / "done").touch()
    for checkpoint in (runs / name).glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def last_rows(out: Path, name: str) -> tuple[float, float]:
    """The reward at a run's end, and its minutes."""
    rows = list(csv.DictReader((out / name / LOG).read_text("utf-8").splitlines()))
    return float(rows[-1]["reward"]), sum(float(row["seconds"]) for row in rows) / 60.0


def short_of(env_id: str) -> str:
    """An environment's name in folders."""
    return env_id.split("/")[1].split("-")[0].lower()


def table(given: dict[str, Any], out: Path, planned: dict[str, dict[str, Score]]) -> Table:
    """Rewards at the end of training, with intervals over seeds, beside the planners'."""
    found = []
    for env_id in given["env_kwargs"]:
        short = env_id.split("/")[1]
        best = planned[env_id][PLANNERS[-1]].reward
        for planner in PLANNERS:
            own = planned[env_id][planner].reward
            found.append((f"`{planner}`", short, "", "", f"{own:.3f}", f"{own / best:.0%}", ""))
        for row, settings in given["rows"].items():
            names = [f"{row}-{short_of(env_id)}-seed{k}" for k in range(given["seeds"])]
            names = [name for name in names if (out / name / LOG).is_file()]
            if not names:
                continue
            rewards, minutes = np.array([last_rows(out, name) for name in names]).T
            half = float(half_width(rewards[:, None])[0])
            steps = yaml_mapping((out / names[0] / RUN).read_text("utf-8"), out)["n_timesteps"]
            found.append(
                (settings["title"], short, str(len(names)), f"{steps:,}",
                 f"{rewards.mean():.3f} ± {half:.3f}", f"{rewards.mean() / best:.0%}",
                 f"{minutes.mean():.1f}")
            )  # fmt: skip
    return Table("", HEADER, found)


def yardsticks(env_id: str, episodes: int, runs: Path) -> dict[str, Score]:
    """The planners' scores, kept in the folder of runs."""
    setting, cache = Setting(env_id, Scenario()), runs / "validation.json"
    return {planner: planner_score(planner, setting, episodes, cache) for planner in PLANNERS}


def keep(runs: Path, out: Path, name: str) -> None:
    """Copy what is read of a run."""
    (out / name).mkdir(parents=True, exist_ok=True)
    for file in (LOG, RUN):
        shutil.copyfile(runs / name / file, out / name / file)


def main(argv: list[str] | None = None) -> int:
    """Train what is missing, and write the results; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    given = yaml_mapping(FILE.read_text("utf-8"), FILE)
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--rows", nargs="+", default=list(given["rows"]), metavar="ROW", help="some of them")
    add("--timesteps", type=float, default=given["timesteps"], help="of a run (%(default)s)")
    add("--seeds", type=int, default=given["seeds"], help="of each row (%(default)s)")
    add("--episodes", type=int, default=50, help="of a validation (%(default)s)")
    add("--jobs", type=int, default=1, help="processes (%(default)s)")
    add("--runs", type=Path, default=Path("runs/from_scratch"), help="folder of runs (%(default)s)")
    add("--out", type=Path, default=ROOT / "results" / "from_scratch", help="of the results")
    add("--only", metavar="RUN", help="train this run and stop")
    args = parser.parse_args(argv)
    given["rows"] = {row: given["rows"][choice("row", row, given["rows"])] for row in args.rows}
    given["seeds"] = count("seeds", args.seeds)
    wanted = configs(given, args.timesteps)
    if args.only:
        train_one(args.only, wanted[args.only], args.runs, args.episodes)
        return 0
    args.runs.mkdir(parents=True, exist_ok=True)
    cache = args.runs / "validation.json"
    planned = {
        env_id: {
            p: planner_score(p, Setting(env_id, Scenario()), args.episodes, cache) for p in PLANNERS
        }
        for env_id in given["env_kwargs"]
    }

    def call(name: str) -> int:
        return subprocess.call([sys.executable, __file__, *argv, "--only", name])

    with ThreadPoolExecutor(count("jobs", args.jobs)) as pool:
        statuses = list(tqdm(pool.map(call, wanted), total=len(wanted), unit="run"))
    finished = [name for name, status in zip(wanted, statuses, strict=True) if status == 0]
    for name in finished:
        keep(args.runs, args.out, name)
    write(args.out / "table.md", table(given, args.out, planned).markdown() + "\n")
    for env_id in given["env_kwargs"]:
        short = short_of(env_id)
        levels = {planner: own.reward for planner, own in planned[env_id].items()}
        figure = reward_figure(args.out, f"*-{short}-seed*", levels)
        if figure is not None:
            write(args.out / f"{short}.svg", encoded(figure, "svg"))
    print((args.out / "table.md").read_text("utf-8"))
    return max(statuses)


if __name__ == "__main__":
    raise SystemExit(run(main))
