"""mjoa-gym: which layers run where, and who gets what, while the model is still being uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mjoa_gym.dnn import DNN
from mjoa_gym.envs import decode_observation, register_all
from mjoa_gym.model.instance import UE, Horizon, Instance, Plan, evaluate, timelines
from mjoa_gym.model.simulator import Interval, Timeline, simulate
from mjoa_gym.world.scenario import Scenario

if TYPE_CHECKING:
    from mjoa_gym.envs.adapters.pettingzoo import OffloadingParallelEnv

__version__ = "0.1.0"

__all__ = [
    "DNN",
    "UE",
    "Horizon",
    "Instance",
    "Interval",
    "Plan",
    "Scenario",
    "Timeline",
    "decode_observation",
    "evaluate",
    "parallel_env",
    "simulate",
    "timelines",
]


def parallel_env(*args: Any, **kwargs: Any) -> OffloadingParallelEnv:
    """Every UE an agent: see `mjoa_gym.envs.adapters.pettingzoo.OffloadingParallelEnv`."""
    from mjoa_gym.envs.adapters.pettingzoo import OffloadingParallelEnv  # an extra: multiagent

    return OffloadingParallelEnv(*args, **kwargs)


register_all()
