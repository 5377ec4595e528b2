"""Reference points that plan nothing: all on the UE, all at the edge, and chance."""

from __future__ import annotations

import zlib

import numpy as np

from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.one_ue import all_local, at_equal_shares, plan_each

DISTINGUISHING = (
    "first", "first_edge", "offsets", "predecessors", "is_sink", "ue_s", "edge_s", "output_bytes",
    "missing_bytes", "input_bytes", "snr_up", "snr_down", "weight", "local_s",
)  # fmt: skip
"""The packed fields that seed `random`, together with the band and the upload mode. Instances that
differ in nothing else get the same plan."""
OF_RATES = ("up_hz", "down_hz", "message_s")
"""Further fields that seed `random` if a UE has given rates in place of SNRs."""


def local_only(instance: Instance) -> Plan:
    """Leave every layer on its UE, and give no shares. O(total layers)."""
    nothing = np.zeros(instance.n_ues)
    return Plan([all_local(ue) for ue in instance.ues], nothing, nothing)


def edge_only(instance: Instance) -> Plan:
    """Place every layer at the edge, with equal shares; a UE that cannot reach it stays local."""
    return plan_each(instance, lambda one: np.ones(one.ue.dnn.n_layers, dtype=np.int8))


def random(instance: Instance) -> Plan:
    """Flip a fair coin for each layer, and draw shares uniformly for the UEs that offload.

    The shares are uniform over the simplex. A planner sees the instance and no generator, so the
    seed is a checksum of the instance: equal instances get equal plans, and with other networks,
    devices, links or weights the plan is unrelated. O(total layers).
    """
    rng = np.random.default_rng(_checksum(instance))
    placements = [
        all_local(ue) if view is None else rng.integers(2, size=ue.dnn.n_layers)
        for ue, view in zip(instance.ues, at_equal_shares(instance), strict=True)
    ]
    users = np.array([placement.any() for placement in placements])
    shares = np.zeros((2, instance.n_ues))
    if users.any():
        shares[:, users] = [rng.dirichlet(np.ones(users.sum())) for _ in range(2)]
    return Plan(placements, *shares)


def _checksum(instance: Instance) -> int:
    """A CRC-32 checksum of the fields in which instances differ."""
    packed = instance.packed
    names = DISTINGUISHING if packed.concentrates.all() else DISTINGUISHING + OF_RATES
    values = [getattr(packed, name) for name in names]
    checksum = 0
    for value in (*values, instance.bandwidth_hz, packed.mode):
        checksum = zlib.crc32(np.asarray(value).tobytes(), checksum)
    return checksum
