"""Environments of Stable-Baselines3 as a learned agent sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from agents.outlook import Outlook


class OutlookVecEnv(VecEnvWrapper):
    """Shows the `Outlook` of dictionary observations; works with our adapter and `DummyVecEnv`.

    Attributes:
        outlook: What is applied to every observation.
    """

    def __init__(self, venv: VecEnv, threads: int = 1) -> None:
        self.outlook = Outlook(venv.get_attr("core")[0].view, threads)
        super().__init__(venv, observation_space=self.outlook.space)

    def reset(self) -> NDArray[np.float32]:
        """See `VecEnv.reset`."""
        return self.outlook(self.venv.reset())  # type: ignore[arg-type]

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observations, rewards, dones, infos = self.venv.step_wait()
        ended = np.flatnonzero(dones).tolist()
        if ended:
            last = [infos[e]["terminal_observation"] for e in ended]
            together: dict[str, Any] = {key: np.stack([o[key] for o in last]) for key in last[0]}
            for e, seen in zip(ended, self.outlook(together), strict=True):
                infos[e]["terminal_observation"] = seen
        return self.outlook(observations), rewards, dones, infos  # type: ignore[arg-type]
