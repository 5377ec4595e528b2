"""Planners: pure functions Instance -> Plan, one file per system."""

from mjoa_gym.planners.registry import plan_with, planner_names

__all__ = ["plan_with", "planner_names"]
