"""One round's problem (Instance), its answer (Plan), and what the answer costs (evaluate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model import kernel, radio
from mjoa_gym.model.simulator import BITS_PER_BYTE, Timeline, make_job, timeline_of
from mjoa_gym.validation import (
    binary_vector,
    choice,
    fraction_vector,
    non_negative,
    non_negative_vector,
    positive,
)

SHARE_TOLERANCE = 1e-6
"""Shares may sum to 1 plus this: rounding, of float32 policies too, is not an error."""


class _Rebuilt:
    """A dataclass that is unpickled by its constructor, so that its arrays stay read-only."""

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class UE(_Rebuilt):
    """One user equipment and the inference it issues.

    Attributes:
        dnn: Its network, L layers.
        ue_seconds: (L,) seconds of each layer on the UE.
        edge_seconds: (L,) seconds of each layer on the *whole* server.
        snr_up: Linear uplink SNR at full band.
        snr_down: Linear downlink SNR at full band.
        resident: (L,) fraction of each layer's parameters already on the server; default none.
        weight: Weight of its latency in the objective, > 0.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    dnn: DNN
    ue_seconds: NDArray[np.float64]
    edge_seconds: NDArray[np.float64]
    snr_up: float
    snr_down: float
    resident: NDArray[np.float64]
    weight: float

    def __init__(
        self,
        dnn: DNN,
        ue_seconds: ArrayLike,
        edge_seconds: ArrayLike,
        snr_up: float,
        snr_down: float,
        resident: ArrayLike | None = None,
        weight: float = 1.0,
    ) -> None:
        n = dnn.n_layers
        put = object.__setattr__
        put(self, "dnn", dnn)
        put(self, "ue_seconds", non_negative_vector("ue_seconds", ue_seconds, n))
        put(self, "edge_seconds", non_negative_vector("edge_seconds", edge_seconds, n))
        put(self, "snr_up", non_negative("snr_up", snr_up))
        put(self, "snr_down", non_negative("snr_down", snr_down))
        there = np.zeros(n) if resident is None else resident
        put(self, "resident", fraction_vector("resident", there, n))
        put(self, "weight", positive("weight", weight))

    @property
    def local_s(self) -> float:
        """Seconds of the inference with every layer on the UE."""
        return float(self.ue_seconds.sum())


@dataclass(frozen=True, eq=False)
class Instance(_Rebuilt):
    """One round's problem.

    Attributes:
        ues: The N UEs that each issue one inference.
        bandwidth_hz: The band they share, the same in both directions.
        upload: Upload mode: "parallel", "serial", "whole" or "preinstalled".

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    ues: tuple[UE, ...]
    bandwidth_hz: float
    upload: str = "parallel"

    def __init__(self, ues: Sequence[UE], bandwidth_hz: float, upload: str = "parallel") -> None:
        if not ues:
            raise ValueError("ues is empty: an instance has at least one UE")
        put = object.__setattr__
        put(self, "ues", tuple(ues))
        put(self, "bandwidth_hz", positive("bandwidth_hz", bandwidth_hz))
        put(self, "upload", choice("upload", upload, kernel.UPLOAD_MODES))

    @property
    def n_ues(self) -> int:
        """The number of UEs, N."""
        return len(self.ues)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(N,) weights of the UEs."""
        return np.array([ue.weight for ue in self.ues])

    @cached_property
    def local_s(self) -> NDArray[np.float64]:
        """(N,) all-local latencies."""
        return np.array([ue.local_s for ue in self.ues])

    @cached_property
    def packed(self) -> Packed:
        """The instance as flat arrays for kernels."""
        return pack(self)


@dataclass(frozen=True, eq=False)
class Plan(_Rebuilt):
    """The answer to an instance.

    Attributes:
        placements: Per UE (L,) 0 = UE, 1 = edge.
        bandwidth_share: (N,) each >= 0, summing to at most 1.
        compute_share: (N,) likewise.
        prefetch: Per UE (L,) layers to upload in addition, or None for none at all.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    placements: tuple[NDArray[np.int8], ...]
    bandwidth_share: NDArray[np.float64]
    compute_share: NDArray[np.float64]
    prefetch: tuple[NDArray[np.int8], ...] | None = None

    def __init__(
        self,
        placements: Sequence[ArrayLike],
        bandwidth_share: ArrayLike,
        compute_share: ArrayLike,
        prefetch: Sequence[ArrayLike] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "placements", _binary_vectors("placements", placements))
        n = len(self.placements)
        for name, share in (("bandwidth_share", bandwidth_share), ("compute_share", compute_share)):
            shares = non_negative_vector(name, share, n)
            if shares.sum() > 1 + SHARE_TOLERANCE:
                raise ValueError(f"{name} sums to {shares.sum()!r}: at most 1 is allowed")
            put(self, name, shares)
        if prefetch is not None and len(prefetch) != n:
            raise ValueError(f"prefetch has {len(prefetch)} entries for {n} UEs")
        marks = None if prefetch is None else _binary_vectors("prefetch", prefetch)
        put(self, "prefetch", marks)

    def check_fits(self, instance: Instance) -> None:
        """Raise a ValueError if the plan's shapes are not those of `instance`."""
        if len(self.placements) != instance.n_ues:
            raise ValueError(
                f"placements has {len(self.placements)} entries for {instance.n_ues} UEs"
            )
        for i, ue in enumerate(instance.ues):
            for name, vectors in (("placements", self.placements), ("prefetch", self.prefetch)):
                if vectors is not None and len(vectors[i]) != ue.dnn.n_layers:
                    raise ValueError(
                        f"{name}[{i}] has {len(vectors[i])} entries; "
                        f"{ue.dnn.name} has {ue.dnn.n_layers} layers"
                    )


class Packed(NamedTuple):
    """An instance as flat arrays: UE i's layers are `first[i]..first[i + 1]`.

    Attributes:
        first: (N + 1,) offsets into the per-layer arrays.
        first_edge: (N + 1,) offsets into `predecessors`.
        offsets: Per layer, and one more per UE: offsets into the UE's own predecessors.
        predecessors: Tensor indices within the UE's own network.
        is_sink: Per layer.
        ue_s: Per layer, seconds on the UE.
        edge_s: Per layer, seconds on the whole server.
        output_bytes: Per layer.
        missing_bytes: Per layer.
        input_bytes: (N,).
        snr_up: (N,).
        snr_down: (N,).
        weight: (N,).
        local_s: (N,) all-local latencies.
        bandwidth_hz: The band.
        mode: The upload mode's code.
    """

    first: NDArray[np.int64]
    first_edge: NDArray[np.int64]
    offsets: NDArray[np.int64]
    predecessors: NDArray[np.int64]
    is_sink: NDArray[np.bool_]
    ue_s: NDArray[np.float64]
    edge_s: NDArray[np.float64]
    output_bytes: NDArray[np.float64]
    missing_bytes: NDArray[np.float64]
    input_bytes: NDArray[np.float64]
    snr_up: NDArray[np.float64]
    snr_down: NDArray[np.float64]
    weight: NDArray[np.float64]
    local_s: NDArray[np.float64]
    bandwidth_hz: float
    mode: int


def pack(instance: Instance) -> Packed:
    """Flatten an instance for kernels; O(total layers + edges)."""
    ues = instance.ues
    jobs = [make_job(ue.dnn, ue.ue_seconds, ue.edge_seconds, ue.resident)[0] for ue in ues]

    def joined(name: str) -> NDArray:
        return np.concatenate([getattr(job, name) for job in jobs])

    def bounds(counts: list[int]) -> NDArray[np.int64]:
        return np.cumsum([0, *counts], dtype=np.int64)

    return Packed(
        first=bounds([ue.dnn.n_layers for ue in ues]),
        first_edge=bounds([len(job.predecessors) for job in jobs]),
        **{
            name: joined(name)
            for name in (
                "offsets", "predecessors", "is_sink", "ue_s", "edge_s", "output_bytes",
                "missing_bytes",
            )
        },
        input_bytes=np.array([ue.dnn.input_bytes for ue in ues]),
        snr_up=np.array([ue.snr_up for ue in ues]),
        snr_down=np.array([ue.snr_down for ue in ues]),
        weight=instance.weights,
        local_s=instance.local_s,
        bandwidth_hz=instance.bandwidth_hz,
        mode=kernel.UPLOAD_MODES.index(instance.upload),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def job_of(packed, i):
    """UE i's job, as views into the packed arrays."""
    a, b = packed.first[i], packed.first[i + 1]
    return kernel.Job(
        packed.offsets[a + i : b + i + 1],
        packed.predecessors[packed.first_edge[i] : packed.first_edge[i + 1]],
        packed.is_sink[a:b],
        packed.ue_s[a:b],
        packed.edge_s[a:b],
        packed.output_bytes[a:b],
        packed.missing_bytes[a:b],
        packed.input_bytes[i],
    )


@njit(cache=True, nogil=True)
def link_with(bandwidth_hz, snr_up, snr_down, bandwidth_share, compute_share):
    """A UE's link with the given shares of a band and of the server."""
    up = radio.uplink_bps(bandwidth_hz, bandwidth_share, snr_up)
    down = radio.downlink_bps(bandwidth_hz, bandwidth_share, snr_down)
    return kernel.Link(
        BITS_PER_BYTE / up if up > 0.0 else np.inf,
        BITS_PER_BYTE / down if down > 0.0 else np.inf,
        1.0 / compute_share if compute_share > 0.0 else np.inf,
    )


@njit(cache=True, nogil=True)
def link_of(packed, i, bandwidth_share, compute_share):
    """UE i's link with the given shares."""
    snr_up, snr_down = packed.snr_up[i], packed.snr_down[i]
    return link_with(packed.bandwidth_hz, snr_up, snr_down, bandwidth_share, compute_share)


@njit(cache=True, nogil=True)
def latency_of(packed, i, placement, bandwidth_share, compute_share, scratch):
    """Seconds of UE i's inference; `placement` is (L,) of that UE."""
    job = job_of(packed, i)
    link = link_of(packed, i, bandwidth_share, compute_share)
    return kernel.run(placement, len(placement), job, link, packed.mode, scratch)[1]


@njit(cache=True, nogil=True)
def latencies(packed, placements, bandwidth_share, compute_share):
    """(N,) seconds; `placements` is the concatenation over UEs. O(total layers + edges)."""
    n_ues = len(packed.weight)
    scratch = kernel.new_scratch(np.max(np.diff(packed.first)))
    seconds = np.empty(n_ues)
    for i in range(n_ues):
        placement = placements[packed.first[i] : packed.first[i + 1]]
        seconds[i] = latency_of(packed, i, placement, bandwidth_share[i], compute_share[i], scratch)
    return seconds


def evaluate(instance: Instance, plan: Plan) -> NDArray[np.float64]:
    """The latency of every UE under a plan.

    Returns:
        (N,) seconds; inf for a UE with a zero share of a resource that its placement needs.

    Raises:
        ValueError: If the plan's shapes are not those of the instance.
    """
    plan.check_fits(instance)
    placements = np.concatenate(plan.placements)
    return latencies(instance.packed, placements, plan.bandwidth_share, plan.compute_share)


def timelines(instance: Instance, plan: Plan, until_s: float | None = None) -> tuple[Timeline, ...]:
    """The timeline of every UE under a plan (see `simulate`); `until_s` ends prefetching."""
    plan.check_fits(instance)
    packed = instance.packed
    results = []
    for i, ue in enumerate(instance.ues):
        marks = np.zeros(ue.dnn.n_layers) if plan.prefetch is None else plan.prefetch[i]
        link = link_of(packed, i, plan.bandwidth_share[i], plan.compute_share[i])
        job, sides = job_of(packed, i), plan.placements[i]
        results.append(
            timeline_of(ue.dnn, job, ue.resident, sides, marks == 1, link, packed.mode, until_s)
        )
    return tuple(results)


def _binary_vectors(name: str, vectors: Sequence[ArrayLike]) -> tuple[NDArray[np.int8], ...]:
    return tuple(binary_vector(f"{name}[{i}]", v, np.size(v)) for i, v in enumerate(vectors))
