"""Turns a torch module and example inputs into a graph of operators with costs and bytes.

It takes as long as `torch.export`: 0.1 to 3 s for common networks on the meta device, without
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils.flop_counter import FlopCounterMode

from mjoa_gym.layers import INPUT
from mjoa_gym.profiles import torch_operators as ops
from mjoa_gym.profiles.fuse import as_columns, fuse
from mjoa_gym.profiles.graph import Cost, OperatorGraph, Tracer, warn_of_unknown
from mjoa_gym.profiles.torch_program import ancestors, check_sizes, export, refuse_empty, results_of


class Trace(NamedTuple):
    """A module's operators, and their places in its exported program.

    An operator "output" repeats a view of an earlier one.
    """

    graph: OperatorGraph  # the operators, independent of torch
    program: ExportedProgram  # the exported program
    made_by: tuple[Node, ...]  # per operator the node whose value it makes
    parts: Mapping[int, tuple[Node, ...]]  # also for `INPUT`: the nodes whose values readers need
    charged: tuple[tuple[str, ...], ...]  # per operator the names of the parameters charged to it
    parameter_of: Mapping[Node, str]  # the name of the parameter that a node stands for


def profile(module: nn.Module, example_inputs: Any, name: str | None = None) -> dict[str, Any]:
    """Return the arguments of the `DNN` of a module, at layer granularity."""
    graph = trace(module, example_inputs, stacklevel=3).graph
    return as_columns(name or type(module).__name__, fuse(graph), graph.input_bytes)


def trace(module: nn.Module, example_inputs: Any, stacklevel: int = 1) -> Trace:
    """Export `module` in inference mode and count its operators.

    This works on the meta device (no weights, no arithmetic) and on any other. All inputs together
    count as the one input tensor of the network. Rules, besides those of `graph`:

    * Operators that do not depend on an input are folded into their readers: their parameters
      count as read by all readers, and their MACs as done by the first.
    * Buffers (the running statistics of batch normalisation) are not parameters and not counted.
    * Copies are dropped like views.

    Args:
        module: The network; its training flags are restored afterwards.
        example_inputs: A tensor, a tuple of positional or a dict of keyword inputs, with the batch
            size to count.
        stacklevel: For warnings: 1 is the caller of this function.

    Raises:
        ValueError: If the module cannot be exported, an input is empty, or no output depends on
            an input.
    """
    program = export(module, example_inputs)
    check_sizes(program)
    tracer = _ModuleTracer(module, program)
    traced = tracer.run()
    costs = [operator.macs + operator.light_flops for operator in traced.graph.operators]
    if not all(operator.output_bytes for operator in traced.graph.operators) or not any(costs):
        refuse_empty(example_inputs)
    warn_of_unknown(tracer.unknown, stacklevel=stacklevel + 1)
    return traced


class _ModuleTracer(Tracer[Node]):
    """Walks the exported graph once, in execution order."""

    def __init__(self, module: nn.Module, program: ExportedProgram) -> None:
        super().__init__(ops.num_bytes)
        self.module = module
        self.program = program
        names = program.graph_signature.inputs_to_parameters
        own_name = {id(parameter): name for name, parameter in module.named_parameters()}
        every = dict(module.named_parameters(remove_duplicate=False))
        self.parameter_of = {
            node: own_name[id(every[names[node.name]])]
            for node in program.graph.nodes
            if node.name in names
        }
        self.pending: dict[Node, dict[str, None]] = {}
        self.folded: dict[Node, dict[Node, Cost]] = {}
        self.paid: set[Node] = set()

    def run(self) -> Trace:
        nodes, given = self.program.graph.nodes, set(self.program.graph_signature.user_inputs)
        results = [value for value in results_of(self.program) if isinstance(value, Node)]
        wanted = ancestors(results)
        inputs = [n for n in nodes if n.name in given and ops.tensors(ops.value_of(n))]
        for node in inputs:
            self.add_input(node)
        with FlopCounterMode(display=False, custom_mapping=ops.EXTRA_FLOPS) as counter:
            for node in nodes:
                if node.op == "placeholder":
                    name = self.parameter_of.get(node)
                    self.pending[node] = {} if name is None else {name: None}
                elif node.op != "output" and node in wanted:
                    self._visit(node, counter)
        if not any(node in self.sources for node in results):
            raise ValueError(
                "module: no output depends on an input tensor, so there is nothing to profile"
            )
        self.add_outputs(results)
        parameters = dict(self.module.named_parameters())
        return Trace(
            charged=self.charge(lambda name: parameters[name].nbytes),
            graph=self.graph(inputs),
            program=self.program,
            made_by=tuple(node for (node,) in self.made),
            parts={INPUT: tuple(inputs)} | {i: self.parts(i) for i in range(len(self.operators))},
            parameter_of=self.parameter_of,
        )

    def _visit(self, node: Node, counter: FlopCounterMode) -> None:
        read = [source for source in node.all_input_nodes if source in self.sources]
        waiting: dict[str, None] = {}
        folded: dict[Node, Cost] = {}
        for source in node.all_input_nodes:
            waiting.update(self.pending.get(source, {}))
            folded.update(self.folded.get(source, {}))
        if not read:  # independent of the input: its readers are charged
            self.pending[node] = waiting
            cost = ops.cost_of(node, counter, set())
            self.folded[node] = folded | {node: cost} if cost.macs else folded
            return
        if len(read) == 1 and not waiting and ops.is_view(node):
            self.add_view(node, read[0])
            return
        kind, macs, light_flops = ops.cost_of(node, counter, self.unknown)
        cheap = ops.is_cheap(node, kind)
        for other, cost in folded.items():
            if other not in self.paid:
                self.paid.add(other)
                kind = cost.kind if cost.macs > macs else kind
                macs += cost.macs
        cost = Cost(kind, macs, light_flops)
        self.add(self._name(node), cost, cheap, read, [node], waiting)

    def _name(self, node: Node) -> str:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = stack[-1][0] if stack else ""
        try:
            leaf = path and not list(self.module.get_submodule(path).children())
        except AttributeError:
            leaf = False
        name = ops.op_name(node).strip("_")
        return path if leaf else f"{path}.{name}" if path else name
