"""Neurosurgeon: one cut, models preinstalled on both sides.

Source: Kang et al., "Neurosurgeon: Collaborative Intelligence Between the Cloud and Mobile Edge",
ASPLOS 2017.

Its own assumptions: the server holds every model, so that only one tensor is uploaded. A network is
a chain with one cut, and the early layers are on the phone.

Our formulation of it: layer times are given, whereas the system predicts them by regression. In a
network that is not a chain the cut goes through the program order, and every tensor that crosses it
is sent. The latency is the simulator's for a preinstalled model. Each of N UEs plans with 1/N of
band and server, and the UEs that offload then share both equally. The simulator also charges the
plan for the uploads, which the planner does not consider.
"""

from __future__ import annotations

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.one_ue import plan_each
from mjoa_gym.planners.single_cut import best_cut


def neurosurgeon(instance: Instance) -> Plan:
    """Plan every UE with Neurosurgeon's cut. O(L (L + edges)) per UE."""
    return plan_each(instance, lambda one: best_cut(one.preinstalled, one.link)[0])
