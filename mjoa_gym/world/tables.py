"""Everything that never changes during an episode, as padded arrays that kernels can index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mjoa_gym.devices import Device, Power
from mjoa_gym.dnn import DNN
from mjoa_gym.model.energy import watts
from mjoa_gym.model.inference import Inference, inference_of
from mjoa_gym.model.link import Channel
from mjoa_gym.model.objective import FREE
from mjoa_gym.model.reference import by_reference, reference
from mjoa_gym.validation import frozen, non_negative_vector


@by_reference
class Tables(NamedTuple):
    """D networks of at most L layers and K kinds of UE; read-only, padded with zeros.

    Arrays without a comment are (D, ...), as in `Inference`.
    """

    n_layers: NDArray[np.int64]  # (D,) layers of each network
    offsets: NDArray[np.int64]
    predecessors: NDArray[np.int64]
    is_sink: NDArray[np.bool_]
    ue_s: NDArray[np.float64]  # (D, K, L) seconds on a UE at speed factor 1
    local_s: NDArray[np.float64]  # (D, K) their sums
    edge_s: NDArray[np.float64]  # (D, L) seconds on the whole server
    output_bytes: NDArray[np.float64]
    parameter_bytes: NDArray[np.float64]  # (D, L)
    input_bytes: NDArray[np.float64]
    owner: NDArray[np.int64]
    """(2, D, L) the first network and its layer that hold the same parameters. Most layers own
    theirs."""
    borrows: NDArray[np.bool_]  # (D,) whether a network has layers that another one owns
    owns: NDArray[np.bool_]  # (D,) whether a network has parameters that it owns itself
    owned_bytes: NDArray[np.float64]  # (D, L) `parameter_bytes` of layers that own theirs, else 0
    power: NDArray[np.float64]  # (K, 4) watts of each kind of UE, as in `Power`; NaN if not known

    @property
    def width(self) -> int:
        """The maximum number of layers, L: rows of this length fit every network."""
        return self.is_sink.shape[1]


INTEGERS = (
    "mode", "n_dnns", "n_devices", "rayleigh_fading", "traced", "share_parameters", "retain",
    "knows_energy", "deadlines",
)  # fmt: skip
REALS = (
    "message_s", "ue_speed_min", "ue_speed_max", "weight_min", "weight_max", "bandwidth_hz",
    "ue_power_dbm", "edge_power_dbm", "noise_power_dbm", "path_loss_exponent", "reference_loss_db",
    "distance_min_m", "distance_max_m", "shadowing_db", "snr_min", "snr_max", "period_s",
    "server_memory_bytes", "departure_probability", "shadowing_correlation", "speed_m_per_s",
    "up_min", "up_max", "down_min", "down_max", "message_max",
    "energy_price_s_per_j", "miss_price_s", "deadline_min", "deadline_max",
)  # fmt: skip
NO_DEADLINES, FACTORS, SECONDS = range(3)
"""Values of `deadlines`: none, factors of all-local seconds, or seconds."""
CONSTANTS = np.dtype([*((n, np.int64) for n in INTEGERS), *((n, np.float64) for n in REALS)])
"""A scenario's numbers; `Scenario.constants` derives some of them."""


@lru_cache(maxsize=32)
def tables_of(
    dnns: tuple[DNN, ...], devices: tuple[Device, ...], server: Device, edge_speed: float
) -> Tables:
    """Return the tables of networks, UE devices and a server, at `edge_speed` times its speed.

    Raises:
        ValueError: If a device's times do not fit a network, or a network takes no time on a UE
            (so nothing could be gained).
    """
    ue_s = [[_seconds(device, dnn) for device in devices] for dnn in dnns]
    for dnn, rows in zip(dnns, ue_s, strict=True):
        if min(row.sum() for row in rows) <= 0:
            raise ValueError(f"{dnn.name} takes no time on a UE: nothing could be gained")
    inferences = [
        inference_of(dnn, rows[0], _seconds(server, dnn) / edge_speed)
        for dnn, rows in zip(dnns, ue_s, strict=True)
    ]
    return stacked(dnns, inferences, ue_s, [device.power for device in devices])


def stacked(
    dnns: Sequence[DNN],
    inferences: Sequence[Inference],
    ue_s: Sequence[Sequence[NDArray]],
    powers: Sequence[Power | None] = (None,),
) -> Tables:
    """Return the tables of D inferences with nothing resident, each with (K, L) seconds on UEs.

    `powers` belong to the K kinds of UE.
    """

    def padded(name: str) -> NDArray:
        return _padded([getattr(inference, name) for inference in inferences])

    shared = ("offsets", "predecessors", "is_sink", "edge_s", "output_bytes")
    parameter_bytes, owner = padded("missing_bytes"), _owners(dnns)  # all: nothing is resident
    owns = (owner == np.indices(owner.shape[1:])).all(axis=0)
    return Tables(
        n_layers=frozen(np.array([len(i.ue_s) for i in inferences], dtype=np.int64)),
        ue_s=frozen(np.stack([_padded(by_dnn) for by_dnn in zip(*ue_s, strict=True)], axis=1)),
        local_s=frozen(np.array([[row.sum() for row in rows] for rows in ue_s])),
        parameter_bytes=parameter_bytes,
        input_bytes=frozen(np.array([i.input_bytes for i in inferences])),
        owner=frozen(owner),
        borrows=frozen(~owns.all(axis=1)),
        owns=frozen((owns & (parameter_bytes > 0.0)).any(axis=1)),
        owned_bytes=frozen(np.where(owns, parameter_bytes, 0.0)),
        power=frozen(np.array([watts(power) for power in powers])),
        **{name: padded(name) for name in shared},
    )


@njit(cache=True, nogil=True, inline="always")
def inference_with(tables, d, ue_s, missing_bytes, mode):
    """Return an inference of network d as views; seconds and missing bytes are (>= L,)."""
    n = tables.n_layers[d]
    return reference(
        Inference(
            tables.offsets[d, : n + 1],
            tables.predecessors[d, : tables.offsets[d, n]],
            tables.is_sink[d, :n],
            ue_s[:n],
            tables.edge_s[d, :n],
            tables.output_bytes[d, :n],
            missing_bytes[:n],
            tables.input_bytes[d],
            mode,
            FREE,
        )
    )


@njit(cache=True, nogil=True, inline="always")
def channel_with(constants, up, down, message_s):
    """Return the channel of a UE whose link has these properties (`population.Population`)."""
    traced, band_hz = constants.traced != 0, constants.bandwidth_hz
    return Channel(
        up if traced else band_hz,
        down if traced else band_hz,
        1.0 if traced else up,  # an SNR of 1 gives a bit per second and Hz
        1.0 if traced else down,
        not traced,
        message_s,
    )


def _owners(dnns: Sequence[DNN]) -> NDArray[np.int64]:
    """`Tables.owner` of D networks."""
    owner = np.indices((len(dnns), max(dnn.n_layers for dnn in dnns)))
    first: dict[tuple[str, float], tuple[int, int]] = {}
    for d, dnn in enumerate(dnns):
        contents = zip(dnn.fingerprints, dnn.parameter_bytes.tolist(), strict=True)
        for layer, content in enumerate(contents):
            owner[:, d, layer] = first.setdefault(content, (d, layer))
    return owner


def _seconds(device: Device, dnn: DNN) -> NDArray[np.float64]:
    name = f"seconds of {dnn.name} on {device.name}"
    return non_negative_vector(name, device.seconds(dnn), dnn.n_layers)


def _padded(rows: Sequence[NDArray]) -> NDArray:
    padded: NDArray = np.zeros((len(rows), max(map(len, rows))), dtype=rows[0].dtype)
    for own, row in zip(padded, rows, strict=True):
        own[: len(row)] = row
    return frozen(padded)
