"""Shapes of the outputs of ONNX operators that work element by element or reduce; the registry."""

from __future__ import annotations

from collections.abc import Callable

from mjoa_gym.profiles.onnx_call import Call, ShapeRule, TensorType, axis_of, broadcast
from mjoa_gym.profiles.onnx_tensors import Shape, dtype_name

RULES: dict[str, ShapeRule] = {}

SAME = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BatchNormalization",
    "Bernoulli",
    "BitwiseNot",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "CumProd",
    "CumSum",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MeanVarianceNormalization",
    "Mish",
    "Neg",
    "Not",
    "RMSNormalization",
    "RandomNormalLike",
    "RandomUniformLike",
    "Reciprocal",
    "Relu",
    "ReverseSequence",
    "RotaryEmbedding",
    "Round",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "TensorScatter",
    "ThresholdedRelu",
    "Trilu",
    "ai.onnx.ml.Binarizer",
    "ai.onnx.ml.Imputer",
    "ai.onnx.ml.Normalizer",
    "ai.onnx.ml.Scaler",
    "ai.onnx.ml.ZipMap",
]
BROADCAST = [
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Xor",
]
COMPARE = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor"]
TEST = ["IsInf", "IsNaN", "Not"]
REDUCE = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]


def rule(*names: str) -> Callable[[ShapeRule], ShapeRule]:
    """Registers the shape rule of some operators."""

    def register(function: ShapeRule) -> ShapeRule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@rule(*SAME)
def _same(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    return [(first.shape, first.dtype)] * call.n_outputs


@rule("Dropout")
def _dropout(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    return [(first.shape, first.dtype), (first.shape, "bool")]


@rule("LayerNormalization")
def _layer_norm(call: Call) -> list[TensorType]:
    first = call.ranked(0, 1)
    axis = axis_of(call.integer("axis", -1), len(first.shape))
    means = without(first.shape, set(range(axis, len(first.shape))), 1)
    return [(first.shape, first.dtype), (means, "float"), (means, "float")]


@rule(*BROADCAST)
def _broadcast(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    if call.integer("broadcast"):  # operator sets up to 6: the second input is the smaller one
        return [(first.shape, first.dtype)]
    return [(broadcast(*(tensor.shape for tensor in call.present())), first.dtype)]


@rule(*COMPARE)
def _compare(call: Call) -> list[TensorType]:
    return [(_broadcast(call)[0][0], "bool")]


@rule(*TEST)
def _test(call: Call) -> list[TensorType]:
    return [(call.tensor(0).shape, "bool")]


@rule("Where")
def _where(call: Call) -> list[TensorType]:
    return [(broadcast(*(call.tensor(i).shape for i in range(3))), call.tensor(1).dtype)]


@rule("Cast")
def _cast(call: Call) -> list[TensorType]:
    return [(call.tensor(0).shape, dtype_name(call.integer("to")))]


@rule("CastLike")
def _cast_like(call: Call) -> list[TensorType]:
    return [(call.tensor(0).shape, call.tensor(1).dtype)]


@rule("QuantizeLinear")
def _quantize(call: Call) -> list[TensorType]:
    zero = call.given(2)
    chosen = call.integer("output_dtype")
    dtype = zero.dtype if zero else dtype_name(chosen) if chosen else "uint8"
    return [(call.tensor(0).shape, dtype)]


@rule("DequantizeLinear")
def _dequantize(call: Call) -> list[TensorType]:
    return [(call.tensor(0).shape, call.tensor(1).dtype)]


@rule("DynamicQuantizeLinear")
def _dynamic_quantize(call: Call) -> list[TensorType]:
    return [(call.tensor(0).shape, "uint8"), ((), "float"), ((), "uint8")]


@rule(*REDUCE)
def _reduce(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    axes = call.whole_numbers(1, "axes")
    if not axes and call.integer("noop_with_empty_axes"):
        return [(first.shape, first.dtype)]
    reduced = axis_set(axes, len(first.shape)) if axes else set(range(len(first.shape)))
    return [(without(first.shape, reduced, call.integer("keepdims", 1)), first.dtype)]


@rule("ArgMax", "ArgMin")
def _arg(call: Call) -> list[TensorType]:
    shape = call.ranked(0, 1).shape
    axis = axis_of(call.integer("axis"), len(shape))
    return [(without(shape, {axis}, call.integer("keepdims", 1)), "int64")]


def axis_set(axes: Shape, rank: int) -> set[int]:
    """Distinct axes, counted from 0."""
    found = {axis_of(axis, rank) for axis in axes}
    if len(found) != len(axes):
        raise ValueError(f"axes {axes} names one twice")
    return found


def without(shape: Shape, axes: set[int], keep: int) -> Shape:
    """The shape with these axes left out, or kept as 1."""
    if keep:
        return tuple(1 if axis in axes else d for axis, d in enumerate(shape))
    return tuple(d for axis, d in enumerate(shape) if axis not in axes)
