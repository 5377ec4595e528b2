"""Walks an ONNX graph in execution order and infers the shape of every tensor.

An `If` whose condition is known is replaced by its branch, and a function by its body. Nothing is
computed with activations or weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import ModelProto

from mjoa_gym.profiles.onnx_program import Program, Shape, Step, Tensor, TensorType, errors_of
from mjoa_gym.profiles.onnx_shapes import modern, types_of, values_of
from mjoa_gym.profiles.onnx_tensors import Dimensions, stored_tensor

CONTROL_FLOW = ("Loop", "Scan", "SequenceMap")

Attributes = Mapping[str, ir.Attr]


def walk(proto: ModelProto, folder: Path, input_shapes: Mapping[str, Shape]) -> Program:
    """Return the program of a model; a ValueError names what is invalid or not supported."""
    try:
        model = ir.from_proto(proto)
        model.graph.sort()
        for function in model.functions.values():
            function.sort()
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__ or cause
        raise ValueError(f"is not a valid model: {str(cause).partition('. ')[0]}") from error
    walker = _Walk(model, folder, Dimensions(input_shapes))
    try:
        return walker.run()
    except ValueError as error:
        remarks = "".join(f" ({remark})" for remark in walker.dimensions.remarks)
        raise ValueError(f"{error}{remarks}") from error


class _Walk:
    """Visits the nodes one after the other."""

    def __init__(self, model: ir.Model, folder: Path, dimensions: Dimensions) -> None:
        self.model = model
        self.folder = folder
        self.dimensions = dimensions
        self.opsets: Mapping[str, int] = model.opset_imports
        self.tensors: dict[ir.Value, Tensor | None] = {}
        self.steps: list[Step] = []

    def run(self) -> Program:
        graph = self.model.graph
        self._store(graph)
        inputs = self.dimensions.inputs(v for v in graph.inputs if v not in self.tensors)
        if not inputs:
            raise ValueError("has no inputs")
        self.tensors.update(inputs)
        self._visit(graph, {})
        outputs = self._outputs(graph.outputs)
        if not outputs:
            raise ValueError("has no outputs")
        return Program(tuple(inputs.values()), tuple(outputs), tuple(self.steps))

    def _store(self, graph: ir.Graph) -> None:
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                self.tensors[value] = stored_tensor(value.const_value, self.folder, name)

    def _outputs(self, values: Iterable[ir.Value]) -> list[Tensor]:
        found = []
        for value in values:
            tensor = self.tensors.get(value)
            if tensor is None:
                raise ValueError(f"output {value.name!r} is not made by any node")
            found.append(tensor)
        return found

    def _visit(self, nodes: Iterable[ir.Node], arguments: Attributes) -> None:
        """Visit nodes; `arguments` are the attributes of the surrounding function call."""
        for node in nodes:
            op = f"{node.domain}.{node.op_type}".removeprefix(".")
            name = node.name or ", ".join(v.name for v in node.outputs if v.name) or op
            remark = f" (operator set {self.opsets.get('', 'not given')})"
            with errors_of(op, name, "" if node.domain else remark):
                outputs = self._node(node, op, name, arguments)
                self.tensors.update(zip(node.outputs, outputs, strict=False))

    def _node(
        self, node: ir.Node, op: str, name: str, arguments: Attributes
    ) -> Sequence[Tensor | None]:
        given: dict[str, ir.Attr] = {}
        for key, attribute in node.attributes.items():
            refers = attribute.ref_attr_name
            found = arguments.get(refers) if refers else attribute
            if found is not None:
                given[key] = ir.Attr(key, found.type, found.value)
        inputs = [self._read(value) for value in node.inputs]
        function = self.model.functions.get(node.op_identifier())
        if function is not None:
            return self._function(function, inputs, given)
        if op == "If":
            return self._branch(inputs, given, arguments)
        if op in CONTROL_FLOW:
            raise ValueError("control flow that depends on data cannot be counted")
        if op == "Constant":
            return [self._constant(given, node.outputs[0].name)]
        modern(op, given, inputs)
        if node.domain == "ai.onnx.ml":
            inputs += _weights_in(given)
        return self._step(node, Step(op, name, given, tuple(inputs), self.opsets))

    def _read(self, value: ir.Value | None) -> Tensor | None:
        if value is not None and value not in self.tensors:
            raise ValueError(f"reads {value.name!r}, which no earlier node makes")
        return None if value is None else self.tensors[value]

    def _step(self, node: ir.Node, step: Step) -> Sequence[Tensor]:
        types = types_of(step, len(node.outputs))
        constant = step.op in ("Shape", "Size") or all(t.constant for t in step.present())
        values = values_of(step, types) if constant else []
        outputs = []
        for value, found, array in zip_longest(node.outputs, types, values):
            shape, dtype = found or self._declared(value)
            outputs.append(Tensor(shape, dtype, array, constant, name=value.name or ""))
        step.outputs = tuple(outputs)
        self.steps.append(step)
        return outputs

    def _declared(self, value: ir.Value) -> TensorType:
        """Return what the file declares about an output that onnx cannot infer."""
        declared = self.dimensions.declared(value)
        if declared is None and (value.uses() or value.is_graph_output()):
            raise ValueError(
                "no shape rule for this operator, or the shape of the output depends on data, and "
                f"the file declares no shape without open dimensions for its output {value.name!r}"
            )
        return declared or ((), ir.DataType.FLOAT)

    def _constant(self, given: Attributes, name: str | None) -> Tensor:
        for attribute in given.values():
            value, kind = attribute.value, attribute.type.name.removesuffix("S")
            if kind == "TENSOR":
                return stored_tensor(value, self.folder, name)
            if kind in ("FLOAT", "INT", "STRING"):
                dtype = ir.DataType["INT64" if kind == "INT" else kind]
                array = np.array(value, None if kind == "STRING" else dtype.numpy())
                known = None if kind == "STRING" else array
                return Tensor(array.shape, dtype, known, True, True, name or "")
        raise ValueError("has no value")

    def _branch(
        self, inputs: list[Tensor | None], given: Attributes, arguments: Attributes
    ) -> list[Tensor]:
        condition = inputs[0]
        if condition is None or condition.value is None or condition.size != 1:
            raise ValueError("its condition depends on data; export the model with one branch")
        graph = given["then_branch" if condition.value.all() else "else_branch"].as_graph()
        self._store(graph)
        self._visit(graph, arguments)
        return self._outputs(graph.outputs)

    def _function(
        self, function: ir.Function, inputs: list[Tensor | None], given: Attributes
    ) -> list[Tensor | None]:
        outside, self.opsets = self.opsets, function.opset_imports
        self.tensors.update(zip_longest(function.inputs, inputs[: len(function.inputs)]))
        defaults = {key: a for key, a in function.attributes.items() if a.value is not None}
        self._visit(function, {**defaults, **given})
        self.opsets = outside
        return [self.tensors.get(value) for value in function.outputs]


def _weights_in(given: Attributes) -> list[Tensor]:
    """Return the lists of real numbers among the attributes, as stored tensors."""
    lists = [a for a in given.values() if a.type == ir.AttributeType.FLOATS and len(a.value) > 1]
    return [Tensor((len(a.value),), ir.DataType.FLOAT, None, True, True, a.name) for a in lists]
