"""Random instances, and one UE's latency at equal shares by way of the public simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from mjoa_gym import DNN, UE, Instance, simulate
from mjoa_gym.model import radio
from mjoa_gym.model.inference import UPLOAD_MODES
from tests.random_dnns import random_dnn_arrays


def random_ue(rng: np.random.Generator, n_layers: int, chain: bool) -> UE:
    """A UE with a random network, links from poor to good, and at times some resident layers."""
    arrays = random_dnn_arrays(rng, n_layers, chain)
    ue_seconds, edge_seconds = arrays.pop("ue_seconds"), arrays.pop("edge_seconds")
    resident = rng.choice([0.0, 0.0, 0.3, 1.0], size=n_layers) if rng.random() < 0.5 else None
    snr_up, snr_down = 10.0 ** rng.uniform(-1, 3, size=2)
    weight = rng.uniform(0.5, 2.0)
    dnn = DNN(name="random", **arrays)
    return UE(dnn, ue_seconds, edge_seconds, snr_up, snr_down, resident, weight)


def random_instance(
    seed: int,
    n_ues: int | None = None,
    max_layers: int = 12,
    chain: bool | None = None,
    upload: str | None = None,
) -> Instance:
    """An instance of 1 to 5 UEs (or `n_ues`); modes take turns, half the networks are chains."""
    rng = np.random.default_rng(seed)
    ues = []
    for _ in range(n_ues or int(rng.integers(1, 6))):
        is_chain = bool(rng.random() < 0.5) if chain is None else chain
        ues.append(random_ue(rng, int(rng.integers(1, max_layers + 1)), is_chain))
    mode = UPLOAD_MODES[seed % 4] if upload is None else upload
    return Instance(ues, bandwidth_hz=10.0 ** rng.uniform(6, 8.5), upload=mode)


def varied(instance: Instance, seed: int) -> Instance:
    """The same instance with messages that cost seconds, and given rates for some UEs."""
    rng = np.random.default_rng(seed)
    ues = []
    for ue in instance.ues:
        if rng.random() < 0.4:
            up, down = 10.0 ** rng.uniform(5.5, 8.5, size=2)
            rates = {"uplink_bps": up, "downlink_bps": down}
            ue = replace(ue, snr_up=None, snr_down=None, **rates)
        ues.append(ue)
    return replace(instance, ues=ues, message_s=10.0 ** rng.uniform(-4, -0.5))


def without_link(instance: Instance, direction: str) -> Instance:
    """The same instance with the first UE's "snr_up" or "snr_down" at zero."""
    ue = instance.ues[0]
    snr = {"snr_up": ue.snr_up, "snr_down": ue.snr_down} | {direction: 0.0}
    return replace(instance, ues=[replace(ue, weight=1.0, **snr), *instance.ues[1:]])


def as_blocks(instance: Instance) -> Instance:
    """The same instance with every network replaced by its chain of blocks."""
    ues = []
    for ue in instance.ues:
        blocks = ue.dnn.blocks()
        missing = np.bincount(blocks.block_of, ue.dnn.parameter_bytes * (1 - ue.resident))
        resident = np.clip(1 - missing / np.maximum(blocks.parameter_bytes, 1), 0, 1)
        sums = [np.bincount(blocks.block_of, s) for s in (ue.ue_seconds, ue.edge_seconds)]
        ues.append(UE(blocks, *sums, ue.snr_up, ue.snr_down, resident, ue.weight))
    return Instance(ues, instance.bandwidth_hz, instance.upload)


def rates(instance: Instance, i: int) -> tuple[float, float]:
    """UE i's uplink and downlink in bits per second with 1/N of the band."""
    ue, share = instance.ues[i], 1.0 / instance.n_ues
    return (
        radio.uplink_bps(instance.bandwidth_hz, share, ue.snr_up),
        radio.downlink_bps(instance.bandwidth_hz, share, ue.snr_down),
    )


def seconds_alone(
    instance: Instance,
    i: int,
    placement: ArrayLike,
    upload: str,
    resident: ArrayLike | None = None,
    compute_share: float | None = None,
) -> float:
    """UE i's latency with 1/N of the band, and 1/N of the server if no other share is given."""
    ue, share = instance.ues[i], compute_share or 1.0 / instance.n_ues
    there = ue.resident if resident is None else resident
    return simulate(
        ue.dnn, placement, ue.ue_seconds, ue.edge_seconds, *rates(instance, i), there, upload,
        message_s=instance.message_s, compute_share=share,
    ).latency  # fmt: skip
