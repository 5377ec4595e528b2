"""Values of small tensors that do not depend on the network's input.

Exporters compute shapes inside the graph (Shape, Gather, Concat, Reshape). All dimensions are known
here, so these few numbers can be followed with NumPy. Whatever is not listed here, or larger than
`MAX_VALUE_ELEMENTS`, has no value, only a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from mjoa_gym.profiles.onnx_call import Call, TensorType, axis_of
from mjoa_gym.profiles.onnx_tensors import MAX_VALUE_ELEMENTS, Shape, numpy_type

Array = NDArray[Any]

_UNARY: dict[str, Callable[[Array], Array]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Identity": np.asarray,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Round": np.round,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "And": np.logical_and,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Or": np.logical_or,
    "Sub": np.subtract,
    "Xor": np.logical_xor,
}
_REDUCE: dict[str, Callable[..., Array]] = {
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
}
_RESHAPES = {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}


def evaluate(call: Call, output: TensorType) -> Array | None:
    """The value of the operator's first output, None where it is not known.

    Args:
        call: The operator; its shape rule has accepted it.
        output: Shape and element type of the first output.
    """
    shape, dtype = output
    kind = numpy_type(dtype)
    if kind is None or int(np.prod(shape, dtype=object)) > MAX_VALUE_ELEMENTS:
        return None
    if call.op == "Shape":
        dims = call.tensor(0).shape
        whole = np.array(dims, np.int64)
        return whole[call.integer("start") : call.integer("end", len(dims))]
    if call.op == "Size":
        return np.array(call.tensor(0).size, np.int64)
    arrays = [tensor.value for tensor in call.present()]
    known = [array for array in arrays if array is not None]
    if len(known) != len(arrays):
        return None
    with np.errstate(all="ignore"):
        value = _computed(call, known, shape)
    if value is None:
        return None
    with np.errstate(all="ignore"):
        value = np.asarray(value).astype(kind)
    return value if value.shape == shape else None


def _computed(call: Call, arrays: list[Array], shape: Shape) -> Array | None:
    op = call.op
    if op in _RESHAPES:
        return arrays[0].reshape(shape)
    if op in _UNARY:
        return _UNARY[op](arrays[0])
    if op in _BINARY:
        result = arrays[0]
        for other in arrays[1:]:
            result = _BINARY[op](result, other)
        return result
    if op in _REDUCE:
        axes = call.whole_numbers(1, "axes")
        if not axes and call.integer("noop_with_empty_axes"):
            return arrays[0]
        keep = bool(call.integer("keepdims", 1))
        return _REDUCE[op](arrays[0], axis=tuple(axes) if axes else None, keepdims=keep)
    function = _OTHERS.get(op)
    return None if function is None else function(call, arrays, shape)


def _divide(call: Call, arrays: list[Array], shape: Shape) -> Array | None:
    left, right = arrays
    if left.dtype.kind in "iu":  # towards zero, unlike NumPy's floor division
        if not right.all():
            return None
        quotient = np.abs(left) // np.abs(right)
        return np.where((left < 0) != (right < 0), -quotient, quotient)
    return np.divide(left, right)


def _mod(call: Call, arrays: list[Array], shape: Shape) -> Array | None:
    left, right = arrays
    if not right.all():
        return None
    return np.fmod(left, right) if call.integer("fmod") else np.mod(left, right)


def _pow(call: Call, arrays: list[Array], shape: Shape) -> Array:
    return np.power(arrays[0].astype(np.float64), arrays[1].astype(np.float64))


def _gather(call: Call, arrays: list[Array], shape: Shape) -> Array | None:
    data, indices = arrays
    axis = axis_of(call.integer("axis"), data.ndim)
    side = data.shape[axis]
    if indices.dtype.kind not in "iu" or ((indices < -side) | (indices >= side)).any():
        raise ValueError(f"indices reach beyond the {side} entries")
    return np.take(data, indices, axis=axis)


def _slice(call: Call, arrays: list[Array], shape: Shape) -> Array:
    data = arrays[0]
    starts, ends = call.needed(1, "starts"), call.needed(2, "ends")
    axes = call.whole_numbers(3, "axes") or tuple(range(len(starts)))
    steps = call.whole_numbers(4, "steps") or (1,) * len(starts)
    cuts = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        position = axis_of(axis, data.ndim)
        # NumPy reads an end of -1 as the last entry, as ONNX does; a far negative end is "all".
        cuts[position] = slice(*slice(start, end, step).indices(data.shape[position]))
        if step < 0 and cuts[position].stop < 0:
            cuts[position] = slice(cuts[position].start, None, step)
    return data[tuple(cuts)]


def _concat(call: Call, arrays: list[Array], shape: Shape) -> Array:
    return np.concatenate(arrays, axis=call.integer("axis"))


def _transpose(call: Call, arrays: list[Array], shape: Shape) -> Array:
    return np.transpose(arrays[0], call.integers("perm"))


def _constant_of_shape(call: Call, arrays: list[Array], shape: Shape) -> Array | None:
    value = call.attributes.get("value")
    if value is None:
        return np.zeros(shape, np.float32)
    if not isinstance(value, TensorProto) or list(value.dims) not in ([], [1]):
        return None
    if value.external_data or value.data_location == TensorProto.EXTERNAL:  # to_array opens files
        return None
    return np.full(shape, numpy_helper.to_array(value).reshape(()))


def _range(call: Call, arrays: list[Array], shape: Shape) -> Array:
    start, _, delta = arrays
    return start + np.arange(shape[0]) * delta


_OTHERS: dict[str, Callable[[Call, list[Array], Shape], Array | None]] = {
    "Div": _divide,
    "Mod": _mod,
    "Pow": _pow,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Transpose": _transpose,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Cast": lambda call, arrays, shape: arrays[0],
    "Where": lambda call, arrays, shape: np.where(*arrays),
    "Expand": lambda call, arrays, shape: np.broadcast_to(arrays[0], shape),
    "Tile": lambda call, arrays, shape: np.tile(arrays[0], call.needed(1, "repeats")),
    "NonZero": lambda call, arrays, shape: np.array(np.nonzero(np.atleast_1d(arrays[0]))),
}
