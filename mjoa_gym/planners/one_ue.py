"""What planners share that treat each UE by itself: its view at equal shares, and the loop.

Most earlier systems partition the network of one UE at given rates. In an instance of N UEs each of
them plans with 1/N of band and server. A share rule then divides both among the UEs that offload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.inference import Inference, Upload
from mjoa_gym.model.instance import UE, Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.link import Link

Placement = NDArray[np.int8]
Shares = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Bandwidth shares (N,) and compute shares (N,)."""
ShareRule = Callable[[Instance, Sequence[Placement]], Shares]


class OneUE(NamedTuple):
    """One UE with 1/N of band and server, as a planner for a single UE sees it."""

    ue: UE
    inference: Inference  # no bytes are missing if everything is preinstalled
    link: Link  # with 1/N of both resources

    @property
    def preinstalled(self) -> Inference:
        """The inference as planners see it that take everything to be on the server."""
        return self.inference._replace(mode=int(Upload.PREINSTALLED))


Partition = Callable[[OneUE], Placement]
UploadPlan = Callable[[OneUE], tuple[Placement, Placement]]
"""A function that returns a placement, and marks of all layers to upload, now or later."""


def at_equal_shares(instance: Instance) -> list[OneUE | None]:
    """Every UE's own view; None for a UE without an uplink or a downlink, which stays local."""
    packed, share = instance.packed, 1.0 / instance.n_ues
    views: list[OneUE | None] = []
    for i, ue in enumerate(instance.ues):
        full_band = packed_link(packed, i, 1.0, 1.0)  # the share at which the SNR is lowest
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


def equal_shares(instance: Instance, placements: Sequence[Placement]) -> Shares:
    """The same share of both resources for every UE with a layer at the edge, 0 for the others."""
    uses = np.array([placement.any() for placement in placements], dtype=np.float64)
    share = uses / max(1.0, uses.sum())
    return share, share.copy()


def plan_each(
    instance: Instance, partition: Partition, share_rule: ShareRule = equal_shares
) -> Plan:
    """Partition each UE's network at 1/N shares, then divide both resources by a share rule."""
    views = zip(instance.ues, at_equal_shares(instance), strict=True)
    placements = [all_local(ue) if view is None else partition(view) for ue, view in views]
    return Plan(placements, *share_rule(instance, placements))


def plan_each_with_prefetch(instance: Instance, upload_plan: UploadPlan) -> Plan:
    """Do the same as `plan_each` with equal shares, for systems that also prefetch."""
    placements, prefetch = [], []
    for ue, view in zip(instance.ues, at_equal_shares(instance), strict=True):
        placement = uploaded = all_local(ue)
        if view is not None:
            placement, uploaded = upload_plan(view)
            missing = view.inference.missing_bytes > 0
            uploaded = ((uploaded > placement) & missing).astype(np.int8)
        placements.append(placement)
        prefetch.append(uploaded)
    return Plan(placements, *equal_shares(instance, placements), prefetch)
