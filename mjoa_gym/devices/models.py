"""The device models: from a DNN to seconds per layer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.layers import KINDS

LABELS = ("device", "runtime", "threads", "date")
"""What a measured table may say about its origin."""


class Profile(Protocol):
    """What a device model reads of a DNN with L layers; arrays are float64 of shape (L,)."""

    @property
    def name(self) -> str:
        """Name, the key of measured tables."""

    @property
    def n_layers(self) -> int:
        """Number of layers L."""

    @property
    def layer_names(self) -> tuple[str, ...]:
        """L unique names."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """L entries of `KINDS`."""

    @property
    def flops(self) -> NDArray[np.float64]:
        """FLOPs, 2 per multiply-add, shape (L,)."""

    @property
    def parameter_bytes(self) -> NDArray[np.float64]:
        """Bytes of parameters, shape (L,)."""

    @property
    def output_bytes(self) -> NDArray[np.float64]:
        """Bytes of the output tensor, shape (L,)."""

    @property
    def input_bytes(self) -> float:
        """Bytes of the network's input tensor."""

    @property
    def predecessors(self) -> tuple[tuple[int, ...], ...]:
        """Per layer, the layers it reads; -1 is the network's input."""

    @property
    def layers(self) -> Profile | None:
        """For a DNN of blocks, the DNN of its layers."""

    @property
    def block_of(self) -> NDArray[np.integer[Any]] | None:
        """For a DNN of blocks, the block of every layer of `layers`."""


@dataclass(frozen=True)
class Device(ABC):
    """A device with a name; subclasses say how long it takes per layer."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name: got {self.name!r}; allowed: a non-empty string")

    def seconds(self, dnn: Profile) -> NDArray[np.float64]:
        """Return the execution time of every layer.

        For a DNN of blocks the times are computed on its layers and summed per block.

        Args:
            dnn: The DNN, with L layers (or L blocks).

        Returns:
            Seconds per layer, shape (L,), float64, all finite and >= 0.

        Raises:
            ValueError: If the device cannot tell the times of this DNN.
        """
        if dnn.layers is None or dnn.block_of is None:
            return self._layer_seconds(dnn)
        seconds = np.zeros(dnn.n_layers)
        np.add.at(seconds, dnn.block_of, self.seconds(dnn.layers))
        return seconds

    def scaled(self, speed: float) -> Device:
        """Return the same device, `speed` times as fast on every layer."""
        return ScaledDevice(name=f"{self.name} x{speed:g}", device=self, speed=speed)

    @abstractmethod
    def _layer_seconds(self, dnn: Profile) -> NDArray[np.float64]:
        """Return seconds per layer, shape (L,), for a DNN that is not made of blocks."""


@dataclass(frozen=True)
class ScaledDevice(Device):
    """Another device, `speed` times as fast.

    Attributes:
        device: The original.
        speed: Factor, > 0; 0.5 doubles all times.
    """

    device: Device
    speed: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("speed", self.speed, positive=True)

    def _layer_seconds(self, dnn: Profile) -> NDArray[np.float64]:
        return self.device.seconds(dnn) / self.speed


@dataclass(frozen=True)
class FlopsDevice(Device):
    """Seconds = FLOPs / speed + overhead.

    The simplest model and the one most papers use. It ignores that memory traffic, not arithmetic,
    bounds many layers.

    Attributes:
        flops_per_s: Speed in FLOP/s (1 multiply-add = 2 FLOPs), > 0.
        overhead_s: Fixed seconds per layer, >= 0.
    """

    flops_per_s: float
    overhead_s: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("flops_per_s", self.flops_per_s, positive=True)
        check_number("overhead_s", self.overhead_s)

    def _layer_seconds(self, dnn: Profile) -> NDArray[np.float64]:
        return dnn.flops / self.flops_per_s + self.overhead_s


@dataclass(frozen=True)
class RooflineDevice(Device):
    """Seconds = FLOPs / throughput(kind), bytes / bandwidth and a fixed overhead, combined.

    ``combine="max"`` is the roofline, ``max(F / P, bytes / B) + c``: arithmetic and memory traffic
    overlap perfectly (Williams, Waterman, Patterson, *Roofline*, CACM 52(4), 2009). ``"sum"`` is
    ``F / P + bytes / B + c``: they do not overlap, which fits measured batch-1 times better.
    Bytes are those of `layer_bytes`.

    Attributes:
        throughput_flops_per_s: FLOP/s per kind of layer, each > 0. Keys are from `KINDS`;
            ``"other"`` is required and stands for the kinds not listed.
        memory_bytes_per_s: Memory bandwidth B in bytes/s, > 0.
        overhead_s: Fixed seconds c per layer, >= 0.
        combine: ``"max"`` or ``"sum"``.
        note: Origin of the figures, free text.
    """

    throughput_flops_per_s: Mapping[str, float] = field(hash=False)
    memory_bytes_per_s: float
    overhead_s: float = 0.0
    combine: Literal["max", "sum"] = "max"
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        throughput = dict(self.throughput_flops_per_s)
        if "other" not in throughput:
            kinds = ", ".join(throughput) or "none"
            raise ValueError(f"throughput_flops_per_s: got {kinds}; allowed: kinds with 'other'")
        for kind, value in throughput.items():
            check_choice("throughput_flops_per_s", kind, KINDS)
            check_number(f"throughput_flops_per_s[{kind!r}]", value, positive=True)
        object.__setattr__(self, "throughput_flops_per_s", throughput)
        check_number("memory_bytes_per_s", self.memory_bytes_per_s, positive=True)
        check_number("overhead_s", self.overhead_s)
        check_choice("combine", self.combine, ("max", "sum"))

    def _layer_seconds(self, dnn: Profile) -> NDArray[np.float64]:
        speeds = self.throughput_flops_per_s
        compute = dnn.flops / np.array([speeds.get(k, speeds["other"]) for k in dnn.kinds])
        memory = layer_bytes(dnn) / self.memory_bytes_per_s
        both = np.maximum(compute, memory) if self.combine == "max" else compute + memory
        return both + self.overhead_s


@dataclass(frozen=True)
class TableDevice(Device):
    """Measured seconds, one table per DNN.

    Attributes:
        tables: ``{DNN name: {layer: seconds}}``, seconds finite and >= 0. Layers are the DNN's
            layer names or, if it has no such names, positions "0", "1", ... in program order.
        labels: What was measured: any of `LABELS`.
    """

    tables: Mapping[str, Mapping[str, float]] = field(hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        tables = {dnn: dict(table) for dnn, table in self.tables.items()}
        for dnn, table in tables.items():
            for layer, value in table.items():
                check_number(f"seconds of dnn {dnn!r}, layer {layer!r}", value)
        for label in self.labels:
            check_choice("labels", label, LABELS)
        object.__setattr__(self, "tables", tables)
        object.__setattr__(self, "labels", dict(self.labels))

    def _layer_seconds(self, dnn: Profile) -> NDArray[np.float64]:
        check_choice(f"dnn (table {self.name!r})", dnn.name, sorted(self.tables))
        table, where = self.tables[dnn.name], f"table {self.name!r}, dnn {dnn.name!r}"
        if len(table) != dnn.n_layers:
            raise ValueError(f"layers of {where}: got {len(table)}; allowed: {dnn.n_layers}")
        positions = tuple(str(layer) for layer in range(dnn.n_layers))
        by_position = set(table) <= set(positions) - set(dnn.layer_names)
        layers = positions if by_position else dnn.layer_names
        for layer in table:
            check_choice(f"layer of {where}", layer, layers)
        return np.array([table[layer] for layer in layers], dtype=np.float64)


def layer_bytes(dnn: Profile) -> NDArray[np.float64]:
    """Return the bytes that every layer moves: its input tensors, parameters and output.

    An embedding reads only the rows it looks up, that is, as many bytes as it writes.

    Args:
        dnn: A DNN with L layers.

    Returns:
        Bytes, shape (L,), float64.
    """
    tensors = np.append(dnn.output_bytes, dnn.input_bytes)  # predecessor -1 is the network's input
    read = np.array([tensors[list(p)].sum() for p in dnn.predecessors], dtype=np.float64)
    embedding = np.array([kind == "embedding" for kind in dnn.kinds], dtype=bool)
    looked_up = np.minimum(dnn.parameter_bytes, dnn.output_bytes)
    return read + np.where(embedding, looked_up, dnn.parameter_bytes) + dnn.output_bytes


def check_number(name: str, value: object, *, positive: bool = False) -> None:
    """Raise ValueError unless `value` is a finite number >= 0, or > 0."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Real)
        or not math.isfinite(value)
        or value < 0
        or (positive and value == 0)
    ):
        raise ValueError(
            f"{name}: got {value!r}; allowed: a finite number {'>' if positive else '>='} 0"
        )


def check_choice(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}; allowed: {', '.join(allowed) or 'none'}")
