"""Train PPO or DQN on one of the environments; run the same command again to continue a run.

    python scripts/train.py --algo ppo --env MJOA/Streaming-v1
    python scripts/train.py --algo ppo --env MJOA/Streaming-v1 --seeds 0 1 2 3 4 --jobs 2

Hyper-parameters are in `configs/agents/`, in RL-Zoo's syntax. A run's folder has its log, its
checkpoint, events for TensorBoard if that is installed, and at the end the agent with its card.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mjoa_gym.cli.ending import STOPPED, command_line, run
from mjoa_gym.validation import count

if TYPE_CHECKING:
    from agents.training.config import TrainingConfig


def arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    from agents.training.config import ALGORITHMS

    parser = command_line(__doc__)
    add = parser.add_argument
    add("--algo", choices=tuple(ALGORITHMS), default="ppo", help="algorithm (%(default)s)")
    add("--env", default="MJOA/Streaming-v1", help="environment (%(default)s)")
    add("--scenario", help="name or YAML file of a scenario (the default one)")
    add("--n-ues", type=int, help="UEs in a round (the scenario's)")
    add("--timesteps", type=float, help="steps of all environments together (the file's)")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other hyper-parameters")
    add("--from-scratch", action="store_true", help="do not clone a planner before PPO")
    add("--seeds", "--seed", nargs="+", type=int, default=[0], help="training seeds (0)")
    add("--jobs", type=int, default=1, help="processes for several seeds (%(default)s)")
    add("--ray", action=argparse.BooleanOptionalAction, default=False,
        help="run the seeds on a Ray cluster instead")  # fmt: skip
    add("--out", type=Path, default=Path("runs"), help="folder of runs (%(default)s)")
    add("--every", type=int, default=40_000, help="steps between checkpoints (%(default)s)")
    add("--episodes", type=int, default=100, help="validation episodes, 0 for none (%(default)s)")
    add("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(argv)


def config_of(args: argparse.Namespace, seed: int) -> TrainingConfig:
    """Return the configuration of one seed's run."""
    from agents.training.config import load_config

    changes: dict[str, Any] = {}
    for pair in args.set:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ValueError(f"--set {pair}: must be KEY=VALUE")
        changes[key] = yaml.safe_load(value)
    if args.timesteps is not None:
        changes["n_timesteps"] = args.timesteps
    config = load_config(args.algo, args.env, seed, args.scenario, **changes)
    if args.n_ues is not None:
        config.env_kwargs["n_ues"] = args.n_ues
    return replace(config, cloning=None) if args.from_scratch else config


def run_one(args: argparse.Namespace, seed: int) -> int:
    """Train with one seed; return the exit status."""
    from agents.training.config import short_name
    from agents.training.run import Interrupted, RunOptions, train

    folder = args.out / f"{args.algo}-{short_name(args.env)}-seed{seed}"
    tensorboard = importlib.util.find_spec("tensorboard") is not None
    options = RunOptions(args.every, args.episodes, tensorboard, not args.quiet)
    try:
        train(config_of(args, seed), folder, options)
    except Interrupted:
        print(
            f"stopped and saved in {folder}: run the same command again to continue",
            file=sys.stderr,
        )
        return STOPPED
    except OSError as error:
        raise OSError(
            f"cannot write to {folder}: {error}. The last checkpoint is intact: run the same "
            "command again to continue"
        ) from error
    print(f"{folder / 'agent'} holds the trained agent")
    return 0


def run_several(args: argparse.Namespace, argv: list[str]) -> int:
    """Run the same command for every seed in its own process; return the worst exit status.

    There are `--jobs` processes at once, or all seeds are tasks of a Ray cluster (a local one if
    there is none).
    """
    command = [sys.executable, __file__, *argv, "--no-ray", *["--quiet"] * (args.jobs > 1)]

    def call(seed: int) -> int:
        return subprocess.call([*command, "--seeds", str(seed)])

    if not args.ray:
        with ThreadPoolExecutor(args.jobs) as pool:
            return max(pool.map(call, args.seeds))
    import ray

    ray.init(ignore_reinit_error=True, include_dashboard=False)
    task = ray.remote(num_cpus=1)(call)
    return int(max(ray.get([task.remote(seed) for seed in args.seeds])))


def main(argv: list[str] | None = None) -> int:
    """Train; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    args = arguments(argv)
    count("jobs", args.jobs)
    count("every", args.every)
    if args.ray or len(args.seeds) > 1:
        return run_several(args, argv)
    return run_one(args, args.seeds[0])


if __name__ == "__main__":
    raise SystemExit(run(main))
