"""Properties of ONNX operators: the layer kind, whether it computes anything, and its cost.

The counts are those of `torch_operators`. Multiply-accumulates (MACs) are exact for convolutions,
matrix products (including quantised ones), recurrent layers and attention. An operator in none of
the groups below counts as zero FLOPs and is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mjoa_gym.profiles.graph import Cost, names
from mjoa_gym.profiles.onnx_contrib import known, standard
from mjoa_gym.profiles.onnx_program import Shape, Step

VIEWS = names("""Dropout Expand Flatten Identity Reshape Slice Split Squeeze Transpose Unsqueeze
ai.onnx.ml.ZipMap""")
MOVES = names("""Concat DepthToSpace EyeLike Gather GatherElements GatherND OneHot Pad
ReverseSequence Scatter ScatterElements ScatterND SpaceToDepth TensorScatter Tile Trilu
ai.onnx.ml.ArrayFeatureExtractor""")
NOT_FUSED = names("Concat Gather GatherElements GatherND ai.onnx.ml.ArrayFeatureExtractor")
NORMS = names("""BatchNormalization GroupNormalization Hardmax InstanceNormalization LRN
LayerNormalization LogSoftmax LpNormalization MeanVarianceNormalization RMSNormalization Softmax
SimplifiedLayerNormalization ai.onnx.ml.Normalizer com.microsoft.BiasSoftmax
com.microsoft.GroupNorm com.microsoft.QLinearSoftmax com.microsoft.QOrderedLayerNormalization
com.microsoft.SkipGroupNorm com.microsoft.SkipLayerNormalization
com.microsoft.SkipSimplifiedLayerNormalization""")
WINDOWS = names("MaxPool AveragePool LpPool")
READ_ONCE = names("""ArgMax ArgMin GlobalAveragePool GlobalLpPool GlobalMaxPool TopK ReduceL1
ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare com.microsoft.QLinearReduceMean""")
ELEMENTWISE = names("""Abs Acos Acosh Add Affine And Asin Asinh Atan Atanh Bernoulli BitShift
BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Col2Im Cos Cosh CumProd
CumSum DequantizeLinear Div DynamicQuantizeLinear Elu Equal Erf Exp Floor Gelu Greater
GreaterOrEqual GridSample HardSigmoid HardSwish ImageScaler IsInf IsNaN LeakyRelu Less LessOrEqual
Log Max Mean Min Mish Mod Mul Neg Not Or PRelu ParametricSoftplus Pow QuantizeLinear
RandomNormalLike RandomUniformLike Reciprocal Relu Resize RoiAlign RotaryEmbedding Round
ScaledTanh Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh
ThresholdedRelu Upsample Where Xor ai.onnx.ml.Binarizer ai.onnx.ml.Imputer ai.onnx.ml.Scaler
com.microsoft.BiasAdd com.microsoft.BiasDropout com.microsoft.BiasGelu com.microsoft.BiasSplitGelu
com.microsoft.FastGelu com.microsoft.Gelu com.microsoft.QLinearLeakyRelu
com.microsoft.QLinearSigmoid com.microsoft.QOrderedGelu com.microsoft.QuickGelu
com.microsoft.RotaryEmbedding""")

NORM_FLOPS = 5
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
CONVOLUTIONS = ("Conv", "ConvInteger", "ConvTranspose", "DeformConv")
_NO_PARAMETER = {
    "BatchNormalization": (3, 4),  # running statistics, which torch keeps as buffers
    "Resize": (1, 2),
    "Upsample": (1,),
    "OneHot": (1, 2),
    "Shape": (0,),
    "Size": (0,),
    **dict.fromkeys(GATES, (4, 5, 6)),  # lengths and initial states
}


def is_view(step: Step) -> bool:
    """Return whether the operator only renames, selects or repeats elements of its first input."""
    if step.op in VIEWS:
        return True
    if step.op == "Cast":
        return step.outputs[0].dtype == step.tensor(0).dtype
    if step.op == "Gather":
        data, index = step.tensor(0), step.tensor(1)
        selects = index.size == 1
        strides = len(data.shape) == 1 and index.size <= data.size  # torch's as_strided
        return index.constant and (selects or strides)
    return False


def is_cheap(step: Step, kind: str) -> bool:
    """Return whether a runtime would run the operator as part of its neighbour's kernel."""
    return kind in ("elementwise", "norm") and standard(step).op not in NOT_FUSED


def holds_parameter(step: Step, index: int) -> bool:
    """Return whether input `index` of the operator can be a parameter, not just a setting."""
    if step.op in ("Mul", "Div", "Pow") and step.tensor(index).size == 1:
        return False
    return index not in _NO_PARAMETER.get(step.op, ())


def cost_of(step: Step) -> Cost:
    """Return kind and costs of an operator that is not a view."""
    step = standard(step)
    op, size = step.op, step.outputs[0].size if step.outputs else 0
    rule = known(step)
    macs = rule[1] if rule else _MACS[op](step) if op in _MACS else 0
    if macs:
        return Cost(_heavy_kind(step), macs)
    if op == "Gather" and step.tensor(0).constant:
        return Cost("embedding")
    if op in ("Resize", "Upsample") and step.setting("mode", "nearest") == "nearest":
        return Cost("elementwise")
    if op in WINDOWS:
        return Cost("pool", 0, math.prod(step.setting("kernel_shape", ())) * size)
    if op in READ_ONCE:
        return Cost("pool", 0, step.tensor(0).size)
    kind, flops = _PER_ELEMENT.get(op, ("other", 0))
    return Cost(kind, 0, flops * size)


def _heavy_kind(step: Step) -> str:
    if step.op in CONVOLUTIONS:
        depthwise = step.integer("group", 1) > 1 and step.tensor(1).shape[1] == 1
        return "depthwise_conv" if depthwise else "conv"
    if step.op == "Einsum" or "Attention" in step.op:
        return "matmul"
    rows = step.tensor(0).shape if step.op in GATES else step.outputs[0].shape
    return "linear" if math.prod(rows[:-1]) == 1 else "matmul"


def _conv(step: Step) -> int:
    swept = step.tensor(0) if step.op == "ConvTranspose" else step.outputs[0]
    return swept.size * math.prod(step.tensor(1).shape[1:])


def _product(step: Step) -> int:
    turned = step.op == "Gemm" and step.integer("transA")
    return step.outputs[0].size * step.tensor(0).shape[-2 if turned else -1]


def _recurrent(step: Step) -> int:
    rows = math.prod(step.tensor(0).shape[:2])
    directions, width, features = step.tensor(1).shape
    return rows * directions * width * (features + width // GATES[step.op])


def _attention(step: Step) -> int:
    (batch, heads, rows, width), key, value = (_heads(step, index) for index in range(3))
    past = step.given(4)
    columns = key[2] + (past.shape[-2] if past and past.shape else 0)
    return batch * heads * rows * columns * (width + value[3])


def _heads(step: Step, index: int) -> Shape:
    """Return batch, heads, rows and width of a head of the query (0), key (1) or value (2)."""
    shape = step.tensor(index).shape
    if len(shape) == 4:
        return shape
    heads = step.integer("kv_num_heads" if index else "q_num_heads")
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise ValueError(f"input {index} of shape {shape} cannot be split into {heads} heads")
    return shape[0], heads, shape[1], shape[2] // heads


def _einsum(step: Step) -> int:
    left, arrow, right = step.setting("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    sides: dict[str, int] = {}
    for term, tensor in zip(terms, step.present(), strict=True):
        head, _, tail = term.partition("...")
        wide = len(tensor.shape) - len(head) - len(tail)
        labels = [*head, *(f"...{n}" for n in range(-wide, 0)), *tail]
        for label, side in zip(labels, tensor.shape, strict=True):
            sides[label] = max(sides.get(label, 1), side)
    summed = any(x not in right if arrow else left.count(x) > 1 for x in sides if len(x) == 1)
    summed |= bool(arrow) and "..." in left and "..." not in right
    if len(terms) < 2 or not summed:
        return 0  # a reordering, a reduction or an elementwise product
    return math.prod(sides.values())


_MACS: dict[str, Callable[[Step], int]] = {
    **dict.fromkeys(CONVOLUTIONS, _conv),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"), _product),
    **dict.fromkeys(GATES, _recurrent),
    "Attention": _attention,
    "Einsum": _einsum,
}
_PER_ELEMENT = {
    **dict.fromkeys((*ELEMENTWISE, *_MACS), ("elementwise", 1)),
    **dict.fromkeys(MOVES, ("elementwise", 0)),
    **dict.fromkeys(NORMS, ("norm", NORM_FLOPS)),
    "BatchNormalization": ("norm", 2),
    "com.microsoft.EmbedLayerNormalization": ("embedding", NORM_FLOPS),
    "com.microsoft.QEmbedLayerNormalization": ("embedding", NORM_FLOPS),
    "com.microsoft.GatherBlockQuantized": ("embedding", 0),
}
"""Layer kind and FLOPs per output element of the other operators."""
