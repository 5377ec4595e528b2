"""Train RLlib's PPO on an environment, with several processes that collect experience.

On this machine:

    python scripts/train_rllib.py --iterations 5

On a cluster, install this package on every node. Run `ray start --head` on one of them, the command
that it prints on the others (`ray start --address=HEAD:6379`), and then on the first

    python scripts/train_rllib.py --address auto --env-runners 16

Ray protects a cluster with a token in `~/.ray/auth_token`, which all nodes must share
(`ray get-auth-token --generate` makes one).

The script needs the extra `rllib` in a separate virtual environment, because RLlib 2.60 requires
Gymnasium 1.2.2.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import time
import warnings
from typing import Any

from mjoa_gym.cli.ending import command_line, run

IDS = ("MJOA/ColdStart-v1", "MJOA/Streaming-v1")
WHO = "steps_by_process"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--env", choices=IDS, default=IDS[0], help="environment (%(default)s)")
    add("--scenario", help="a packaged scenario's name or a YAML file (default: the default one)")
    add("--ues", type=int, help="number of UEs (default: the scenario's)")
    add("--action", choices=("box", "multidiscrete"), default="multidiscrete",
        help="action view (%(default)s)")  # fmt: skip
    add("--iterations", type=int, default=3, help="PPO iterations (%(default)s)")
    add("--env-runners", type=int, default=2, help="processes that collect (%(default)s)")
    add("--envs", type=int, default=8, help="environments in each process (%(default)s)")
    add("--batch", type=int, default=2000, help="total steps of an iteration (%(default)s)")
    add("--lr", type=float, default=3e-4, help="learning rate (%(default)s)")
    add("--gamma", type=float, default=0.99, help="discount (%(default)s)")
    add("--seed", type=int, default=0)
    add("--address", help='running Ray cluster, "auto" on one of its nodes (default: none)')
    add("--cpus", type=int, default=2, help="CPUs for Ray without a cluster (%(default)s)")
    add("--checkpoint", metavar="DIR", help="write the trained algorithm there")
    return parser.parse_args(argv)


def create_env(settings: dict[str, Any]) -> Any:
    """Create the environment of one process; the function imports everything that it needs."""
    import gymnasium as gym

    import mjoa_gym  # noqa: F401 - registers the environments

    return gym.make(observation="flat", **settings)


def configuration(args: argparse.Namespace) -> Any:
    """Return PPO's configuration."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.tune.registry import register_env

    class CountByProcess(RLlibCallback):  # type: ignore[misc]
        def on_sample_end(
            self, *, env_runner: Any, metrics_logger: Any, samples: Any, **_: Any
        ) -> None:
            """Log the number of steps that each process has collected."""
            who = f"worker {env_runner.worker_index} (pid {os.getpid()} on {socket.gethostname()})"
            metrics_logger.log_value((WHO, who), sum(map(len, samples)), reduce="sum")

    register_env("mjoa", create_env)
    settings = {"id": args.env, "action": args.action, "n_ues": args.ues, "scenario": args.scenario}
    return (
        PPOConfig()
        .environment("mjoa", env_config=settings)
        .env_runners(num_env_runners=args.env_runners, num_envs_per_env_runner=args.envs)
        .learners(num_learners=0)
        .training(
            lr=args.lr,
            gamma=args.gamma,
            train_batch_size_per_learner=args.batch,
            minibatch_size=min(256, args.batch),
            num_epochs=5,
        )
        .callbacks(CountByProcess)
        .debugging(seed=args.seed, log_level="ERROR")
    )


def report(iteration: int, result: dict[str, Any], seconds: float) -> None:
    """Print one line per iteration, and one per process that collected."""
    runners = result["env_runners"]
    steps = {who: int(count) for who, count in runners[WHO].items()}
    print(
        f"iteration {iteration}: mean return {runners['episode_return_mean']:.3f}, "
        f"{sum(steps.values())} steps by {len(steps)} processes in {seconds:.1f} s",
        *(f"    {who}: {steps[who]} steps" for who in sorted(steps)),
        sep="\n",
        flush=True,
    )


def main(argv: list[str] | None = None) -> int:
    """Train; return the exit status."""
    args = arguments(argv)
    import ray
    import ray.rllib

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for name in ("ray", "ray.rllib", "ray.tune", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
    local = {"address": "local", "num_cpus": args.cpus, "include_dashboard": False}
    where: dict[str, Any] = {"address": args.address} if args.address else local
    print(
        f"starting {args.env_runners} processes that collect; the first time takes a minute",
        flush=True,
    )
    ray.init(logging_level=logging.ERROR, log_to_driver=False, **where)
    try:
        algorithm = configuration(args).build_algo()
        for iteration in range(1, args.iterations + 1):
            begin = time.perf_counter()
            report(iteration, algorithm.train(), time.perf_counter() - begin)
        if args.checkpoint:
            print(f"written: {algorithm.save_to_path(os.path.abspath(args.checkpoint))}")
        algorithm.stop()
    finally:
        ray.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
