"""Small ONNX files made by hand, for the tests of `DNN.from_onnx`."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mjoa_gym import DNN
from mjoa_gym.profiles.onnx_process import profile

FLOAT = TensorProto.FLOAT


def weight(name, *shape, dtype=np.float32):
    """A stored tensor of ones."""
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def whole(name, *values):
    """A stored list of int64."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def node(op, inputs, outputs, **attributes):
    """A node; inputs and outputs are names with spaces between, "-" for one left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def value(name, *shape, dtype=FLOAT):
    """A declared input or output; no dimensions at all if None is the only one."""
    return helper.make_tensor_value_info(name, dtype, None if shape == (None,) else shape)


def model(nodes, inputs, outputs, stored=(), opset=20, functions=(), declared=(), domains=()):
    """A model; `outputs` are names, with spaces between them."""
    results = [value(name, None) for name in outputs.split()]
    graph = helper.make_graph(
        nodes, "graph", inputs, results, initializer=stored, value_info=declared
    )
    domains = {function.domain for function in functions} | set(domains)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def read(made, folder, input_shapes=None):
    """The DNN of a model, by way of a file but without a process of its own."""
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return dnn_of(path, input_shapes)


def dnn_of(path, input_shapes=None):
    """As `DNN.from_onnx`, in this process, which saves the seconds that a child takes to start."""
    return DNN(**profile(path, input_shapes, stacklevel=2, apart=False))


def summary(dnn):
    """Kind, FLOPs, parameter bytes, output bytes and predecessors of each layer."""
    rows = zip(
        dnn.kinds, dnn.flops, dnn.parameter_bytes, dnn.output_bytes, dnn.predecessors, strict=True
    )
    return list(rows)
