"""Shapes of the outputs of ONNX operators that move, select, repeat or generate elements."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from mjoa_gym.profiles.onnx_call import Call, TensorType, axis_of, broadcast
from mjoa_gym.profiles.onnx_shapes import axis_set, rule, without
from mjoa_gym.profiles.onnx_tensors import Shape, dtype_name


@rule("Reshape")
def _reshape(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    target = list(call.needed(1, "shape"))
    if not call.integer("allowzero"):
        for position, dimension in enumerate(target):
            if dimension == 0 and position < len(first.shape):
                target[position] = first.shape[position]
    unknown = [position for position, dimension in enumerate(target) if dimension == -1]
    if len(unknown) == 1:
        rest = math.prod(dimension for dimension in target if dimension != -1)
        target[unknown[0]] = first.size // rest if rest else 0
    if math.prod(target) != first.size or any(dimension < 0 for dimension in target):
        raise ValueError(f"shape {first.shape} cannot become {tuple(call.needed(1, 'shape'))}")
    return [(tuple(target), first.dtype)]


@rule("Flatten")
def _flatten(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    axis = call.integer("axis", 1)
    axis = axis if axis == len(first.shape) else axis_of(axis, len(first.shape))
    return [((math.prod(first.shape[:axis]), math.prod(first.shape[axis:])), first.dtype)]


@rule("Transpose")
def _transpose(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    order = call.integers("perm") or tuple(reversed(range(len(first.shape))))
    if sorted(order) != list(range(len(first.shape))):
        raise ValueError(f"perm={order} is no order of {len(first.shape)} dimensions")
    return [(tuple(first.shape[axis] for axis in order), first.dtype)]


@rule("Squeeze")
def _squeeze(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    axes = call.whole_numbers(1, "axes")
    if axes is None:
        return [(tuple(d for d in first.shape if d != 1), first.dtype)]
    dropped = axis_set(axes, len(first.shape))
    if any(first.shape[axis] != 1 for axis in dropped):
        raise ValueError(f"axes {axes} of shape {first.shape} are not all 1")
    return [(without(first.shape, dropped, 0), first.dtype)]


@rule("Unsqueeze")
def _unsqueeze(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    axes = call.needed(1, "axes")
    rank = len(first.shape) + len(axes)
    added = axis_set(axes, rank)
    rest = iter(first.shape)
    return [(tuple(1 if axis in added else next(rest) for axis in range(rank)), first.dtype)]


@rule("Expand")
def _expand(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    return [(broadcast(first.shape, call.needed(1, "shape")), first.dtype)]


@rule("Tile")
def _tile(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    repeats = call.needed(1, "repeats")
    if len(repeats) != len(first.shape):
        raise ValueError(f"repeats {repeats} do not fit shape {first.shape}")
    return [(tuple(d * n for d, n in zip(first.shape, repeats, strict=True)), first.dtype)]


@rule("Concat")
def _concat(call: Call) -> list[TensorType]:
    parts = [tensor.shape for tensor in call.present()]
    return [(concat_shape(parts, call.integer("axis", 1)), call.tensor(0).dtype)]


def concat_shape(parts: list[Shape], axis: int) -> Shape:
    """The shape of tensors one after the other."""
    if not parts or not parts[0]:
        raise ValueError("there is nothing to join")
    first = parts[0]
    axis = axis_of(axis, len(first))
    for part in parts:
        if len(part) != len(first) or without(part, {axis}, 0) != without(first, {axis}, 0):
            raise ValueError(f"shapes {first} and {part} do not go together")
    return (*first[:axis], sum(part[axis] for part in parts), *first[axis + 1 :])


@rule("Split")
def _split(call: Call) -> list[TensorType]:
    first = call.ranked(0, 1)
    axis = axis_of(call.integer("axis"), len(first.shape))
    length = first.shape[axis]
    parts = call.whole_numbers(1, "split")
    if parts is None:
        step = -(-length // max(call.n_outputs, 1))
        parts = tuple(max(min(step, length - i * step), 0) for i in range(call.n_outputs))
    if sum(parts) != length or len(parts) != call.n_outputs:
        raise ValueError(f"parts {parts[:8]} of {length} for {call.n_outputs} outputs")
    return [((*first.shape[:axis], p, *first.shape[axis + 1 :]), first.dtype) for p in parts]


@rule("Slice")
def _slice(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    starts, ends = call.needed(1, "starts"), call.needed(2, "ends")
    axes = call.whole_numbers(3, "axes") or tuple(range(len(starts)))
    steps = call.whole_numbers(4, "steps") or (1,) * len(starts)
    shape = list(first.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise ValueError("a step of 0")
        position = axis_of(axis, len(shape))
        shape[position] = len(range(*slice(start, end, step).indices(first.shape[position])))
    return [(tuple(shape), first.dtype)]


@rule("Gather")
def _gather(call: Call) -> list[TensorType]:
    data, indices = call.ranked(0, 1), call.tensor(1)
    axis = axis_of(call.integer("axis"), len(data.shape))
    return [((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]), data.dtype)]


@rule("GatherElements")
def _gather_elements(call: Call) -> list[TensorType]:
    return [(call.tensor(1).shape, call.tensor(0).dtype)]


@rule("GatherND")
def _gather_nd(call: Call) -> list[TensorType]:
    data, indices = call.tensor(0), call.ranked(1, 1)
    first = call.integer("batch_dims") + indices.shape[-1]
    if not 0 <= first <= len(data.shape):
        raise ValueError(f"indices of shape {indices.shape} do not fit data of {data.shape}")
    return [((*indices.shape[:-1], *data.shape[first:]), data.dtype)]


@rule("ai.onnx.ml.ArrayFeatureExtractor")
def _extract(call: Call) -> list[TensorType]:
    data = call.ranked(0, 1)
    return [((*data.shape[:-1], call.tensor(1).size), data.dtype)]


@rule("Pad")
def _pad(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    pads = call.needed(1, "pads")
    given = call.whole_numbers(3, "axes")
    axes = [axis_of(axis, len(first.shape)) for axis in given or range(len(first.shape))]
    if len(pads) != 2 * len(axes):
        raise ValueError(f"pads has {len(pads)} entries for {len(axes)} dimensions")
    shape = list(first.shape)
    for position, axis in enumerate(axes):
        shape[axis] += pads[position] + pads[position + len(axes)]
    return [(tuple(shape), first.dtype)]


@rule("Col2Im")
def _col2im(call: Call) -> list[TensorType]:
    first = call.ranked(0, 3)
    block = math.prod(call.needed(2, "block_shape"))
    channels = first.shape[1] // max(block, 1)
    return [((first.shape[0], channels, *call.needed(1, "image_shape")), first.dtype)]


@rule("TopK")
def _top_k(call: Call) -> list[TensorType]:
    first = call.ranked(0, 1)
    axis = axis_of(call.integer("axis", -1), len(first.shape))
    (k,) = call.needed(1, "k")
    shape = (*first.shape[:axis], k, *first.shape[axis + 1 :])
    return [(shape, first.dtype), (shape, "int64")]


@rule("OneHot")
def _one_hot(call: Call) -> list[TensorType]:
    shape = call.tensor(0).shape
    axis = axis_of(call.integer("axis", -1), len(shape) + 1)
    (depth,) = call.numbers(1, "depth") or (0,)
    return [((*shape[:axis], int(depth), *shape[axis:]), call.tensor(2).dtype)]


@rule("Shape")
def _shape(call: Call) -> list[TensorType]:
    rank = len(call.tensor(0).shape)
    kept = range(rank)[call.integer("start") : call.integer("end", rank)]
    return [((len(kept),), "int64")]


@rule("Size")
def _size(call: Call) -> list[TensorType]:
    call.tensor(0)
    return [((), "int64")]


@rule("ConstantOfShape")
def _constant_of_shape(call: Call) -> list[TensorType]:
    value = call.attributes.get("value")
    dtype = dtype_name(value.data_type) if isinstance(value, TensorProto) else "float"
    return [(call.needed(0, "shape"), dtype)]


@rule("Range")
def _range(call: Call) -> list[TensorType]:
    (start,), (limit,), (delta,) = (call.numbers(i, "range") or (0,) for i in range(3))
    if delta == 0:
        raise ValueError("a step of 0")
    return [((max(math.ceil((limit - start) / delta), 0),), call.tensor(0).dtype)]


@rule("NonZero")
def _non_zero(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    if first.value is None:
        raise ValueError("the shape of the output depends on data")
    return [((max(len(first.shape), 1), int(np.count_nonzero(first.value))), "int64")]


@rule("RandomNormal", "RandomUniform")
def _random(call: Call) -> list[TensorType]:
    return [(call.integers("shape") or (), dtype_name(call.integer("dtype", 1)))]


@rule("EyeLike")
def _eye_like(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    dtype = call.integer("dtype")
    return [(first.shape, dtype_name(dtype) if dtype else first.dtype)]
