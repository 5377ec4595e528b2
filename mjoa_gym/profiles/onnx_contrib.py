"""Operators outside ONNX's own domain: their outputs, and their multiply-accumulates.

These are operators of ONNX Runtime, as its quantiser and its optimiser write them, and the linear
models of scikit-learn, which keep their weights in attributes. ONNX Runtime's variants of ONNX's
operators (another name, scales between the inputs, transposed matrices, channels last) are read as
ONNX's own operator (`standard`).

Attention counts every row with every column, including masked ones, like ONNX's own attention.
Cached keys count as far as the file states them: up to a stored `total_sequence_length` or local
window, else all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from onnx_ir import DataType

from mjoa_gym.profiles.onnx_program import Step, Tensor, TensorType

Known = tuple[list[TensorType], int]
"""Types of an operator's outputs, and its multiply-accumulates."""
Rule = Callable[[Step, str], Known]

RULES: dict[str, Rule] = {}
_DOMAIN = "com.microsoft."
_ALL = range(99)
_Form = tuple[str, Sequence[int], int | None]
_FORMS: dict[str, _Form] = {
    "QLinearConv": ("Conv", (0, 3), 7),
    "FusedConv NhwcConv NhwcFusedConv": ("Conv", (0, 1, 2), 0),
    "NhwcMaxPool": ("MaxPool", (0,), 0),
    "QLinearAveragePool": ("AveragePool", (0,), 0),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 0),
    "QLinearAdd": ("Add", (0, 3), 0),
    "QLinearMul": ("Mul", (0, 3), 0),
    "QLinearWhere": ("Where", (0, 1, 4), 1),
    "QLinearConcat": ("Concat", range(2, 9999, 3), 2),
    "FusedMatMul FusedMatMulActivation TransposeMatMul SparseToDenseMatMul FusedGemm GemmFastGelu"
    " GemmFloat8 DynamicQuantizeMatMul MatMulBlockQuantizedFp8Weight": ("MatMul", (0, 1), 0),
    "MatMulIntegerToFloat": ("MatMul", (0, 1), 2),
    "QOrderedMatMul": ("MatMul", (0, 2), 0),
    "QGemm": ("MatMul", (0, 3), 1),
    "MatMulInteger16": ("MatMulInteger", (0, 1), None),
    "DynamicQuantizeLSTM": ("LSTM", (0, 1, 2), 0),
    "DequantizeLinear QuantizeLinear GatherND GridSample Pad Trilu": ("", _ALL, None),
}
"""ONNX's own equivalent operator ("" for the same name), the inputs that it takes, and, if it does
not support their types, the input whose type the output has."""
STANDARD: dict[str, _Form] = {
    "GreaterOrEqual": ("Greater", _ALL, None),
    "LessOrEqual": ("Less", _ALL, None),
    "QLinearConv": _FORMS["QLinearConv"],
} | {
    _DOMAIN + name: (op or name, which, like)
    for together, (op, which, like) in _FORMS.items()
    for name in together.split()
}
_MAYBE_BY_COLUMNS = {_DOMAIN + "QOrderedMatMul", _DOMAIN + "MatMulBlockQuantizedFp8Weight"}


def standard(step: Step) -> Step:
    """Return the step as ONNX's own equivalent operator, channels first and not quantised."""
    if step.op not in STANDARD:
        return step
    op, which, like = STANDARD[step.op]
    inputs = [tensor for n, tensor in enumerate(step.inputs) if n in which]
    for n, tensor in enumerate(inputs):
        if tensor is None:
            continue
        shape, dtype = tensor.shape, tensor.dtype
        if n == 0 and _has_channels_last(step):
            batch, *sides, channels = shape
            shape = (batch, channels, *sides)
        if op in ("MatMul", "LSTM"):
            _fit(step, len(shape) > 1)
        if op == "MatMul" and step.integer(f"transBatch{'AB'[n]}"):
            shape = (*shape[1:-1], shape[0], shape[-1])
        if _is_turned(step, op, n):
            shape = (*shape[:-2], shape[-1], shape[-2])
        if like is not None and dtype != DataType.BOOL:
            dtype = DataType.FLOAT
        if (shape, dtype) != (tensor.shape, tensor.dtype):
            inputs[n] = replace(tensor, shape=shape, dtype=dtype, value=None)
    return replace(step, op=op, inputs=tuple(inputs))


def as_written(step: Step, found: TensorType) -> TensorType:
    """Return the output type of a step whose standard form has the output type `found`."""
    shape, dtype = found
    if _has_channels_last(step):
        shape = (shape[0], *shape[2:], shape[1])
    like = STANDARD[step.op][2] if step.op in STANDARD else None
    if like is not None:
        dtype = step.tensor(0 if step.op == _DOMAIN + "QGemm" and step.given(7) else like).dtype
    return shape, dtype


def _has_channels_last(step: Step) -> bool:
    return "Nhwc" in step.op or step.integer("channels_last") == 1


def _is_turned(step: Step, op: str, index: int) -> bool:
    """Return whether an input must be transposed."""
    if step.op in _MAYBE_BY_COLUMNS and index == 1:
        left, right = (step.tensor(n).shape for n in STANDARD[step.op][1])
        return left[-1] != right[-2]
    if op == "LSTM":
        return index > 0
    return op == "MatMul" and step.integer(f"trans{'AB'[index]}") != 0


def known(step: Step) -> Known | None:
    """Return what an operator's rule in this module says; None if it has no rule."""
    rule = RULES.get(step.op)
    return None if rule is None else rule(step, step.op.rpartition(".")[2])


def _rule(*names: str, domain: str = _DOMAIN) -> Callable[[Rule], Rule]:
    """Register the rule of some operators; it also gets the operator's name without a domain."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys((domain + name for name in names), rule))
        return rule

    return register


def _fit(step: Step, fits: bool) -> None:
    if not fits:
        shapes = ", ".join(str(tensor.shape) for tensor in step.present())
        raise ValueError(f"shapes {shapes} do not go together")


@_rule("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "MatMulNBitsMlp", "MatMulNBitsQkv")
def _packed_weights(step: Step, op: str) -> Known:
    data, inner = step.tensor(0), step.integer("K")
    keys = ("Nq", "Nkv", "Nkv") if op == "MatMulNBitsQkv" else ("N",)
    widths = [step.integer(key) for key in keys]
    stored = step.tensor(2).value if op == "MatMulFpQ4" else None
    if stored is not None:
        inner, *widths = stored.tolist()
    _fit(step, data.shape[-1] == inner)
    products = 2 * widths if op == "MatMulNBitsMlp" else widths
    types = [((*data.shape[:-1], width), data.dtype) for width in widths]
    return [*types, (data.shape, data.dtype)], data.size * sum(products)


@_rule("MoE", "QMoE")
def _experts(step: Step, op: str) -> Known:
    """Count a mixture of experts: each token goes through `k` chosen experts."""
    data, wide = step.tensor(0), step.tensor(2).shape[1]
    second, third = (4, 6) if op == "MoE" else (5, 8)
    inner = wide // 2 if step.integer("swiglu_fusion") else wide
    _fit(step, step.tensor(second).shape[1] == data.shape[-1])
    width = wide + inner + (inner if step.given(third) else 0)
    return [(data.shape, data.dtype)], data.size * step.integer("k", 1) * width


@_rule("Attention", "QAttention", "DecoderMaskedSelfAttention", "QOrderedAttention")
@_rule("LongformerAttention", "PackedAttention")
def _self_attention(step: Step, op: str) -> Known:
    """Count attention with the projections before it."""
    data, heads = step.tensor(0), max(step.integer("num_heads"), 1)
    weights = [step.tensor(n) for n in ((5, 6, 7) if op == "QOrderedAttention" else (1,))]
    _fit(step, all(weight.shape[0] == data.shape[-1] for weight in weights))
    third = sum(weight.shape[1] for weight in weights) // 3
    query, _, value = step.setting("qkv_hidden_sizes", (third, third, third))
    rows = step.tensor(3).shape[-1] if op == "PackedAttention" else data.shape[-2]
    past = {"QAttention": 8, "QOrderedAttention": 18, "PackedAttention": 99}.get(op, 4)
    if op == "LongformerAttention":
        weights.append(step.tensor(4))
        columns = min(rows, 2 * step.integer("window") + 1)
    else:
        columns = _columns(step, rows, step.given(past))
    products = sum(weight.size for weight in weights) + columns * (query + value)
    dtype = step.tensor(3).dtype if op == "QAttention" else data.dtype
    kept = (2, data.shape[0], heads, columns, value // heads)
    shapes = ((*data.shape[:-1], value), kept)
    return [(shape, dtype) for shape in shapes], math.prod(data.shape[:-1]) * products


@_rule("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", "PackedMultiHeadAttention")
def _attention(step: Step, op: str) -> Known:
    """Count attention of query, key and value, which may be in one tensor or in two."""
    query, key = step.tensor(0), step.given(1)
    heads, packed = max(step.integer("num_heads"), 1), op == "PackedMultiHeadAttention"
    lead = query.shape[: 1 if packed else 2]
    width = value = math.prod(query.shape[len(lead) :]) // (1 if key else 3)
    rows = lead[-1]
    if key and len(key.shape) == 4:  # a cache: batch, heads, rows, width of a head
        rows, value = key.shape[2], heads * step.tensor(2).shape[3]
    elif key:
        rows = key.shape[1]
        value = width if len(key.shape) == 5 else step.tensor(2).shape[-1]
    if packed:
        rows = step.tensor(4).shape[-1]
    past = {"MultiHeadAttention": 6, "DecoderMaskedMultiHeadAttention": 5}.get(op, 99)
    columns = _columns(step, rows, step.given(past))
    kept = ((lead[0], heads, columns, side // heads) for side in (width, value))
    shapes = ((*lead, value), *kept, (lead[0], heads, lead[-1], columns))
    macs = math.prod(lead) * columns * (width + value)
    return [(shape, query.dtype) for shape in shapes], macs


@_rule("GroupQueryAttention", "SparseAttention", "PagedAttention")
def _grouped_attention(step: Step, op: str) -> Known:
    """Count attention in which several heads of the query share one of key and value."""
    query, past = step.tensor(0), step.given(3)
    heads, groups = step.integer("num_heads"), step.integer("kv_num_heads")
    parts = heads if step.given(1) else heads + 2 * groups
    _fit(step, heads > 0 and groups > 0 and query.shape[-1] % parts == 0)
    head, rows = query.shape[-1] // parts, math.prod(query.shape[:-1])
    if op == "PagedAttention":
        columns = step.tensor(7).shape[-1] * step.tensor(3).shape[1]
        kept = [(tensor.shape, tensor.dtype) for tensor in step.inputs[3:5] if tensor]
    else:
        columns = _columns(step, query.shape[-2], past, in_place=op == "SparseAttention")
        kept = [((query.shape[0], groups, columns, head), (past or query).dtype)] * 2
        total = step.given(6 if op == "GroupQueryAttention" else 7)
        columns = columns if total is None or total.value is None else int(total.value.max())
    if step.integer("local_window_size") > 0:
        columns = min(columns, step.integer("local_window_size"))
    pairs = rows * columns
    if op == "SparseAttention":
        blocks = step.tensor(6).shape[-1] * step.integer("sparse_block_size") ** 2
        pairs = min(pairs, query.shape[0] * blocks)
    out = (*query.shape[:-1], heads * head)
    return [(out, query.dtype), *kept], 2 * pairs * heads * head


def _columns(step: Step, rows: int, past: Tensor | None, in_place: bool = False) -> int:
    """Return the number of keys, including those of the past (..., rows, width of a head)."""
    if past is None or len(past.shape) < 4:
        return rows
    shared = in_place or step.integer("past_present_share_buffer")
    return past.shape[-2] if shared else past.shape[-2] + rows


@_rule("DecoderAttention")
def _decoder_attention(step: Step, op: str) -> Known:
    query, key, heads = step.tensor(0), step.tensor(1), max(step.integer("num_heads"), 1)
    (rows, batch, width), columns = query.shape, key.shape[0]
    kept = (batch, heads, columns, width // heads)
    products = rows * step.tensor(2).size + columns * step.tensor(3).size
    macs = batch * (products + 2 * rows * columns * width)
    return [(shape, query.dtype) for shape in (query.shape, kept, kept)], macs


@_rule("LinearAttention")
def _linear_attention(step: Step, op: str) -> Known:
    """Count the update and the reading of a state per head for every token."""
    query, key, value = (step.tensor(n) for n in range(3))
    groups = max(step.integer("kv_num_heads"), 1)
    heads, width = max(step.integer("q_num_heads"), groups), value.shape[-1] // groups
    state = (query.shape[0], groups, key.shape[-1] // groups, width)
    past = step.given(3)
    shapes = ((*query.shape[:-1], heads * width), past.shape if past else state)
    macs = math.prod(query.shape[:-1]) * (groups + heads) * state[2] * width
    return [(shape, query.dtype) for shape in shapes], macs


@_rule("EmbedLayerNormalization", "QEmbedLayerNormalization")
def _embed(step: Step, op: str) -> Known:
    tokens, table, scale = step.tensor(0), step.tensor(2), step.given(8)
    shape = (*tokens.shape, table.shape[-1])
    dtype = scale.dtype if scale and op == "QEmbedLayerNormalization" else table.dtype
    return [(shape, dtype), (tokens.shape[:1], DataType.INT32), (shape, dtype)], 0


@_rule("GatherBlockQuantized")
def _gather(step: Step, op: str) -> Known:
    data, index, scales = (step.tensor(n) for n in range(3))
    axis = step.integer("gather_axis") % len(data.shape)
    shape = [*data.shape[:axis], *index.shape, *data.shape[axis + 1 :]]
    if data.dtype == DataType.UINT8:  # several in a byte
        shape[-1] *= 8 // max(step.integer("bits", 4), 1)
    return [(tuple(shape), scales.dtype)], 0


@_rule("BiasSplitGelu")
def _split(step: Step, op: str) -> Known:
    data = step.tensor(0)
    return [((*data.shape[:-1], data.shape[-1] // 2), data.dtype)], 0


@_rule("QLinearReduceMean")
def _mean(step: Step, op: str) -> Known:
    data = step.tensor(0)
    rank, keep = len(data.shape), step.integer("keepdims", 1)
    reduced = {axis % rank for axis in step.setting("axes", range(rank))}
    sides = {n: 1 if n in reduced else side for n, side in enumerate(data.shape)}
    return [(tuple(side for n, side in sides.items() if keep or n not in reduced), data.dtype)], 0


@_rule("ZipMap", "LinearClassifier", "LinearRegressor", domain="ai.onnx.ml.")
def _linear_model(step: Step, op: str) -> Known:
    data = step.tensor(0)
    if op == "ZipMap":
        return [(data.shape, data.dtype)], 0
    rows, _ = data.shape
    macs = rows * len(step.setting("coefficients", ()))
    if op == "LinearRegressor":
        return [((rows, step.integer("targets", 1)), DataType.FLOAT)], macs
    labels = DataType.STRING if "classlabels_strings" in step.attributes else DataType.INT64
    classes = max(len(step.setting("intercepts", ())), 2)
    return [((rows,), labels), ((rows, classes), DataType.FLOAT)], macs
