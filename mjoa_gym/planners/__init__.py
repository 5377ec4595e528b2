"""Planners: pure functions Instance -> Plan, one file per system.

In this package the names `pbt_dp` and `ara` are the functions, not the modules that define them.
Import the other names of these modules from the modules:
`from mjoa_gym.planners.pbt_dp import partition_bound`.
"""

from mjoa_gym.planners.ara import ara
from mjoa_gym.planners.bound import lower_bound
from mjoa_gym.planners.pbt_dp import pbt_dp
from mjoa_gym.planners.registry import (
    plan_many,
    plan_with,
    planner_names,
    planner_of,
    register_planner,
)

__all__ = [
    "ara",
    "lower_bound",
    "pbt_dp",
    "plan_many",
    "plan_with",
    "planner_names",
    "planner_of",
    "register_planner",
]
