"""Truncated and altered ONNX files end in a DNN or in a ValueError that names the file."""

from __future__ import annotations

import random
import warnings

import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import TensorProto, helper  # noqa: E402

from mjoa_gym.profiles.graph import UnknownOperatorWarning  # noqa: E402
from mjoa_gym.profiles.onnx_contrib import RULES, STANDARD  # noqa: E402
from tests.onnx_graphs import model, node, read, value, weight, whole  # noqa: E402


def many_features():
    """A model that passes through most of the reader."""
    then = helper.make_graph([node("Softmax", "b", "t")], "then", [], [value("t", None)])
    other = helper.make_graph([node("Relu", "b", "e")], "else", [], [value("e", None)])
    body = [node("Gelu", "a", "t"), node("Identity", "t", "b")]
    function = helper.make_function("my", "Act", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    nodes = [
        node("Constant", "", "yes", value=helper.make_tensor("", TensorProto.BOOL, [], [True])),
        node("Conv", "x w c", "a", pads=[1, 1, 1, 1], name="convolution"),
        node("BatchNormalization", "a c c c c", "n"),
        node("MaxPool", "n", "p", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("Sigmoid", "p", "s"),
        node("Mul", "p s", "m"),
        node("Shape", "m", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Concat", "batch minus", "target", axis=0),
        node("Reshape", "m target", "flat"),
        node("Gemm", "flat v", "l", transB=1),
        node("Unsqueeze", "l zero", "q"),
        node("LSTM", "q r k", "h last", hidden_size=4),
        node("Split", "h", "left right", axis=3, num_outputs=2),
        node("Concat", "left right", "b", axis=-1),
        node("If", "yes", "i", then_branch=then, else_branch=other),
        node("Act", "i", "f", domain="my"),
        node("Transpose", "f", "y", perm=[3, 2, 1, 0]),
    ]
    stored = [
        weight("w", 8, 3, 3, 3), weight("c", 8), weight("v", 10, 128), weight("r", 1, 16, 10),
        weight("k", 1, 16, 4), whole("zero", 0), whole("minus", -1),
    ]  # fmt: skip
    return model(nodes, [value("x", "n", 3, 8, 8)], "y last", stored, functions=[function])


def ends_well(data, folder):
    """Whether there is a DNN; anything but that or a ValueError with the file's name fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnknownOperatorWarning)
            read(data, folder)
    except ValueError as error:
        text = str(error)
    else:
        return True
    assert text.startswith(str(folder / "model.onnx"))
    assert "\n" not in text
    assert len(text) < 1000
    return False


def altered(data, generator):
    """A copy with some bytes changed, moved, inserted or cut off."""
    data = bytearray(data)
    place, how = generator.randrange(len(data)), generator.random()
    if how < 0.15:
        return bytes(data[:place])
    if how < 0.3:
        data[place:place] = generator.randbytes(generator.randrange(1, 16))
    elif how < 0.4:
        other, length = generator.randrange(len(data)), generator.randrange(1, 64)
        data[place : place + length] = data[other : other + length]
    else:
        for _ in range(generator.choice((1, 1, 2, 8))):
            data[generator.randrange(len(data))] = generator.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_altered_files(seed, tmp_path):
    data, generator = many_features().SerializeToString(), random.Random(seed)
    assert ends_well(data, tmp_path)
    good = sum(ends_well(altered(data, generator), tmp_path) for _ in range(200))
    assert 20 < good < 180  # both ends are reached


def test_altered_nodes(tmp_path):
    generator, base = random.Random(0), many_features()
    operators = [("", schema.name) for schema in onnx.defs.get_all_schemas()]
    operators += [(op.rpartition(".")[0], op.rpartition(".")[2]) for op in [*RULES, *STANDARD]] * 2
    names = [name for n in base.graph.node for name in n.output] + ["x", "", "nowhere", "w"]
    values = [
        0,
        -1,
        7,
        2**62,
        -(2**62),
        1.5,
        float("nan"),
        [0, 1],
        [2**40] * 2,
        [0] * 64,
        "ij,j",
        b"\xff",
    ]
    keys = ["axis", "axes", "pads", "strides", "kernel_shape", "perm", "split", "to", "group",
            "hidden_size", "equation", "mode", "blocksize", "transA", "auto_pad"]  # fmt: skip
    good = 0
    for _ in range(400):
        made = onnx.ModelProto.FromString(base.SerializeToString())
        for _ in range(generator.choice((1, 2))):
            chosen, how = generator.choice(made.graph.node), generator.random()
            if how < 0.35:
                chosen.domain, chosen.op_type = generator.choice(operators)
            elif how < 0.6 and chosen.input:
                chosen.input[generator.randrange(len(chosen.input))] = generator.choice(names)
            elif how < 0.7:
                if chosen.op_type != "Split":  # that ends onnx: a matter for the child
                    chosen.output.append(generator.choice(names))
            else:
                key, item = generator.choice(keys), generator.choice(values)
                old = [a for a in chosen.attribute if a.name == key]
                for attribute in old:
                    chosen.attribute.remove(attribute)
                chosen.attribute.append(helper.make_attribute(key, item))
        good += ends_well(made.SerializeToString(), tmp_path)
    assert 20 < good < 380
