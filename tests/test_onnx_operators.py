"""Costs of ONNX operators by formula, and graphs in the style of other exporters."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto, helper  # noqa: E402

from mjoa_gym.profiles.graph import UnknownOperatorWarning  # noqa: E402
from tests.onnx_graphs import model, node, read, summary, value, weight, whole  # noqa: E402

INT8 = np.int8


def costs(folder, nodes, inputs, stored, **arguments):
    dnn = read(model(nodes, inputs, "y", stored, **arguments), folder)
    return [(kind, flops / 2, size) for kind, flops, size, *_ in summary(dnn)]


HEAVY = {
    "grouped convolution": (
        [node("Conv", "x w", "y", group=2, strides=[2, 2], auto_pad="SAME_UPPER")],
        [value("x", 1, 4, 9, 9)],
        [weight("w", 6, 2, 3, 3)],
        ("conv", 5 * 5 * 6 * 2 * 9, 4 * 6 * 2 * 9),
    ),
    "depthwise convolution": (
        [node("Conv", "x w b", "y", group=4, dilations=[2, 2])],
        [value("x", 2, 4, 9, 9)],
        [weight("w", 4, 1, 3, 3), weight("b", 4)],
        ("depthwise_conv", 2 * 4 * 5 * 5 * 9, 4 * 40),
    ),
    "transposed convolution": (
        [node("ConvTranspose", "x w", "y", strides=[2, 2], group=2)],
        [value("x", 1, 4, 5, 5)],
        [weight("w", 4, 3, 3, 3)],
        ("conv", 25 * 4 * 3 * 9, 4 * 108),
    ),
    "convolution of a sequence": (
        [node("Conv", "x w", "y", pads=[1, 1])],
        [value("x", 1, 4, 10)],
        [weight("w", 8, 4, 3)],
        ("conv", 10 * 8 * 4 * 3, 4 * 96),
    ),
    "transposed matrices": (
        [node("Gemm", "x w b", "y", transA=1, transB=1)],
        [value("x", 4, 3)],
        [weight("w", 5, 4), weight("b", 5)],
        ("matmul", 3 * 4 * 5, 4 * 25),
    ),
    "one row": (
        [node("MatMul", "x w", "y")],
        [value("x", 1, 4)],
        [weight("w", 4, 5)],
        ("linear", 20, 80),
    ),
    "stack of matrices": (
        [node("MatMul", "x z", "y")],
        [value("x", 2, 1, 3, 4), value("z", 5, 4, 6)],
        [],
        ("matmul", 2 * 5 * 3 * 4 * 6, 0),
    ),
    "LSTM": (
        [node("LSTM", "x w r b", "y", hidden_size=4, direction="bidirectional")],
        [value("x", 7, 2, 3)],
        [weight("w", 2, 16, 3), weight("r", 2, 16, 4), weight("b", 2, 32)],
        ("matmul", 7 * 2 * 2 * 16 * (3 + 4), 4 * (96 + 128 + 64)),
    ),
    "GRU": (
        [node("GRU", "x w r", "- y", hidden_size=4)],
        [value("x", 7, 1, 3)],
        [weight("w", 1, 12, 3), weight("r", 1, 12, 4)],
        ("matmul", 7 * 12 * (3 + 4), 4 * (36 + 48)),
    ),
    "attention": (
        [node("Attention", "q k v", "y", q_num_heads=4, kv_num_heads=2)],
        [value("q", 1, 5, 16), value("k", 1, 7, 8), value("v", 1, 7, 12)],
        [],
        ("matmul", 4 * 5 * 7 * (4 + 6), 0),
    ),
    "Einstein sum": (
        [node("Einsum", "x w", "y", equation="...ij,jk->...ik")],
        [value("x", 2, 3, 4)],
        [weight("w", 4, 5)],
        ("matmul", 2 * 3 * 4 * 5, 80),
    ),
    "quantised convolution": (
        [node("QLinearConv", "x s z w s z s z b", "y")],
        [value("x", 1, 3, 5, 5, dtype=TensorProto.UINT8)],
        [
            weight("s"),
            weight("z", dtype=np.uint8),
            weight("w", 4, 3, 3, 3, dtype=INT8),
            weight("b", 4, dtype=np.int32),
        ],
        ("conv", 9 * 4 * 27, 108 + 16),
    ),
    "quantised matrix": (
        [node("MatMulInteger", "x w", "y")],
        [value("x", 3, 4, dtype=TensorProto.UINT8)],
        [weight("w", 4, 5, dtype=INT8)],
        ("matmul", 60, 20),
    ),
    "optimised attention": (
        [node("Attention", "x w b", "y", domain="com.microsoft", num_heads=2)],
        [value("x", 1, 5, 8)],
        [weight("w", 8, 12), weight("b", 12)],
        ("matmul", 5 * 8 * 12 + 2 * 5 * 5 * 4, 4 * 108),
    ),
    "packed weights": (
        [node("MatMulNBits", "x w s", "y", domain="com.microsoft", K=32, N=6, bits=4)],
        [value("x", 3, 32)],
        [weight("w", 6, 1, 16, dtype=np.uint8), weight("s", 6)],
        ("matmul", 3 * 32 * 6, 6 * 16 + 24),
    ),
    "quantised and transposed": (
        [node("QGemm", "x s z w s z", "y", domain="com.microsoft", transB=1)],
        [value("x", 1, 8, dtype=TensorProto.UINT8)],
        [weight("s"), weight("z", dtype=np.uint8), weight("w", 5, 8, dtype=INT8)],
        ("linear", 40, 40),
    ),
    "linear model": (
        [
            node(
                "LinearRegressor",
                "x",
                "y",
                domain="ai.onnx.ml",
                targets=2,
                coefficients=[0.5] * 8,
                intercepts=[0.1, 0.2],
            )
        ],
        [value("x", "n", 4)],
        [],
        ("linear", 8, 40),
    ),
    "weights that are unpacked": (
        [node("DequantizeLinear", "w s", "f", axis=0), node("Conv", "x f", "y")],
        [value("x", 1, 3, 5, 5)],
        [weight("w", 4, 3, 3, 3, dtype=INT8), weight("s", 4)],
        ("conv", 9 * 4 * 27, 108 + 16),
    ),
}


@pytest.mark.parametrize("name", HEAVY)
def test_multiply_accumulates(name, tmp_path):
    nodes, inputs, stored, expected = HEAVY[name]
    opset = 23 if name == "attention" else 20
    domains = {operator.domain for operator in nodes} - {""}
    made = costs(tmp_path, nodes, inputs, stored, opset=opset, domains=domains)
    assert made == [expected]


LIGHT = {
    "sum": (node("Add", "x z", "y"), ("elementwise", 96)),
    "batch norm": (node("BatchNormalization", "x c d m m", "y"), ("norm", 2 * 96)),
    "softmax": (node("Softmax", "x", "y"), ("norm", 5 * 96)),
    "pool": (node("MaxPool", "x", "y", kernel_shape=[2, 3]), ("pool", 6 * 6 * 3 * 2)),
    "global pool": (node("GlobalAveragePool", "x", "y"), ("pool", 96)),
    "mean": (node("ReduceMean", "x i", "y", keepdims=0), ("pool", 96)),
    "concatenation": (node("Concat", "x z", "y", axis=1), ("elementwise", 0)),
    "nearest": (node("Resize", "x - f", "y"), ("elementwise", 0)),
    "bilinear": (node("Resize", "x - f", "y", mode="linear"), ("elementwise", 4 * 96)),
}


@pytest.mark.parametrize("name", LIGHT)
def test_light_operators(name, tmp_path):
    operator, expected = LIGHT[name]
    factors = onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "f")
    stored = [weight("c", 6), weight("d", 6), weight("m", 6), whole("i", 2, 3), factors]
    inputs = [value("x", 1, 6, 4, 4), value("z", 1, 6, 4, 4)]
    ((kind, half, size),) = costs(tmp_path, [operator], inputs, stored)
    assert (kind, 2 * half) == expected
    assert size == (4 * 12 if name == "batch norm" else 0)  # no running statistics


def test_views_cost_nothing_and_narrow_what_is_sent(tmp_path):
    nodes = [
        node("MatMul", "x v", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 1]),
        node("Gather", "b zero", "c", axis=1),
        node("Identity", "c", "d"),
        node("MatMul", "d w", "y"),
        node("TopK", "y one", "best where"),
    ]
    stored = [whole("zero", 0), weight("v", 5, 5), weight("w", 4, 3), whole("one", 1)]
    dnn = read(model(nodes, [value("x", 1, 4, 5)], "best", stored), tmp_path)
    assert dnn.output_bytes.tolist() == [4 * 4, 4 * 3, 4]  # one token; not the indices
    assert dnn.predecessors == ((-1,), (0,), (1,))


def test_shared_weight_is_charged_where_most_is_computed(tmp_path):
    nodes = [
        node("Gather", "w x", "a"),
        node("Transpose", "w", "t"),
        node("MatMul", "a t", "y"),
    ]
    inputs = [value("x", 1, 3, dtype=TensorProto.INT64)]
    assert costs(tmp_path, nodes, inputs, [weight("w", 7, 5)]) == [
        ("embedding", 0, 0),
        ("matmul", 3 * 5 * 7, 140),
    ]


def test_unknown_operators_cost_nothing_and_are_listed(tmp_path):
    nodes = [node("Mystery", "x w", "a", domain="my.company"), node("Relu", "a", "y")]
    made = model(
        nodes, [value("x", 1, 4)], "y", [weight("w", 3)], declared=[value("a", 1, 9)],
        domains=["my.company"],
    )  # fmt: skip
    with pytest.warns(UnknownOperatorWarning, match=r"my\.company\.Mystery") as caught:
        dnn = read(made, tmp_path)
    assert summary(dnn) == [("elementwise", 9, 12, 36, (-1,))]  # that of the Relu
    assert len(caught) == 1


def test_functions_branches_and_shapes_that_are_computed(tmp_path):
    body = [
        node("Constant", "", "slope", value_float=0.1),
        helper.make_node("LeakyRelu", ["a"], ["b"]),
    ]
    body[1].attribute.add(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "my", "Act", ["a"], ["b"], body, [helper.make_opsetid("", 20)], ["alpha"]
    )
    then = helper.make_graph([node("Reshape", "h two", "t")], "then", [], [value("t", None)])
    other = helper.make_graph([node("Relu", "h", "e")], "else", [], [value("e", None)])
    nodes = [
        node("MatMul", "x w", "g"),
        node("Act", "g", "h", domain="my", alpha=0.2),
        node("Shape", "h", "s"),
        node("Gather", "s first", "n", axis=0),
        node("Equal", "n one", "c"),
        node("If", "c", "i", then_branch=then, else_branch=other),
        node("Concat", "n minus", "target", axis=0),
        node("Reshape", "i target", "flat"),
        node("MatMul", "flat v", "y"),
    ]
    stored = [
        weight("w", 4, 6), weight("v", 6, 2), whole("two", 2, 3),
        whole("first", 0), whole("one", 1), whole("minus", -1),
    ]  # fmt: skip
    made = model(nodes, [value("x", "n", 4)], "y", stored, functions=[function])
    assert [row[:2] for row in summary(read(made, tmp_path))] == [("linear", 48), ("linear", 24)]


def test_nodes_need_not_be_in_order_and_weights_may_be_inputs(tmp_path):
    nodes = [node("Relu", "a", "y"), node("MatMul", "x w", "a")]
    inputs = [value("x", 1, 4), value("w", 4, 5)]  # as up to IR version 3
    assert costs(tmp_path, nodes, inputs, [weight("w", 4, 5)]) == [("linear", 20, 80)]


def test_channels_last_as_from_tensorflow(tmp_path):
    nodes = [
        node("Transpose", "x", "a", perm=[0, 3, 1, 2]),
        node("Pad", "a pads", "b"),
        node("Conv", "b w bias", "c", strides=[2, 2], kernel_shape=[3, 3]),
        node("Clip", "c low high", "d"),
        node("Transpose", "d", "e", perm=[0, 2, 3, 1]),
        node("ReduceMean", "e axes", "f", keepdims=0),
        node("MatMul", "f v", "g"),
        node("Add", "g u", "h"),
        node("Softmax", "h", "y"),
    ]
    stored = [
        whole("pads", 0, 0, 0, 0, 0, 0, 1, 1), weight("w", 4, 3, 3, 3), weight("bias", 4),
        weight("low"), weight("high"), whole("axes", 1, 2), weight("v", 4, 5), weight("u", 5),
    ]  # fmt: skip
    made = model(nodes, [value("x", "unk__1", 8, 8, 3)], "y", stored)
    dnn = read(made, tmp_path)
    assert dnn.kinds == ("conv", "pool", "linear")
    assert dnn.flops.tolist() == [2 * 16 * 4 * 27, 64, 40]
    assert dnn.parameter_bytes.tolist() == [4 * 112, 0, 4 * 25]
    assert dnn.output_bytes.tolist() == [4 * 64, 16, 20]


def test_open_batch_as_from_paddle_and_classifier_as_from_scikit_learn(tmp_path):
    nodes = [
        node("Constant", "", "w", value=weight("", 4, 6)),
        node("Cast", "x", "f", to=TensorProto.FLOAT),
        node("MatMul", "f w", "a"),
        node("Add", "a b", "c"),
        node("Softmax", "c", "p"),
        node("ArgMax", "c", "label", axis=1),
        node("ZipMap", "p", "scores", domain="ai.onnx.ml"),
    ]
    inputs = [value("x", -1, 4, dtype=TensorProto.DOUBLE)]
    made = model(nodes, inputs, "label scores", [weight("b", 1, 6)], domains=["ai.onnx.ml"])
    assert [(row[0], row[2], row[4]) for row in summary(read(made, tmp_path))] == [
        ("linear", 4 * 30, (-1,)),
        ("norm", 0, (0,)),
        ("pool", 0, (0,)),
    ]
