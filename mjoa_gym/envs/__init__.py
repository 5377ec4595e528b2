"""The Gymnasium environments, registered when `mjoa_gym` is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

from mjoa_gym.envs.core import OBSERVERS
from mjoa_gym.envs.observation import decode_observation
from mjoa_gym.envs.scalar import ColdStartEnv, RoundsEnv, StreamingEnv
from mjoa_gym.envs.vector import ColdStartVectorEnv, StreamingVectorEnv

if TYPE_CHECKING:
    from mjoa_gym.envs.adapters.pettingzoo import OffloadingParallelEnv

ENTRY_POINTS = {
    "MJOA/ColdStart-v1": ("scalar:ColdStartEnv", "vector:ColdStartVectorEnv"),
    "MJOA/Streaming-v1": ("scalar:StreamingEnv", "vector:StreamingVectorEnv"),
}


def register_all() -> None:
    """Register the environments for `gymnasium.make` and `make_vec`; a second call is harmless.

    The environments own their horizon, so no `max_episode_steps` is registered.
    """
    for env_id, (one, many) in ENTRY_POINTS.items():
        if env_id not in gym.registry:
            gym.register(
                id=env_id,
                entry_point=f"mjoa_gym.envs.{one}",
                vector_entry_point=f"mjoa_gym.envs.{many}",
            )


def parallel_env(*args: Any, **kwargs: Any) -> OffloadingParallelEnv:
    """Make every UE an agent: see `mjoa_gym.envs.adapters.pettingzoo.OffloadingParallelEnv`."""
    from mjoa_gym.envs.adapters.pettingzoo import OffloadingParallelEnv  # an extra: multiagent

    return OffloadingParallelEnv(*args, **kwargs)


__all__ = [
    "ENTRY_POINTS", "OBSERVERS", "ColdStartEnv", "ColdStartVectorEnv", "RoundsEnv", "StreamingEnv",
    "StreamingVectorEnv", "decode_observation", "parallel_env", "register_all",
]  # fmt: skip
