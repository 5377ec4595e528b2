"""Changes of rewards for training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from mjoa_gym.validation import non_negative


class RewardVecEnv(VecEnvWrapper):
    """Changes the rewards of this package's environments, in our adapter or a `DummyVecEnv`.

    Args:
        venv: The environments.
        stakes: The weight of a round's reward, its relative reduction, is (its all-local seconds
            over their mean) to this power. With 0, every round counts equally, as in the
            environment. With 1, an episode's sum is proportional to the reduction of the mean
            latency, and few rounds dominate it.
        least_reward: Lower rewards count as this one. Random plans can take a hundred times as long
            as local ones, and it is not worth learning exactly how bad they are.
    """

    def __init__(self, venv: VecEnv, stakes: float = 0.0, least_reward: float = -np.inf) -> None:
        super().__init__(venv)
        self.stakes = non_negative("stakes", stakes)
        self.least_reward = least_reward
        self._cores = list(dict.fromkeys(venv.get_attr("core")))  # a single one in our adapter
        self._round_weight = np.ones(venv.num_envs)
        scenario = self._cores[0].scenario
        self._local_s = scenario.tables.local_s
        slowness = 2.0 / (scenario.ue_speed_min + scenario.ue_speed_max)
        weight = (scenario.weight_min + scenario.weight_max) / 2.0
        self._usual_s = self._local_s.mean() * slowness * weight

    def reset(self) -> VecEnvObs:
        """See `VecEnv.reset`."""
        observations = self.venv.reset()
        self._round_weight = self._weights()
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observations, rewards, dones, infos = self.venv.step_wait()
        rewards = np.maximum(rewards, self.least_reward) * self._round_weight
        self._round_weight = self._weights()
        return observations, rewards.astype(np.float32), dones, infos

    def _weights(self) -> NDArray[np.float64]:
        """Return (E,) the weights of the rewards of the current rounds."""
        if self.stakes == 0.0:
            return np.ones(self.num_envs)
        local_s = []
        for core in self._cores:
            people = core.batch.state.population
            seconds = self._local_s[people.dnn, people.device] / people.speed
            local_s.append((people.weight * seconds).mean(axis=1))
        return (np.concatenate(local_s) / self._usual_s) ** self.stakes
