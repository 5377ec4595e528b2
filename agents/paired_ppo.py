"""PPO that compares like with like: groups of environments that meet the same UEs.

A round's random draws do not depend on the agent's actions, except for how far a UE walks in a
longer round. So environments with equal seeds meet the same networks, devices and links. Most of
the variance of an episode's return comes from these draws, and is common to a group. An advantage
is therefore taken relative to the mean of the other environments in its group at the same time.
This corresponds to common random numbers in simulation studies, and to the group baselines of
policy-gradient methods that sample several answers to one question (Kool et al., *Buy 4 REINFORCE
Samples, Get a Baseline for Free!*, 2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from mjoa_gym.validation import count


class PairedPPO(PPO):
    """PPO in which each group of `copies` consecutive environments has the same seed.

    With one copy it is Stable-Baselines3's PPO. The other arguments are those of `PPO`. The
    environments must be seeded to match: `make_vec_env(..., copies=...)`.

    Raises:
        ValueError: If `copies` does not divide the number of environments.
    """

    def __init__(self, *args: Any, copies: int = 1, **kwargs: Any) -> None:
        self.copies = count("copies", copies)
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.n_envs % self.copies:
            raise ValueError(f"copies={self.copies}: must divide n_envs={self.n_envs}")

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any
    ) -> bool:
        """See `OnPolicyAlgorithm.collect_rollouts`."""
        goes_on = super().collect_rollouts(env, callback, *args, **kwargs)
        if self.copies > 1:
            buffer = self.rollout_buffer
            buffer.advantages = beyond_the_others(buffer.advantages, self.copies)
        return goes_on


def beyond_the_others(advantages: NDArray[np.float32], copies: int) -> NDArray[np.float32]:
    """Return (steps, envs) advantages minus the mean of the other environments of the group."""
    groups = advantages.reshape(len(advantages), -1, copies)
    others = (groups.sum(axis=2, keepdims=True) - groups) / (copies - 1)
    return (groups - others).reshape(advantages.shape)
