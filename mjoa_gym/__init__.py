"""mjoa-gym: which layers run where, and who gets what, while the model is still being uploaded."""

from mjoa_gym.dnn import DNN
from mjoa_gym.envs import decode_observation, register_all
from mjoa_gym.instance import UE, Instance, Plan, evaluate, timelines
from mjoa_gym.scenario import Scenario
from mjoa_gym.simulator import Interval, Timeline, simulate

__version__ = "0.1.0"

__all__ = [
    "DNN",
    "UE",
    "Instance",
    "Interval",
    "Plan",
    "Scenario",
    "Timeline",
    "decode_observation",
    "evaluate",
    "simulate",
    "timelines",
]

register_all()
