"""Players: each steps one kind of environment through a recorded sequence of random actions.

A first, untimed pass samples the actions, valid ones if the environment provides a mask. The timed
passes replay them from the same seed. So sampling and seeding are not timed, but stepping and the
resets within the sequence are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from timeit import timeit
from typing import Any

import gymnasium as gym
import numpy as np

SEED = 0
RECORDING_BYTES = 64e6  # maximum per environment


class Player:
    """Records actions of an environment once and replays them, timed."""

    def __init__(self, env: Any, action_space: gym.Space[Any] | None = None) -> None:
        self.env = env
        self.action_space = env.action_space if action_space is None else action_space
        self.n_envs = getattr(env, "num_envs", 1)
        self.actions: list[Any] = []
        self.transitions = 0  # of single environments, in one pass
        self.passes = 1  # in a turn
        self.resetting: Any = False  # environments whose next step is a reset

    def start(self) -> dict[str, Any]:
        """Start with the fixed seed; return the info."""
        self.resetting = False
        return self.env.reset(seed=SEED)[1]

    def step(self, action: Any) -> dict[str, Any]:
        """Step, and reset if the environment does not reset itself; return the info."""
        raise NotImplementedError

    def prepare(self, seconds: float) -> None:
        """Record until a pass takes `seconds`, or the record is too large; not timed."""
        rng = np.random.default_rng(SEED)
        self.action_space.seed(SEED)
        info = self.start()
        stepping, size = 0.0, 0.0
        while len(self.actions) < 2 or (stepping < seconds and size < RECORDING_BYTES):
            action = sample_valid(self.action_space, info.get("action_mask"), rng)
            self.transitions += self.n_envs - np.count_nonzero(self.resetting)
            begin = time.perf_counter()
            info = self.step(action)
            if self.actions:  # the first call may compile
                stepping += time.perf_counter() - begin
            self.actions.append(action)
            parts = action.values() if isinstance(action, dict) else (action,)
            size += sum(np.asarray(part).nbytes for part in parts)
        self.passes = max(1, round(seconds / max(stepping, 1e-9)))

    def play(self) -> tuple[float, int]:
        """Play one turn; return seconds, and transitions of single environments."""
        seconds, step = 0.0, self.step
        for _ in range(self.passes):
            self.start()
            begin = time.perf_counter()
            for action in self.actions:
                step(action)
            seconds += time.perf_counter() - begin
        return seconds, self.passes * self.transitions

    def close(self) -> None:
        """Release all resources."""
        self.env.close()


class ScalarPlayer(Player):
    """For `gymnasium.Env`; finished episodes are reset at once."""

    def step(self, action: Any) -> dict[str, Any]:
        """See `Player`."""
        _, _, terminated, truncated, info = self.env.step(action)
        return self.env.reset()[1] if terminated or truncated else info


class VectorPlayer(Player):
    """For `gymnasium.vector.VectorEnv` with NEXT_STEP autoreset.

    The time of a call that resets an environment counts, but it does not count as a transition.
    """

    def step(self, action: Any) -> dict[str, Any]:
        """See `Player`."""
        _, _, terminated, truncated, info = self.env.step(action)
        self.resetting = terminated | truncated
        return info


class VecEnvPlayer(Player):
    """For Stable-Baselines3's `VecEnv`, whose environments reset in the same step."""

    def __init__(self, env: Any) -> None:
        super().__init__(env, gym.vector.utils.batch_space(env.action_space, env.num_envs))

    def start(self) -> dict[str, Any]:
        """See `Player`."""
        self.env.seed(SEED)
        self.env.reset()
        return {}

    def step(self, action: Any) -> dict[str, Any]:
        """See `Player`."""
        self.env.step(action)
        return {}


class CollectPlayer(Player):
    """PPO's collection of experience by Stable-Baselines3: policy and environment, no learning."""

    def __init__(self, env: Any, steps: int) -> None:
        from stable_baselines3 import PPO
        from stable_baselines3.common.callbacks import BaseCallback

        class Clock(BaseCallback):
            seconds = 0.0

            def _on_rollout_start(self) -> None:
                self._begin = time.perf_counter()

            def _on_rollout_end(self) -> None:
                self.seconds = time.perf_counter() - self._begin

            def _on_step(self) -> bool:
                return True

        super().__init__(env)
        dictionary = isinstance(env.observation_space, gym.spaces.Dict)
        policy = "MultiInputPolicy" if dictionary else "MlpPolicy"
        self.clock, self.transitions = Clock(), steps * env.num_envs
        settings = {"n_steps": steps, "batch_size": self.transitions, "n_epochs": 1}
        self.model = PPO(policy, env, seed=SEED, device="cpu", **settings)

    def prepare(self, seconds: float) -> None:
        """Collect once; the length of a pass is the number of steps."""
        self.play()

    def play(self) -> tuple[float, int]:
        """See `Player`."""
        self.model.learn(self.transitions, callback=self.clock)
        return self.clock.seconds, self.transitions


class CallPlayer(Player):
    """For a function that simulates `inferences` inferences; each counts as a step."""

    def __init__(self, call: Callable[[], object], inferences: int) -> None:
        self.call, self.transitions = call, inferences

    def prepare(self, seconds: float) -> None:
        """See `Player`."""
        self.call()  # may compile
        self.passes = max(1, round(seconds / timeit(self.call, number=1)))

    def play(self) -> tuple[float, int]:
        """See `Player`."""
        return timeit(self.call, number=self.passes), self.passes * self.transitions

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def sample_valid(space: gym.Space[Any], mask: Any, rng: np.random.Generator) -> Any:
    """Sample a random action, or one per environment, uniformly over what a mask allows.

    A mask is (..., n) bool. For several choices at once, their masks are concatenated, or in a
    tuple (or an array of tuples), as in our environments' `info`.
    """
    if mask is None:
        return space.sample()
    if isinstance(mask, tuple):
        mask = np.concatenate(mask)
    scores = np.where(mask, rng.random(np.shape(mask)), -1.0)
    if scores.shape[:-1] == space.shape:  # one choice, or one per environment
        return scores.argmax(axis=-1)
    if isinstance(space, gym.spaces.MultiDiscrete):
        widths = space.nvec
    else:  # Gymnasium makes a batch of MultiDiscrete a Box of whole numbers
        assert isinstance(space, gym.spaces.Box)
        widths = (space.high + 1)[0]
    parts = np.split(scores, np.cumsum(widths)[:-1], axis=-1)
    return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)
