"""The Gymnasium environments, registered when `mjoa_gym` is imported."""

import gymnasium as gym

from mjoa_gym.envs.cold_start import ColdStartEnv
from mjoa_gym.envs.observation import decode_observation
from mjoa_gym.envs.streaming import StreamingEnv

ENTRY_POINTS = {
    "MJOA/ColdStart-v0": "mjoa_gym.envs.cold_start:ColdStartEnv",
    "MJOA/Streaming-v0": "mjoa_gym.envs.streaming:StreamingEnv",
}


def register_all() -> None:
    """Make the environments known to `gymnasium.make`; again is harmless.

    The horizon is the environments' own, so no `max_episode_steps` is registered.
    """
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in gym.registry:
            gym.register(id=env_id, entry_point=entry_point)


__all__ = [
    "ENTRY_POINTS",
    "ColdStartEnv",
    "StreamingEnv",
    "decode_observation",
    "register_all",
]
