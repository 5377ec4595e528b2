"""Operators outside of ONNX's own domain.

Those of ONNX Runtime, as its quantiser and its optimiser write them, and the linear models of
scikit-learn, which keep their weights in attributes.
"""

from __future__ import annotations

from mjoa_gym.profiles.onnx_call import Call, TensorType, broadcast
from mjoa_gym.profiles.onnx_shapes import rule
from mjoa_gym.profiles.onnx_shapes_heavy import matmul_shape
from mjoa_gym.profiles.onnx_shapes_moves import concat_shape
from mjoa_gym.profiles.onnx_tensors import Shape, Tensor

DOMAIN = "com.microsoft."
SAME = [
    DOMAIN + name
    for name in (
        "BiasGelu",
        "FastGelu",
        "Gelu",
        "QLinearLeakyRelu",
        "QLinearSigmoid",
        "QuickGelu",
    )
]
NORMS = [
    DOMAIN + name
    for name in ("QLinearSoftmax", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
]
PAIRS = [DOMAIN + "QLinearAdd", DOMAIN + "QLinearMul"]
CONCAT = DOMAIN + "QLinearConcat"
EMBED = DOMAIN + "EmbedLayerNormalization"


@rule(*SAME, *NORMS, "SimplifiedLayerNormalization")
def _same(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    return [(first.shape, first.dtype)] * call.n_outputs


@rule(*PAIRS)
def _pair(call: Call) -> list[TensorType]:
    first = call.tensor(0)
    return [(broadcast(first.shape, call.tensor(3).shape), first.dtype)]


@rule(CONCAT)
def _concat(call: Call) -> list[TensorType]:
    # the data is every third input
    parts = [call.tensor(index).shape for index in range(2, len(call.inputs), 3)]
    return [(concat_shape(parts, call.integer("axis")), call.tensor(2).dtype)]


@rule(DOMAIN + "FusedMatMul", DOMAIN + "FusedGemm")
def _fused_matmul(call: Call) -> list[TensorType]:
    return [(matmul_shape(*_operands(call)), call.tensor(0).dtype)]


@rule(DOMAIN + "DynamicQuantizeMatMul", DOMAIN + "MatMulIntegerToFloat")
def _to_float(call: Call) -> list[TensorType]:
    return [(matmul_shape(call.tensor(0).shape, call.tensor(1).shape), "float")]


@rule(DOMAIN + "MatMulNBits")
def _n_bits(call: Call) -> list[TensorType]:
    data = call.ranked(0, 1)
    if data.shape[-1] != call.integer("K"):
        raise ValueError(f"input {data.shape} and K={call.integer('K')} do not go together")
    return [((*data.shape[:-1], call.integer("N")), data.dtype)]


@rule(DOMAIN + "QGemm")
def _q_gemm(call: Call) -> list[TensorType]:
    dtype = call.tensor(0).dtype if call.given(7) else "float"
    return [(matmul_shape(*_operands(call, second=3)), dtype)]


@rule(EMBED)
def _embed(call: Call) -> list[TensorType]:
    tokens, table = call.ranked(0, 2), call.ranked(2, 2)
    shape = (*tokens.shape, table.shape[-1])
    return [(shape, table.dtype), (tokens.shape[:1], "int32"), (shape, table.dtype)]


@rule(DOMAIN + "Attention")
def _attention(call: Call) -> list[TensorType]:
    data, weight = call.ranked(0, 3), call.ranked(1, 2)
    return [((*data.shape[:2], weight.shape[1] // 3), data.dtype)]


@rule(DOMAIN + "MultiHeadAttention")
def _multi_head(call: Call) -> list[TensorType]:
    query, _, values = (call.ranked(index, 3) for index in range(3))
    return [((*query.shape[:2], values.shape[-1]), query.dtype)]


@rule("ai.onnx.ml.LinearClassifier")
def _linear_classifier(call: Call) -> list[TensorType]:
    rows = call.ranked(0, 2).shape[0]
    classes = max(len(call.numbers(9, "intercepts") or (0,)), 2)
    labels = "string" if "classlabels_strings" in call.attributes else "int64"
    return [((rows,), labels), ((rows, classes), "float")]


@rule("ai.onnx.ml.LinearRegressor")
def _linear_regressor(call: Call) -> list[TensorType]:
    return [((call.ranked(0, 2).shape[0], call.integer("targets", 1)), "float")]


def linear_model_macs(call: Call, output: Tensor) -> int:
    """MACs of a linear model."""
    return call.ranked(0, 2).shape[0] * len(call.numbers(9, "coefficients") or ())


def _operands(call: Call, second: int = 1) -> tuple[Shape, Shape]:
    """The shapes of the two matrices, transposed as the attributes say."""
    left, right = call.ranked(0, 2).shape, call.ranked(second, 2).shape
    if call.integer("transA"):
        left = (*left[:-2], left[-1], left[-2])
    if call.integer("transB"):
        right = (*right[:-2], right[-1], right[-2])
    return left, right


def matmul_macs(call: Call, output: Tensor) -> int:
    """MACs of a matrix product in any of its forms here."""
    if call.op == DOMAIN + "MatMulNBits":
        return output.size * call.integer("K")
    return output.size * _operands(call, second=3 if call.op == DOMAIN + "QGemm" else 1)[0][-1]


def attention_macs(call: Call, output: Tensor) -> int:
    """MACs of attention; ONNX Runtime's `Attention` includes the projections before it."""
    batch, rows, width = call.ranked(0, 3).shape
    if call.op == DOMAIN + "Attention":
        products = rows * call.ranked(1, 2).size
        return batch * (products + 2 * rows * rows * output.shape[-1])
    keys, values = call.ranked(1, 3), call.ranked(2, 3)
    return batch * rows * keys.shape[1] * (width + values.shape[-1])


MACS = {
    **dict.fromkeys(
        (
            DOMAIN + name
            for name in (
                "DynamicQuantizeMatMul",
                "FusedGemm",
                "FusedMatMul",
                "MatMulIntegerToFloat",
                "MatMulNBits",
                "QGemm",
            )
        ),
        matmul_macs,
    ),
    "ai.onnx.ml.LinearClassifier": linear_model_macs,
    "ai.onnx.ml.LinearRegressor": linear_model_macs,
    DOMAIN + "Attention": attention_macs,
    DOMAIN + "MultiHeadAttention": attention_macs,
}
