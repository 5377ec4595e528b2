"""Walks an ONNX graph in execution order and works out the shape of every tensor.

All dimensions are numbers here, so shapes that the graph computes can be followed (`onnx_values`),
an `If` whose condition is known is replaced by its branch, and a function by its body. An operator
without a rule gets the shape that the file declares for it. Nothing is computed with activations
or weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx import ValueInfoProto as Declared

from mjoa_gym.profiles import onnx_shapes_heavy, onnx_shapes_moves  # noqa: F401 (their rules)
from mjoa_gym.profiles.onnx_call import Call, TensorType
from mjoa_gym.profiles.onnx_inputs import Dimensions
from mjoa_gym.profiles.onnx_order import in_order, op_of, title
from mjoa_gym.profiles.onnx_shapes import RULES
from mjoa_gym.profiles.onnx_steps import Program, Step
from mjoa_gym.profiles.onnx_tensors import Tensor, checked_shape, stored_tensor
from mjoa_gym.profiles.onnx_values import evaluate

MAX_NODES = 50_000
MAX_FUNCTION_DEPTH = 32
MAX_VALUES_IN_TOTAL = 2**22
CONTROL_FLOW = ("Loop", "Scan", "SequenceMap")
_MALFORMED = (ArithmeticError, LookupError, TypeError, ValueError)


@dataclass
class _Scope:
    """The tensors that the nodes of one graph, branch or function see by name."""

    tensors: dict[str, Tensor]
    declared: dict[str, Declared]
    parent: _Scope | None = None
    arguments: Mapping[str, AttributeProto] | None = None  # of the function

    def find(self, name: str) -> Tensor | None:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.tensors:
                return scope.tensors[name]
            scope = scope.parent
        return None


class Walk:
    """Makes a `Program` of a model."""

    def __init__(
        self, model: ModelProto, folder: Path, input_shapes: Mapping[str, Sequence[int]] | None
    ) -> None:
        self.model = model
        self.folder = folder
        self.dimensions = Dimensions(input_shapes)
        self.functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self.active: list[tuple[str, str, str]] = []
        self.steps: list[Step] = []
        self.nodes = 0
        self.values = 0

    def run(self) -> Program:
        """The program.

        Raises:
            ValueError: Naming the node or tensor that is not valid or not supported.
        """
        graph = self.model.graph
        if not graph.node:
            raise ValueError("is not an ONNX model: it has no nodes")
        tensors = self._stored(graph)
        declared = [info for info in graph.input if info.name not in tensors]
        _refuse_twice("input", (info.name for info in graph.input))
        inputs = self.dimensions.inputs(declared)
        if not inputs:
            raise ValueError("has no inputs")
        tensors.update(inputs)
        scope = _Scope(tensors, _by_name(graph))
        self._graph(graph.node, scope)
        outputs = self._outputs((info.name for info in graph.output), scope)
        if not outputs:
            raise ValueError("has no outputs")
        return Program(tuple(inputs.values()), outputs, tuple(self.steps))

    def _stored(self, graph: GraphProto) -> dict[str, Tensor]:
        sparse = [item.values for item in graph.sparse_initializer]
        _refuse_twice("initializer", (t.name for t in (*graph.initializer, *sparse)))
        tensors = {proto.name: stored_tensor(proto, self.folder) for proto in graph.initializer}
        for item in graph.sparse_initializer:
            tensors[item.values.name] = self._sparse(item, item.values.name)
        return tensors

    def _sparse(self, proto: Any, name: str) -> Tensor:
        values = stored_tensor(proto.values, self.folder)
        shape = checked_shape(proto.dims, f"tensor {name!r}")
        return Tensor(shape, values.dtype, None, True, True, name)

    def _outputs(self, names: Iterable[str], scope: _Scope) -> tuple[Tensor, ...]:
        found = []
        for name in names:
            tensor = scope.find(name)
            if tensor is None:
                raise ValueError(f"output {name!r} is made by no node")
            found.append(tensor)
        return tuple(found)

    def _graph(self, nodes: Iterable[NodeProto], scope: _Scope) -> None:
        for node in in_order(list(nodes), scope.tensors):
            self.nodes += 1
            if self.nodes > MAX_NODES:
                raise ValueError(f"has more than {MAX_NODES:,} nodes, functions expanded")
            try:
                self._node(node, scope)
            except _NodeError:
                raise
            except _MALFORMED as error:
                text = str(error) if isinstance(error, ValueError) else f"malformed ({error!r})"
                raise _NodeError(f"node {title(node)!r} ({op_of(node)}): {text}") from error

    def _node(self, node: NodeProto, scope: _Scope) -> None:
        inputs = tuple(self._read(name, scope) for name in node.input)
        attributes = _attributes(node, scope)
        key = (node.domain, node.op_type, node.overload)
        if key in self.functions:
            outputs: Sequence[Tensor | None] = self._function(key, inputs, attributes)
        elif op_of(node) == "If":
            outputs = self._branch(inputs, attributes, scope)
        elif op_of(node) in CONTROL_FLOW:
            raise ValueError("control flow that depends on data cannot be counted")
        else:
            values = {name: _python(attribute) for name, attribute in attributes.items()}
            if node.domain == "ai.onnx.ml":
                inputs += _weights_in(values)
            call = Call(op_of(node), title(node), values, inputs, len(node.output))
            outputs = self._step(call, node, scope)
        for name, tensor in zip(node.output, outputs, strict=False):
            if name and tensor is not None:
                scope.tensors[name] = tensor

    def _read(self, name: str, scope: _Scope) -> Tensor | None:
        if not name:
            return None
        tensor = scope.find(name)
        if tensor is None:
            raise ValueError(f"reads {name!r}, which nothing before it makes")
        return tensor

    def _step(self, call: Call, node: NodeProto, scope: _Scope) -> tuple[Tensor, ...]:
        if call.op == "Constant":
            return (self._constant(call, node),)
        types = self._types(call, node, scope)
        constant = call.op in ("Shape", "Size") or all(t.constant for t in call.present())
        value = None
        if constant and types and self.values < MAX_VALUES_IN_TOTAL:
            value = evaluate(call, types[0])
            self.values += 0 if value is None else value.size
        outputs = tuple(
            Tensor(
                checked_shape(shape, f"output {i}"), dtype, None if i else value, constant, name=n
            )
            for i, ((shape, dtype), n) in enumerate(zip(types, node.output, strict=False))
        )
        self.steps.append(Step(call, outputs))
        return outputs

    def _types(self, call: Call, node: NodeProto, scope: _Scope) -> list[TensorType]:
        if call.op in RULES:
            return RULES[call.op](call)
        types = []
        for name in node.output:
            info = scope.declared.get(name)
            declared = None if info is None else self.dimensions.shape_of(info)
            if declared is None and name:
                raise ValueError(
                    "no shape rule for this operator, and the file declares no shape without open "
                    f"dimensions for its output {name!r}"
                )
            types.append(declared or ((), "float"))
        return types

    def _constant(self, call: Call, node: NodeProto) -> Tensor:
        name = node.output[0]
        for key, value in call.attributes.items():
            if key == "value" and isinstance(value, TensorProto):
                return stored_tensor(value, self.folder, name)
            if key == "sparse_value":
                return self._sparse(value, name)
            if key in ("value_float", "value_floats", "value_int", "value_ints"):
                dtype = "float" if "float" in key else "int64"
                array = np.array(value, np.float32 if dtype == "float" else np.int64)
                return Tensor(array.shape, dtype, array, True, True, name)
            if key in ("value_string", "value_strings"):
                shape = () if key == "value_string" else (len(value),)
                return Tensor(shape, "string", None, True, True, name)
        raise ValueError("has no value")

    def _branch(
        self,
        inputs: tuple[Tensor | None, ...],
        attributes: Mapping[str, AttributeProto],
        scope: _Scope,
    ) -> tuple[Tensor, ...]:
        condition = inputs[0]
        if condition is None or condition.value is None or condition.size != 1:
            raise ValueError("its condition depends on data; export the model with one branch")
        graph = attributes["then_branch" if condition.value.all() else "else_branch"].g
        inner = _Scope(self._stored(graph), _by_name(graph), scope, scope.arguments)
        self._graph(graph.node, inner)
        return self._outputs((info.name for info in graph.output), inner)

    def _function(
        self,
        key: tuple[str, str, str],
        inputs: tuple[Tensor | None, ...],
        attributes: Mapping[str, AttributeProto],
    ) -> list[Tensor | None]:
        if key in self.active:
            raise ValueError("the function calls itself")
        if len(self.active) >= MAX_FUNCTION_DEPTH:
            raise ValueError(f"functions are nested more than {MAX_FUNCTION_DEPTH} levels deep")
        function: FunctionProto = self.functions[key]
        given = dict(zip(function.input, inputs, strict=False))
        tensors = {name: tensor for name, tensor in given.items() if tensor is not None}
        arguments = {a.name: a for a in function.attribute_proto} | dict(attributes)
        declared = {info.name: info for info in function.value_info}
        self.active.append(key)
        absent = set(function.input) - set(tensors)
        scope = _Scope(tensors, declared, None, arguments)
        self._graph([_without(node, absent) for node in function.node], scope)
        self.active.pop()
        return [scope.find(name) for name in function.output]


class _NodeError(ValueError):
    """An error that names its node already."""


def _by_name(graph: GraphProto) -> dict[str, Declared]:
    return {info.name: info for info in (*graph.value_info, *graph.output)}


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name!r} is there twice")
        seen.add(name)


def _without(node: NodeProto, absent: set[str]) -> NodeProto:
    """The node with left-out arguments of its function left out, too."""
    if not absent.intersection(node.input):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["" if name in absent else name for name in node.input]
    return copy


def _attributes(node: NodeProto, scope: _Scope) -> dict[str, AttributeProto]:
    """The node's attributes; references to a function's arguments are resolved."""
    found: dict[str, AttributeProto] = {}
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif scope.arguments and attribute.ref_attr_name in scope.arguments:
            found[attribute.name] = scope.arguments[attribute.ref_attr_name]
    return found


def _weights_in(attributes: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """The lists of real numbers among the attributes, as stored tensors."""
    lists = [(k, v) for k, v in attributes.items() if isinstance(v, tuple) and len(v) > 1]
    return tuple(
        Tensor((len(numbers),), "float", None, True, True, key)
        for key, numbers in lists
        if isinstance(numbers[0], float)
    )


def _python(attribute: AttributeProto) -> Any:
    kinds = AttributeProto
    if attribute.type in (kinds.FLOAT, kinds.INT):
        return attribute.f if attribute.type == kinds.FLOAT else attribute.i
    if attribute.type == kinds.STRING:
        return attribute.s.decode("utf-8", "replace")
    if attribute.type in (kinds.FLOATS, kinds.INTS):
        return tuple(attribute.floats if attribute.type == kinds.FLOATS else attribute.ints)
    if attribute.type == kinds.STRINGS:
        return tuple(text.decode("utf-8", "replace") for text in attribute.strings)
    if attribute.type == kinds.TENSOR:
        return attribute.t
    return attribute.sparse_tensor if attribute.type == kinds.SPARSE_TENSOR else attribute
