"""Fits device models to measured layer times, and estimates their errors.

The fit is non-negative least squares on relative errors of every layer, and of every network as a
whole with the weight of all its layers. It takes milliseconds for dozens of networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from mjoa_gym.devices.models import Device, FlopsDevice, RooflineDevice, layer_bytes
from mjoa_gym.validation import choice, non_negative_vector

if TYPE_CHECKING:
    from mjoa_gym.dnn import DNN

Form = Literal["flops", "max", "sum"]
FORMS: tuple[Form, ...] = ("flops", "max", "sum")
"""FLOPs over speed; one-peak roofline; FLOPs and bytes in sequence, per kind."""
UNBOUNDED = 1e18  # the speed (FLOP/s or bytes/s) where the measurements show no cost at all
FEWEST_LAYERS = 3  # a kind with fewer measured layers counts as "other"
UNSEEN = {"conv": 1.0, "matmul": 1.0, "linear": 1.0, "depthwise_conv": 0.25}
"""Assumed speeds of kinds without measurements, relative to a measured dense kind."""
SWEEPS = 30


class Measured(NamedTuple):
    """A network and the measured seconds of its layers."""

    dnn: DNN
    seconds: NDArray[np.float64]


def fit_device(name: str, measured: Sequence[Measured], form: Form = "sum") -> Device:
    """Return the device model of the given form that fits the measurements best.

    Args:
        name: The device's name.
        measured: At least one network; a layer of 0 seconds counts only in its network's total.
        form: "flops": `FlopsDevice`. "max": `RooflineDevice` with one peak. "sum":
            `RooflineDevice` with a speed per kind of layer.

    Raises:
        ValueError: If the form is unknown, there is nothing to fit, or a time is negative.
    """
    choice("form", form, FORMS)
    layers = _Layers(measured)
    if form == "flops":
        per_flop, overhead = layers.solve(layers.flops)
        return FlopsDevice(name, _speed(per_flop), overhead)
    speeds, per_byte, overhead = (_fit_max if form == "max" else _fit_sum)(layers)
    note = "fitted to " + ", ".join(m.dnn.name for m in measured)
    return RooflineDevice(name, speeds, _speed(per_byte), overhead, form, note)


def leave_one_out(measured: Sequence[Measured], form: Form = "sum") -> Mapping[str, float]:
    """Return each network's relative error in total seconds, predicted by a fit to the others.

    Raises:
        ValueError: If there are fewer than two networks.
    """
    if len(measured) < 2:
        raise ValueError(f"measured has {len(measured)} networks; at least 2 are needed")
    errors = {}
    for left_out in measured:
        others = [other for other in measured if other is not left_out]
        predicted = fit_device("fit", others, form).seconds(left_out.dnn).sum()
        errors[left_out.dnn.name] = float(predicted / left_out.seconds.sum() - 1)
    return errors


class _Layers:
    """The layers of all networks, one after the other, and the weights of the errors."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        if not measured:
            raise ValueError("measured is empty: at least one network is needed")
        for dnn, seconds in measured:
            if not non_negative_vector(f"seconds of {dnn.name!r}", seconds, dnn.n_layers).any():
                raise ValueError(f"seconds of {dnn.name!r}: must not be all 0")
        self.kinds = np.array([kind for m in measured for kind in m.dnn.kinds])
        self.flops = np.concatenate([m.dnn.flops for m in measured])
        self.bytes = np.concatenate([layer_bytes(m.dnn) for m in measured])
        self.seconds = np.concatenate([m.seconds for m in measured])
        network = np.repeat(range(len(measured)), [m.dnn.n_layers for m in measured])
        weights = [np.sqrt(m.dnn.n_layers) / m.seconds.sum() for m in measured]
        totals = [np.where(network == n, weight, 0.0) for n, weight in enumerate(weights)]
        each = np.diag(1 / np.where(self.seconds > 0, self.seconds, np.inf))
        self.weights = np.concatenate([each, totals])  # rows of errors: of layers, of networks

    def solve(self, *columns: NDArray[np.float64]) -> tuple[float, ...]:
        """Return coefficients >= 0 of the columns (one entry per layer) and of a column of ones."""
        matrix = self.weights @ np.stack([*columns, np.ones(len(self.seconds))], axis=1)
        scale = np.linalg.norm(matrix, axis=0)
        scale[scale == 0] = 1.0
        found, _ = nnls(matrix / scale, self.weights @ self.seconds)
        return tuple(float(value) for value in found / scale)


_Fit = tuple[dict[str, float], float, float]  # speeds by kind, seconds per byte and per layer


def _fit_sum(layers: _Layers) -> _Fit:
    kinds, flops = layers.kinds, layers.flops
    own = [
        kind
        for kind in dict.fromkeys(kinds.tolist())
        if kind != "other" and ((kinds == kind) & (flops > 0)).sum() >= FEWEST_LAYERS
    ]
    columns = [np.where(kinds == kind, flops, 0.0) for kind in own]
    columns.append(np.where(np.isin(kinds, own), 0.0, flops))  # the other kinds
    *per_flop, per_byte, overhead = layers.solve(*columns, layers.bytes)
    speeds = dict(zip(own, map(_speed, per_flop), strict=False))
    speeds["other"] = _speed(per_flop[-1]) if columns[-1].any() else min(speeds.values())
    if "conv" in speeds or "matmul" in speeds:
        dense = speeds.get("conv") or speeds["matmul"]
        for kind, share in UNSEEN.items():
            speeds.setdefault(kind, dense * share)
    return speeds, per_byte, overhead


def _fit_max(layers: _Layers) -> _Fit:
    """Fit arithmetic where it bounds a layer and memory elsewhere, until the division is stable."""
    flops, size = layers.flops, layers.bytes
    best, least = (1 / UNBOUNDED, 1 / UNBOUNDED, 0.0), np.inf
    for start in np.quantile(flops / np.maximum(size, 1.0), (0.1, 0.3, 0.5, 0.7, 0.9)):
        computes = flops > start * size
        for _ in range(SWEEPS):
            found = layers.solve(np.where(computes, flops, 0), np.where(computes, 0, size))
            per_flop, per_byte, overhead = found
            guess = np.maximum(flops * per_flop, size * per_byte) + overhead
            error = float(np.square(layers.weights @ (guess - layers.seconds)).sum())
            if error < least:
                best, least = (per_flop, per_byte, overhead), error
            again = flops * per_flop > size * per_byte
            if (again == computes).all():
                break
            computes = again
    return {"other": _speed(best[0])}, best[1], best[2]


def _speed(seconds_per_unit: float) -> float:
    return min(1 / max(seconds_per_unit, 1 / UNBOUNDED), UNBOUNDED)
