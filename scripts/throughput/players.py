"""Players: each steps one kind of environment through a recorded sequence of random actions.

A first, untimed pass samples the actions, valid ones where the environment gives a mask; the timed
passes replay them from the same seed. So neither sampling nor seeding is timed, stepping and the
resets within the sequence are.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np

SEED = 0
RECORDING_BYTES = 64e6  # at most, per environment


class Player(ABC):
    """Something that can be stepped many times, and tells how long that took."""

    @abstractmethod
    def prepare(self, seconds: float) -> None:
        """Get ready for passes of about this length; not timed."""

    @abstractmethod
    def play(self) -> tuple[float, int]:
        """One timed pass: seconds, and transitions of single environments."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""


class Replayer(Player):
    """Records actions once and replays them."""

    def __init__(self, env: Any, action_space: gym.Space[Any]) -> None:
        self.env = env
        self.action_space = action_space
        self.actions: list[Any] = []
        self.passes = 1

    @abstractmethod
    def start(self) -> dict[str, Any]:
        """Begin with the one seed; returns the info."""

    @abstractmethod
    def step(self, action: Any) -> dict[str, Any]:
        """One step, and a reset if the environment leaves that to others; returns the info."""

    @abstractmethod
    def replay(self) -> tuple[float, int]:
        """Play the recorded actions once, timed."""

    def prepare(self, seconds: float) -> None:
        """Record until a pass is long enough, or the record too large; see `Player`."""
        rng = np.random.default_rng(SEED)
        self.action_space.seed(SEED)
        info = self.start()
        stepping, size = 0.0, 0.0
        while len(self.actions) < 2 or (stepping < seconds and size < RECORDING_BYTES):
            mask = info.get("action_mask")
            action = sample_valid(self.action_space, mask, rng)
            begin = time.perf_counter()
            info = self.step(action)
            if self.actions:  # the first call may compile
                stepping += time.perf_counter() - begin
            self.actions.append(action)
            size += _bytes(action)
        self.passes = max(1, round(seconds / max(stepping, 1e-9)))

    def play(self) -> tuple[float, int]:
        """See `Player`."""
        passes = [self.replay() for _ in range(self.passes)]
        return sum(seconds for seconds, _ in passes), sum(steps for _, steps in passes)

    def close(self) -> None:
        """See `Player`."""
        self.env.close()


class ScalarPlayer(Replayer):
    """For `gymnasium.Env`; whatever ends is reset at once."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env, env.action_space)

    def start(self) -> dict[str, Any]:
        """See `Replayer`."""
        return self.env.reset(seed=SEED)[1]

    def step(self, action: Any) -> dict[str, Any]:
        """See `Replayer`."""
        _, _, terminated, truncated, info = self.env.step(action)
        return self.env.reset()[1] if terminated or truncated else info

    def replay(self) -> tuple[float, int]:
        """See `Replayer`."""
        self.start()
        env = self.env
        begin = time.perf_counter()
        for action in self.actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return time.perf_counter() - begin, len(self.actions)


class VectorPlayer(Replayer):
    """For `gymnasium.vector.VectorEnv` with NEXT_STEP autoreset.

    The call that resets an environment is time spent, but no transition, and not counted as one.
    """

    def __init__(self, env: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env, env.action_space)

    def start(self) -> dict[str, Any]:
        """See `Replayer`."""
        return self.env.reset(seed=SEED)[1]

    def step(self, action: Any) -> dict[str, Any]:
        """See `Replayer`."""
        return self.env.step(action)[4]

    def replay(self) -> tuple[float, int]:
        """See `Replayer`."""
        self.start()
        env = self.env
        ends = last = 0
        begin = time.perf_counter()
        for action in self.actions:
            _, _, terminated, truncated, _ = env.step(action)
            last = int(np.count_nonzero(terminated | truncated))
            ends += last
        seconds = time.perf_counter() - begin
        return seconds, len(self.actions) * env.num_envs - (ends - last)


class VecEnvPlayer(Replayer):
    """For Stable-Baselines3's `VecEnv`, whose environments reset in the same step."""

    def __init__(self, env: Any) -> None:
        super().__init__(env, gym.vector.utils.batch_space(env.action_space, env.num_envs))

    def start(self) -> dict[str, Any]:
        """See `Replayer`."""
        self.env.seed(SEED)
        self.env.reset()
        return {}

    def step(self, action: Any) -> dict[str, Any]:
        """See `Replayer`."""
        self.env.step(action)
        return {}

    def replay(self) -> tuple[float, int]:
        """See `Replayer`."""
        self.start()
        env = self.env
        begin = time.perf_counter()
        for action in self.actions:
            env.step(action)
        return time.perf_counter() - begin, len(self.actions) * env.num_envs


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

        dictionary = isinstance(env.observation_space, gym.spaces.Dict)
        policy = "MultiInputPolicy" if dictionary else "MlpPolicy"
        total = steps * env.num_envs
        self.env, self.clock, self.total = env, Clock(), total
        self.model = PPO(
            policy, env, n_steps=steps, batch_size=total, n_epochs=1, seed=SEED, device="cpu"
        )

    def prepare(self, seconds: float) -> None:
        """Collect once; the length of a pass is the number of steps."""
        self.play()

    def play(self) -> tuple[float, int]:
        """See `Player`."""
        self.model.learn(self.total, callback=self.clock)
        return self.clock.seconds, self.total

    def close(self) -> None:
        """See `Player`."""
        self.env.close()


def sample_valid(space: gym.Space[Any], mask: Any, rng: np.random.Generator) -> Any:
    """A random action, or one per environment; uniform over what the mask allows, if there is one.

    Args:
        space: The (batched) action space.
        mask: None, or (..., n) bool; for several choices at once their masks one after the other,
            or in a tuple (or an array of tuples), as our environments' `info` has them.
        rng: For masked choices; `space` has its own generator.
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


def _bytes(action: Any) -> int:
    values = action.values() if isinstance(action, dict) else (action,)
    return sum(np.asarray(value).nbytes for value in values)
