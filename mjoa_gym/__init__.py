"""mjoa-gym: where to run layers and how to share resources while the model is being uploaded."""

from mjoa_gym.dnn import DNN
from mjoa_gym.envs import decode_observation, parallel_env, register_all
from mjoa_gym.model.instance import (
    UE,
    Horizon,
    Instance,
    Plan,
    evaluate,
    evaluate_cost,
    evaluate_energy,
    timelines,
)
from mjoa_gym.model.simulator import Interval, Timeline, simulate
from mjoa_gym.world.scenario import Scenario

__version__ = "1.0.0"

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
    "evaluate_cost",
    "evaluate_energy",
    "parallel_env",
    "simulate",
    "timelines",
]

register_all()
