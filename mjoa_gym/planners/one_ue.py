"""What a planner that treats every UE by itself needs: the UE's view at equal shares, and the loop.

Most earlier systems partition the network of one UE at given rates. In an instance of N UEs each of
them plans with 1/N of band and server; a share rule then divides both among the UEs that offload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.inference import Inference, Upload
from mjoa_gym.model.instance import UE, Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.link import Link
from mjoa_gym.planners.shares import Shares, equal_shares

Placement = NDArray[np.int8]
ShareRule = Callable[[Instance, Sequence[Placement]], Shares]


class OneUE(NamedTuple):
    """One UE with 1/N of band and server, for it alone to plan with.

    Attributes:
        ue: The UE.
        inference: Its inference; no bytes are missing if everything is preinstalled.
        link: What it gets with 1/N of both resources.
    """

    ue: UE
    inference: Inference
    link: Link

    @property
    def preinstalled(self) -> Inference:
        """The inference as systems see it that believe everything to be on the server."""
        return self.inference._replace(mode=int(Upload.PREINSTALLED))


Partition = Callable[[OneUE], Placement]
UploadPlan = Callable[[OneUE], tuple[Placement, Placement]]
"""A placement, and marks of the layers to prefetch."""


def at_equal_shares(instance: Instance) -> list[OneUE | None]:
    """Every UE's own view, or None for a UE without an uplink or a downlink, which stays local."""
    packed, share = instance.packed, 1.0 / instance.n_ues
    views: list[OneUE | None] = []
    for i, ue in enumerate(instance.ues):
        full_band = packed_link(packed, i, 1.0, 1.0)  # the SNR on the band is lowest here
        if max(full_band.up, full_band.down) == np.inf:
            views.append(None)
            continue
        inference = packed_inference(packed, i)
        if packed.mode == Upload.PREINSTALLED:
            inference = inference._replace(missing_bytes=np.zeros(ue.dnn.n_layers))
        views.append(OneUE(ue, inference, packed_link(packed, i, share, share)))
    return views


def all_local(ue: UE) -> Placement:
    """The placement with every layer on the UE."""
    return np.zeros(ue.dnn.n_layers, dtype=np.int8)


def partition_each(instance: Instance, partition: Partition) -> list[Placement]:
    """Every UE's placement, each partitioned at 1/N of band and server."""
    return [
        all_local(ue) if view is None else partition(view)
        for ue, view in zip(instance.ues, at_equal_shares(instance), strict=True)
    ]


def plan_each(
    instance: Instance, partition: Partition, share_rule: ShareRule = equal_shares
) -> Plan:
    """The plan that partitions each UE's network at 1/N shares and then applies a share rule."""
    placements = partition_each(instance, partition)
    return Plan(placements, *share_rule(instance, placements))


def plan_each_with_prefetch(instance: Instance, upload_plan: UploadPlan) -> Plan:
    """As `plan_each` with equal shares, for systems that also say what to upload for later."""
    pairs = [
        (all_local(ue), all_local(ue)) if view is None else upload_plan(view)
        for ue, view in zip(instance.ues, at_equal_shares(instance), strict=True)
    ]
    placements = [placement for placement, _ in pairs]
    return Plan(placements, *equal_shares(instance, placements), [marks for _, marks in pairs])
