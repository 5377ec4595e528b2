"""Planners: pure functions Instance -> Plan, one file per system."""

from mjoa_gym.planners.ara import ara
from mjoa_gym.planners.pbt_dp import pbt_dp
from mjoa_gym.planners.registry import plan_with, planner_names

__all__ = ["ara", "pbt_dp", "plan_with", "planner_names"]
