"""An ONNX model as protobuf messages, with the checks that precede all further processing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import onnx
from google.protobuf.message import DecodeError

from mjoa_gym.profiles.onnx_file import LEFT_OUT, MAX_NODES

MAX_FUNCTION_DEPTH = 32

Key = tuple[str, str, str]  # identifies a function that a node calls: domain, name and overload


def parse(structure: bytes) -> onnx.ModelProto:
    """Return the model of a file's structure; sparse tensors become dense ones without data."""
    try:
        model = onnx.ModelProto.FromString(structure)
    except DecodeError as error:
        raise ValueError("is not an ONNX model: its protobuf cannot be decoded") from error
    if not model.graph.node:
        raise ValueError("is not an ONNX model: it has no nodes")
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if not opset.domain and not 1 <= opset.version <= newest:
            raise ValueError(f"has operator set {opset.version}; 1 to {newest} are read")
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    _count(model.graph.node, functions, {}, ())
    for graph in (model.graph, *_graphs(model.graph.node)):
        graph.initializer.extend(map(_dense, graph.sparse_initializer))
        for what, items in (("input", graph.input), ("initializer", graph.initializer)):
            for name, times in Counter(item.name for item in items).items():
                if times > 1:
                    raise ValueError(f"{what} {name!r} occurs twice")
    for node in chain(_all(model.graph.node), *(_all(f.node) for f in model.functions)):
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                attribute.t.CopyFrom(_dense(attribute.sparse_tensor))
                attribute.type = onnx.AttributeProto.TENSOR
    return model


def _count(
    nodes: Iterable[onnx.NodeProto],
    functions: Mapping[Key, onnx.FunctionProto],
    counts: dict[Key, int],
    active: tuple[Key, ...],
) -> int:
    """Return the number of nodes with functions expanded: a few bytes can stand for billions."""
    total = 0
    for node in _all(nodes):
        total += 1
        key = (node.domain, node.op_type, node.overload)
        if key in active:
            raise ValueError(f"the function calls itself: {node.op_type!r}")
        if key in functions:
            if len(active) >= MAX_FUNCTION_DEPTH:
                raise ValueError(f"functions are nested more than {MAX_FUNCTION_DEPTH} levels deep")
            if key not in counts:
                counts[key] = _count(functions[key].node, functions, counts, (*active, key))
            total += counts[key]
        if total > MAX_NODES:
            raise ValueError(f"has more than {MAX_NODES:,} nodes, functions expanded")
    return total


def _all(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes, and those in the graphs inside them."""
    yield from nodes
    for graph in _graphs(nodes):
        yield from graph.node


def _graphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for attribute in chain.from_iterable(node.attribute for node in nodes):
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield graph
            yield from _graphs(graph.node)


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values = sparse.values
    tensor = onnx.TensorProto(name=values.name, dims=sparse.dims, data_type=values.data_type)
    tensor.external_data.add(key=LEFT_OUT)
    return tensor
