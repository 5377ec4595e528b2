"""Turns an ONNX model into a graph of operators like that of the torch importer.

Rules, besides those of `graph`:

* A stored tensor is a parameter unless it is a scalar, holds int64, bool or text (indices, shapes,
  masks), or is a running statistic of batch normalisation.
* Values that an exporter computes from shapes count as constant.
"""

from __future__ import annotations

import math

from onnx_ir import DataType

from mjoa_gym.profiles.graph import Cost, OperatorGraph, Tracer
from mjoa_gym.profiles.onnx_costs import NORM_FLOPS, cost_of, holds_parameter, is_cheap, is_view
from mjoa_gym.profiles.onnx_patterns import Pattern, patterns
from mjoa_gym.profiles.onnx_program import Program, Step, Tensor, errors_of

MAX_OPERATORS = 20_000
_LONGEST_NAME = 200
_NOT_PARAMETERS = (DataType.INT64, DataType.BOOL, DataType.STRING)


def trace_program(program: Program) -> tuple[OperatorGraph, list[str]]:
    """Return the graph of operators, and those operators whose cost is not known."""
    tracer = _ProgramTracer(program)
    return tracer.run(), sorted(tracer.unknown)


class _ProgramTracer(Tracer[Tensor]):
    """Goes through the steps once, in execution order."""

    def __init__(self, program: Program) -> None:
        super().__init__(lambda tensor: tensor.bytes)
        self.program = program
        self.steps, self.read = _needed(program)
        self.pending: dict[Tensor, dict[Tensor, None]] = {}
        self.patterns = patterns(program, self.steps)
        self.inside = {s for found in self.patterns.values() for s in found.members[:-1]}

    def run(self) -> OperatorGraph:
        inputs = self.program.inputs
        for tensor in inputs:
            self.add_input(tensor)
        for step in self.program.steps:
            if step in self.steps and step not in self.inside:
                with errors_of(step.op, step.name):
                    self._visit(step)
            if len(self.operators) > MAX_OPERATORS:
                raise ValueError(f"has more than {MAX_OPERATORS:,} operators")
        self.charge(self.size)
        self.add_outputs(self.program.outputs)
        if not self.operators:
            raise ValueError("has no operator that does work on its input")
        return self.graph(inputs)

    def _visit(self, step: Step) -> None:
        pattern = self.patterns.get(step, Pattern("", (step,)))
        waiting: dict[Tensor, None] = {}
        for member in pattern.members:
            waiting.update(self._parameters_of(member, in_attention=pattern.kind == "matmul"))
        if all(tensor.constant for tensor in step.outputs):  # independent of the input
            self.pending.update(dict.fromkeys(step.outputs, waiting))
            return
        given = [tensor for member in pattern.members for tensor in member.present()]
        read = list(dict.fromkeys(tensor for tensor in given if tensor in self.sources))
        if len(read) == 1 and is_view(step):
            for tensor in step.outputs:
                self.add_view(tensor, read[0])
            return
        cost = _cost(pattern)
        if cost.kind == "other":
            self.unknown.add(step.op)
        cheap = pattern.kind == "roll" or is_cheap(step, cost.kind)
        made = [tensor for tensor in step.outputs if tensor in self.read]
        name = _name(step.name, waiting)[:_LONGEST_NAME]
        self.add(name, cost, cheap, read, made, waiting)

    def _parameters_of(self, step: Step, in_attention: bool) -> dict[Tensor, None]:
        """Return the parameters that an operator reads, directly or through constant operators."""
        found: dict[Tensor, None] = {}
        for index, tensor in enumerate(step.inputs):
            if tensor is None or not tensor.constant or not holds_parameter(step, index):
                continue
            if in_attention and math.prod(tensor.shape[:-2]) == 1:
                continue  # a mask: a bias would have one matrix per head
            if not tensor.parameter:
                found.update(self.pending.get(tensor, {}))
            elif tensor.shape and tensor.dtype not in _NOT_PARAMETERS:
                found[tensor] = None
        return found


def _cost(pattern: Pattern) -> Cost:
    last = pattern.members[-1]
    if pattern.kind == "matmul":
        return Cost("matmul", sum(cost_of(member).macs for member in pattern.members))
    if pattern.kind == "roll":
        return Cost("elementwise")
    if pattern.kind == "norm":
        return Cost("norm", 0, NORM_FLOPS * last.outputs[0].size)
    return cost_of(last)


def _needed(program: Program) -> tuple[set[Step], set[Tensor]]:
    """Return the steps that an output depends on, and the tensors that they or the caller read."""
    read = set(program.outputs)
    steps = set()
    for step in reversed(program.steps):
        if read.intersection(step.outputs):
            steps.add(step)
            if step.op not in ("Shape", "Size"):  # these need no data
                read.update(step.present())
    return steps, read


def _name(name: str, parameters: dict[Tensor, None]) -> str:
    """Return the path of the module if its weight's name has it, else the node's name."""
    for parameter in parameters:
        path, _, last = parameter.name.rpartition(".")
        if path and last == "weight":
            return path
    return name
