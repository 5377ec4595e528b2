"""A torch network that can be executed layer by layer, on one machine or on several.

`LayeredModel` pairs a DNN with the nodes of its exported program. A layer reads the *bundles* of
its predecessors and makes its own bundle. A bundle holds only the tensors that its readers need, so
that it has exactly as many bytes as the DNN says. Operators are called one by one, without
compiling.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from mjoa_gym.dnn import DNN
from mjoa_gym.execution.layer_program import (
    NodeCall,
    Slot,
    Values,
    fill,
    slots_of,
    stored_values,
    take,
)
from mjoa_gym.layers import INPUT
from mjoa_gym.profiles import torch_operators as ops
from mjoa_gym.profiles.fuse import as_columns, fuse
from mjoa_gym.profiles.torch_export import Trace, trace
from mjoa_gym.profiles.torch_program import ancestors, as_arguments, results_of

Bundle = tuple[Tensor, ...]


class TensorSpec(NamedTuple):
    """Shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @staticmethod
    def of(tensor: Tensor) -> TensorSpec:
        """Return the spec of a tensor."""
        return TensorSpec(tuple(tensor.shape), tensor.dtype)


@dataclass(frozen=True)
class _Layer:
    """One layer: the steps that execute it, and the parameters that they read."""

    steps: tuple[NodeCall, ...]
    constants: tuple[Node, ...]
    parameters: Mapping[Node, str]


class LayeredModel:
    """A network as a `DNN` whose layers can be executed.

    Two sides that build it from the same module and inputs get the same layers. Parameters move
    between them. Everything else is part of the program and known to both: buffers (the running
    statistics of batch normalisation), constants, and values that follow from these alone. Their
    bytes are not part of any layer's parameter bytes.

    A parameter that several layers read is *charged* to the layer that computes most with it, and
    counted there (`parameter_names`). The other layers *need* its values too (`needs`): a GPT-2
    whose embedding runs at the edge needs the matrix there, although the matrix is charged to the
    head. A DNN does not model this, so the simulator gives the values to these layers for free.

    Layers are executed in evaluation mode and without gradients. The result equals the module's up
    to rounding, and bit for bit where torch has no fused kernel for a part of the module.

    Build a model with `from_torch`. It is immutable, and `run` may be called from several threads.

    Attributes:
        dnn: The profile, at layer granularity; it defines the numbers of the layers.
    """

    def __init__(self, traced: Trace, parameters: Mapping[str, Tensor], name: str) -> None:
        layers = fuse(traced.graph)
        self._program = traced.program
        self._order = {node: i for i, node in enumerate(traced.program.graph.nodes)}
        self._parameters = dict(parameters)
        self.dnn = DNN(**as_columns(name, layers, traced.graph.input_bytes))
        self._charged = tuple(
            tuple(name for index in layer.operators for name in traced.charged[index])
            for layer in layers
        )
        self._slots: dict[int, tuple[Slot, ...]] = {INPUT: slots_of(traced.parts[INPUT])}
        for number, layer in enumerate(layers):
            self._slots[number] = slots_of(traced.parts[layer.operators[-1]])
        self._name_of = dict(traced.parameter_of)
        self._results = results_of(traced.program)
        self._known = self._constant_values()
        self._layers = tuple(map(self._planned, range(self.dnn.n_layers)))

    @staticmethod
    def from_torch(
        module: nn.Module,
        example_inputs: Any,
        name: str | None = None,
        *,
        keep_parameters: bool = True,
    ) -> LayeredModel:
        """Build the layers of a module; the arguments are like those of `DNN.from_torch`.

        Args:
            module: The module, on the device on which the layers are to run. (On the meta device
                they compute only shapes.) Its parameters and buffers are referenced, not copied.
            example_inputs: A tensor, a tuple of positional inputs or a dict of keyword inputs.
            name: Default: the module's class.
            keep_parameters: False for a side that gets all parameters from the other side.
                `parameters` then returns tensors on the meta device.

        Raises:
            ValueError: If the module cannot be exported, or changes its buffers when it runs.
        """
        traced = trace(module, example_inputs, stacklevel=2)
        changed = sorted(traced.program.graph_signature.buffers_to_mutate.values())
        if changed:
            raise ValueError(
                f"module: changes its buffer {changed[0]!r} when it runs, which layers that are "
                "executed on two sides cannot do; pass state as input and output"
            )
        parameters = {key: value.detach() for key, value in module.named_parameters()}
        if not keep_parameters:
            parameters = {key: value.to("meta") for key, value in parameters.items()}
        return LayeredModel(traced, parameters, name or type(module).__name__)

    def parameter_names(self, layer: int) -> tuple[str, ...]:
        """Return the parameters charged to a layer; a tied one has its first name.

        Each parameter is charged to only one layer.
        """
        return self._charged[layer]

    def needs(self, layer: int) -> tuple[str, ...]:
        """Return the parameters that a layer reads, whichever layer they are charged to."""
        return tuple(self._layers[layer].parameters.values())

    def parameters(self, layer: int) -> dict[str, Tensor]:
        """Return the values of the parameters that are charged to a layer, without a copy."""
        return {name: self._parameters[name] for name in self._charged[layer]}

    def needed_parameters(self, layer: int) -> dict[str, Tensor]:
        """Return the values of the parameters that a layer reads, for `run`."""
        return {name: self._parameters[name] for name in self.needs(layer)}

    def bundle_specs(self, tensor: int) -> tuple[TensorSpec, ...]:
        """Return shapes and types of a layer's bundle; -1 is the network's input."""
        values = [
            ops.value_of(node) if item is None else ops.value_of(node)[item]
            for node, item in self._slots[tensor]
        ]
        return tuple(map(TensorSpec.of, values))

    def constants(self) -> dict[str, Tensor]:
        """Return the program's buffers and constants, by their names in it."""
        return {node.name: value for node, value in stored_values(self._program).items()}

    def description(self) -> str:
        """Return all operators and arguments as code, equal for equal networks and torch builds."""
        modules = self._program.graph_module.named_modules()
        return "\n".join(f"{name}: {m.code}" for name, m in modules if isinstance(m, GraphModule))

    def inputs(self, example_inputs: Any) -> Bundle:
        """Return the network's input as a bundle, from inputs like those given to `from_torch`.

        Raises:
            ValueError: If they differ in structure, shape or type from the exported inputs.
        """
        arguments, keywords = as_arguments(example_inputs)
        expected = self._program.call_spec.in_spec
        order = list(expected.child(1).context or ())
        if sorted(order) == sorted(keywords):
            keywords = {key: keywords[key] for key in order}
        flat, structure = pytree.tree_flatten((arguments, keywords))
        if structure != expected:
            raise ValueError(f"example_inputs: got {structure}; the program takes {expected}")
        bundle = tuple(value for value in flat if isinstance(value, Tensor))
        got, wanted = tuple(map(TensorSpec.of, bundle)), self.bundle_specs(INPUT)
        if got != wanted:
            raise ValueError(f"example_inputs: got {got}; the program takes {wanted}")
        return bundle

    @torch.no_grad()
    def run(
        self, layer: int, bundles: Mapping[int, Bundle], parameters: Mapping[str, Tensor]
    ) -> Bundle:
        """Execute a layer.

        Args:
            layer: The number of the layer.
            bundles: At least the bundles of its predecessors; -1 is the network's input. The memory
                layout of the tensors may differ from the one with which they were made.
            parameters: At least the parameters that it `needs`, by name.

        Returns:
            The layer's bundle. Tensors may share memory with the inputs and be views.
        """
        values: Values = {node: self._known[node] for node in self._layers[layer].constants}
        for predecessor in self.dnn.predecessors[layer]:
            fill(values, self._slots[predecessor], bundles[predecessor])
        for node, name in self._layers[layer].parameters.items():
            values[node] = parameters[name]
        for step in self._layers[layer].steps:
            step(values)
        return take(values, self._slots[layer])

    @torch.no_grad()
    def outputs(self, bundles: Mapping[int, Bundle]) -> Any:
        """Return the network's result, like the module's, from the bundles of its sinks."""
        values = dict(self._known)
        for sink in self.dnn.is_sink.nonzero()[0]:
            fill(values, self._slots[int(sink)], bundles[int(sink)])
        for node, name in self._name_of.items():
            values[node] = self._parameters[name]
        wanted = [result for result in self._results if isinstance(result, Node)]
        for node in self._in_order(ancestors(wanted, values)):
            NodeCall.of(node)(values)
        flat = [values[r] if isinstance(r, Node) else r for r in self._results]
        return pytree.tree_unflatten(flat, self._program.call_spec.out_spec)

    def _constant_values(self) -> Values:
        """Return the values of all used nodes that depend on no input and no parameter."""
        values: Values = stored_values(self._program)
        results = (result for result in self._results if isinstance(result, Node))
        with torch.no_grad():
            for node in self._in_order(ancestors(results, values)):
                if node.op == "get_attr":
                    values[node] = operator.attrgetter(str(node.target))(self._program.graph_module)
                elif node.op == "call_function" and all(n in values for n in node.all_input_nodes):
                    NodeCall.of(node)(values)
        return values

    def _in_order(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(nodes, key=self._order.__getitem__)

    def _planned(self, layer: int) -> _Layer:
        given = {node for p in self.dnn.predecessors[layer] for node, _ in self._slots[p]}
        known = given | self._known.keys() | self._name_of.keys()
        nodes = self._in_order(ancestors((node for node, _ in self._slots[layer]), known))
        read = {source for node in nodes for source in node.all_input_nodes}
        return _Layer(
            steps=tuple(map(NodeCall.of, nodes)),
            constants=tuple(node for node in self._known if node in read),
            parameters={node: name for node, name in self._name_of.items() if node in read},
        )
