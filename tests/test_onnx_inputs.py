"""Open sides of inputs: names that say nothing, unset sides, and what a caller gives."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")

from tests.onnx_graphs import model, node, read, summary, value, weight, whole  # noqa: E402

CONV = [node("Conv", "x w", "y", pads=[1, 1, 1, 1])]
WEIGHT = [weight("w", 8, 3, 3, 3)]
MACS = 8 * 27
UNKNOWN = ["?", "", "-1", "None", "none", "unknown", "*", "?x?", "a b", "N/A", "dynamic", -1, -7, 0,
           None, "2*s", "lambda", "1", "Unk"]  # fmt: skip


@pytest.mark.parametrize("side", UNKNOWN)
def test_names_that_say_nothing_are_not_related(side, tmp_path):
    made = model(CONV, [value("x", side, 3, side, side)], "y", WEIGHT)
    dnn = read(made, tmp_path, {"x": (2, 3, 48, 192)})
    assert dnn.flops.tolist() == [2 * 2 * 48 * 192 * MACS]
    with pytest.raises(ValueError, match=r"'x': dimension 2 \(unnamed\) is open; give"):
        read(made, tmp_path)
    batch = model(CONV, [value("x", side, 3, 4, 5)], "y", WEIGHT)
    assert read(batch, tmp_path).flops.tolist() == [2 * 20 * MACS]


@pytest.mark.parametrize("side", UNKNOWN)
def test_inputs_with_sides_that_say_nothing_are_not_related(side, tmp_path):
    nodes = [node("MatMul", "a v", "b"), node("MatMul", "c w", "d")]
    inputs = [value("a", side, 4), value("c", 1, side, 4)]
    made = model(nodes, inputs, "b d", [weight("v", 4, 5), weight("w", 4, 6)])
    with pytest.raises(ValueError, match=r"'c': dimension 1 \(unnamed\) is open"):
        read(made, tmp_path, {"a": (7, 4)})
    dnn = read(made, tmp_path, {"c": (1, 3, 4)})
    assert dnn.flops.tolist() == [2 * 20, 2 * 3 * 24]


def test_names_are_related(tmp_path):
    nodes = [node("MatMul", "a v", "b"), node("MatMul", "c w", "d")]
    inputs = [value("a", "rows", 4), value("c", 2, "rows", 4)]
    made = model(nodes, inputs, "b d", [weight("v", 4, 5), weight("w", 4, 6)])
    assert read(made, tmp_path, {"a": (7, 4)}).flops.tolist() == [2 * 7 * 20, 2 * 2 * 7 * 24]
    assert read(made, tmp_path, {"c": (2, 3, 4)}).flops.tolist() == [2 * 3 * 20, 2 * 6 * 24]
    given = {"a": (7, 4), "c": (2, 3, 4)}  # what is given need not agree
    assert read(made, tmp_path, given).flops.tolist() == [2 * 7 * 20, 2 * 6 * 24]


def test_given_shapes_win_over_the_file(tmp_path):
    made = model(CONV, [value("x", 1, 3, 224, 224)], "y", WEIGHT)
    assert read(made, tmp_path, {"x": (4, 3, 8, 8)}).flops.tolist() == [2 * 4 * 64 * MACS]
    same = model(CONV, [value("x", "n", 3, "n", "n")], "y", WEIGHT)
    assert read(same, tmp_path, {"x": (4, 3, 8, 9)}).flops.tolist() == [2 * 4 * 72 * MACS]
    no_shape = model(CONV, [value("x", None)], "y", WEIGHT)
    assert read(no_shape, tmp_path, {"x": (4, 3, 8, 9)}).flops.tolist() == [2 * 4 * 72 * MACS]
    rank = model([node("Relu", "x", "y")], [value("x", 1, 4)], "y")
    assert read(rank, tmp_path, {"x": (2, 3, 4)}).flops.tolist() == [24]
    scalar = model([node("Relu", "x", "y")], [value("x", 1, 4)], "y")
    assert read(scalar, tmp_path, {"x": ()}).flops.tolist() == [1]


def test_errors_say_where_what_is_given_differs_from_the_file(tmp_path):
    made = model(CONV, [value("x", "n", 3, 8, 8)], "y", WEIGHT)
    with pytest.raises(
        ValueError, match=r"\(input_shapes\['x'\]=\(3, 8, 8\), in the file \[n,3,8,8\]\)"
    ):
        read(made, tmp_path, {"x": (3, 8, 8)})
    with pytest.raises(
        ValueError, match=r"do not go together .*\(input_shapes\['x'\]=\(1, 4, 8, 8\)"
    ):
        read(made, tmp_path, {"x": (1, 4, 8, 8)})
    with pytest.raises(ValueError, match=r"names 'images': .* did you mean 'image'"):
        read(model(CONV, [value("image", 1, 3, 8, 8)], "y"), tmp_path, {"images": (1, 3, 8, 8)})
    for sides in ((0, 3, 8, 8), (1, 3, -8, 8)):
        with pytest.raises(ValueError, match="must be whole numbers above 0"):
            read(made, tmp_path, {"x": sides})


def test_declared_shapes_count_only_for_the_file_s_own_inputs(tmp_path):
    nodes = [node("Mystery", "x", "a", domain="odd"), node("Relu", "a", "y")]
    inputs, more = [value("x", "n", 4)], {"domains": ["odd"]}
    named = model(nodes, inputs, "y", declared=[value("a", "n", 6)], **more)
    with pytest.warns(UserWarning, match="odd"):
        assert summary(read(named, tmp_path, {"x": (5, 4)}))[0][1] == 30
    with pytest.raises(ValueError, match=r"no shape rule.*x'\]=\(5, 9\), in the file \[n,4\]"):
        read(named, tmp_path, {"x": (5, 9)})
    for side in (0, "?", -1):
        unset = model(nodes, inputs, "y", declared=[value("a", side, 6)], **more)
        with pytest.raises(ValueError, match="no shape rule for this operator"):
            read(unset, tmp_path)


def test_a_side_of_0_is_an_open_side(tmp_path):
    nodes = [node("Reshape", "x target", "a"), node("MatMul", "a w", "y")]
    stored = [whole("target", 0, -1), weight("w", 12, 5)]
    made = model(nodes, [value("x", 0, 3, 4)], "y", stored)
    assert read(made, tmp_path).flops.tolist() == [2 * 60]
    assert read(made, tmp_path, {"x": (6, 3, 4)}).flops.tolist() == [2 * 6 * 60]
    all_open = model(CONV, [value("x", 0, 0, 0, 0)], "y", WEIGHT)
    assert read(all_open, tmp_path, {"x": (1, 3, 4, 4)}).flops.tolist() == [2 * 16 * MACS]
