"""Agents as planners: an instance becomes a setting in which an agent acts, its action a plan.

An agent knows environments, not instances: what it sees, and what its actions mean, follows from a
scenario. So the UEs of an instance get a scenario of their own, with their networks, their seconds
as devices, and their rates as a trace; one environment of it is put into the state that the
instance describes, and the agent is asked once, or once for each UE. Deadlines and energy are left
out: the trained agents know neither.

Cost: for UEs that have not been seen before, menus of placements are computed, about a second for
each network; then what the agent takes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.devices import Device
from mjoa_gym.dnn import DNN
from mjoa_gym.dnn.profile import FULL_BITS
from mjoa_gym.envs.core import ONE, Core
from mjoa_gym.evaluation.agent import PlannerAgent
from mjoa_gym.evaluation.agent_source import AgentSource
from mjoa_gym.evaluation.episodes import Decider, Setting
from mjoa_gym.evaluation.journal import digest
from mjoa_gym.model.instance import UE, Horizon, Instance, Plan
from mjoa_gym.world.rounds import plan_of
from mjoa_gym.world.scenario import Scenario
from mjoa_gym.world.trace import GivenTrace

SETS = 4
"""The number of sets of UEs whose environments are kept."""


@dataclass(frozen=True, eq=False)
class KnownSeconds(Device):
    """A device whose seconds are known for some networks and no others.

    Attributes:
        rows: (L,) seconds of each network.
    """

    rows: tuple[tuple[DNN, NDArray[np.float64]], ...]

    def _layer_seconds(self, dnn: DNN) -> NDArray[np.float64]:
        return next(seconds for known, seconds in self.rows if known is dnn)


@dataclass(frozen=True, eq=False)
class Roles:
    """Which of a setting's networks and devices the UEs of an instance have."""

    setting: Setting
    network: NDArray[np.int64]  # (N,)
    device: NDArray[np.int64]  # (N,)


class AgentPlanner:
    """An agent as a planner, for instances of UEs with given rates.

    Args:
        source: What makes the agent.
    """

    def __init__(self, source: AgentSource) -> None:
        self.source = source
        self._prepared = lru_cache(SETS)(self._prepare)

    def __call__(self, instance: Instance) -> Plan:
        """Return the agent's plan.

        Raises:
            ValueError: If the agent is not for such UEs.
        """
        roles, agent, core = self.prepared(instance)
        if isinstance(agent, PlannerAgent):  # which needs no environment
            return agent.planner(instance)
        _enter(core, roles, instance)
        core.view.restart(ONE)
        return plan_of(Decider(agent, core).decision(core.observe()), 0, instance)

    def prepared(self, instance: Instance) -> tuple[Roles, Any, Core]:
        """Return what is the same for all instances of the same UEs; the last ones are kept."""
        return self._prepared(_Key(instance))

    def _prepare(self, key: _Key) -> tuple[Roles, Any, Core]:
        roles = roles_of(key.instance)
        agent = self.source.agent(roles.setting)
        envs = roles.setting.environments(agent, 1)
        envs.reset(seed=0)
        core: Core = envs.unwrapped.core  # type: ignore[attr-defined]
        return roles, agent, core


class _Key:
    """An instance, equal to others of the same UEs, whatever is resident."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        parts = [(instance.upload, instance.message_s, _lasting(instance.horizon))]
        parts += [_lasting_of(ue) for ue in instance.ues]
        self.text = digest(repr(parts).encode())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def _lasting(horizon: Horizon | None) -> tuple[Any, ...]:
    if horizon is None:
        return ()
    h = horizon
    return (
        h.rounds_left, h.period_s, h.server_memory_bytes, h.departure_probability,
        h.share_parameters, h.retain,
    )  # fmt: skip


def _lasting_of(ue: UE) -> tuple[Any, ...]:
    dnn = ue.dnn
    arrays = dnn.parameter_bytes, dnn.output_bytes, ue.ue_seconds, ue.edge_seconds
    links = ue.uplink_bps, ue.downlink_bps, ue.message_s, ue.weight
    return (dnn.name, dnn.fingerprints, dnn.predecessors, links, *(a.tobytes() for a in arrays))


def roles_of(instance: Instance) -> Roles:
    """The setting of an instance's UEs.

    A network stands for UEs that have the same one and the same seconds at the edge; the seconds of
    the first such UE on itself make the first device, those of the second the second one, and so
    on.

    Raises:
        ValueError: If a UE has SNRs in place of rates.
    """
    for i, ue in enumerate(instance.ues):
        if ue.uplink_bps is None:
            raise ValueError(f"UE {i} has SNRs: an agent plans for UEs with given rates")
    networks: dict[Any, int] = {}
    members: list[list[int]] = []
    for i, ue in enumerate(instance.ues):
        key = (ue.dnn.name, ue.dnn.fingerprints, ue.edge_seconds.tobytes())
        if networks.setdefault(key, len(members)) == len(members):
            members.append([])
        members[networks[key]].append(i)
    dnns = [_plain(instance.ues[own[0]].dnn) for own in members]

    def seconds(name: str, k: int) -> KnownSeconds:
        own = (getattr(instance.ues[m[min(k, len(m) - 1)]], name) for m in members)
        return KnownSeconds("measured", tuple(zip(dnns, own, strict=True)))

    network, device = np.zeros((2, instance.n_ues), np.int64)
    for d, own in enumerate(members):
        network[own], device[own] = d, range(len(own))
    devices = tuple(seconds("ue_seconds", k) for k in range(max(map(len, members))))
    environment = "cold-start" if instance.horizon is None else "streaming"
    scenario = _scenario(instance, dnns, devices, seconds("edge_seconds", 0))
    return Roles(Setting(environment, scenario), network, device)


def _plain(dnn: DNN) -> DNN:
    """A network of its own that is taken as it is: not of layers, nor at a precision."""
    own = copy.copy(dnn)
    for name in ("layers", "block_of", "full"):
        object.__setattr__(own, name, None)
    return own


def _scenario(
    instance: Instance, dnns: Sequence[DNN], devices: Sequence[Device], server: Device
) -> Scenario:
    weights, horizon = instance.weights, instance.horizon
    later: dict[str, Any] = {}
    if horizon is not None:
        later = {
            "rounds": horizon.rounds_left + 1, "period_s": horizon.period_s,
            "server_memory_bytes": horizon.server_memory_bytes, "retain": horizon.retain,
            "share_parameters": horizon.share_parameters,
            "departure_probability": horizon.departure_probability,
        }  # fmt: skip
    messages_s = instance.packed.message_s
    links = [
        (u.uplink_bps, u.downlink_bps, s) for u, s in zip(instance.ues, messages_s, strict=True)
    ]
    rows = [(second, *link) for second, link in enumerate((*links, links[-1]))]
    return Scenario(
        name="given UEs", n_ues=instance.n_ues, dnns=tuple(dnns), parameter_bits=FULL_BITS,
        activation_bits=FULL_BITS, ue_devices=tuple(devices), ue_speed_min=1.0, ue_speed_max=1.0,
        weight_min=float(weights.min()), weight_max=float(weights.max()), edge_device=server,
        edge_speed=1.0, upload=instance.upload, message_s=instance.message_s,
        trace=GivenTrace(np.array(rows, np.float64)), **later,
    )  # fmt: skip


def _enter(core: Core, roles: Roles, instance: Instance) -> None:
    """Put an environment into the state that an instance describes."""
    state, people = core.batch.state, core.batch.state.population
    people.dnn[0], people.device[0], people.speed[0] = roles.network, roles.device, 1.0
    people.weight[0] = instance.weights
    people.up[0] = [ue.uplink_bps for ue in instance.ues]
    people.down[0] = [ue.downlink_bps for ue in instance.ues]
    people.message_s[0] = instance.packed.message_s
    state.round[0] = 0
    if instance.horizon is None:
        return
    shared, idle = instance.horizon.share_parameters, instance.horizon.idle_rounds
    state.resident[0], state.idle[0] = 1.0, 0
    for i, ue in enumerate(instance.ues):  # UEs of one network may share a row: what all have
        row, n = int(roles.network[i]) if shared else i, ue.dnn.n_layers
        state.resident[0, row, :n] = np.minimum(state.resident[0, row, :n], ue.resident)
        state.resident[0, row, n:] = 0.0
        if idle is not None:
            state.idle[0, row, :n] = idle[i]
