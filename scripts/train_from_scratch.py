"""Train algorithms from scratch, with several seeds each, and report a table and learning curves.

    python scripts/train_from_scratch.py --jobs 2
    python scripts/train_from_scratch.py --rows ppo-shares-outlook --timesteps 5e5 \
        --runs runs/longer --out runs/longer/results

`configs/from_scratch.yaml` lists the rows. If it is stopped, run the same command again to
continue; finished runs are only read. The folder gets each run's log and configuration, `table.md`
and a figure of learning curves for each environment. `--pages` puts the table between the markers
of a page, which have the name of the file of the rows.
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

from agents.bidders import Bidder, EqualBids
from agents.learning_curves import LOG, half_width, reward_figure
from agents.training.config import TrainingConfig, new_config, short_name
from agents.training.run import RUN, RunOptions, claim, train
from agents.training.validation import Score, planner_score, score
from mjoa_gym import Scenario
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.page import update_pages
from mjoa_gym.evaluation.plots import encoded
from mjoa_gym.evaluation.table import Table
from mjoa_gym.files import write, yaml_mapping
from mjoa_gym.validation import choice, count

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "configs" / "from_scratch.yaml"
PLANNERS = {
    "MJOA/ColdStart-v1": ("dads-serial", "mjoa-mu"),
    "MJOA/Streaming-v1": ("dads-serial", "mjoa-mu", "mjoa-mu-prefetch", "far-sighted"),
}
"""Reference planners; MJOA-MU's reward is 100 %."""
DONE = "done"
"""A file that marks a finished run."""
NOT_ARGUMENTS = ("title", "by_environment")
"""Keys of a row that say what to call it, and what else holds in one of the environments."""
POINTS = 5
"""Number of validations of a run."""
HEADER = ("Agent", "Environment", "Seeds", "Steps", "Reward", "Of MJOA-MU's", "Minutes")


def read_rows(file: Path, names: list[str] | None) -> dict[str, Any]:
    """Read a file of rows, with the named rows or all; a ValueError names an unknown row."""
    given = yaml_mapping(file.read_text("utf-8"), file)
    rows = given["rows"]
    given["rows"] = {name: rows[choice("row", name, rows)] for name in names or rows}
    return given


def arguments_in(env_id: str, common: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's arguments in an environment with arguments that are `common` to all rows."""
    own = {key: value for key, value in row.items() if key not in NOT_ARGUMENTS}
    return common | own | row.get("by_environment", {}).get(env_id, {})


def configs(given: dict[str, Any], timesteps: float) -> dict[str, TrainingConfig]:
    """Return every run's configuration, by the name of its folder."""
    found = {}
    for row, settings in given["rows"].items():
        for env_id, common in given["settings"].items():
            own = arguments_in(env_id, common, settings)
            for seed in range(given["seeds"]):
                name = f"{row}-{short_name(env_id)}-seed{seed}"
                found[name] = new_config(env_id=env_id, seed=seed, n_timesteps=timesteps, **own)
    return found


def train_one(name: str, config: TrainingConfig, runs: Path, episodes: int) -> None:
    """Train one run, unless it is finished; raise a ValueError for another configuration."""
    folder = runs / name
    claim(folder, config)
    if (folder / DONE).is_file():
        return
    every = -(-config.n_timesteps // POINTS)
    command = f"python scripts/train_from_scratch.py --only {name}"
    train(config, folder, RunOptions(every, episodes, False, False, command))
    (folder / DONE).touch()
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def last_rows(out: Path, name: str) -> tuple[float, float]:
    """Return the reward at a run's end, and its minutes."""
    rows = list(csv.DictReader((out / name / LOG).read_text("utf-8").splitlines()))
    return float(rows[-1]["reward"]), sum(float(row["seconds"]) for row in rows) / 60.0


def table(given: dict[str, Any], out: Path, planned: dict[str, dict[str, Score]]) -> Table:
    """Return rewards at the end of training, with intervals over seeds, and the planners'."""
    found = []
    for env_id in given["settings"]:
        short = env_id.split("/")[1]
        best = planned[env_id]["mjoa-mu"].reward
        for name, score_of in planned[env_id].items():
            title = name if name in BIDDERS else f"`{name}`"
            reward = f"{score_of.reward:.3f}"
            found.append((title, short, "", "", reward, f"{score_of.reward / best:.0%}", ""))
        for row, settings in given["rows"].items():
            names = [f"{row}-{short_name(env_id)}-seed{k}" for k in range(given["seeds"])]
            names = [name for name in names if (out / name / LOG).is_file()]
            if not names:
                continue
            rewards, minutes = np.array([last_rows(out, name) for name in names]).T
            spread = f" ± {half_width(rewards[:, None])[0]:.3f}" if len(names) > 1 else ""
            steps = yaml_mapping((out / names[0] / RUN).read_text("utf-8"), out)["n_timesteps"]
            found.append(
                (settings["title"], short, str(len(names)), f"{steps:,}",
                 f"{rewards.mean():.3f}{spread}", f"{rewards.mean() / best:.0%}",
                 f"{minutes.mean():.1f}")
            )  # fmt: skip
    return Table("", HEADER, found)


BIDDERS = {"equal bids, no learning": EqualBids, "random bids, no learning": Bidder}


def yardsticks(env_id: str, episodes: int, runs: Path) -> dict[str, Score]:
    """Return the scores of planners, cached in the folder of runs, and of non-learning agents."""
    setting, cache = Setting(env_id, Scenario()), runs / "validation.json"
    bidders = {name: score(own(), setting, episodes) for name, own in BIDDERS.items()}
    names = PLANNERS[env_id]
    return bidders | {name: planner_score(name, setting, episodes, cache) for name in names}


def keep(runs: Path, out: Path, name: str) -> None:
    """Copy the files of a run that are read later."""
    (out / name).mkdir(parents=True, exist_ok=True)
    for file in (LOG, RUN):
        shutil.copyfile(runs / name / file, out / name / file)


def main(argv: list[str] | None = None) -> int:
    """Train what is missing, and write the results; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--config", type=Path, default=FILE, help="file of the rows (configs/from_scratch.yaml)")
    add("--rows", nargs="+", metavar="ROW", help="rows to train (all)")
    add("--timesteps", type=float, help="steps of a run (the file's)")
    add("--seeds", type=int, help="seeds of each row (the file's)")
    add("--episodes", type=int, default=50, help="episodes of a validation (%(default)s)")
    add("--jobs", type=int, default=1, help="processes (%(default)s)")
    add("--runs", type=Path, default=Path("runs/from_scratch"), help="folder of runs (%(default)s)")
    add("--out", type=Path, default=ROOT / "results" / "from_scratch", help="results folder")
    add("--pages", type=Path, nargs="+", default=[], metavar="FILE", help="pages with the table")
    add("--report", action="store_true", help="train nothing; report on the finished runs")
    add("--only", metavar="RUN", help="train this run and stop")
    args = parser.parse_args(argv)
    given = read_rows(args.config, args.rows)
    given["seeds"] = count("seeds", args.seeds or given["seeds"])
    wanted = configs(given, args.timesteps or given["timesteps"])
    if args.only:
        train_one(args.only, wanted[args.only], args.runs, args.episodes)
        return 0
    args.runs.mkdir(parents=True, exist_ok=True)
    planned = {env_id: yardsticks(env_id, args.episodes, args.runs) for env_id in given["settings"]}

    def call(name: str) -> int:
        if (args.runs / name / DONE).is_file():  # then this only checks the configuration
            train_one(name, wanted[name], args.runs, args.episodes)
            return 0
        return subprocess.call([sys.executable, __file__, *argv, "--only", name])

    if args.report:
        wanted = {name: own for name, own in wanted.items() if (args.runs / name / DONE).is_file()}
    with ThreadPoolExecutor(count("jobs", args.jobs)) as pool:
        statuses = list(tqdm(pool.map(call, wanted), total=len(wanted), unit="run"))
    finished = [name for name, status in zip(wanted, statuses, strict=True) if status == 0]
    for name in finished:
        keep(args.runs, args.out, name)
    text = table(given, args.out, planned).markdown()
    write(args.out / "table.md", text + "\n")
    update_pages(args.pages, {args.config.stem.replace("_", "-"): text})
    for env_id in given["settings"]:
        short = short_name(env_id)
        levels = {planner: own.reward for planner, own in planned[env_id].items()}
        figure = reward_figure(args.out, f"*-{short}-seed*", levels)
        if figure is not None:
            write(args.out / f"{short}.svg", encoded(figure, "svg"))
    print(text)
    return max(statuses)


if __name__ == "__main__":
    raise SystemExit(run(main))
