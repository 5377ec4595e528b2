"""Turns a module and example inputs into a graph of operators with costs and bytes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils.flop_counter import FlopCounterMode

from . import operators as ops

INPUT = -1


@dataclass(frozen=True)
class Operator:
    """One operator that does work; views and input-independent operators are not among these.

    Attributes:
        name: Path of the module that runs it, with the operator's name where that is not a leaf.
        kind: Layer kind, see ``operators.kind_of``.
        macs: Multiply-accumulates.
        light_flops: FLOPs of an operator without multiply-accumulates, else 0.
        parameter_bytes: Parameters charged to this operator.
        parameters: The same, as a number of elements.
        output_bytes: What its readers need of its output; see ``trace``.
        cheap: Whether it may be fused into a neighbour.
        grows: Whether its output has more bytes than its inputs together.
        inputs: Indices of the operators it reads, ``INPUT`` for the network's input; ascending.
    """

    name: str
    kind: str
    macs: int
    light_flops: int
    parameter_bytes: int
    parameters: int
    output_bytes: int
    cheap: bool
    grows: bool
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class OperatorGraph:
    """A network's operators in execution order, and the bytes of its inputs."""

    operators: tuple[Operator, ...]
    input_bytes: int
    input_text: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(operator.macs for operator in self.operators)

    @property
    def parameters(self) -> int:
        """Distinct parameters that the network uses, as a number of elements."""
        return sum(operator.parameters for operator in self.operators)


def trace(module: nn.Module, inputs: tuple[Any, ...]) -> OperatorGraph:
    """Exports ``module`` in inference mode and counts its operators.

    Works on the meta device (no weights, no arithmetic) and on any other. All inputs together
    count as the one input tensor of the network. Rules:

    * Operators that do not depend on an input are folded into their first reader, with their
      parameters; a parameter shared by several operators is charged to the one with most
      MACs, the first of several.
    * Buffers (the running statistics of batch normalisation) are not parameters and not counted.
    * Views and copies are dropped. ``output_bytes`` counts the part of a tensor that is read
      through views, each part once: of a sequence whose first token alone is read, that token.
    * A network output that other operators read as well gets an operator of its own without any
      cost, so that the outputs of a network are exactly the outputs of its sinks.

    Args:
        module: The network; its training flag is restored afterwards.
        inputs: Example positional inputs, with the batch size to count.
    """
    program = _export(module, inputs)
    return _Tracer(module, program).run()


def _export(module: nn.Module, inputs: tuple[Any, ...]) -> ExportedProgram:
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own use of its tree specs
            warnings.filterwarnings("ignore", "The tensor attribute")  # recurrent modules' lists
            # Without decompositions this only removes in-place operators and aliases.
            return torch.export.export(module, inputs).run_decompositions({})
    finally:
        module.train(was_training)


@dataclass(frozen=True)
class _Source:
    """Where a node's data comes from: the operator, and the narrowest view on the way."""

    index: int
    view: Node
    bytes: int


class _Tracer:
    """Walks the exported graph once, in execution order."""

    def __init__(self, module: nn.Module, program: ExportedProgram) -> None:
        self.module = module
        self.program = program
        signature = program.graph_signature
        parameters = dict(module.named_parameters(remove_duplicate=False))
        self.parameter_of = {
            placeholder: parameters[name]
            for placeholder, name in signature.inputs_to_parameters.items()
        }
        self.user_inputs = set(signature.user_inputs)
        self.operators: list[Operator] = []
        self.full_bytes: list[int] = []
        self.sources: dict[Node, _Source] = {}
        self.pending: dict[Node, dict[int, nn.Parameter]] = {}
        self.users: dict[int, tuple[nn.Parameter, list[int]]] = {}
        self.parts_read: dict[int, dict[Node, int]] = {}
        self.names: set[str] = set()

    def run(self) -> OperatorGraph:
        nodes = list(self.program.graph.nodes)
        needed = _ancestors(nodes[-1])
        inputs = [node for node in nodes if node.name in self.user_inputs]
        for node in inputs:
            self.sources[node] = _Source(INPUT, node, ops.num_bytes(node))
        with FlopCounterMode(display=False) as counter:
            for node in nodes:
                if node.op == "placeholder":
                    parameter = self.parameter_of.get(node.name)
                    self.pending[node] = {} if parameter is None else {id(parameter): parameter}
                elif node.op != "output" and node in needed:
                    self._visit(node, counter)
        self._charge_parameters()
        self._add_outputs(nodes[-1])
        operators = tuple(
            replace(operator, output_bytes=self._bytes_read(index))
            for index, operator in enumerate(self.operators)
        )
        return OperatorGraph(operators, sum(map(ops.num_bytes, inputs)), _describe(inputs))

    def _visit(self, node: Node, counter: FlopCounterMode) -> None:
        read = [source for source in node.all_input_nodes if source in self.sources]
        waiting: dict[int, nn.Parameter] = {}
        for source in node.all_input_nodes:
            waiting.update(self.pending.get(source, {}))
        if not read:  # independent of the input: its first reader pays
            self.pending[node] = waiting
            return
        if len(read) == 1 and not waiting and ops.is_view(node):
            whole, size = self.sources[read[0]], ops.num_bytes(node)
            narrower = size < whole.bytes
            self.sources[node] = _Source(whole.index, node, size) if narrower else whole
            return
        for key, parameter in waiting.items():
            self.users.setdefault(key, (parameter, []))[1].append(len(self.operators))
        macs = ops.count_macs(node, counter)
        kind = ops.kind_of(node, macs)
        size = ops.num_bytes(node)
        operator = Operator(
            name=self._name(node),
            kind=kind,
            macs=macs,
            light_flops=0 if macs else ops.light_flops(node, kind),
            parameter_bytes=0,
            parameters=0,
            output_bytes=0,
            cheap=ops.is_cheap(node, kind),
            grows=size > sum(self.sources[source].bytes for source in read),
            inputs=self._read(read),
        )
        self._append(node, operator, size)

    def _charge_parameters(self) -> None:
        """Charges every parameter to that of its users which computes most, the first of several.

        So the tied head of a language model needs its matrix to run elsewhere, while the lookup in
        the same matrix, which costs next to nothing, does not.
        """
        for parameter, users in self.users.values():
            index = max(users, key=lambda user: self.operators[user].macs)
            payer = self.operators[index]
            self.operators[index] = replace(
                payer,
                parameters=payer.parameters + parameter.numel(),
                parameter_bytes=payer.parameter_bytes
                + parameter.numel() * parameter.element_size(),
            )

    def _append(self, node: Node, operator: Operator, size: int) -> None:
        self.sources[node] = _Source(len(self.operators), node, size)
        self.operators.append(operator)
        self.full_bytes.append(size)

    def _read(self, nodes: list[Node]) -> tuple[int, ...]:
        """Notes which parts of which tensors are read; returns the producers."""
        for node in nodes:
            source = self.sources[node]
            self.parts_read.setdefault(source.index, {})[source.view] = source.bytes
        return tuple(sorted({self.sources[node].index for node in nodes}))

    def _bytes_read(self, index: int) -> int:
        return min(self.full_bytes[index], sum(self.parts_read.get(index, {}).values()))

    def _add_outputs(self, output: Node) -> None:
        results = [node for node in output.all_input_nodes if node in self.sources]
        inner = {source for operator in self.operators for source in operator.inputs}
        for node in results:
            source = self.sources[node]
            if source.index == INPUT or source.index in inner:
                own = Operator(
                    name=self._unique("output"),
                    kind="elementwise",
                    macs=0,
                    light_flops=0,
                    parameter_bytes=0,
                    parameters=0,
                    output_bytes=0,
                    cheap=False,
                    grows=False,
                    inputs=self._read([node]),
                )
                self._append(node, own, source.bytes)
            self._read([node])

    def _name(self, node: Node) -> str:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        try:
            leaf = path and not list(self.module.get_submodule(path).children())
        except AttributeError:
            leaf = False
        name = ops.op_name(node).strip("_")
        return self._unique(path if leaf else f"{path}.{name}" if path else name)

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self.names:
            unique, count = f"{name}_{count}", count + 1
        self.names.add(unique)
        return unique


def _ancestors(node: Node) -> set[Node]:
    found, stack = {node}, [node]
    while stack:
        for source in stack.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                stack.append(source)
    return found


def _describe(inputs: list[Node]) -> str:
    texts = []
    for node in inputs:
        for tensor in ops.tensors(ops.value_of(node)):
            shape = "x".join(map(str, tensor.shape))
            texts.append(f"{shape} {str(tensor.dtype).removeprefix('torch.')}")
    return ", ".join(texts)
