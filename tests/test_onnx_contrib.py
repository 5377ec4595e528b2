"""Operators of ONNX Runtime: what they put out and what they cost, by formula."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto  # noqa: E402

from mjoa_gym.profiles import onnx_contrib  # noqa: E402
from mjoa_gym.profiles.onnx_costs import ELEMENTWISE, NORMS  # noqa: E402
from tests.onnx_graphs import model, node, read, summary, value, weight, whole  # noqa: E402

INT8, UINT8 = np.int8, np.uint8
S, Z = weight("s"), weight("z", dtype=UINT8)
HALF = TensorProto.FLOAT16


def ms(op, inputs, outputs="y", **attributes):
    return node(op, inputs, outputs, domain="com.microsoft", **attributes)


def quantised(name, *shape):
    return value(name, *shape, dtype=TensorProto.UINT8)


B, R, C, P = 2, 5, 7, 3  # batch, rows, columns, past
Q3, K3, V3 = value("q", B, R, 16), value("k", B, C, 16), value("v", B, C, 24)
PAST = [value("pk", B, 4, P, 4), value("pv", B, 4, P, 4)]
ONE = [value("q", B, 1, 16), value("k", B, 1, 16), value("v", B, 1, 16)]
SELF = R * 16 * 48 + R * R * 32
# node, inputs, stored, kind, multiply-accumulates, bytes of all outputs together
COUNTED = {
    "attention": (
        ms("Attention", "x w b", num_heads=4),
        [value("x", B, R, 16)], [weight("w", 16, 48), weight("b", 48)],
        "matmul", B * SELF, 4 * B * R * 16,
    ),
    "attention with a past": (
        ms("Attention", "x w b - past", "y present", num_heads=4),
        [value("x", B, R, 16), value("past", 2, B, 4, P, 4)],
        [weight("w", 16, 48), weight("b", 48)],
        "matmul", B * (R * 16 * 48 + R * (R + P) * 32), 4 * B * (R * 16 + 2 * 4 * (R + P) * 4),
    ),
    "attention of other widths": (
        ms("Attention", "x w b", num_heads=4, qkv_hidden_sizes=[16, 16, 8]),
        [value("x", B, R, 16)], [weight("w", 16, 40), weight("b", 40)],
        "matmul", B * (R * 16 * 40 + R * R * 24), 4 * B * R * 8,
    ),
    "quantised attention": (
        ms("QAttention", "x w b s s - z z", num_heads=4),
        [quantised("x", B, R, 16)], [weight("w", 16, 48, dtype=UINT8), weight("b", 48), S, Z],
        "matmul", B * SELF, 4 * B * R * 16,
    ),
    "decoder": (
        ms("DecoderMaskedSelfAttention", "x w b - past", num_heads=4, past_present_share_buffer=1),
        [value("x", B, 1, 16), value("past", 2, B, 4, 9, 4)],
        [weight("w", 16, 48), weight("b", 48)],
        "matmul", B * (16 * 48 + 9 * 32), 4 * B * 16,
    ),
    "packed attention": (
        ms("PackedAttention", "x w b offset ends", num_heads=4),
        [value("x", 11, 16)],
        [weight("w", 16, 48), weight("b", 48), weight("offset", B, 8, dtype=np.int32),
         weight("ends", B + 1, dtype=np.int32)],
        "matmul", 11 * (16 * 48 + 8 * 32), 4 * 11 * 16,
    ),
    "local attention": (
        ms("LongformerAttention", "x w b m w b g", num_heads=4, window=1),
        [value("x", B, R, 16), value("m", B, R), value("g", B, R, dtype=TensorProto.INT32)],
        [weight("w", 16, 48), weight("b", 48)],
        "matmul", B * R * (2 * 16 * 48 + 3 * 32), 4 * B * R * 16,
    ),
    "ordered attention": (
        ms("QOrderedAttention", "x s s s s w w w s s s b b b s s s", num_heads=4),
        [value("x", B, R, 16, dtype=TensorProto.INT8)],
        [weight("w", 16, 16, dtype=INT8), weight("b", 16), S],
        "matmul", B * SELF, B * R * 16,
    ),
    "multi-head attention": (
        ms("MultiHeadAttention", "q k v", num_heads=4), [Q3, K3, V3], [],
        "matmul", B * R * C * 40, 4 * B * R * 24,
    ),
    "all in one": (
        ms("MultiHeadAttention", "q", num_heads=4), [value("q", B, R, 4, 3, 4)], [],
        "matmul", B * R * R * 32, 4 * B * R * 16,
    ),
    "keys and values in one": (
        ms("MultiHeadAttention", "q k", num_heads=4), [Q3, value("k", B, C, 4, 2, 4)], [],
        "matmul", B * R * C * 32, 4 * B * R * 16,
    ),
    "keys of another network": (
        ms("MultiHeadAttention", "q k v", num_heads=4),
        [Q3, value("k", B, 4, C, 4), value("v", B, 4, C, 4)], [],
        "matmul", B * R * C * 32, 4 * B * R * 16,
    ),
    "keys and values of the past": (
        ms("MultiHeadAttention", "q k v - - - pk pv", "y a b", num_heads=4),
        [Q3, value("k", B, R, 16), value("v", B, R, 16), *PAST], [],
        "matmul", B * R * (R + P) * 32, 4 * B * (R * 16 + 2 * 4 * (R + P) * 4),
    ),
    "decoder of query, key and value": (
        ms("DecoderMaskedMultiHeadAttention", "q k v - - pk pv", "y a b", num_heads=4),
        [*ONE, *PAST], [],
        "matmul", B * (1 + P) * 32, 4 * B * (16 + 2 * 4 * (1 + P) * 4),
    ),
    "packed query, key and value": (
        ms("PackedMultiHeadAttention", "q k v - offset ends", num_heads=4),
        [value("q", 11, 16), value("k", 11, 16), value("v", 11, 24)],
        [weight("offset", B, 8, dtype=np.int32), weight("ends", B + 1, dtype=np.int32)],
        "matmul", 11 * 8 * 40, 4 * 11 * 24,
    ),
    "grouped attention": (
        ms("GroupQueryAttention", "q k v - - n t", num_heads=4, kv_num_heads=2),
        [Q3, value("k", B, R, 8), value("v", B, R, 8), value("n", B, dtype=TensorProto.INT32),
         value("t", dtype=TensorProto.INT32)], [],
        "matmul", B * R * R * 32, 4 * B * R * 16,
    ),
    "grouped attention with a past, in one": (
        ms("GroupQueryAttention", "q - - pk pv n t", "y a b", num_heads=4, kv_num_heads=2),
        [value("q", B, R, 32), value("pk", B, 2, P, 4), value("pv", B, 2, P, 4),
         value("n", B, dtype=TensorProto.INT32), value("t", dtype=TensorProto.INT32)], [],
        "matmul", B * R * (R + P) * 32, 4 * B * (R * 16 + 2 * 2 * (R + P) * 4),
    ),
    "grouped attention in a window": (
        ms("GroupQueryAttention", "q - - pk pv n t", num_heads=4, kv_num_heads=2,
           local_window_size=4),
        [value("q", B, R, 32), value("pk", B, 2, P, 4), value("pv", B, 2, P, 4),
         value("n", B, dtype=TensorProto.INT32), value("t", dtype=TensorProto.INT32)], [],
        "matmul", B * R * 4 * 32, 4 * B * R * 16,
    ),
    "sparse attention": (
        ms("SparseAttention", "q k v pk pv rows cols t n", num_heads=4, kv_num_heads=2,
           sparse_block_size=16),
        [value("q", B, 64, 16), value("k", B, 64, 8), value("v", B, 64, 8),
         value("pk", B, 2, 64, 4), value("pv", B, 2, 64, 4)],
        [weight("rows", 1, 5, dtype=np.int32), weight("cols", 1, 7, dtype=np.int32),
         whole("t", 64), weight("n", B, dtype=np.int32)],
        "matmul", B * 7 * 16**2 * 32, 4 * B * 64 * 16,
    ),
    "paged attention": (
        ms("PagedAttention", "q k v kc vc ends past table", num_heads=4, kv_num_heads=2),
        [value("q", 11, 16, dtype=HALF), value("k", 11, 8, dtype=HALF),
         value("v", 11, 8, dtype=HALF), value("kc", 9, 16, 2, 4, dtype=HALF),
         value("vc", 9, 16, 2, 4, dtype=HALF)],
        [weight("ends", B + 1, dtype=np.int32), weight("past", B, dtype=np.int32),
         weight("table", B, 3, dtype=np.int32)],
        "matmul", 11 * 3 * 16 * 32, 2 * 11 * 16,
    ),
    "decoder of fairseq": (
        ms("DecoderAttention", "q k w u b - - - f f f f", num_heads=4),
        [value("q", R, B, 16), value("k", C, B, 16)],
        [weight("w", 16, 16), weight("u", 16, 32), weight("b", 48), weight("f", 1, dtype=np.bool_)],
        "matmul", B * (R * 256 + C * 512 + 2 * R * C * 16), 4 * R * B * 16,
    ),
    "linear attention": (
        ms("LinearAttention", "q k v", "y a", q_num_heads=4, kv_num_heads=2),
        [Q3, value("k", B, R, 8), value("v", B, R, 12)], [],
        "matmul", B * R * (2 + 4) * 4 * 6, 4 * B * (R * 24 + 2 * 4 * 6),
    ),
    "4-bit weights": (
        ms("MatMulNBits", "x w s8", K=32, N=6, bits=4),
        [value("x", B, R, 32)], [weight("w", 6, 1, 16, dtype=UINT8), weight("s8", 6)],
        "matmul", B * R * 32 * 6, 4 * B * R * 6,
    ),
    "4-bit weights of bitsandbytes": (
        ms("MatMulBnb4", "x w s8", K=32, N=6, block_size=16, quant_type=1),
        [value("x", 1, 32)], [weight("w", 96, dtype=UINT8), weight("s8", 12)],
        "linear", 32 * 6, 4 * 6,
    ),
    "4-bit weights in a blob": (
        ms("MatMulFpQ4", "x w shape", blk_quant_type=1),
        [value("x", R, 32)], [weight("w", 120, dtype=UINT8), whole("shape", 32, 6)],
        "matmul", R * 32 * 6, 4 * R * 6,
    ),
    "three products of 4-bit weights": (
        ms("MatMulNBitsQkv", "x - n w s8 - w s8 - w s8", "a b c", K=32, Nq=8, Nkv=4),
        [value("x", R, 32)], [weight("n", 32), weight("w", 8, 1, 16, dtype=UINT8), weight("s8", 8)],
        "matmul", R * 32 * 16, 4 * R * 16,
    ),
    "gated product": (
        ms("MatMulNBitsMlp", "x - - w s8 - w s8", K=32, N=6),
        [value("x", R, 32)], [weight("w", 6, 1, 16, dtype=UINT8), weight("s8", 6)],
        "matmul", 2 * R * 32 * 6, 4 * R * 6,
    ),
    "turned batches": (
        ms("FusedMatMul", "x z", transBatchA=1, transBatchB=1, transB=1),
        [value("x", 5, B, 3, 4), value("z", 6, B, 3, 4)], [],
        "matmul", B * 3 * 5 * 6 * 4, 4 * B * 3 * 5 * 6,
    ),
    "fused activation": (
        ms("FusedGemm", "x w b", transB=1, activation="Relu"),
        [value("x", 1, 8)], [weight("w", 5, 8), weight("b", 5)], "linear", 40, 20,
    ),
    "quantised in front": (
        ms("DynamicQuantizeMatMul", "x w s z b"),
        [value("x", B, R, 8)], [weight("w", 8, 5, dtype=UINT8), S, Z, weight("b", 5)],
        "matmul", B * R * 40, 4 * B * R * 5,
    ),
    "to float": (
        ms("MatMulIntegerToFloat", "x w s s"),
        [quantised("x", R, 8)], [weight("w", 8, 5, dtype=INT8), S], "matmul", R * 40, 4 * R * 5,
    ),
    "by columns": (
        ms("QOrderedMatMul", "x s w s s"),
        [value("x", B, R, 8, dtype=TensorProto.INT8)], [weight("w", 5, 8, dtype=INT8), S],
        "matmul", B * R * 40, B * R * 5,
    ),
    "experts": (
        ms("MoE", "x p w - u", k=2),
        [value("x", R, 8), value("p", R, 4)], [weight("w", 4, 12, 8), weight("u", 4, 8, 12)],
        "matmul", R * 2 * 2 * 96, 4 * R * 8,
    ),
    "quantised and gated experts": (
        ms("QMoE", "x p w s8 - u s8", k=1, swiglu_fusion=1, expert_weight_bits=8),
        [value("x", R, 8), value("p", R, 4)],
        [weight("w", 4, 24, 8, dtype=UINT8), weight("u", 4, 8, 12, dtype=UINT8),
         weight("s8", 4, 8)],
        "matmul", R * (24 * 8 + 12 * 8), 4 * R * 8,
    ),
    "quantised LSTM": (
        ms("DynamicQuantizeLSTM", "x w r - - - - - s z s z", "y h c", hidden_size=4),
        [value("x", R, B, 3)],
        [weight("w", 1, 3, 16, dtype=UINT8), weight("r", 1, 4, 16, dtype=UINT8), S, Z],
        "matmul", R * B * 16 * (3 + 4), 4 * B * (R * 4 + 2 * 4),
    ),
    "fused convolution": (
        ms("FusedConv", "x w b", activation="Relu", strides=[2, 2]),
        [value("x", 1, 3, 9, 9)], [weight("w", 4, 3, 3, 3), weight("b", 4)],
        "conv", 16 * 4 * 27, 4 * 16 * 4,
    ),
    "channels last": (
        ms("NhwcFusedConv", "x w", group=3, pads=[1, 1, 1, 1]),
        [value("x", 1, 8, 9, 3, dtype=HALF)], [weight("w", 3, 1, 3, 3, dtype=np.float16)],
        "depthwise_conv", 72 * 27, 2 * 72 * 3,
    ),
    "quantised, channels last": (
        ms("QLinearConv", "x s z w s z s z", channels_last=1),
        [quantised("x", 1, 8, 9, 3)], [weight("w", 4, 3, 3, 3, dtype=UINT8), S, Z],
        "conv", 6 * 7 * 4 * 27, 6 * 7 * 4,
    ),
}  # fmt: skip
LIGHT = {
    "sum": (ms("QLinearAdd", "x s z u s z s z"), "elementwise", 96, 96),
    "product": (ms("QLinearMul", "u s z x s z s z"), "elementwise", 96, 96),
    "choice": (ms("QLinearWhere", "c x s z u s z s z"), "elementwise", 96, 96),
    "activation": (ms("QLinearSigmoid", "x s z s z"), "elementwise", 96, 96),
    "softmax": (ms("QLinearSoftmax", "x s z s z", opset=13), "norm", 5 * 96, 96),
    "join": (ms("QLinearConcat", "s z x s z x s z", axis=1), "elementwise", 0, 192),
    "mean": (ms("QLinearReduceMean", "x s z s z", axes=[-1], keepdims=0), "pool", 96, 24),
    "pool": (ms("QLinearAveragePool", "x s z s z", kernel_shape=[2, 2]), "pool", 4 * 54, 54),
    "pool, channels last": (
        ms("QLinearAveragePool", "x s z s z", kernel_shape=[2, 2], channels_last=1),
        "pool", 4 * 60, 60,
    ),
    "whole pool": (ms("QLinearGlobalAveragePool", "x s z s z", channels_last=1), "pool", 96, 4),
    "scale": (ms("DequantizeLinear", "x s z"), "elementwise", 96, 4 * 96),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_warning_of_unknown_costs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def profile(folder, operator, inputs, stored):
    made = model([operator], inputs, " ".join(operator.output), stored, domains=["com.microsoft"])
    return read(made, folder)


@pytest.mark.parametrize("name", COUNTED)
def test_fused_operators_are_counted(name, tmp_path):
    operator, inputs, stored, kind, macs, size = COUNTED[name]
    dnn = profile(tmp_path, operator, inputs, stored)
    assert (dnn.kinds[0], dnn.flops[0] / 2, dnn.output_bytes[0]) == (kind, macs, size)
    assert dnn.flops.sum() == dnn.flops[0]


@pytest.mark.parametrize("name", LIGHT)
def test_light_operators(name, tmp_path):
    operator, kind, flops, size = LIGHT[name]
    stored = [S, Z, weight("u", 6, 4, 1, dtype=UINT8), weight("c", 4, 4, dtype=np.bool_)]
    ((found, *_),) = [summary(profile(tmp_path, operator, [quantised("x", 1, 6, 4, 4)], stored))]
    assert (found[0], found[1], found[3]) == (kind, flops, size)


def test_what_the_page_lists_is_counted():
    page = (Path(__file__).parents[1] / "docs" / "own-models.md").read_text("utf-8")
    table = page.split("| Operators | Counted |")[1].split("\n\n")[0]
    listed = {
        "com.microsoft." + name for name in re.findall(r"`(\w+)`(?=[^|]*\|[^|]*\|$)", table, re.M)
    }
    listed -= {"com.microsoft.LSTM"}
    rules = {*onnx_contrib.RULES, *onnx_contrib.STANDARD}
    assert len(listed) > 40
    assert listed <= rules | ELEMENTWISE | NORMS
    counted = {name for name in rules if "Attention" in name or "MatMul" in name}
    assert counted <= listed


def test_embeddings_and_norms(tmp_path):
    tokens = value("x", B, R, dtype=TensorProto.INT32)
    stored = [weight("w", 30, 8), weight("p", 9, 8), weight("g", 8)]
    nodes = [
        ms("EmbedLayerNormalization", "x - w p - g g", "e m"),
        ms("SkipLayerNormalization", "e e g g", "n mean deviation sum"),
        ms("BiasGelu", "n g", "a"),
        ms("FusedMatMul", "a w", "y", transB=1),
    ]
    made = model(nodes, [tokens], "y sum", stored, domains=["com.microsoft"])
    rows = summary(read(made, tmp_path))
    assert rows[0][:2] == ("embedding", 5 * B * R * 8)
    assert rows[-2][:2] == ("matmul", 2 * B * R * 8 * 30)
    packed = [weight("w", 30, 4, dtype=UINT8), weight("s8", 30, 1)]
    gather = ms("GatherBlockQuantized", "w x s8", block_size=16, quantize_axis=1)
    dnn = profile(tmp_path, gather, [tokens], packed)
    assert summary(dnn) == [("embedding", 0, 30 * 4 + 4 * 30, 4 * B * R * 8, (-1,))]


def test_shapes_that_do_not_go_together(tmp_path):
    for name, wrong in (
        ("multi-head attention", ms("FusedMatMul", "q k")),
        ("attention", ms("Attention", "x b", num_heads=4)),
        ("grouped attention", ms("GroupQueryAttention", "q k v", num_heads=5, kv_num_heads=2)),
        ("4-bit weights", ms("MatMulNBits", "x w s8", K=31, N=6)),
        ("channels last", ms("NhwcConv", "w x")),
    ):
        _, inputs, stored, *_ = COUNTED[name]
        with pytest.raises(ValueError, match=rf"node 'y' \(com.microsoft.{wrong.op_type}\): "):
            profile(tmp_path, wrong, inputs, stored)
