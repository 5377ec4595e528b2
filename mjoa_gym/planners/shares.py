"""Simple ways to split band and server: in equal parts, or in proportion to demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance

Shares = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Bandwidth shares (N,) and compute shares (N,)."""


def equal_shares(instance: Instance, placements: Sequence[NDArray[np.int8]]) -> Shares:
    """The same share of both resources for every UE with a layer at the edge, 0 for others."""
    uses = np.array([placement.any() for placement in placements], dtype=np.float64)
    share = uses / max(1.0, uses.sum())
    return share, share.copy()


def demand_shares(instance: Instance, placements: Sequence[NDArray[np.int8]]) -> Shares:
    """Shares in proportion to the (weighted) bytes each UE moves and the seconds it computes.

    Bytes are those of the missing parameters of its edge layers and of the tensors that cross. A UE
    with a layer at the edge always gets a little of both, so that nothing takes forever.
    """
    n = instance.n_ues
    moved_bytes, edge_s = np.zeros(n), np.zeros(n)
    for i, (ue, placement) in enumerate(zip(instance.ues, placements, strict=True)):
        at_edge = placement == 1
        if not at_edge.any():
            continue
        crossing = set()
        for layer, ps in enumerate(ue.dnn.predecessors):
            crossing |= {p for p in ps if at_edge[layer] != (p >= 0 and at_edge[p])}
        crossing |= set(np.flatnonzero(ue.dnn.is_sink & at_edge).tolist())
        tensors = sum(ue.dnn.output_bytes[p] if p >= 0 else ue.dnn.input_bytes for p in crossing)
        missing = ue.dnn.parameter_bytes * (1.0 - ue.resident)
        moved_bytes[i] = ue.weight * (tensors + missing[at_edge].sum())
        edge_s[i] = ue.weight * ue.edge_seconds[at_edge].sum()
    uses = np.array([placement.any() for placement in placements])
    return _proportional(moved_bytes, uses), _proportional(edge_s, uses)


def _proportional(demand: NDArray[np.float64], uses: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Shares in proportion to demand, with at least 1 % of the mean demand for every user."""
    floored = np.where(uses, np.maximum(demand, 0.01 * demand.sum() / max(1, uses.sum())), 0.0)
    floored = np.where(uses & (demand.sum() == 0), 1.0, floored)
    return floored / floored.sum() if floored.any() else floored
