"""Forms of early operator sets, and shapes that runtimes compute in float32."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import helper, numpy_helper  # noqa: E402

from tests.onnx_graphs import model, node, read, summary, value, weight, whole  # noqa: E402

X = [value("x", 2, 3, 4, 5)]
C = [weight("c", 3), weight("d", 3), weight("m", 3), weight("v", 3)]


def shape_of(folder, nodes, inputs, stored=(), **arguments):
    """The elements of a graph's output, from the bytes of a first layer that keeps it."""
    keep = node("Softsign", nodes[-1].output[0], "kept")
    made = model([*nodes, keep], inputs, "kept", stored, **arguments)
    return read(made, folder).output_bytes[-1] / 4


EARLY = {
    "PRelu, a slope per channel": (6, [node("PRelu", "x c", "y")], C, 120),
    "PRelu, first set": (1, [node("PRelu", "x c", "y")], C, 120),
    "sum along an axis": (6, [node("Add", "x c", "y", broadcast=1, axis=1)], C, 120),
    "product along an axis": (1, [node("Mul", "x c", "y", broadcast=1, axis=1)], C, 120),
    "difference with a scalar": (4, [node("Sub", "x s", "y", broadcast=1)], [weight("s", 1)], 120),
    "power along axes": (
        6, [node("Pow", "x s", "y", broadcast=1, axis=2)], [weight("s", 4, 5)], 120,
    ),
    "normalisation with outputs": (
        1, [node("BatchNormalization", "x c d m v", "y a b e f", consumed_inputs=[0] * 5)], C, 120,
    ),
    "normalisation": (7, [node("BatchNormalization", "x c d m v", "y", spatial=1)], C, 120),
    "activation": (1, [node("LeakyRelu", "x", "y", alpha=0.1, consumed_inputs=[0])], [], 120),
    "limits": (1, [node("Clip", "x", "y", min=0.0, max=6.0, consumed_inputs=[0])], [], 120),
    "scaled image": (1, [node("ImageScaler", "x", "y", scale=2.0, bias=[0.0] * 3)], [], 120),
    "reshape": (1, [node("Reshape", "x", "y", shape=[0, -1])], [], 120),
    "padding": (1, [node("Pad", "x", "y", paddings=[0, 0, 1, 1, 0, 0, 2, 2])], [], 2 * 3 * 7 * 8),
    "padding, second set": (2, [node("Pad", "x", "y", pads=[0, 0, 1, 1, 0, 0, 2, 2])], [], 336),
    "join": (1, [node("Concat", "x x", "y")], [], 240),
    "parts": (1, [node("Split", "x", "y z", axis=1, split=[1, 2])], [], 40),
    "cut": (1, [node("Slice", "x", "y", axes=[2], starts=[1], ends=[3])], [], 60),
    "squeeze": (
        1, [node("Unsqueeze", "x", "a", axes=[0]), node("Squeeze", "a", "y", axes=[0])], [], 120,
    ),
    "best": (1, [node("TopK", "x", "y i", k=2)], [], 48),
    "type": (1, [node("Cast", "x", "y", to="FLOAT")], [], 120),
    "dropped": (1, [node("Dropout", "x", "y mask", is_test=1)], [], 120),
    "enlarged": (1, [node("Upsample", "x", "y", height_scale=2.0, width_scale=3.0)], [], 720),
    "enlarged by an attribute": (
        7, [node("Upsample", "x", "y", scales=[1.0, 1.0, 1.4, 1.4])], [], 6 * 5 * 7,
    ),
    "pool": (1, [node("MaxPool", "x", "y", kernel_shape=[2, 2])], [], 6 * 12),
    "whole pool": (1, [node("GlobalLpPool", "x", "y", p=2.0)], [], 6),
    "mean": (1, [node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)], [], 6),
    "largest": (1, [node("Max", "x x", "y", consumed_inputs=[0, 0])], [], 120),
    "or equal": (12, [node("GreaterOrEqual", "x x", "b"), node("Where", "b x x", "y")], [], 120),
    "groups": (18, [node("GroupNormalization", "x c c", "y", num_groups=3)], C, 120),
}  # fmt: skip


@pytest.mark.parametrize("name", EARLY)
def test_early_forms(name, tmp_path):
    opset, nodes, stored, size = EARLY[name]
    assert shape_of(tmp_path, nodes, X, stored, opset=opset) == size


def test_matrices_and_recurrent_layers_of_the_first_set(tmp_path):
    gemm = node("Gemm", "x w b", "y", transB=1, broadcast=1)
    made = model([gemm], [value("x", 1, 4)], "y", [weight("w", 5, 4), weight("b", 5)], opset=1)
    assert summary(read(made, tmp_path))[0][:3] == ("linear", 40, 4 * 25)
    gru = node("GRU", "x w r", "y", hidden_size=4)
    stored = [weight("w", 1, 12, 3), weight("r", 1, 12, 4)]
    made = model([gru], [value("x", 7, 1, 3)], "y", stored, opset=1)
    assert summary(read(made, tmp_path))[0][:2] == ("matmul", 2 * 7 * 12 * 7)


def test_refusals_name_the_operator_set(tmp_path):
    newest = onnx.defs.onnx_opset_version()
    for opset in (0, newest + 1, 2**40):
        with pytest.raises(ValueError, match=rf"has operator set {opset}; 1 to {newest} are read"):
            read(model([node("Relu", "x", "y")], X, "y", opset=opset), tmp_path)
    add = node("Add", "x c", "y")
    with pytest.raises(ValueError, match=r"'y' \(Add\): .*\(operator set 7\)"):
        read(model([add], X, "y", C, opset=7), tmp_path)


def test_files_without_operator_set_are_read_as_the_newest(tmp_path):
    made = model([node("Relu", "x", "y")], X, "y")
    del made.opset_import[:]
    assert read(made, tmp_path).flops.tolist() == [120]


SCALES = [1.4, 0.7, 1 / 3, 2 / 3, 1.1, 2.3, 0.3, 3.0, 0.5, 1.9, 5.7]


def numbers(name, *values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


@pytest.mark.parametrize("scale", SCALES)
def test_fractional_scales_are_those_of_runtimes(scale, tmp_path):
    stored = numbers("f", 1, 1, scale, scale)
    for side in (15, 10, 3, 30, 7):
        inputs = [value("x", 1, 1, side, side)]
        expected = int(np.float32(side) * np.float32(scale)) ** 2
        if expected == 0:
            continue
        for opset, resize in (
            (19, node("Resize", "x - f", "y")),
            (13, node("Resize", "x - f", "y", mode="linear")),
            (11, node("Resize", "x roi f", "y")),
            (10, node("Resize", "x f", "y")),
            (9, node("Upsample", "x f", "y")),
            (7, node("Upsample", "x", "y", scales=[1.0, 1.0, scale, scale])),
            (1, node("Upsample", "x", "y", height_scale=scale, width_scale=scale)),
        ):
            roi = numbers("roi")
            assert shape_of(tmp_path, [resize], inputs, [stored, roi], opset=opset) == expected
        resize = node("Resize", "x - two", "y", axes=[2, 3])
        two = [numbers("two", scale, scale)]
        assert shape_of(tmp_path, [resize], inputs, two, opset=19) == expected


def test_sizes_that_the_graph_computes_from_a_scale(tmp_path):
    nodes = [
        node("Shape", "x", "s"),
        node("Slice", "s two four zero", "sides"),
        node("Cast", "sides", "real", to=1),
        node("Mul", "real f", "large"),
        node("Floor", "large", "floor"),
        node("Cast", "floor", "whole", to=7),
        node("Slice", "s zero two zero", "front"),
        node("Concat", "front whole", "sizes", axis=0),
        node("Resize", "x - - sizes", "a"),
        node("Concat", "a skip", "y", axis=1),
    ]
    stored = [whole("two", 2), whole("four", 4), whole("zero", 0), numbers("f", 1.4, 1.4)]
    inputs = [value("x", 1, 3, 15, 15), value("skip", 1, 2, 21, 21)]
    assert shape_of(tmp_path, nodes, inputs, stored, opset=13) == 5 * 21 * 21


def test_a_range_may_have_lists_of_one(tmp_path):
    nodes = [node("Range", "a b c", "r"), node("Add", "x r", "y")]
    stored = [numbers("a", 0), numbers("b", 5), numbers("c", 1)]
    assert shape_of(tmp_path, nodes, X, stored) == 120


def test_many_parts_and_lists(tmp_path):
    parts = " ".join(f"p{i}" for i in range(40))
    nodes = [node("Split", "x sizes", parts, axis=1), node("Concat", parts, "y", axis=0)]
    stored = [whole("sizes", *[1] * 40)]
    assert shape_of(tmp_path, nodes, [value("x", 1, 40)], stored, opset=13) == 40


def test_types_of_functions_follow_their_own_operator_set(tmp_path):
    body = [node("Squeeze", "a", "b", axes=[0])]  # an input since set 13
    function = helper.make_function("my", "S", ["a"], ["b"], body, [helper.make_opsetid("", 11)])
    nodes = [node("S", "x", "y", domain="my")]
    assert shape_of(tmp_path, nodes, [value("x", 1, 4, 5)], functions=[function]) == 20
