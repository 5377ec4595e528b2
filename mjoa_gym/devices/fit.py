"""Fits device models to measured layer times, and says how far they can be trusted.

Non-negative least squares on relative errors: of every layer, and of every network as a whole with
the weight of all its layers. Milliseconds for dozens of networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from mjoa_gym.devices.models import (
    Device,
    FlopsDevice,
    RooflineDevice,
    layer_bytes,
)
from mjoa_gym.validation import choice, non_negative_vector

if TYPE_CHECKING:
    from mjoa_gym.dnn import DNN

Form = Literal["flops", "max", "sum"]
FORMS: tuple[Form, ...] = ("flops", "max", "sum")
"""FLOPs over speed; one-peak roofline; per kind FLOPs and bytes in sequence."""

UNBOUNDED = 1e18
"""The speed (FLOP/s or bytes/s) where the measurements show no cost at all."""
FEWEST_LAYERS = 3
"""A kind with fewer measured layers counts as "other"."""
UNSEEN = {"conv": 1.0, "matmul": 1.0, "linear": 1.0, "depthwise_conv": 0.25}
"""Assumed speeds of kinds that were not measured, relative to a dense one that was."""
SWEEPS = 30


class Measured(NamedTuple):
    """A network and the measured seconds of its layers."""

    dnn: DNN
    seconds: NDArray[np.float64]


def fit_device(name: str, measured: Sequence[Measured], form: Form = "sum") -> Device:
    """The device model of a form that comes nearest to the measurements.

    Args:
        name: The device's.
        measured: At least one network; a layer of 0 seconds counts in its network's total only.
        form: "flops": `FlopsDevice`. "max": `RooflineDevice` with one peak. "sum":
            `RooflineDevice` with a speed per kind of layer.

    Raises:
        ValueError: If the form is unknown, there is nothing to fit, or a time is negative.
    """
    choice("form", form, FORMS)
    _check(measured)
    if form == "flops":
        (per_flop, overhead) = _solve(measured, [_flops(measured), _ones(measured)])
        return FlopsDevice(name, 1 / max(per_flop, 1 / UNBOUNDED), overhead)
    if form == "max":
        return _fit_max(name, measured)
    return _fit_sum(name, measured)


def leave_one_out(measured: Sequence[Measured], form: Form = "sum") -> Mapping[str, float]:
    """Each network's relative error in total seconds, predicted by a fit to the others.

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


def _check(measured: Sequence[Measured]) -> None:
    if not measured:
        raise ValueError("measured is empty: at least one network is needed")
    for dnn, seconds in measured:
        if not non_negative_vector(f"seconds of {dnn.name!r}", seconds, dnn.n_layers).any():
            raise ValueError(f"seconds of {dnn.name!r}: must not be all 0")


def _fit_sum(name: str, measured: Sequence[Measured]) -> RooflineDevice:
    kinds = np.array([kind for m in measured for kind in m.dnn.kinds])
    flops = _flops(measured)
    own = [
        kind
        for kind in dict.fromkeys(kinds.tolist())
        if kind != "other" and ((kinds == kind) & (flops > 0)).sum() >= FEWEST_LAYERS
    ]
    columns = [np.where(kinds == kind, flops, 0.0) for kind in own]
    columns.append(np.where(np.isin(kinds, own), 0.0, flops))  # the others
    found = _solve(measured, [*columns, _bytes(measured), _ones(measured)])
    speeds = dict(zip(own, map(_speed, found), strict=False))
    speeds["other"] = _speed(found[len(own)]) if columns[-1].any() else min(speeds.values())
    if "conv" in speeds or "matmul" in speeds:
        dense = speeds.get("conv") or speeds["matmul"]
        for kind, share in UNSEEN.items():
            speeds.setdefault(kind, dense * share)
    return RooflineDevice(name, speeds, _speed(found[-2]), float(found[-1]), "sum", _note(measured))


def _fit_max(name: str, measured: Sequence[Measured]) -> RooflineDevice:
    """Fits arithmetic where it bounds a layer and memory where that does, until these settle."""
    flops, size = _flops(measured), _bytes(measured)
    weighed = _weights(measured)
    totals = np.concatenate([m.seconds for m in measured])
    best, least = (1 / UNBOUNDED, 1 / UNBOUNDED, 0.0), np.inf
    for start in np.quantile(flops / np.maximum(size, 1.0), (0.1, 0.3, 0.5, 0.7, 0.9)):
        computes = flops > start * size
        for _ in range(SWEEPS):
            columns = [np.where(computes, flops, 0), np.where(computes, 0, size), _ones(measured)]
            per_flop, per_byte, overhead = _solve(measured, columns)
            guess = np.maximum(flops * per_flop, size * per_byte) + overhead
            error = float(np.square(weighed @ (guess - totals)).sum())
            if error < least:
                best, least = (per_flop, per_byte, overhead), error
            again = flops * per_flop > size * per_byte
            if (again == computes).all():
                break
            computes = again
    speeds = {"other": _speed(best[0])}
    return RooflineDevice(name, speeds, _speed(best[1]), best[2], "max", _note(measured))


def _solve(
    measured: Sequence[Measured], columns: Sequence[NDArray[np.float64]]
) -> tuple[float, ...]:
    """Coefficients >= 0 of the columns, one row per layer."""
    weights = _weights(measured)
    matrix = weights @ np.stack(columns, axis=1)
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    target = weights @ np.concatenate([m.seconds for m in measured])
    found, _ = nnls(matrix / scale, target)
    return tuple(float(value) for value in found / scale)


def _weights(measured: Sequence[Measured]) -> NDArray[np.float64]:
    """(rows, all layers): rows of relative errors, of layers first, then of networks."""
    seconds = np.concatenate([m.seconds for m in measured])
    rows = [np.diag(1 / np.where(seconds > 0, seconds, np.inf))]
    start = 0
    for m in measured:
        n = m.dnn.n_layers
        row = np.zeros((1, len(seconds)))
        row[0, start : start + n] = np.sqrt(n) / m.seconds.sum()
        rows.append(row)
        start += n
    return np.concatenate(rows)


def _flops(measured: Sequence[Measured]) -> NDArray[np.float64]:
    return np.concatenate([m.dnn.flops for m in measured])


def _bytes(measured: Sequence[Measured]) -> NDArray[np.float64]:
    return np.concatenate([layer_bytes(m.dnn) for m in measured])


def _ones(measured: Sequence[Measured]) -> NDArray[np.float64]:
    return np.ones(sum(m.dnn.n_layers for m in measured))


def _speed(seconds_per_unit: float) -> float:
    return min(1 / max(seconds_per_unit, 1 / UNBOUNDED), UNBOUNDED)


def _note(measured: Sequence[Measured]) -> str:
    return "fitted to " + ", ".join(m.dnn.name for m in measured)
