"""Environments of Stable-Baselines3 as a learned agent sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from agents.outlook import Outlook
from mjoa_gym.validation import non_negative


class OutlookVecEnv(VecEnvWrapper):
    """Shows the `Outlook` of dictionary observations; works with our adapter and `DummyVecEnv`.

    Args:
        venv: Environments of this package with `observation="dict"`.
        threads: Threads that share the work.
        stakes: A round's reward, its relative reduction, weighs (its all-local seconds over their
            mean) to this power. With 0 every round counts alike, as the environment has it; with 1
            an episode's sum goes with the mean latency, and few rounds are most of it.
        least_reward: Rewards below count as this one: random plans can take a hundred times as long
            as local ones, and how bad exactly is not worth learning.

    Attributes:
        outlook: What is applied to every observation.
    """

    def __init__(
        self,
        venv: VecEnv,
        threads: int = 1,
        stakes: float = 0.0,
        least_reward: float = -np.inf,
    ) -> None:
        self.outlook = Outlook(venv.get_attr("core")[0].view, threads)
        self.stakes = non_negative("stakes", stakes)
        self._round_weight = np.ones(venv.num_envs)
        self.least_reward = least_reward
        self._usual_s = self.outlook.usual_local_s()
        super().__init__(venv, observation_space=self.outlook.space)

    def reset(self) -> NDArray[np.float32]:
        """See `VecEnv.reset`."""
        return self._seen(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observations, rewards, dones, infos = self.venv.step_wait()
        rewards = np.maximum(rewards, self.least_reward) * self._round_weight
        ended = np.flatnonzero(dones).tolist()
        if ended:
            last = [infos[e]["terminal_observation"] for e in ended]
            together: dict[str, Any] = {key: np.stack([o[key] for o in last]) for key in last[0]}
            for e, seen in zip(ended, self.outlook(together), strict=True):
                infos[e]["terminal_observation"] = seen
        return self._seen(observations), rewards.astype(np.float32), dones, infos

    def _seen(self, observations: Any) -> NDArray[np.float32]:
        if self.stakes > 0.0:
            at_stake = self.outlook.local_s(observations).mean(axis=1) / self._usual_s
            self._round_weight = at_stake**self.stakes
        return self.outlook(observations)
