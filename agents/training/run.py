"""A training run, which can be interrupted and resumed."""

from __future__ import annotations

import csv
import json
import random
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecMonitor
from tqdm import tqdm

from agents import cards
from agents.learned_agent import LearnedAgent, outlook_of
from agents.training import checkpoints
from agents.training.config import TrainingConfig, algorithm_arguments, wrapped
from agents.training.validation import Score, planner_score, score
from agents.training.warm_start import follow_up, warm_start
from mjoa_gym.envs.adapters.stable_baselines3 import make_vec_env
from mjoa_gym.evaluation.agent import Agent
from mjoa_gym.evaluation.machine import machine
from mjoa_gym.evaluation.saved_model import model_agent

SEEDS_PER_RUN = 5_000
"""Seeds of the environments of run s start at s times this number."""
LOG_COLUMNS = (
    "timesteps", "seconds", "steps_per_second", "training_reward", "latency_s", "reward",
    "against_local", "against_mjoa_mu",
)  # fmt: skip
RUN, LOG, FINAL = "run.yaml", "log.csv", "agent"


class Interrupted(Exception):
    """The user has stopped the run; the last checkpoint is written."""


@dataclass(frozen=True)
class RunOptions:
    """Settings that do not change a run's result."""

    every: int = 40_000  # steps between two checkpoints and validations
    episodes: int = 100  # episodes of a validation; 0 for none
    tensorboard: bool = True  # whether to write events
    progress: bool = True  # whether to show a progress bar
    command: str | None = None  # repeats the run, for the card; default: `scripts/train.py`


def train(config: TrainingConfig, folder: Path, options: RunOptions | None = None) -> Agent:
    """Train, or continue training, until the configured number of steps.

    The folder gets `run.yaml`, `log.csv`, a checkpoint, TensorBoard's events, and at the end the
    agent with its card. For a stock algorithm, the library saves the model in its own format.

    Raises:
        ValueError: If the folder holds a run with another configuration.
        Interrupted: After SIGINT, when the state is saved.
        OSError: If a file cannot be written; the last checkpoint is intact then.
    """
    options = options or RunOptions()
    torch.set_num_threads(1)
    claim(folder, config)
    last = checkpoints.latest(folder)
    if last is None:
        model = _begin(config, folder, options)
    else:
        model = checkpoints.load(last, config.kind)
        if config.cloning is not None:
            follow_up(model, config, folder.parent, options.progress)
    _truncate(folder / LOG, model.num_timesteps)
    model.set_logger(configure(str(folder), ["tensorboard"] if options.tensorboard else []))
    if model.num_timesteps < config.n_timesteps:
        bar = tqdm(
            total=config.n_timesteps, initial=model.num_timesteps, unit="step", unit_scale=True,
            desc=f"{config.algorithm} seed {config.seed}", disable=not options.progress,
            mininterval=1.0,
        )  # fmt: skip
        with bar, Stop() as stop:
            model.learn(
                config.n_timesteps - model.num_timesteps,
                callback=Keeper(config, folder, options, bar, stop),
                reset_num_timesteps=False,
            )
        checkpoints.save(folder, model)
    agent = agent_of(model, config)
    if not isinstance(agent, LearnedAgent):
        model.save(folder / FINAL)
        return agent
    agent.card = {"name": folder.name} | agent.card
    if options.command is not None:
        agent.card["command"] = options.command
    agent.save(folder / FINAL)
    return agent


def agent_of(model: BaseAlgorithm, config: TrainingConfig) -> Agent:
    """Return the policy of a model as an agent; our own policies get a card."""
    if config.is_stock:
        return model_agent(model, config.setting)
    setting = config.setting
    policy: Any = model.policy
    scenario = f" --scenario {config.scenario}" if isinstance(config.scenario, str) else ""
    command = f"python scripts/train.py --algo {config.algorithm} --env {config.env_id}{scenario}"
    card = {
        "format": cards.FORMAT,
        "algorithm": config.algorithm,
        "environment": config.env_id,
        "action": config.env_kwargs["action"],
        "persists": setting.persists,
        "width": policy.width,
        "seed": config.seed,
        "timesteps": model.num_timesteps,
        "parameters": sum(p.numel() for p in policy.parameters()),
        "command": f"{command} --seed {config.seed}",
        "training": {
            "n_envs": config.n_envs,
            "env_kwargs": json.dumps(config.env_kwargs),
            **{key: str(value) for key, value in config.hyperparameters.items()},
            **{f"cloning_{key}": value for key, value in (config.cloning or {}).items()},
        },
        "versions": machine("stable-baselines3", "torch"),
        "scenario": setting.scenario.to_dict(),
    }
    outlook = outlook_of(config.env_kwargs["action"], setting.scenario, setting.persists)
    return LearnedAgent(policy, outlook, card)


def _begin(config: TrainingConfig, folder: Path, options: RunOptions) -> BaseAlgorithm:
    """Make a model at its first step."""
    random.seed(config.seed)
    np.random.seed(config.seed)  # noqa: NPY002 - what SB3 draws from
    torch.manual_seed(config.seed)
    envs = make_vec_env(
        config.env_id, config.n_envs, seed=config.seed * SEEDS_PER_RUN, threads=1,
        copies=int(config.hyperparameters.get("copies", 1)),
        **{"scenario": config.setting.scenario.to_dict()} | config.env_kwargs,
    )  # fmt: skip
    model = config.kind(
        env=wrapped(VecMonitor(envs), config), seed=config.seed, device="cpu",
        **algorithm_arguments(config),
    )  # fmt: skip
    if config.cloning is not None:
        warm_start(model, config, folder.parent, options.progress)
    return model


def claim(folder: Path, config: TrainingConfig) -> None:
    """Write the configuration to the folder, or compare it with the one in it.

    Raises:
        ValueError: If they differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps(asdict(config)))
    file = folder / RUN
    if not file.is_file():
        file.write_text(yaml.safe_dump(wanted, sort_keys=False), "utf-8")
        return
    found = yaml.safe_load(file.read_text("utf-8"))
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ValueError(
                f"{folder} holds a run with {key}={found.get(key)!r}, not {value!r}: "
                "continue with its settings, or choose another folder"
            )


def _truncate(log: Path, timesteps: int) -> None:
    """Drop the rows of a log after the checkpoint from which the run continues."""
    if not log.is_file():
        return
    lines = log.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines[1:] if int(line.split(",")[0]) <= timesteps]
    log.write_text("".join([lines[0], *kept]), "utf-8")


class Stop:
    """Turns the first SIGINT into a request to stop; the second one ends the program as usual."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Stop:
        self._usual = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._usual)

    def _ask(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._usual)
        tqdm.write("saving at the end of this update; press Ctrl-C again to stop at once")


class Keeper(BaseCallback):
    """Saves and validates at the start of roll-outs, and stops there if asked to."""

    def __init__(
        self, config: TrainingConfig, folder: Path, options: RunOptions, bar: tqdm, stop: Stop
    ) -> None:
        super().__init__()
        self.config, self.folder, self.options = config, folder, options
        self.setting = config.setting
        self.bar, self.stop = bar, stop
        self.said: dict[str, str] = {}
        self.mjoa_mu: Score | None = None
        self.since = time.perf_counter()
        self.before = 0

    def _on_training_start(self) -> None:
        self.before = self.num_timesteps = self.model.num_timesteps
        if self.options.episodes:
            self.agent = agent_of(self.model, self.config)
            cache = self.folder.parent / "validation.json"
            self.mjoa_mu = planner_score("mjoa-mu", self.setting, self.options.episodes, cache)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        steps = self.model.num_timesteps
        self.said["reward"] = f"{_recent_reward(self.model):.3f}"
        self.bar.set_postfix(self.said, refresh=False)
        self.bar.update(max(0, steps - self.bar.n))
        due = steps // self.options.every > self.before // self.options.every
        if due:
            self._validate(steps)
        if due or self.stop.asked:
            checkpoints.save(self.folder, self.model)
            self.before = steps
        if self.stop.asked:
            raise Interrupted

    def _on_training_end(self) -> None:
        self._validate(self.model.num_timesteps)

    def _validate(self, steps: int) -> None:
        """Append a row to the log, and to TensorBoard."""
        seconds = time.perf_counter() - self.since
        row: dict[str, float] = {
            "timesteps": steps,
            "seconds": seconds,
            "steps_per_second": (steps - self.before) / max(seconds, 1e-9),
            "training_reward": _recent_reward(self.model),
        }
        if self.mjoa_mu is not None:
            own = score(self.agent, self.setting, self.options.episodes)
            row |= {
                "latency_s": own.latency_s,
                "reward": own.reward,
                "against_local": own.latency_s / own.local_s - 1.0,
                "against_mjoa_mu": own.latency_s / self.mjoa_mu.latency_s - 1.0,
            }
            self.said["latency against mjoa-mu"] = f"{100 * row['against_mjoa_mu']:+.1f} %"
        _append(self.folder / LOG, row)
        for key, value in row.items():
            self.model.logger.record(f"mjoa/{key}", value)
        self.model.logger.dump(steps)
        self.since = time.perf_counter()


def _append(log: Path, row: dict[str, float]) -> None:
    fresh = not log.is_file()
    with open(log, "a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS, restval="", lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow({k: v if k == "timesteps" else f"{v:.6g}" for k, v in row.items()})


def _recent_reward(model: BaseAlgorithm) -> float:
    """Return the mean reward of the last finished episodes."""
    return float(safe_mean([episode["r"] for episode in model.ep_info_buffer or ()]))
