"""One round's problem (Instance), its answer (Plan), and what the answer costs (evaluate)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import register_jitable
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.dnn import DNN
from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import compiled, inner, lean
from mjoa_gym.model.inference import Inference, Upload, inference_of, resident_fractions
from mjoa_gym.model.link import Channel, link_over
from mjoa_gym.model.simulator import Timeline, timeline_of
from mjoa_gym.validation import (
    binary_vector,
    fraction,
    non_negative,
    non_negative_vector,
    positive,
    zero_or_more,
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
        snr_up: Linear uplink SNR at full band; None for a UE with given rates.
        snr_down: Linear downlink SNR at full band; likewise.
        resident: (L,) fraction of each layer's parameters already on the server; default none.
        weight: Weight of its latency in the objective, > 0.
        uplink_bps: In place of SNRs, the rate that it has with the whole band; with a share of the
            band it has that share of the rate.
        downlink_bps: Likewise.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    dnn: DNN
    ue_seconds: NDArray[np.float64]
    edge_seconds: NDArray[np.float64]
    snr_up: float | None
    snr_down: float | None
    resident: NDArray[np.float64]
    weight: float
    uplink_bps: float | None
    downlink_bps: float | None

    def __init__(
        self,
        dnn: DNN,
        ue_seconds: ArrayLike,
        edge_seconds: ArrayLike,
        snr_up: float | None = None,
        snr_down: float | None = None,
        resident: ArrayLike | None = None,
        weight: float = 1.0,
        uplink_bps: float | None = None,
        downlink_bps: float | None = None,
    ) -> None:
        snrs = {"snr_up": snr_up, "snr_down": snr_down}
        rates = {"uplink_bps": uplink_bps, "downlink_bps": downlink_bps}
        given = {name: value for name, value in (snrs | rates).items() if value is not None}
        if list(given) not in (list(snrs), list(rates)):
            raise ValueError(f"got {list(given)}: needed are {list(snrs)}, or {list(rates)}")
        check = non_negative if snr_up is not None else zero_or_more
        vars(self).update(
            dnn=dnn,
            ue_seconds=non_negative_vector("ue_seconds", ue_seconds, dnn.n_layers),
            edge_seconds=non_negative_vector("edge_seconds", edge_seconds, dnn.n_layers),
            resident=resident_fractions(dnn, resident),
            weight=positive("weight", weight),
            **(snrs | rates | {name: check(name, value) for name, value in given.items()}),
        )

    @property
    def local_s(self) -> float:
        """Seconds of the inference with every layer on the UE."""
        return float(self.ue_seconds.sum())

    @property
    def reachable(self) -> bool:
        """Whether a share of the band carries anything, in both directions."""
        channel = self.channel(1.0, 0.0)
        return min(channel.snr_up * channel.up_hz, channel.snr_down * channel.down_hz) > 0

    def channel(self, bandwidth_hz: float, message_s: float) -> Channel:
        """What decides its rates in a band."""
        if self.snr_up is None or self.snr_down is None:
            assert self.uplink_bps is not None and self.downlink_bps is not None  # noqa: PT018
            # an SNR of 1 gives a bit per second and Hz
            return Channel(self.uplink_bps, self.downlink_bps, 1.0, 1.0, False, message_s)
        return Channel(bandwidth_hz, bandwidth_hz, self.snr_up, self.snr_down, True, message_s)


@dataclass(frozen=True, eq=False)
class Horizon(_Rebuilt):
    """What is known of the rounds after this one, where UEs and their parameters stay.

    Attributes:
        rounds_left: Rounds of the episode after this one.
        period_s: Least seconds of a round.
        server_memory_bytes: Parameters that the server keeps between rounds.
        departure_probability: Of each UE after each round.
        idle_rounds: Per UE (L,) rounds since each layer was used; default none since.
        snr_up: (N,) linear uplink SNRs to be expected in later rounds; default those of this one,
            as for UEs with given rates.
        snr_down: (N,) likewise.
        scenario: The setting from which the UEs were drawn, if there is one; a planner may prepare
            for it.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    rounds_left: int
    period_s: float
    server_memory_bytes: float
    departure_probability: float = 0.0
    idle_rounds: tuple[NDArray[np.int64], ...] | None = None
    snr_up: NDArray[np.float64] | None = None
    snr_down: NDArray[np.float64] | None = None
    scenario: Any = None

    def __post_init__(self) -> None:
        vars(self).update(
            rounds_left=int(non_negative("rounds_left", self.rounds_left)),
            period_s=positive("period_s", self.period_s),
            server_memory_bytes=zero_or_more("server_memory_bytes", self.server_memory_bytes),
            departure_probability=fraction("departure_probability", self.departure_probability),
        )

    @property
    def expected_rounds(self) -> float:
        """Rounds after this one that a UE is expected to stay for."""
        stays = 1.0 - self.departure_probability
        return float(np.sum(stays ** np.arange(1, self.rounds_left + 1)))

    def check_fits(self, ues: Sequence[UE]) -> None:
        """Raise a ValueError if the shapes are not those of some UEs."""
        for name in ("snr_up", "snr_down"):
            if (values := getattr(self, name)) is not None:
                non_negative_vector(f"horizon.{name}", values, len(ues))
        if self.idle_rounds is None:
            return
        if len(self.idle_rounds) != len(ues):
            raise ValueError(
                f"horizon.idle_rounds has {len(self.idle_rounds)} entries for {len(ues)} UEs"
            )
        for i, (ue, rounds) in enumerate(zip(ues, self.idle_rounds, strict=True)):
            non_negative_vector(f"horizon.idle_rounds[{i}]", rounds, ue.dnn.n_layers)


@dataclass(frozen=True, eq=False)
class Instance(_Rebuilt):
    """One round's problem.

    Attributes:
        ues: The N UEs that each issue one inference.
        bandwidth_hz: The band they share, the same in both directions; of no meaning to UEs with
            given rates, and 1 by default where all are such.
        upload: Upload mode: "parallel", "serial", "whole" or "preinstalled".
        message_s: Seconds after its last byte has left until what was sent is of use, >= 0.
        horizon: What is known of later rounds; None if nothing of this one stays.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    ues: tuple[UE, ...]
    bandwidth_hz: float
    upload: str = "parallel"
    message_s: float = 0.0
    horizon: Horizon | None = None

    def __init__(
        self,
        ues: Sequence[UE],
        bandwidth_hz: float | None = None,
        upload: str = "parallel",
        message_s: float = 0.0,
        horizon: Horizon | None = None,
    ) -> None:
        if not ues:
            raise ValueError("ues is empty: an instance has at least one UE")
        if bandwidth_hz is None and any(ue.snr_up is not None for ue in ues):
            raise ValueError("bandwidth_hz=None: UEs with SNRs need the band that they share")
        if horizon is not None:
            horizon.check_fits(ues)
        vars(self).update(
            ues=tuple(ues),
            bandwidth_hz=positive("bandwidth_hz", 1.0 if bandwidth_hz is None else bandwidth_hz),
            upload=Upload.of(upload).label,
            message_s=non_negative("message_s", message_s),
            horizon=horizon,
        )

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

    Those without a comment are those of `Inference`, per layer, and of `Channel`, per UE.
    """

    first: NDArray[np.int64]  # (N + 1,) offsets into the per-layer arrays
    first_edge: NDArray[np.int64]  # (N + 1,) offsets into `predecessors`
    offsets: NDArray[np.int64]  # per layer, and one more per UE: into its own predecessors
    predecessors: NDArray[np.int64]  # tensor indices within the UE's own network
    is_sink: NDArray[np.bool_]
    ue_s: NDArray[np.float64]
    edge_s: NDArray[np.float64]
    output_bytes: NDArray[np.float64]
    missing_bytes: NDArray[np.float64]
    input_bytes: NDArray[np.float64]
    up_hz: NDArray[np.float64]
    down_hz: NDArray[np.float64]
    snr_up: NDArray[np.float64]
    snr_down: NDArray[np.float64]
    concentrates: NDArray[np.bool_]
    weight: NDArray[np.float64]  # (N,)
    local_s: NDArray[np.float64]  # (N,) all-local latencies
    message_s: float
    mode: int


def pack(instance: Instance) -> Packed:
    """Flatten an instance for kernels; O(total layers + edges)."""
    ues, mode = instance.ues, Upload.of(instance.upload)
    inferences = [
        inference_of(ue.dnn, ue.ue_seconds, ue.edge_seconds, ue.resident, mode) for ue in ues
    ]
    channels = [ue.channel(instance.bandwidth_hz, instance.message_s) for ue in ues]

    def joined(name: str) -> NDArray:
        return np.concatenate([getattr(inference, name) for inference in inferences])

    def bounds(counts: list[int]) -> NDArray[np.int64]:
        return np.cumsum([0, *counts], dtype=np.int64)

    layers = (
        "offsets", "predecessors", "is_sink", "ue_s", "edge_s", "output_bytes", "missing_bytes",
    )  # fmt: skip
    rates = ("up_hz", "down_hz", "snr_up", "snr_down", "concentrates")
    return Packed(
        first=bounds([ue.dnn.n_layers for ue in ues]),
        first_edge=bounds([len(inference.predecessors) for inference in inferences]),
        **{name: joined(name) for name in layers},
        input_bytes=np.array([ue.dnn.input_bytes for ue in ues]),
        **{name: np.array([getattr(channel, name) for channel in channels]) for name in rates},
        weight=instance.weights,
        local_s=instance.local_s,
        message_s=instance.message_s,
        mode=int(mode),
    )


@register_jitable
def packed_inference(packed, i):
    """UE i's inference, as views into the packed arrays."""
    a, b = packed.first[i], packed.first[i + 1]
    return Inference(
        packed.offsets[a + i : b + i + 1],
        packed.predecessors[packed.first_edge[i] : packed.first_edge[i + 1]],
        packed.is_sink[a:b],
        packed.ue_s[a:b],
        packed.edge_s[a:b],
        packed.output_bytes[a:b],
        packed.missing_bytes[a:b],
        packed.input_bytes[i],
        packed.mode,
    )


@njit(inline="always")
def packed_channel(packed, i):
    """UE i's channel."""
    return Channel(
        packed.up_hz[i],
        packed.down_hz[i],
        packed.snr_up[i],
        packed.snr_down[i],
        packed.concentrates[i],
        packed.message_s,
    )


@lean
def packed_link(packed, i, bandwidth_share, compute_share):
    """UE i's link with the given shares."""
    return link_over(packed_channel(packed, i), bandwidth_share, compute_share)


@inner
def latency_of(packed, i, placement, bandwidth_share, compute_share, scratch):
    """Seconds of UE i's inference; `placement` is (L,) of that UE."""
    link = packed_link(packed, i, bandwidth_share, compute_share)
    return kernel.run(placement, packed_inference(packed, i), link, scratch)[1]


@compiled
def latencies(packed, placements, bandwidth_share, compute_share):
    """(N,) seconds; `placements` is the concatenation over UEs. O(total layers + edges)."""
    n_ues = len(packed.weight)
    most_layers = kernel.ZERO
    for i in range(n_ues):
        most_layers = max(most_layers, packed.first[i + 1] - packed.first[i])
    scratch = kernel.new_scratch(most_layers)
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
        link = packed_link(packed, i, plan.bandwidth_share[i], plan.compute_share[i])
        inference, sides = packed_inference(packed, i), plan.placements[i]
        results.append(
            timeline_of(ue.dnn, inference, ue.resident, sides, marks == 1, link, until_s)
        )
    return tuple(results)


def _binary_vectors(name: str, vectors: Sequence[ArrayLike]) -> tuple[NDArray[np.int8], ...]:
    return tuple(binary_vector(f"{name}[{i}]", v, np.size(v)) for i, v in enumerate(vectors))
