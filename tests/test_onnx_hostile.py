"""Malicious and broken ONNX files end in a ValueError that says why, in bounded memory."""

from __future__ import annotations

import os
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto, helper  # noqa: E402

from mjoa_gym import DNN  # noqa: E402
from mjoa_gym.profiles import onnx_file, onnx_process, onnx_trace  # noqa: E402
from tests.onnx_graphs import model, node, read, value, weight, whole  # noqa: E402

X = [value("x", 1, 4)]


def relu(count):
    names = ["x", *(f"t{i}" for i in range(1, count)), "y"]
    return [node("Relu", a, b) for a, b in pairwise(names)]


def stored_outside(location, **more):
    tensor = weight("w", 4, 5)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(text))
    return model([node("MatMul", "x w", "y")], X, "y", [tensor])


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../w.bin",
        "a/../../w.bin",
        "..\\w.bin",
        "C:\\w.bin",
        "",
        "link",
        "loop",
        "n" * 300,
    ],
)
def test_data_outside_of_the_folder_is_refused(location, tmp_path):
    (tmp_path / "outside.bin").write_bytes(bytes(80))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "outside.bin")
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(ValueError, match=r"model\.onnx: tensor 'w' has its data in .*"):
        read(stored_outside(location), folder)


def test_data_beside_the_file_is_not_read(tmp_path):
    assert read(stored_outside("missing.bin"), tmp_path).parameter_bytes[0] == 80
    data = tmp_path / "w.bin"
    data.write_bytes(bytes(100))
    data.chmod(0)
    assert read(stored_outside("w.bin", offset=20, length=80), tmp_path).n_layers == 1
    with pytest.raises(ValueError, match=r"'w' ends at byte 101 of 'w\.bin', which has 100"):
        read(stored_outside("w.bin", offset=21), tmp_path)
    with pytest.raises(ValueError, match="'w' needs 80 bytes of data and has 79"):
        read(stored_outside("w.bin", length=79), tmp_path)
    with pytest.raises(ValueError, match="offset must be non-negative, got -1"):
        read(stored_outside("w.bin", offset=-1), tmp_path)


def test_small_data_beside_the_file_is_not_read_either(tmp_path):
    (tmp_path / "w.bin").write_bytes(np.array([4], np.int64).tobytes())
    shape = whole("shape", 4)
    shape.ClearField("raw_data")
    shape.data_location = TensorProto.EXTERNAL
    shape.external_data.add(key="location", value="w.bin")
    with pytest.raises(ValueError, match=r"'y' \(Reshape\): .* the shape of the output depends"):
        read(model([node("Reshape", "x shape", "y")], X, "y", [shape]), tmp_path)


def test_data_of_an_attribute_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(np.array([4], np.int64).tobytes())
    monkeypatch.chdir(tmp_path)
    fill = TensorProto(dims=[1], data_type=TensorProto.INT64, data_location=TensorProto.EXTERNAL)
    fill.external_data.add(key="location", value="w.bin")
    nodes = [node("ConstantOfShape", "one", "s", value=fill), node("Reshape", "x s", "y")]
    with pytest.raises(ValueError, match=r"'y' \(Reshape\): .* the shape of the output depends"):
        read(model(nodes, X, "y", [whole("one", 1)]), tmp_path)


def raw(*shape, data=b"", dtype=TensorProto.FLOAT):
    return TensorProto(name="w", dims=shape, data_type=dtype, raw_data=data)


BAD_TENSORS = {
    "claims more than it has": (raw(4, 2**20), "'w' needs 16,777,216 bytes of data and has 0"),
    "large and short": (
        raw(4, 9999, data=bytes(99_999)),
        "'w' needs 159,984 bytes of data and has 99",
    ),
    "huge": (raw(4, 2**40), "'w' has shape 4x1099511627776; at most"),
    "negative": (raw(4, -5), "'w' has shape 4x-5; dimensions are >= 0"),
    "no type": (raw(4, 5, data=bytes(80), dtype=0), "'w' has element type 0, which is unknown"),
    "new type": (raw(4, 5, data=bytes(80), dtype=99), "99 is not a valid DataType"),
    "many dimensions": (raw(*[1] * 40, data=bytes(4)), "'w' has 40 dimensions"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_stored_tensors_that_are_not_valid(name, tmp_path):
    tensor, reason = BAD_TENSORS[name]
    with pytest.raises(ValueError, match=reason):
        read(model([node("MatMul", "x w", "y")], X, "y", [tensor]), tmp_path)


ADD = node("Add", "x b", "a")
BAD_GRAPHS = {
    "cycle": ([ADD, node("Relu", "a", "b")], "the model has a cycle|contains a cycle"),
    "reads itself": ([node("Relu", "y", "y")], "contains a cycle"),
    "made twice": ([node("Relu", "x", "y"), node("Tanh", "x", "y")], "Output 'y' is redeclared"),
    "made from the input": ([node("Relu", "x", "x")], "Output 'x' is redeclared"),
    "missing input": ([ADD], r"'a' \(Add\): reads 'b', which no earlier node makes"),
    "missing output": ([node("Relu", "x", "z")], "output 'y' is not made by any node"),
    "nothing": ([], "has no nodes"),
    "only views": ([node("Constant", "", "y", value_float=1.0)], "no operator that does work"),
    "unknown domain": ([node("Do", "x", "y", domain="odd")], r"\(odd.Do\): no shape rule"),
    "loop": ([node("Loop", "- -", "y")], r"\(Loop\): control flow that depends on data"),
    "depends on data": ([node("NonZero", "x", "y")], "the shape of the output depends on data"),
    "grows": ([node("Expand", "x big", "y")], "tensor 'y' has shape 1099511627776x4; at most"),
    "bad axis": ([node("Softmax", "x", "a"), node("Concat", "a a", "y", axis=9)], "axis"),
    "branch": ([node("If", "x", "y")], "its condition depends on data"),
    "does not fit": (
        [node("MatMul", "x x", "y")],
        "Incompatible dimensions for matrix multiplication",
    ),
}


@pytest.mark.parametrize("name", BAD_GRAPHS)
def test_graphs_that_are_not_valid(name, tmp_path):
    nodes, reason = BAD_GRAPHS[name]
    with pytest.raises(ValueError, match=rf"model\.onnx: .*{reason}"):
        read(model(nodes, X, "y", [whole("big", 2**40, 1)]), tmp_path)


def test_inputs_that_are_not_valid(tmp_path):
    with pytest.raises(ValueError, match="input_shapes names 'z': the inputs are"):
        read(model(relu(1), X, "y"), tmp_path, input_shapes={"z": (1, 4)})
    with pytest.raises(ValueError, match="must be whole numbers above 0"):
        read(model(relu(1), X, "y"), tmp_path, input_shapes={"x": (0, 4)})
    with pytest.raises(ValueError, match="input 'x' has no shape: give input_shapes="):
        read(model(relu(1), [value("x", None)], "y"), tmp_path)
    with pytest.raises(ValueError, match="input 'x' occurs twice"):
        read(model(relu(1), [*X, *X], "y"), tmp_path)
    with pytest.raises(ValueError, match="granularity='node'"):
        DNN.from_onnx(tmp_path / "model.onnx", granularity="node")


def test_functions_that_never_end(tmp_path):
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]

    def doubling(level):
        inner = [f"F{level + 1}", "f"] if level < 40 else ["Relu", ""]
        body = [node(inner[0], a, b, domain=inner[1]) for a, b in ("ac", "cb")]
        return helper.make_function("f", f"F{level}", ["a"], ["b"], body, opsets)

    start = [node("F0", "x", "y", domain="f")]
    bomb = model(start, X, "y", functions=[doubling(level) for level in range(41)])
    with pytest.raises(ValueError, match="functions are nested more than 32 levels"):
        read(bomb, tmp_path)
    start[0].op_type = "F20"
    with pytest.raises(ValueError, match="more than 50,000 nodes"):
        read(model(start, X, "y", functions=[doubling(level) for level in range(41)]), tmp_path)
    itself = helper.make_function(
        "f", "F0", ["a"], ["b"], [node("F0", "a", "b", domain="f")], opsets
    )
    start[0].op_type = "F0"
    with pytest.raises(ValueError, match="the function calls itself"):
        read(model(start, X, "y", functions=[itself]), tmp_path)


def test_nodes_are_counted_before_anything_else(tmp_path, monkeypatch):
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    functions = []
    for level in range(30):
        op, domain = (f"F{level + 1}", "f") if level < 29 else ("Relu", "")
        body = [node(op, a, b, domain=domain) for a, b in ("ab", "bc", "cd", "de")]
        functions.append(helper.make_function("f", f"F{level}", ["a"], ["e"], body, opsets))
    bomb = model([node("F0", "x", "y", domain="f")], X, "y", functions=functions)
    monkeypatch.setitem(sys.modules, "mjoa_gym.profiles.onnx_walk", None)  # cannot be imported
    with pytest.raises(ValueError, match="more than 50,000 nodes, functions expanded"):
        read(bomb, tmp_path)
    monkeypatch.setattr(onnx_process, "_CHILD", "raise SystemExit('a child')")
    path = tmp_path / "chain.onnx"
    path.write_bytes(model(relu(60_000), X, "y").SerializeToString())
    with pytest.raises(ValueError, match="has more than 50,000 nodes"):
        DNN.from_onnx(path)


def test_branches_that_are_nested_deeply(tmp_path):
    graph = helper.make_graph(relu(1), "graph", [], [value("y", None)])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    for depth in range(1, 25):
        branch = node("If", "yes", "y", then_branch=graph)
        made = model([branch], X, "y", [yes])
        graph = helper.make_graph([branch], "graph", [], [value("y", None)])
        if depth == 10:
            assert read(made, tmp_path).n_layers == 1
    with pytest.raises(ValueError, match="nested more than 60 levels deep"):
        read(made, tmp_path)


def test_weights_take_no_memory(tmp_path):
    made = model([node("MatMul", "x w", "y")], X, "y", [weight("w", 4, 2_000_000)])
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    tracemalloc.start()
    assert DNN.from_onnx(path).parameter_bytes[0] == 32e6
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_limits_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole
    with pytest.raises(ValueError, match=r"has 2,147,483,648 bytes; at most 2,147,483,647"):
        DNN.from_onnx(path)
    made = model(relu(20), X, "y")
    monkeypatch.setattr(onnx_file, "MAX_STRUCTURE_BYTES", 200)
    with pytest.raises(ValueError, match="structure of more than"):
        read(made, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(onnx_file, "MAX_FIELDS", 50)
    with pytest.raises(ValueError, match="more than 50 protobuf fields"):
        read(made, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(onnx_trace, "MAX_OPERATORS", 19)
    with pytest.raises(ValueError, match="more than 19 operators"):
        read(made, tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x08\x0a", b"{}", b"PK\x03\x04" * 9, b"\xff" * 99]
)
def test_files_of_other_kinds(data, tmp_path):
    with pytest.raises(ValueError, match=r"model\.onnx: (is|has)"):
        read(data, tmp_path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        DNN.from_onnx(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="is not a regular file"):
        DNN.from_onnx(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ValueError, match="is not a regular file"):
        DNN.from_onnx(tmp_path / "pipe.onnx")


def test_long_names_are_cut(tmp_path):
    nodes = [
        node("TopK", "x k", "a i", name="n" * 9999),
        node("TopK", "a k", "y j", name="n" * 9999),
    ]
    names = read(model(nodes, X, "y", [whole("k", 2)]), tmp_path).layer_names
    assert max(map(len, names)) < 300
    assert len(set(names)) == 2
    assert np.all([name.startswith("nnn") for name in names])
