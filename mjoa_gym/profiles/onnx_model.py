"""An ONNX model as protobuf messages: what is refused before any of it is looked into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from google.protobuf.message import DecodeError
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    defs,
)

from mjoa_gym.profiles.onnx_file import LEFT_OUT, MAX_NODES

MAX_FUNCTION_DEPTH = 32

Key = tuple[str, str, str]
"""What a node calls a function by: domain, name and overload."""


def parse(structure: bytes) -> ModelProto:
    """The model of a file's structure; sparse tensors are dense ones whose data is left out.

    Raises:
        ValueError: If it is no model, has too many nodes when its functions are expanded, or has an
            operator set that is not known.
    """
    try:
        model = ModelProto.FromString(structure)
    except DecodeError as error:
        raise ValueError("is not an ONNX model: its protobuf cannot be decoded") from error
    if not model.graph.node:
        raise ValueError("is not an ONNX model: it has no nodes")
    newest = defs.onnx_opset_version()
    for opset in model.opset_import:
        if not opset.domain and not 1 <= opset.version <= newest:
            raise ValueError(f"has operator set {opset.version}; 1 to {newest} are read")
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    _count(model.graph.node, functions, {}, ())
    for graph in (model.graph, *_graphs(model.graph.node)):
        graph.initializer.extend(map(_dense, graph.sparse_initializer))
        _refuse_twice("input", [info.name for info in graph.input])
        _refuse_twice("initializer", [tensor.name for tensor in graph.initializer])
    for node in chain(_all(model.graph.node), *(_all(f.node) for f in model.functions)):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.SPARSE_TENSOR:
                attribute.t.CopyFrom(_dense(attribute.sparse_tensor))
                attribute.type = AttributeProto.TENSOR
    return model


def _count(
    nodes: Iterable[NodeProto],
    functions: Mapping[Key, FunctionProto],
    counts: dict[Key, int],
    active: tuple[Key, ...],
) -> int:
    """The number of nodes if functions were expanded: a few bytes can stand for billions."""
    total = 0
    for node in _all(nodes):
        total += 1
        key = (node.domain, node.op_type, node.overload)
        if key in functions:
            if key in active:
                raise ValueError(f"the function calls itself: {node.op_type!r}")
            if len(active) >= MAX_FUNCTION_DEPTH:
                raise ValueError(f"functions are nested more than {MAX_FUNCTION_DEPTH} levels deep")
            if key not in counts:
                counts[key] = _count(functions[key].node, functions, counts, (*active, key))
            total += counts[key]
        if total > MAX_NODES:
            raise ValueError(f"has more than {MAX_NODES:,} nodes, functions expanded")
    return total


def _all(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those in the graphs inside them."""
    yield from nodes
    for graph in _graphs(nodes):
        yield from graph.node


def _graphs(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield graph
                yield from _graphs(graph.node)


def _refuse_twice(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} is there twice")
        seen.add(name)


def _dense(sparse: SparseTensorProto) -> TensorProto:
    values = sparse.values
    tensor = TensorProto(name=values.name, dims=sparse.dims, data_type=values.data_type)
    tensor.external_data.add(key=LEFT_OUT)
    return tensor
