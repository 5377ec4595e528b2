"""Turns an ONNX model into the graph of operators that the torch importer makes, too.

Rules, beside those of the torch importer:

* A stored tensor is a parameter unless it is a scalar, holds int64, bool or text (indices, shapes,
  masks), or is a running statistic of batch normalisation.
* What an exporter computes from shapes counts as constant.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from onnx_ir import DataType

from mjoa_gym.layers import INPUT
from mjoa_gym.profiles.graph import Operator, OperatorGraph
from mjoa_gym.profiles.onnx_costs import (
    NORM_FLOPS,
    Cost,
    cost_of,
    holds_parameter,
    is_cheap,
    is_view,
)
from mjoa_gym.profiles.onnx_patterns import Pattern, patterns
from mjoa_gym.profiles.onnx_program import Program, Step, Tensor, errors_of

MAX_OPERATORS = 20_000
_LONGEST_NAME = 200
_NOT_PARAMETERS = (DataType.INT64, DataType.BOOL, DataType.STRING)


def trace_program(program: Program) -> tuple[OperatorGraph, list[str]]:
    """The graph of operators, and those among them whose cost is not known.

    Raises:
        ValueError: If it has too many operators or none, or an operator's inputs do not go
            together.
    """
    tracer = _Tracer(program)
    return tracer.run(), sorted(tracer.unknown)


class _Source:
    """Where a tensor's data comes from: the operator, and the narrowest view on the way."""

    def __init__(self, index: int, view: Tensor) -> None:
        self.index, self.view = index, view


class _Tracer:
    """Goes through the steps once, in execution order."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.needed, self.read = _needed(program)
        self.operators: list[Operator] = []
        self.full_bytes: list[int] = []
        self.sources: dict[Tensor, _Source] = {}
        self.pending: dict[Tensor, dict[Tensor, None]] = {}
        self.users: dict[Tensor, list[int]] = {}
        self.parts_read: dict[int, set[Tensor]] = {}
        self.names: Counter[str] = Counter()
        self.unknown: set[str] = set()
        self.patterns = patterns(program, self.needed)
        self.inside = {s for found in self.patterns.values() for s in found.members[:-1]}

    def run(self) -> OperatorGraph:
        for tensor in self.program.inputs:
            self.sources[tensor] = _Source(INPUT, tensor)
        for step in self.program.steps:
            if step in self.needed and step not in self.inside:
                with errors_of(step.op, step.name):
                    self._visit(step)
            if len(self.operators) > MAX_OPERATORS:
                raise ValueError(f"has more than {MAX_OPERATORS:,} operators")
        self._charge_parameters()
        self._add_outputs()
        if not self.operators:
            raise ValueError("has no operator that does work on its input")
        operators = tuple(
            replace(operator, output_bytes=self._bytes_read(index))
            for index, operator in enumerate(self.operators)
        )
        inputs = self.program.inputs
        shown = ", ".join(f"{'x'.join(map(str, t.shape))} {t.dtype}".lower() for t in inputs)
        return OperatorGraph(operators, sum(t.bytes for t in inputs), shown)

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
            whole = self.sources[read[0]]
            for tensor in step.outputs:
                narrower = tensor.bytes < whole.view.bytes
                self.sources[tensor] = _Source(whole.index, tensor) if narrower else whole
            return
        self._add(pattern, read, waiting)

    def _cost(self, pattern: Pattern) -> Cost:
        last = pattern.members[-1]
        if pattern.kind == "matmul":
            return Cost("matmul", sum(cost_of(m).macs for m in pattern.members))
        if pattern.kind == "roll":
            return Cost("elementwise")
        if pattern.kind == "norm":
            return Cost("norm", 0, NORM_FLOPS * last.outputs[0].size)
        cost = cost_of(last)
        if not cost.known:
            self.unknown.add(last.op)
        return cost

    def _add(self, pattern: Pattern, read: list[Tensor], waiting: dict[Tensor, None]) -> None:
        step, cost = pattern.members[-1], self._cost(pattern)
        index = len(self.operators)
        for parameter in waiting:
            self.users.setdefault(parameter, []).append(index)
        made = [tensor for tensor in step.outputs if tensor in self.read]
        size = sum(tensor.bytes for tensor in made)
        self.sources.update((tensor, _Source(index, tensor)) for tensor in made)
        self.full_bytes.append(size)
        self.operators.append(
            Operator(
                name=self._unique(_name(step.name, waiting)),
                kind=cost.kind,
                macs=cost.macs,
                light_flops=cost.light_flops,
                parameter_bytes=0,
                parameters=0,
                output_bytes=0,
                cheap=pattern.kind == "roll" or is_cheap(step, cost.kind),
                grows=size > sum(self.sources[tensor].view.bytes for tensor in read),
                inputs=self._note_reads(read),
            )
        )

    def _parameters_of(self, step: Step, in_attention: bool) -> dict[Tensor, None]:
        """The parameters that an operator reads, itself or through constant operators."""
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

    def _charge_parameters(self) -> None:
        """Charges every parameter to the first of its users with most MACs."""
        for parameter, users in self.users.items():
            index = max(users, key=lambda user: self.operators[user].macs)
            payer = self.operators[index]
            self.operators[index] = replace(
                payer,
                parameters=payer.parameters + parameter.size,
                parameter_bytes=payer.parameter_bytes + parameter.bytes,
            )

    def _note_reads(self, tensors: list[Tensor]) -> tuple[int, ...]:
        """Notes which parts of which tensors are read; returns the producers."""
        for tensor in tensors:
            source = self.sources[tensor]
            self.parts_read.setdefault(source.index, set()).add(source.view)
        return tuple(sorted({self.sources[tensor].index for tensor in tensors}))

    def _bytes_read(self, index: int) -> int:
        parts = self.parts_read.get(index, ())
        return min(self.full_bytes[index], sum(tensor.bytes for tensor in parts))

    def _add_outputs(self) -> None:
        """A network output that is also read inside gets an operator of its own without cost."""
        inner = {source for operator in self.operators for source in operator.inputs}
        for tensor in self.program.outputs:
            source = self.sources.get(tensor)
            if source is None:
                continue
            inputs = self._note_reads([tensor])
            if source.index == INPUT or source.index in inner:
                name = self._unique("output")
                own = Operator(name, "elementwise", 0, 0, 0, 0, 0, False, False, inputs)
                index = len(self.operators)
                self.operators.append(own)
                self.full_bytes.append(source.view.bytes)
                self.parts_read[index] = {source.view}

    def _unique(self, name: str) -> str:
        name = name[:_LONGEST_NAME]
        self.names[name] += 1
        unique = name
        while self.names[unique] > 1:
            unique = f"{name}_{self.names[name] - 1}"
            self.names[unique] += 1
            if self.names[unique] > 1:
                self.names[name] += 1
        return unique


def _needed(program: Program) -> tuple[set[Step], set[Tensor]]:
    """The steps that an output depends on, and the tensors that these or the caller read."""
    read = set(program.outputs)
    steps = set()
    for step in reversed(program.steps):
        if read.intersection(step.outputs):
            steps.add(step)
            if step.op not in ("Shape", "Size"):  # these need no data
                read.update(step.present())
    return steps, read


def _name(name: str, parameters: dict[Tensor, None]) -> str:
    """The path of the module where its weight tells it, else the node's name."""
    for parameter in parameters:
        path, _, last = parameter.name.rpartition(".")
        if path and last == "weight":
            return path
    return name
