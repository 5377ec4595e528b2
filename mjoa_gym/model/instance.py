"""One round's problem (`Instance`), the answer (`Plan`), and its cost (`evaluate_cost`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import register_jitable
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.devices import Power
from mjoa_gym.dnn import DNN
from mjoa_gym.model import kernel, objective
from mjoa_gym.model.compiling import compiled, either, lean, lean_inner
from mjoa_gym.model.energy import energy_of, judge, local_j, watts
from mjoa_gym.model.inference import Inference, Upload, inference_of, resident_fractions
from mjoa_gym.model.link import BITS_PER_BYTE, Channel, link_over
from mjoa_gym.model.reference import by_reference, reference
from mjoa_gym.model.simulator import Timeline, timeline_of
from mjoa_gym.model.uploads import upload
from mjoa_gym.validation import (
    binary_vector,
    fraction,
    non_negative,
    non_negative_vector,
    positive,
    positive_or_inf,
    zero_or_more,
)

SHARE_TOLERANCE = 1e-6
"""How far the sum of shares may exceed 1. Rounding, also that of float32 policies, is not an
error."""


class _Rebuilt:
    """A dataclass that is unpickled by its constructor, so that its arrays stay read-only."""

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class UE(_Rebuilt):
    """One user equipment and the inference that it issues.

    Attributes:
        dnn: The network, L layers.
        ue_seconds: (L,) seconds of each layer on the UE.
        edge_seconds: (L,) seconds of each layer on the *whole* server.
        snr_up: Linear uplink SNR at full band; None for a UE with given rates.
        snr_down: Linear downlink SNR at full band; None for a UE with given rates.
        resident: (L,) fraction of each layer's parameters already on the server; default none.
        weight: Weight of the inference in the cost, > 0.
        uplink_bps: Uplink rate in bits per second with the whole band, in place of an SNR. A share
            of the band gives the same share of the rate.
        downlink_bps: Downlink rate in bits per second with the whole band, in place of an SNR.
        message_s: Delay of every message of this UE in seconds; None for the delay of the instance.
        deadline_s: Deadline of the inference in seconds, > 0; by default there is none (inf).
        power: Power that the UE draws from its battery; None if it is unknown.

    Raises:
        ValueError: If an argument is not allowed. The message names the field, its value and what
            is allowed.
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
    message_s: float | None
    deadline_s: float
    power: Power | None

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
        message_s: float | None = None,
        deadline_s: float = np.inf,
        power: Power | None = None,
    ) -> None:
        if power is not None and not isinstance(power, Power):
            raise ValueError(f"power={power!r}: must be a Power, or None")
        snrs = {"snr_up": snr_up, "snr_down": snr_down}
        rates = {"uplink_bps": uplink_bps, "downlink_bps": downlink_bps}
        given = {name: value for name, value in (snrs | rates).items() if value is not None}
        if list(given) not in (list(snrs), list(rates)):
            raise ValueError(f"got {list(given)}: give either {list(snrs)} or {list(rates)}")
        check = non_negative if snr_up is not None else zero_or_more
        vars(self).update(
            dnn=dnn,
            ue_seconds=non_negative_vector("ue_seconds", ue_seconds, dnn.n_layers),
            edge_seconds=non_negative_vector("edge_seconds", edge_seconds, dnn.n_layers),
            resident=resident_fractions(dnn, resident),
            weight=positive("weight", weight),
            message_s=None if message_s is None else non_negative("message_s", message_s),
            deadline_s=positive_or_inf("deadline_s", deadline_s),
            power=power,
            **(snrs | rates | {name: check(name, value) for name, value in given.items()}),
        )

    @property
    def local_s(self) -> float:
        """Seconds of the inference with every layer on the UE."""
        return float(self.ue_seconds.sum())

    @property
    def local_j(self) -> float | None:
        """Joules of the inference with every layer on the UE; None if the UE's power is unknown."""
        return None if self.power is None else float(local_j(watts(self.power), self.local_s))

    @property
    def reachable(self) -> bool:
        """Whether a share of the band carries anything, in both directions."""
        channel = self.channel(1.0, 0.0)
        return min(channel.snr_up * channel.up_hz, channel.snr_down * channel.down_hz) > 0

    def channel(self, bandwidth_hz: float, message_s: float) -> Channel:
        """The values that decide the UE's rates in a band.

        `message_s` is the delay of messages, unless the UE has its own.
        """
        message_s = message_s if self.message_s is None else self.message_s
        if self.snr_up is None or self.snr_down is None:
            assert self.uplink_bps is not None and self.downlink_bps is not None  # noqa: PT018
            # with an SNR of 1 the rate in bits per second equals the band in Hz
            return Channel(self.uplink_bps, self.downlink_bps, 1.0, 1.0, False, message_s)
        return Channel(bandwidth_hz, bandwidth_hz, self.snr_up, self.snr_down, True, message_s)


class Stored(NamedTuple):
    """The part of a network that the server holds.

    Attributes:
        dnn: The network, L layers.
        resident: (L,) fraction of each layer's parameters on the server.
        idle_rounds: (L,) rounds since each layer was used.
    """

    dnn: DNN
    resident: NDArray[np.float64]
    idle_rounds: NDArray[np.int64]


def expected_rounds(rounds_left: int, departure_probability: float) -> float:
    """Return how many of the next `rounds_left` rounds a UE is expected to see."""
    stays = 1.0 - departure_probability
    return float(np.sum(stays ** np.arange(1, rounds_left + 1)))


@dataclass(frozen=True, eq=False)
class Horizon(_Rebuilt):
    """The knowledge about later rounds, if UEs and their parameters stay.

    Attributes:
        rounds_left: Rounds of the episode after this one.
        period_s: Least duration of a round in seconds.
        server_memory_bytes: Bytes of parameters that the server keeps between rounds.
        departure_probability: Probability that a UE leaves after a round.
        idle_rounds: Per UE (L,) rounds since each layer was used; by default all 0.
        snr_up: (N,) linear uplink SNRs to expect in later rounds. By default they are those of this
            round. Leave it out for UEs with given rates.
        snr_down: (N,) linear downlink SNRs to expect in later rounds, as `snr_up`.
        scenario: The scenario from which the UEs were drawn, if there is one. A planner may prepare
            for it.
        share_parameters: Whether layers with the same `DNN.fingerprints` are stored once, and serve
            every UE whose network has them.
        retain: Whether the server drops the layers that a plan marks in `retain` after all others.
        others: What the server holds of networks that none of the UEs runs, if parameters are
            shared.

    Raises:
        ValueError: If an argument is not allowed. The message names the field, its value and what
            is allowed.
    """

    rounds_left: int
    period_s: float
    server_memory_bytes: float
    departure_probability: float = 0.0
    idle_rounds: tuple[NDArray[np.int64], ...] | None = None
    snr_up: NDArray[np.float64] | None = None
    snr_down: NDArray[np.float64] | None = None
    scenario: Any = None
    share_parameters: bool = False
    retain: bool = False
    others: tuple[Stored, ...] = ()

    def __post_init__(self) -> None:
        vars(self).update(
            rounds_left=int(non_negative("rounds_left", self.rounds_left)),
            period_s=positive("period_s", self.period_s),
            server_memory_bytes=zero_or_more("server_memory_bytes", self.server_memory_bytes),
            departure_probability=fraction("departure_probability", self.departure_probability),
        )

    @property
    def expected_rounds(self) -> float:
        """The number of rounds after this one for which a UE is expected to stay."""
        return expected_rounds(self.rounds_left, self.departure_probability)

    def check_fits(self, ues: Sequence[UE]) -> None:
        """Raise a ValueError if the shapes do not fit the UEs."""
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
        ues: The N UEs. Each issues one inference.
        bandwidth_hz: The band that the UEs share, the same in both directions. It does not affect
            UEs with given rates, and is 1 by default if all UEs have given rates.
        upload: Upload mode: "parallel", "serial", "whole" or "preinstalled".
        message_s: Seconds from the departure of a message's last byte until it can be used, >= 0. A
            UE may have its own value.
        horizon: What is known about later rounds; None if nothing of this round stays.
        energy_price_s_per_j: Price in seconds of a joule that a UE spends, >= 0.
        miss_price_s: Price in seconds of a missed deadline, >= 0.

    Raises:
        ValueError: If an argument is not allowed. The message names the field, its value and what
            is allowed.
    """

    ues: tuple[UE, ...]
    bandwidth_hz: float
    upload: str = "parallel"
    message_s: float = 0.0
    horizon: Horizon | None = None
    energy_price_s_per_j: float = 0.0
    miss_price_s: float = 0.0

    def __init__(
        self,
        ues: Sequence[UE],
        bandwidth_hz: float | None = None,
        upload: str = "parallel",
        message_s: float = 0.0,
        horizon: Horizon | None = None,
        energy_price_s_per_j: float = 0.0,
        miss_price_s: float = 0.0,
    ) -> None:
        if not ues:
            raise ValueError("ues is empty: an instance has at least one UE")
        if bandwidth_hz is None and any(ue.snr_up is not None for ue in ues):
            raise ValueError("bandwidth_hz=None: must be given if a UE has SNRs")
        if horizon is not None:
            horizon.check_fits(ues)
        vars(self).update(
            ues=tuple(ues),
            bandwidth_hz=positive("bandwidth_hz", 1.0 if bandwidth_hz is None else bandwidth_hz),
            upload=Upload.of(upload).label,
            message_s=non_negative("message_s", message_s),
            horizon=horizon,
            energy_price_s_per_j=non_negative("energy_price_s_per_j", energy_price_s_per_j),
            miss_price_s=non_negative("miss_price_s", miss_price_s),
        )
        if self.energy_price_s_per_j > 0:
            self.powers  # noqa: B018 - a UE without power raises here

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
        """(N,) all-local latencies in seconds."""
        return np.array([ue.local_s for ue in self.ues])

    @cached_property
    def local_counts_s(self) -> NDArray[np.float64]:
        """(N,) costs of all-local inferences in seconds, before the UEs' weights."""
        priced = self.energy_price_s_per_j > 0
        joules = [ue.local_j if priced and ue.local_j is not None else 0.0 for ue in self.ues]
        return _counts_s(self, self.local_s, np.array(joules))

    @cached_property
    def local_cost(self) -> NDArray[np.float64]:
        """(N,) costs of all-local inferences, as `evaluate_cost` defines them."""
        return objective.cost(self.weights, self.local_counts_s)

    @cached_property
    def powers(self) -> NDArray[np.float64]:
        """(N, 4) watts of the UEs in the order of `Power`.

        Raises:
            ValueError: If a UE has no power. The message names it.
        """
        for i, ue in enumerate(self.ues):
            if ue.power is None:
                raise ValueError(f"ues[{i}].power=None: its energy is not known without a Power")
        return np.array([watts(ue.power) for ue in self.ues])

    def rates_bps(
        self, bandwidth_share: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The UEs' rates at given shares (N,) of the band.

        Returns:
            The uplinks and the downlinks, (N,) each, in bits per second.

        Raises:
            ValueError: If there is not one share >= 0 for each UE.
        """
        shares = non_negative_vector("bandwidth_share", bandwidth_share, self.n_ues)
        links = [
            link_over(ue.channel(self.bandwidth_hz, self.message_s), share, 1.0)
            for ue, share in zip(self.ues, shares, strict=True)
        ]
        up_bps, down_bps = BITS_PER_BYTE / np.array([(own.up, own.down) for own in links]).T
        return up_bps, down_bps

    @cached_property
    def packed(self) -> Packed:
        """The instance as flat arrays for kernels."""
        return pack(self)


@dataclass(frozen=True, eq=False)
class Plan(_Rebuilt):
    """The answer to an instance.

    Attributes:
        placements: Per UE (L,) 0 = UE, 1 = edge.
        bandwidth_share: (N,) shares of the band, each >= 0; their sum is at most 1.
        compute_share: (N,) shares of the server, each >= 0; their sum is at most 1.
        prefetch: Per UE (L,) marks of layers to upload in addition; None for no prefetch at all.
        retain: Per UE (L,) marks of layers that the server is to drop after all others; None for no
            marks at all. The marks have no effect if nothing stays.

    Raises:
        ValueError: If an argument is not allowed. The message names the field, its value and what
            is allowed.
    """

    placements: tuple[NDArray[np.int8], ...]
    bandwidth_share: NDArray[np.float64]
    compute_share: NDArray[np.float64]
    prefetch: tuple[NDArray[np.int8], ...] | None = None
    retain: tuple[NDArray[np.int8], ...] | None = None

    def __init__(
        self,
        placements: Sequence[ArrayLike],
        bandwidth_share: ArrayLike,
        compute_share: ArrayLike,
        prefetch: Sequence[ArrayLike] | None = None,
        retain: Sequence[ArrayLike] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "placements", _binary_vectors("placements", placements))
        n = len(self.placements)
        for name, share in (("bandwidth_share", bandwidth_share), ("compute_share", compute_share)):
            shares = non_negative_vector(name, share, n)
            if shares.sum() > 1 + SHARE_TOLERANCE:
                raise ValueError(f"{name} sums to {float(shares.sum())!r}: at most 1 is allowed")
            put(self, name, shares)
        for name, rows in (("prefetch", prefetch), ("retain", retain)):
            if rows is not None and len(rows) != n:
                raise ValueError(f"{name} has {len(rows)} entries for {n} UEs")
            put(self, name, None if rows is None else _binary_vectors(name, rows))

    def check_fits(self, instance: Instance) -> None:
        """Raise a ValueError if the plan's shapes are not those of `instance`."""
        if len(self.placements) != instance.n_ues:
            raise ValueError(
                f"placements has {len(self.placements)} entries for {instance.n_ues} UEs"
            )
        for i, ue in enumerate(instance.ues):
            for name in ("placements", "prefetch", "retain"):
                vectors = getattr(self, name)
                if vectors is not None and len(vectors[i]) != ue.dnn.n_layers:
                    raise ValueError(
                        f"{name}[{i}] has {len(vectors[i])} entries; "
                        f"{ue.dnn.name} has {ue.dnn.n_layers} layers"
                    )


@by_reference
class Packed(NamedTuple):
    """An instance as flat arrays: UE i's layers are `first[i]..first[i + 1]`.

    Fields without a comment hold the values of `Inference` for every layer, or of `Channel` for
    every UE.
    """

    first: NDArray[np.int64]  # (N + 1,) offsets into the per-layer arrays
    first_edge: NDArray[np.int64]  # (N + 1,) offsets into `predecessors`
    offsets: NDArray[np.int64]  # per layer, plus one per UE: offsets into its own predecessors
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
    message_s: NDArray[np.float64]
    weight: NDArray[np.float64]  # (N,)
    local_s: NDArray[np.float64]  # (N,) as `Instance.local_counts_s`
    prices: NDArray[np.float64]  # (N, 6) the fields of `Prices` but for `free`
    free: bool  # as in `Prices`
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
    rates = ("up_hz", "down_hz", "snr_up", "snr_down", "concentrates", "message_s")
    return Packed(
        first=bounds([ue.dnn.n_layers for ue in ues]),
        first_edge=bounds([len(inference.predecessors) for inference in inferences]),
        **{name: joined(name) for name in layers},
        input_bytes=np.array([ue.dnn.input_bytes for ue in ues]),
        **{name: np.array([getattr(channel, name) for channel in channels]) for name in rates},
        weight=instance.weights,
        local_s=instance.local_counts_s,
        prices=np.array([_prices_of(instance, ue)[:-1] for ue in ues]),
        free=instance.energy_price_s_per_j == instance.miss_price_s == 0.0,
        mode=int(mode),
    )


def _prices_of(instance: Instance, ue: UE) -> objective.Prices:
    """The prices of a UE's inference."""
    watts_of_ue = np.zeros(4) if ue.power is None else watts(ue.power)
    price, miss_s = instance.energy_price_s_per_j, instance.miss_price_s
    computing, waiting, sending, receiving = (price * watts_of_ue).tolist()
    return objective.Prices(
        computing, waiting, sending, receiving, ue.deadline_s, miss_s, price == miss_s == 0.0
    )


@either
def packed_prices(packed, i):
    """The prices of UE i's inference."""
    own = packed.prices[i]
    return objective.Prices(own[0], own[1], own[2], own[3], own[4], own[5], packed.free)


@register_jitable
def packed_inference(packed, i):
    """UE i's inference, with views into the packed arrays."""
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
        packed_prices(packed, i),
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
        packed.message_s[i],
    )


@lean
def packed_link(packed, i, bandwidth_share, compute_share):
    """UE i's link with given shares."""
    return link_over(packed_channel(packed, i), bandwidth_share, compute_share)


@lean_inner
def counts_of(packed, i, placement, bandwidth_share, compute_share, scratch):
    """The cost of UE i's inference in seconds, before its weight; `placement` (L,) is that UE's."""
    link = packed_link(packed, i, bandwidth_share, compute_share)
    return judge(placement, reference(packed_inference(packed, i)), link, scratch)


@lean_inner
def latency_of(packed, i, placement, bandwidth_share, compute_share, scratch):
    """The latency of UE i's inference in seconds; `placement` (L,) is that UE's."""
    link = packed_link(packed, i, bandwidth_share, compute_share)
    return kernel.run(placement, reference(packed_inference(packed, i)), link, scratch)[1]


@lean_inner
def most_layers(packed):
    """The number of layers of the deepest network."""
    most = kernel.ZERO
    for i in range(len(packed.weight)):
        most = max(most, packed.first[i + 1] - packed.first[i])
    return most


@compiled
def latencies(packed, placements, bandwidth_share, compute_share):
    """The latencies (N,) of all UEs in seconds; O(total layers + edges).

    `placements` is the concatenation of the UEs' placements.
    """
    n_ues, scratch = len(packed.weight), kernel.new_scratch(most_layers(packed))
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


@compiled
def energies(packed, powers, placements, prefetch, bandwidth_share, compute_share, round_s):
    """The UEs' joules (N,), with prefetches until the round ends.

    `powers` is (N, 4). `placements` and `prefetch` (marks of layers) are concatenated over the UEs.
    `round_s` is the time in seconds at which the round ends.
    """
    n_ues, most = len(packed.weight), most_layers(packed)
    scratch, sent = kernel.new_scratch(most), np.empty(most)
    unrecorded = np.empty((0, 3))
    joules = np.empty(n_ues)
    for i in range(n_ues):
        a, b = packed.first[i], packed.first[i + 1]
        inference = reference(packed_inference(packed, i))
        link = packed_link(packed, i, bandwidth_share[i], compute_share[i])
        n_up, latency_s = kernel.run(placements[a:b], inference, link, scratch)
        marks, outline = prefetch[a:b], scratch.outline
        upload(outline, marks, inference, link, round_s, n_up, scratch, sent, unrecorded)
        joules[i] = energy_of(powers[i], outline, inference, link, latency_s, sent)
    return joules


def evaluate_energy(instance: Instance, plan: Plan) -> NDArray[np.float64]:
    """The joules that every UE spends under a plan.

    Prefetches count until the round ends. A round lasts as long as its slowest inference and, if
    there is a `horizon`, at least its period.

    Returns:
        (N,) joules; inf where the latency of `evaluate` is inf.

    Raises:
        ValueError: If a UE has no `power`, or the plan's shapes are not those of the instance.
    """
    powers, seconds = instance.powers, evaluate(instance, plan)
    placements = np.concatenate(plan.placements)
    marks = np.zeros_like(placements) if plan.prefetch is None else np.concatenate(plan.prefetch)
    least_s = 0.0 if instance.horizon is None else instance.horizon.period_s
    shares = plan.bandwidth_share, plan.compute_share
    round_s = max(least_s, float(seconds.max()))
    return energies(instance.packed, powers, placements, marks == 1, *shares, round_s)


def evaluate_cost(instance: Instance, plan: Plan) -> NDArray[np.float64]:
    """The cost of every UE's inference under a plan, in weighted seconds.

    With the prices of the instance it is

        weight * (latency + energy_price_s_per_j * joules + miss_price_s * missed)

    where `missed` is 1 if the latency exceeds the deadline, and otherwise 0. A round's reward is 1
    minus the sum of these costs divided by the sum of `Instance.local_cost`.

    Returns:
        (N,) weighted seconds; inf where the latency of `evaluate` is inf.

    Raises:
        ValueError: If the plan's shapes are not those of the instance.
    """
    seconds = evaluate(instance, plan)
    priced = instance.energy_price_s_per_j > 0
    joules = evaluate_energy(instance, plan) if priced else np.zeros(instance.n_ues)
    return objective.cost(instance.weights, _counts_s(instance, seconds, joules))


def _counts_s(
    instance: Instance, seconds: NDArray[np.float64], joules: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) costs of inferences in seconds, before the weights, from their latencies and joules."""
    prices = instance.energy_price_s_per_j, instance.miss_price_s
    return np.array(
        [
            objective.priced(own_s, own_j, ue.deadline_s, *prices)
            for ue, own_s, own_j in zip(instance.ues, seconds, joules, strict=True)
        ]
    )


def timelines(instance: Instance, plan: Plan, until_s: float | None = None) -> tuple[Timeline, ...]:
    """The timeline of every UE under a plan (see `simulate`).

    `until_s` is the time in seconds at which the round ends, as for `simulate`.
    """
    plan.check_fits(instance)
    packed = instance.packed
    results = []
    for i, ue in enumerate(instance.ues):
        marks = np.zeros(ue.dnn.n_layers) if plan.prefetch is None else plan.prefetch[i]
        link = packed_link(packed, i, plan.bandwidth_share[i], plan.compute_share[i])
        inference, sides = packed_inference(packed, i), plan.placements[i]
        results.append(
            timeline_of(ue.dnn, inference, ue.resident, sides, marks == 1, link, until_s, ue.power)
        )
    return tuple(results)


def _binary_vectors(name: str, vectors: Sequence[ArrayLike]) -> tuple[NDArray[np.int8], ...]:
    return tuple(binary_vector(f"{name}[{i}]", v, np.size(v)) for i, v in enumerate(vectors))
