"""What an ONNX operator is: its layer kind, whether it computes anything, and what it costs.

The counts are those of the torch importer. Multiply-accumulates (MACs) are exact for convolutions,
matrix products (quantised ones, too), recurrent layers and attention; other operators count

* 1 FLOP per output element (additions, activations, casts, quantising);
* 2 per element for batch normalisation, 5 for other normalisations and softmax;
* 1 per element read for pooling and reductions;
* 0 for data movement (concatenation, padding, look-up, nearest upsampling).

An operator that is in none of these groups counts zero FLOPs and is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mjoa_gym.profiles import onnx_contrib
from mjoa_gym.profiles.onnx_call import Call
from mjoa_gym.profiles.onnx_shapes import BROADCAST, COMPARE, REDUCE, SAME, TEST
from mjoa_gym.profiles.onnx_shapes_heavy import GATES, attention_heads, einsum_terms
from mjoa_gym.profiles.onnx_tensors import Shape, Tensor, dtype_name

VIEWS = [
    "Dropout",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "ai.onnx.ml.ZipMap",
]
MOVES = [
    "Concat",
    "DepthToSpace",
    "EyeLike",
    "Gather",
    "GatherElements",
    "GatherND",
    "OneHot",
    "Pad",
    "ReverseSequence",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "SpaceToDepth",
    "TensorScatter",
    "Tile",
    "Trilu",
    "ai.onnx.ml.ArrayFeatureExtractor",
    onnx_contrib.CONCAT,
]
NOT_FUSED = [
    "Concat",
    "Gather",
    "GatherElements",
    "GatherND",
    "ai.onnx.ml.ArrayFeatureExtractor",
    onnx_contrib.CONCAT,
]
NORMS = [
    "BatchNormalization",
    "GroupNormalization",
    "Hardmax",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LogSoftmax",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
    "Softmax",
    "SimplifiedLayerNormalization",
    "ai.onnx.ml.Normalizer",
    *onnx_contrib.NORMS,
]
WINDOWS = ["MaxPool", "AveragePool", "LpPool", "com.microsoft.QLinearAveragePool"]
READ_ONCE = [
    "ArgMax",
    "ArgMin",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "TopK",
    "com.microsoft.QLinearGlobalAveragePool",
]
ELEMENTWISE = [
    "Cast",
    "CastLike",
    "Col2Im",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "GridSample",
    "QuantizeLinear",
    "Resize",
    "RoiAlign",
    "Upsample",
    "Where",
    *onnx_contrib.SAME,
    *onnx_contrib.PAIRS,
]

NORM_FLOPS = 5
_PER_ELEMENT = set(ELEMENTWISE) | set(SAME) | set(BROADCAST) | set(COMPARE) | set(TEST)
_NO_PARAMETER = {
    "BatchNormalization": (3, 4),  # running statistics, which torch keeps as buffers
    "Resize": (1, 2),
    "Upsample": (1,),
    "OneHot": (1, 2),
    "Shape": (0,),
    "Size": (0,),
    **dict.fromkeys(GATES, (4, 5, 6)),  # lengths and initial states
}


@dataclass(frozen=True)
class Cost:
    """Kind and costs of one operator.

    Attributes:
        kind: Layer kind.
        macs: Multiply-accumulates.
        light_flops: FLOPs of an operator without multiply-accumulates, else 0.
        known: Whether the costs are from a rule.
    """

    kind: str
    macs: int = 0
    light_flops: int = 0
    known: bool = True


def is_view(call: Call) -> bool:
    """Whether the operator only renames, selects or repeats elements of its first input."""
    if call.op in VIEWS:
        return True
    if call.op == "Cast":
        return dtype_name(call.integer("to")) == call.tensor(0).dtype
    if call.op == "Gather":
        data, index = call.tensor(0), call.tensor(1)
        selects = index.size == 1
        strides = len(data.shape) == 1 and index.size <= data.size  # torch's as_strided
        return index.constant and (selects or strides)
    return False


def is_cheap(call: Call, kind: str) -> bool:
    """Whether a runtime would run the operator as part of its neighbour's kernel."""
    return kind in ("elementwise", "norm") and call.op not in NOT_FUSED


def holds_parameter(call: Call, index: int) -> bool:
    """Whether input `index` of the operator can be a parameter, not a mere setting."""
    if call.op in ("Mul", "Div", "Pow") and call.tensor(index).size == 1:
        return False
    return index not in _NO_PARAMETER.get(call.op, ())


def cost_of(call: Call, outputs: tuple[Tensor, ...]) -> Cost:
    """Kind and costs of an operator that is no view."""
    size = outputs[0].size if outputs else 0
    if call.op in _MACS:
        macs = _MACS[call.op](call, outputs[0])
        if macs:
            return Cost(_heavy_kind(call, outputs[0]), macs)
        return Cost("elementwise", 0, size)
    if call.op == "Gather" and call.tensor(0).constant:
        return Cost("embedding")
    if call.op == onnx_contrib.EMBED:
        return Cost("embedding", 0, NORM_FLOPS * size)
    if call.op in MOVES or (call.op in ("Resize", "Upsample") and _nearest(call)):
        return Cost("elementwise")
    if call.op in NORMS:
        return Cost("norm", 0, (2 if call.op == "BatchNormalization" else NORM_FLOPS) * size)
    if call.op in WINDOWS:
        return Cost("pool", 0, math.prod(call.integers("kernel_shape") or ()) * size)
    if call.op in READ_ONCE or call.op in REDUCE:
        return Cost("pool", 0, call.tensor(0).size)
    if call.op in _PER_ELEMENT:
        return Cost("elementwise", 0, size)
    return Cost("other", known=False)


def _nearest(call: Call) -> bool:
    return call.text("mode", "nearest") == "nearest"


def _heavy_kind(call: Call, output: Tensor) -> str:
    if call.op in _WEIGHT:
        shape = call.tensor(_WEIGHT[call.op]).shape
        return "depthwise_conv" if call.integer("group", 1) > 1 and shape[1] == 1 else "conv"
    if call.op in GATES:
        rows = math.prod(call.tensor(0).shape[:-1])
        return "linear" if rows == 1 else "matmul"
    if call.op == "Einsum" or "Attention" in call.op:
        return "matmul"
    return "linear" if math.prod(output.shape[:-1]) == 1 else "matmul"


_WEIGHT = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1, "DeformConv": 1}
_WEIGHT["com.microsoft.FusedConv"] = 1


def _conv(call: Call, output: Tensor) -> int:
    weight = call.tensor(_WEIGHT[call.op]).shape
    swept = call.tensor(0) if call.op == "ConvTranspose" else output
    return swept.size * math.prod(weight[1:])


def _gemm(call: Call, output: Tensor) -> int:
    left = call.tensor(0).shape
    return output.size * left[0 if call.integer("transA") else 1]


def _matmul(call: Call, output: Tensor) -> int:
    return output.size * call.tensor(0).shape[-1]


def _recurrent(call: Call, output: Tensor) -> int:
    directions, width, features = call.tensor(1).shape
    rows = math.prod(call.tensor(0).shape[:2])
    return rows * directions * width * (features + width // GATES[call.op])


def _attention(call: Call, output: Tensor) -> int:
    (_, batch, heads, rows, width), key, value = (attention_heads(call, i) for i in range(3))
    past = call.given(4)
    columns = key[3] + (past.shape[-2] if past and past.shape else 0)
    return batch * heads * rows * columns * (width + value[4])


def _einsum(call: Call, output: Tensor) -> int:
    terms, result, sides = einsum_terms(call)
    if len(terms) < 2 or set(sides) == set(result):
        return 0  # a reordering, a reduction or an elementwise product
    shape: Shape = tuple(side for labels in sides.values() for side in labels)
    return math.prod(shape)


_MACS: dict[str, Callable[[Call, Tensor], int]] = {
    **dict.fromkeys(_WEIGHT, _conv),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
    **dict.fromkeys(GATES, _recurrent),
    "Gemm": _gemm,
    "Attention": _attention,
    "Einsum": _einsum,
    **onnx_contrib.MACS,
}
