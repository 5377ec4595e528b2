"""Neurosurgeon: one cut, models preinstalled on both sides.

Source: Kang et al., "Neurosurgeon: Collaborative Intelligence Between the Cloud and Mobile Edge",
ASPLOS 2017.

Its own assumptions: the server holds every model, so that nothing is uploaded but one tensor; a
network is a chain with one cut, the early layers on the phone.

Our formulation of it: layer times are taken as given, where the system predicts them by regression;
in a network that is not a chain the cut goes through the program order and every tensor that
crosses it is sent, with the simulator's latency for a preinstalled model; each of N UEs plans with
1/N of band and server, and those that offload then share both equally. What it believes is not what
it is charged: the simulator makes it pay for the upload that it did not foresee.
"""

from __future__ import annotations

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.one_ue import plan_each
from mjoa_gym.planners.single_cut import best_cut


def neurosurgeon(instance: Instance) -> Plan:
    """Plan every UE with Neurosurgeon's cut. O(L (L + edges)) per UE."""
    return plan_each(instance, lambda one: best_cut(one.preinstalled, one.link)[0])
