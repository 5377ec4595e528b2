"""The execution of one layer: its nodes in an exported program, their inputs and their order.

A node that depends neither on an input nor on a parameter has a constant value. A node that depends
only on parameters is executed by every layer that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from mjoa_gym.profiles import torch_operators as ops

Values = dict[Node, Any]
_Resolver = Callable[[Values], Any]


class Slot(NamedTuple):
    """One tensor of a bundle: a node's value, or one item of that value."""

    node: Node
    item: int | None


def slots_of(nodes: Iterable[Node]) -> tuple[Slot, ...]:
    """Return the tensors that make up the values of some nodes."""
    slots: list[Slot] = []
    for node in nodes:
        items = ops.items_read(node)
        slots += [Slot(node, None)] if items is None else [Slot(node, item) for item in items]
    return tuple(slots)


def fill(values: Values, slots: tuple[Slot, ...], bundle: tuple[torch.Tensor, ...]) -> None:
    """Store the tensors of a bundle as values for the nodes that read them."""
    if len(bundle) != len(slots):
        raise ValueError(f"bundle: got {len(bundle)} tensors; {len(slots)} are needed")
    for (node, item), tensor in zip(slots, bundle, strict=True):
        if item is None:
            values[node] = tensor
        else:
            values.setdefault(node, {})[item] = tensor  # items that no node reads are absent


def take(values: Values, slots: tuple[Slot, ...]) -> tuple[torch.Tensor, ...]:
    """Return the tensors of a bundle."""
    return tuple(values[node] if item is None else values[node][item] for node, item in slots)


@dataclass(frozen=True)
class NodeCall:
    """One node with its function and arguments."""

    node: Node
    function: Callable[..., Any]
    arguments: tuple[_Resolver, ...]
    keywords: Mapping[str, _Resolver]

    @staticmethod
    def of(node: Node) -> NodeCall:
        """Make the call that executes a node."""
        arguments = tuple(map(_resolver, node.args))
        keywords = {key: _resolver(value) for key, value in node.kwargs.items()}
        return NodeCall(node, _function(node), arguments, keywords)

    def __call__(self, values: Values) -> None:
        """Execute the node and store its value."""
        arguments = [resolve(values) for resolve in self.arguments]
        keywords = {key: resolve(values) for key, resolve in self.keywords.items()}
        values[self.node] = self.function(*arguments, **keywords)


def stored_values(program: ExportedProgram) -> Values:
    """Buffers and lifted constants, by the placeholder that stands for them."""
    signature = program.graph_signature
    stored = {**program.state_dict, **program.constants}
    names = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    by_name = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    return {by_name[placeholder]: stored[name].detach() for placeholder, name in names.items()}


def _resolver(argument: Any) -> _Resolver:
    if isinstance(argument, Node):
        return lambda values: values[argument]
    if isinstance(argument, (list, tuple)):
        parts = [_resolver(item) for item in argument]
        kind = tuple if isinstance(argument, tuple) else list
        return lambda values: kind(part(values) for part in parts)
    return lambda values: argument


def _function(node: Node) -> Callable[..., Any]:
    """Return the node's operator, made independent of the memory layout of its input.

    The export determined the views that need no copy for the exported strides, but a tensor that
    has been sent is contiguous.
    """
    aten = torch.ops.aten
    if node.target in (aten.view.default, aten._unsafe_view.default):
        return aten.reshape.default
    if node.target is aten.as_strided.default:
        like = ops.value_of(node.all_input_nodes[0])
        return lambda tensor, *sizes: torch.as_strided(_laid_out(tensor, like), *sizes)
    assert callable(node.target)
    return node.target


def _laid_out(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if tensor.stride() == like.stride():
        return tensor
    copy = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=tensor.device)
    return copy.copy_(tensor)
