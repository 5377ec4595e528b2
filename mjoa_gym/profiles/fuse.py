"""Fuses operators into layers, as an inference runtime would run them.

Each step contracts one edge of the graph. The source of the edge must have a single reader, or its
target a single input, so that the contraction cannot close a cycle.

1. A cheap operator (pointwise, normalisation, softmax) with one input joins the layer that it reads
   if that layer has no other reader: convolution + BatchNorm + ReLU become one layer. Operators
   that enlarge their input (padding, upsampling) do not, because the layer would then have to send
   the larger tensor; they join their only reader instead.
2. A cheap operator whose only reader also reads all of the operator's inputs joins that reader
   (``x * sigmoid(x)``). Step 1 may apply afterwards.
3. A remaining cheap layer (its input has other readers, as in front of a pre-normalised transformer
   block) joins its only reader if that reader is a heavy layer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mjoa_gym.layers import INPUT
from mjoa_gym.profiles.graph import Operator, OperatorGraph

_HEAVY_KINDS = {"conv", "depthwise_conv", "linear", "matmul"}
_Edge = tuple[int, int]  # a set and its only reader


class Layer(NamedTuple):
    """Operators that are executed together; other layers read only the last one."""

    name: str
    kind: str
    flops: int
    parameter_bytes: int
    output_bytes: int
    predecessors: tuple[int, ...]
    operators: tuple[int, ...]  # their indices in the `OperatorGraph`, ascending


def fuse(graph: OperatorGraph) -> list[Layer]:
    """Return the network's layers in a topological order, predecessors before readers."""
    groups = _Groups(graph.operators)
    while groups.step():  # until no rule applies anywhere
        pass
    return groups.layers()


def as_columns(name: str, layers: Sequence[Layer], input_bytes: int) -> dict[str, Any]:
    """Return the arguments of the `DNN` that consists of these layers."""
    return {
        "name": name,
        "flops": [layer.flops for layer in layers],
        "parameter_bytes": [layer.parameter_bytes for layer in layers],
        "output_bytes": [layer.output_bytes for layer in layers],
        "predecessors": [layer.predecessors for layer in layers],
        "input_bytes": input_bytes,
        "kinds": [layer.kind for layer in layers],
        "layer_names": [layer.name for layer in layers],
    }


class _Groups:
    """Sets of operators that form one layer each; the last operator identifies its set.

    Only the last operator is read from outside, because a set grows by absorbing operators that
    have no other readers.
    """

    def __init__(self, operators: tuple[Operator, ...]) -> None:
        self.operators = operators
        self.members = {index: [index] for index in range(len(operators))}
        self.inputs = {index: set(operator.inputs) for index, operator in enumerate(operators)}
        self.readers: dict[int, set[int]] = {index: set() for index in (INPUT, *self.members)}
        for index, sources in self.inputs.items():
            for source in sources:
                self.readers[source].add(index)

    def step(self) -> bool:
        """Apply the first rule that applies anywhere, wherever it does; return whether one did."""
        rules = (self._into_producer, self._into_sharing_reader, self._into_heavy_reader)
        return any(self._sweep(rule) for rule in rules)

    def layers(self) -> list[Layer]:
        """Return one layer per set: next is always the earliest set whose inputs exist."""
        first = {group: min(members) for group, members in self.members.items()}
        missing = {group: len(inputs - {INPUT}) for group, inputs in self.inputs.items()}
        ready = [(first[group], group) for group, count in missing.items() if count == 0]
        heapq.heapify(ready)
        position = {INPUT: INPUT}
        layers: list[Layer] = []
        while ready:
            _, group = heapq.heappop(ready)
            position[group] = len(layers)
            layers.append(self._layer(group, position))
            for reader in self.readers[group]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    heapq.heappush(ready, (first[reader], reader))
        if len(layers) != len(self.members):
            raise RuntimeError("fusing closed a cycle")
        return layers

    def _layer(self, group: int, position: dict[int, int]) -> Layer:
        members = [self.operators[index] for index in self.members[group]]
        heaviest = max(members, key=_weight)
        macs = sum(operator.macs for operator in members)
        return Layer(
            name=heaviest.name,
            kind=heaviest.kind,
            flops=2 * macs if macs else sum(operator.light_flops for operator in members),
            parameter_bytes=sum(operator.parameter_bytes for operator in members),
            output_bytes=self.operators[group].output_bytes,
            predecessors=tuple(sorted(position[source] for source in self.inputs[group])),
            operators=tuple(self.members[group]),
        )

    def _sweep(self, rule: Callable[[int], _Edge | None]) -> bool:
        changed = False
        for group in sorted(self.members):
            edge = rule(group) if group in self.members and self._is_cheap(group) else None
            if edge is not None:
                self._contract(*edge)
                changed = True
        return changed

    def _into_producer(self, group: int) -> _Edge | None:
        if len(self.inputs[group]) != 1:
            return None
        if any(self.operators[index].grows for index in self.members[group]):
            return self._to_only_reader(group)
        (producer,) = self.inputs[group]
        return None if producer == INPUT else self._to_only_reader(producer)

    def _into_sharing_reader(self, group: int) -> _Edge | None:
        edge = self._to_only_reader(group)
        return edge if edge and self.inputs[group] <= self.inputs[edge[1]] else None

    def _into_heavy_reader(self, group: int) -> _Edge | None:
        edge = self._to_only_reader(group)
        if edge is None or len(self.inputs[group]) != 1:
            return None
        kinds = {self.operators[index].kind for index in self.members[edge[1]]}
        return edge if kinds & _HEAVY_KINDS else None

    def _to_only_reader(self, group: int) -> _Edge | None:
        readers = self.readers[group]
        return (group, next(iter(readers))) if len(readers) == 1 else None

    def _is_cheap(self, group: int) -> bool:
        return all(self.operators[index].cheap for index in self.members[group])

    def _contract(self, source: int, target: int) -> None:
        self.members[target] = sorted(self.members.pop(source) + self.members[target])
        inputs = self.inputs.pop(source)
        del self.readers[source]
        self.inputs[target] = (self.inputs[target] - {source}) | inputs
        for producer in inputs:
            self.readers[producer] = (self.readers[producer] - {source}) | {target}


def _weight(operator: Operator) -> tuple[int, bool, int, bool]:
    """Return the sort key of a layer's operators; the heaviest one names the layer and its kind."""
    return operator.macs, operator.kind == "embedding", operator.light_flops, not operator.cheap
