"""The device models: from a DNN to seconds per layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.devices.power import Power
from mjoa_gym.layers import KINDS
from mjoa_gym.validation import amount, choice, did_you_mean, mapping, number, positive, short

if TYPE_CHECKING:
    from mjoa_gym.dnn import DNN

LABELS = ("device", "runtime", "threads", "date")  # what measurements may say about their origin
FEATURES = ("flops", "parameter_bytes", "input_bytes", "output_bytes", "constant")
"""Features of a regression; the constant is 1 for every layer."""


@dataclass(frozen=True)
class Device(ABC):
    """A device with a name; subclasses define its seconds per layer.

    Attributes:
        power: Its power draw from a battery as a UE; None if it is not known.
    """

    name: str
    power: Power | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name={short(self.name)}: must be a text that is not empty")
        if self.power is not None and not isinstance(self.power, Power):
            raise ValueError(f"power={short(self.power)}: must be a Power, or None")

    def seconds(self, dnn: DNN) -> NDArray[np.float64]:
        """Return the seconds of every layer, (L,) float64, all finite and >= 0.

        For a DNN of blocks the times are computed on its layers and summed per block; a DNN at
        another precision takes as long as the original.

        Raises:
            ValueError: If the device has no times for this DNN.
        """
        if dnn.full is not None:
            return self.seconds(dnn.full)
        if dnn.layers is None or dnn.block_of is None:
            return self._layer_seconds(dnn)
        seconds = np.zeros(dnn.n_layers)
        np.add.at(seconds, dnn.block_of, self.seconds(dnn.layers))
        return seconds

    def scaled(self, speed: float) -> Device:
        """Return the same device, `speed` times as fast on every layer, with the same power."""
        return ScaledDevice(name=f"{self.name} x{speed:g}", device=self, speed=speed)

    @abstractmethod
    def _layer_seconds(self, dnn: DNN) -> NDArray[np.float64]:
        """Return seconds per layer, shape (L,), for a DNN that is not made of blocks."""


@dataclass(frozen=True)
class ScaledDevice(Device):
    """Another device, `speed` times as fast.

    Attributes:
        device: The original.
        speed: Factor, > 0; 0.5 doubles all times.
        power: The original's power, unless another one is given.
    """

    device: Device
    speed: float

    def __post_init__(self) -> None:
        if self.power is None:
            object.__setattr__(self, "power", self.device.power)
        super().__post_init__()
        positive("speed", number("speed", self.speed))

    def _layer_seconds(self, dnn: DNN) -> NDArray[np.float64]:
        return self.device.seconds(dnn) / self.speed


@dataclass(frozen=True)
class FlopsDevice(Device):
    """Seconds = FLOPs / speed + overhead.

    This is the simplest model and the one that most papers use. It ignores that memory traffic, not
    arithmetic, bounds many layers.

    Attributes:
        flops_per_s: Speed in FLOP/s (1 multiply-add = 2 FLOPs), > 0.
        overhead_s: Fixed seconds per layer, >= 0.
    """

    flops_per_s: float
    overhead_s: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("flops_per_s", number("flops_per_s", self.flops_per_s))
        amount("overhead_s", self.overhead_s)

    def _layer_seconds(self, dnn: DNN) -> NDArray[np.float64]:
        return dnn.flops / self.flops_per_s + self.overhead_s


@dataclass(frozen=True)
class RooflineDevice(Device):
    """Seconds = a combination of FLOPs / throughput(kind), bytes / bandwidth and an overhead.

    ``combine="max"`` is the roofline, ``max(F / P, bytes / B) + c``: arithmetic and memory traffic
    overlap perfectly (Williams, Waterman, Patterson, *Roofline*, CACM 52(4), 2009). ``"sum"`` is
    ``F / P + bytes / B + c``: they do not overlap, which fits measured batch-1 times better.
    `layer_bytes` defines the bytes.

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
            raise ValueError(f"throughput_flops_per_s has {list(throughput)}: 'other' is needed")
        for kind, value in throughput.items():
            choice("kind in throughput_flops_per_s", kind, KINDS)
            name = f"throughput_flops_per_s[{kind!r}]"
            positive(name, number(name, value))
        object.__setattr__(self, "throughput_flops_per_s", throughput)
        positive("memory_bytes_per_s", number("memory_bytes_per_s", self.memory_bytes_per_s))
        amount("overhead_s", self.overhead_s)
        choice("combine", self.combine, ("max", "sum"))

    def _layer_seconds(self, dnn: DNN) -> NDArray[np.float64]:
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
        labels: The origin of the measurements: any of `LABELS`.
    """

    tables: Mapping[str, Mapping[str, float]] = field(hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tables", _numbers("tables", self.tables, amount))
        object.__setattr__(self, "labels", _checked_labels(self.labels))

    def _layer_seconds(self, dnn: DNN) -> NDArray[np.float64]:
        choice(f"dnn of table {self.name!r}", dnn.name, sorted(self.tables))
        table = self.tables[dnn.name]
        positions = tuple(map(str, range(dnn.n_layers)))
        layers = max((dnn.layer_names, positions), key=lambda known: len(table.keys() & set(known)))
        lacks = [layer for layer in layers if layer not in table]
        has = [layer for layer in table if layer not in layers]
        if lacks or has:
            hint = did_you_mean(has[0], lacks) if has else ""
            faults = filter(None, (_listed("missing", lacks), _listed("not in the network", has)))
            where = f"layers of table {self.name!r}, dnn {dnn.name!r}"
            raise ValueError(f"{where}: {', '.join(faults)}{hint}")
        return np.array([table[layer] for layer in layers], dtype=np.float64)


@dataclass(frozen=True)
class RegressionDevice(Device):
    """Seconds = a sum of coefficients times features of the layer, by its kind; never below 0.

    Attributes:
        coefficients: ``{kind: {feature: seconds per unit}}`` with kinds from `KINDS` and features
            from `FEATURES`. A coefficient may be negative. ``"other"``, if it is present, stands
            for the kinds not listed.
        labels: The origin of the measurements: any of `LABELS`.
    """

    coefficients: Mapping[str, Mapping[str, float]] = field(hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        coefficients = _numbers("coefficients", self.coefficients, number)
        for kind, terms in coefficients.items():
            choice("kind in coefficients", kind, KINDS)
            for feature in terms:
                choice(f"feature in coefficients[{kind!r}]", feature, FEATURES)
        object.__setattr__(self, "coefficients", coefficients)
        object.__setattr__(self, "labels", _checked_labels(self.labels))

    def _layer_seconds(self, dnn: DNN) -> NDArray[np.float64]:
        columns = (dnn.flops, dnn.parameter_bytes, _input_bytes(dnn), dnn.output_bytes)
        features = np.stack((*columns, np.ones(dnn.n_layers)), axis=1)  # as in `FEATURES`
        other = self.coefficients.get("other")
        weights = np.zeros(features.shape)
        for layer, kind in enumerate(dnn.kinds):
            terms = self.coefficients.get(kind, other)
            if terms is None:
                has = f"no 'other', but {list(self.coefficients)}"
                raise ValueError(f"coefficients of {self.name!r}: no {kind!r}, {has}")
            weights[layer] = [terms.get(feature, 0.0) for feature in FEATURES]
        with np.errstate(all="ignore"):
            seconds = (weights * features).sum(axis=1)
        if not np.isfinite(seconds).all():
            raise ValueError(f"coefficients of {self.name!r} make infinite seconds of {dnn.name!r}")
        return np.maximum(seconds, 0.0)


def layer_bytes(dnn: DNN) -> NDArray[np.float64]:
    """Return the bytes that every layer moves, (L,): its input tensors, parameters and output.

    An embedding reads only the rows it looks up, that is, as many bytes as it writes.
    """
    embedding = np.array([kind == "embedding" for kind in dnn.kinds], dtype=bool)
    looked_up = np.minimum(dnn.parameter_bytes, dnn.output_bytes)
    parameters = np.where(embedding, looked_up, dnn.parameter_bytes)
    return _input_bytes(dnn) + parameters + dnn.output_bytes


def _input_bytes(dnn: DNN) -> NDArray[np.float64]:
    tensors = np.append(dnn.output_bytes, dnn.input_bytes)  # predecessor -1 is the network's input
    return np.array([tensors[list(p)].sum() for p in dnn.predecessors], dtype=np.float64)


def _numbers(
    name: str, given: object, check: Callable[[str, object], float]
) -> dict[str, dict[str, float]]:
    """Return a checked copy of an object of objects of numbers."""
    return {
        key: {
            each: check(f"{name}[{key!r}][{each!r}]", value)
            for each, value in mapping(f"{name}[{key!r}]", inner).items()
        }
        for key, inner in mapping(name, given).items()
    }


def _checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    for label, value in mapping("labels", labels).items():
        choice("label", label, LABELS)
        if not isinstance(value, str):
            raise ValueError(f"{label}={short(value)}: must be a text")
    return dict(labels)


def _listed(what: str, layers: Sequence[str]) -> str:
    """Return a message that names some layers; of many, only the first."""
    more = f" and {len(layers) - 5} more" if len(layers) > 5 else ""
    return f"{what}: {', '.join(map(repr, layers[:5]))}{more}" if layers else ""
