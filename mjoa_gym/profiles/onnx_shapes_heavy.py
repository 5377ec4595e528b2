"""Shapes of the outputs of ONNX operators that slide windows or multiply matrices."""

from __future__ import annotations

import math

from mjoa_gym.profiles.onnx_call import Call, TensorType, axis_of, broadcast
from mjoa_gym.profiles.onnx_shapes import rule
from mjoa_gym.profiles.onnx_tensors import Shape

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@rule("Conv", "ConvInteger", "DeformConv", "com.microsoft.FusedConv")
def _conv(call: Call) -> list[TensorType]:
    data = call.tensor(0)
    dtype = "int32" if call.op == "ConvInteger" else data.dtype
    return [(_conv_shape(call, data.shape, call.tensor(1).shape), dtype)]


@rule("QLinearConv")
def _qlinear_conv(call: Call) -> list[TensorType]:
    shape = _conv_shape(call, call.tensor(0).shape, call.tensor(3).shape)
    return [(shape, call.tensor(7).dtype)]


def _conv_shape(call: Call, data: Shape, weight: Shape) -> Shape:
    if len(data) < 3 or len(weight) != len(data):
        raise ValueError(f"input {data} and weight {weight} do not go together")
    groups = call.integer("group", 1)
    if groups < 1 or data[1] != weight[1] * groups or weight[0] % groups:
        raise ValueError(f"input {data}, weight {weight} and group={groups} do not go together")
    kernel = call.integers("kernel_shape") or weight[2:]
    if kernel != weight[2:]:
        raise ValueError(f"kernel_shape={kernel} differs from that of weight {weight}")
    return (data[0], weight[0], *_windows(call, data[2:], kernel))


@rule("ConvTranspose")
def _conv_transpose(call: Call) -> list[TensorType]:
    data, weight = call.ranked(0, 3), call.ranked(1, 3)
    groups, dims = call.integer("group", 1), len(data.shape) - 2
    if len(weight.shape) != len(data.shape) or data.shape[1] != weight.shape[0]:
        raise ValueError(f"input {data.shape} and weight {weight.shape} do not go together")
    sides = call.integers("output_shape", None)
    if sides is None:
        strides = call.integers("strides", dims, 1) or ()
        dilations = call.integers("dilations", dims, 1) or ()
        extra = call.integers("output_padding", dims, 0) or ()
        pads = call.integers("pads", 2 * dims, 0) or ()
        same = call.text("auto_pad", "NOTSET").startswith("SAME")
        sides = tuple(
            side * strides[i]
            if same
            else (side - 1) * strides[i]
            + extra[i]
            + (weight.shape[2 + i] - 1) * dilations[i]
            + 1
            - pads[i]
            - pads[i + dims]
            for i, side in enumerate(data.shape[2:])
        )
    return [((data.shape[0], weight.shape[1] * groups, *sides[-dims:]), data.dtype)]


@rule("MaxPool", "AveragePool", "LpPool", "com.microsoft.QLinearAveragePool")
def _pool(call: Call) -> list[TensorType]:
    data = call.ranked(0, 3)
    kernel = call.integers("kernel_shape", len(data.shape) - 2, 1) or ()
    sides = _windows(call, data.shape[2:], kernel)
    shape = (*data.shape[:2], *sides)
    return [(shape, data.dtype), (shape, "int64")]


def _windows(call: Call, sides: Shape, kernel: Shape) -> Shape:
    """How many windows fit along each spatial dimension."""
    dims = len(sides)
    strides = call.integers("strides", dims, 1) or ()
    dilations = call.integers("dilations", dims, 1) or ()
    pads = call.integers("pads", 2 * dims, 0) or ()
    auto_pad = call.text("auto_pad", "NOTSET")
    if len(kernel) != dims or min((*kernel, *strides, *dilations), default=1) < 1:
        raise ValueError(f"kernel {kernel}, strides {strides} or dilations {dilations} are below 1")
    result = []
    for i, side in enumerate(sides):
        reach = dilations[i] * (kernel[i] - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            count = -(-side // strides[i])
        else:
            before, after = (0, 0) if auto_pad == "VALID" else (pads[i], pads[i + dims])
            room = side + before + after - reach
            count = room // strides[i] + 1
            if call.integer("ceil_mode") and room % strides[i]:
                count += count * strides[i] < side + before  # a window begins inside the input
        if count < 1:
            raise ValueError(f"a window of {reach} does not fit into {sides} with pads {pads}")
        result.append(count)
    return tuple(result)


@rule(
    "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "com.microsoft.QLinearGlobalAveragePool"
)
def _global_pool(call: Call) -> list[TensorType]:
    data = call.ranked(0, 3)
    return [((*data.shape[:2], *(1,) * (len(data.shape) - 2)), data.dtype)]


@rule("Gemm")
def _gemm(call: Call) -> list[TensorType]:
    rows, inner = _transposed(call, 0, "transA")
    also_inner, columns = _transposed(call, 1, "transB")
    if inner != also_inner:
        raise ValueError(f"{rows}x{inner} and {also_inner}x{columns} do not go together")
    return [((rows, columns), call.tensor(0).dtype)]


def _transposed(call: Call, index: int, attribute: str) -> tuple[int, int]:
    shape = call.tensor(index).shape
    if len(shape) != 2:
        raise ValueError(f"input {index} has shape {shape}; a matrix is needed")
    return (shape[1], shape[0]) if call.integer(attribute) else (shape[0], shape[1])


@rule("MatMul")
def _matmul(call: Call) -> list[TensorType]:
    return [(matmul_shape(call.tensor(0).shape, call.tensor(1).shape), call.tensor(0).dtype)]


@rule("MatMulInteger")
def _matmul_integer(call: Call) -> list[TensorType]:
    return [(matmul_shape(call.tensor(0).shape, call.tensor(1).shape), "int32")]


@rule("QLinearMatMul")
def _qlinear_matmul(call: Call) -> list[TensorType]:
    return [(matmul_shape(call.tensor(0).shape, call.tensor(3).shape), call.tensor(7).dtype)]


def matmul_shape(left: Shape, right: Shape) -> Shape:
    """NumPy's rule for a matrix product."""
    a = left if len(left) > 1 else (1, *left)
    b = right if len(right) > 1 else (*right, 1)
    if not left or not right or a[-1] != b[-2]:
        raise ValueError(f"shapes {left} and {right} do not go together")
    rows = (a[-2],) if len(left) > 1 else ()
    columns = (b[-1],) if len(right) > 1 else ()
    return (*broadcast(a[:-2], b[:-2]), *rows, *columns)


@rule("Einsum")
def _einsum(call: Call) -> list[TensorType]:
    _, result, sides = einsum_terms(call)
    return [(tuple(d for label in result for d in sides[label]), call.tensor(0).dtype)]


def einsum_terms(call: Call) -> tuple[list[list[str]], list[str], dict[str, Shape]]:
    """The labels of the inputs and of the result, and the dimensions that each stands for."""
    left, arrow, right = call.text("equation").replace(" ", "").partition("->")
    terms = [_labels(term) for term in left.split(",")]
    tensors = call.present()
    if len(terms) != len(tensors):
        raise ValueError(f"the equation has {len(terms)} terms for {len(tensors)} inputs")
    sides: dict[str, Shape] = {}
    for labels, tensor in zip(terms, tensors, strict=True):
        wide = len(tensor.shape) - (len(labels) - ("..." in labels))
        if wide < 0 or (wide > 0 and "..." not in labels):
            raise ValueError(f"the term {labels} does not fit shape {tensor.shape}")
        position = 0
        for label in labels:
            width = wide if label == "..." else 1
            own = tensor.shape[position : position + width]
            sides[label] = broadcast(sides.get(label, ()), own)
            position += width
    if arrow:
        result = _labels(right)
    else:
        flat = [label for term in terms for label in term]
        result = [label for label in sorted(set(flat)) if label == "..." or flat.count(label) == 1]
    if not set(result) <= set(sides):
        raise ValueError(f"the result has labels that no input has: {right}")
    return terms, result, sides


def _labels(term: str) -> list[str]:
    before, dots, after = term.partition("...")
    if not (before + after).isalpha() and before + after:
        raise ValueError(f"the term {term[:40]!r} is no list of letters")
    return [*before, *([dots] if dots else []), *after]


@rule(*GATES)
def _recurrent(call: Call) -> list[TensorType]:
    data, weight = call.tensor(0), call.tensor(1)
    if len(data.shape) != 3 or len(weight.shape) != 3:
        raise ValueError(f"input {data.shape} and weight {weight.shape} need 3 dimensions")
    hidden = weight.shape[1] // GATES[call.op]
    directions = weight.shape[0]
    if data.shape[2] != weight.shape[2]:
        raise ValueError(f"input {data.shape} and weight {weight.shape} do not go together")
    if call.integer("layout"):
        batch, steps = data.shape[:2]
        shapes = [(batch, steps, directions, hidden), *((batch, directions, hidden),) * 2]
    else:
        steps, batch = data.shape[:2]
        shapes = [(steps, directions, batch, hidden), *((directions, batch, hidden),) * 2]
    return [(shape, data.dtype) for shape in shapes]


@rule("Attention")
def _attention(call: Call) -> list[TensorType]:
    (query, batch, heads, rows, _), key, value = (attention_heads(call, i) for i in range(3))
    past = call.given(4)
    columns = key[3] + (past.shape[-2] if past and past.shape else 0)
    out = (batch, heads, rows, value[4]) if query == 4 else (batch, rows, heads * value[4])
    dtype = call.tensor(0).dtype
    return [
        (out, dtype),
        ((batch, key[2], columns, key[4]), dtype),
        ((batch, key[2], columns, value[4]), dtype),
        ((batch, heads, rows, columns), dtype),
    ]


def attention_heads(call: Call, index: int) -> tuple[int, int, int, int, int]:
    """Rank, batch, heads, rows and width of a head of the query (0), key (1) or value (2)."""
    shape = call.tensor(index).shape
    if len(shape) == 4:
        return (4, *shape)
    heads = call.integer("kv_num_heads" if index else "q_num_heads")
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise ValueError(f"input {index} of shape {shape} cannot be split into {heads} heads")
    return 3, shape[0], heads, shape[1], shape[2] // heads


@rule("Resize", "Upsample")
def _resize(call: Call) -> list[TensorType]:
    data = call.tensor(0)
    early = call.op == "Upsample" or len(call.inputs) == 2
    axes = [axis_of(axis, len(data.shape)) for axis in call.integers("axes") or ()]
    axes = axes or list(range(len(data.shape)))
    sizes = call.whole_numbers(3, "sizes")
    shape = list(data.shape)
    if sizes:
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        new = [float(size) for size in sizes]
        if policy != "stretch":
            ratios = [size / shape[axis] for size, axis in zip(sizes, axes, strict=True)]
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            new = [math.floor(ratio * shape[axis] + 0.5) for axis in axes]
    else:
        scales = call.numbers(1 if early else 2, "scales")
        if not scales:
            raise ValueError("neither scales nor sizes are given")
        new = [math.floor(s * shape[axis]) for s, axis in zip(scales, axes, strict=True)]
    for axis, side in zip(axes, new, strict=True):
        shape[axis] = int(side)
    return [(tuple(shape), data.dtype)]


@rule("DepthToSpace", "SpaceToDepth")
def _blocks(call: Call) -> list[TensorType]:
    data, size = call.tensor(0), call.integer("blocksize")
    if len(data.shape) != 4 or size < 1:
        raise ValueError(f"input {data.shape} and blocksize={size} do not go together")
    batch, channels, height, width = data.shape
    if call.op == "DepthToSpace":
        return [((batch, channels // size**2, height * size, width * size), data.dtype)]
    return [((batch, channels * size**2, height // size, width // size), data.dtype)]


@rule("GridSample")
def _grid_sample(call: Call) -> list[TensorType]:
    data, grid = call.ranked(0, 3), call.ranked(1, 3)
    return [((*data.shape[:2], *grid.shape[1:-1]), data.dtype)]


@rule("RoiAlign")
def _roi_align(call: Call) -> list[TensorType]:
    data, boxes = call.ranked(0, 4), call.ranked(1, 2)
    sides = (call.integer("output_height", 1), call.integer("output_width", 1))
    return [((boxes.shape[0], data.shape[1], *sides), data.dtype)]
