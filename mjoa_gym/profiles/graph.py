"""A network as a graph of operators with costs and bytes, independent of the framework.

A `Tracer` collects the operators in execution order; `mjoa_gym.profiles.fuse` turns the graph into
a DNN.

* Views are dropped. `output_bytes` counts the parts of a value that are read through views, each
  part once: if only the first token of a sequence is read, it counts that token.
* A parameter that several operators read is charged to the one with the most MACs, or the first of
  several such operators: the tied head of a language model needs its matrix to run elsewhere, while
  the look-up in the same matrix, which costs almost nothing, does not.
* A network output that operators also read gets its own operator without any cost, so that the
  outputs of a network are exactly the outputs of its sinks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from mjoa_gym.layers import INPUT

Value = TypeVar("Value")


def names(text: str) -> frozenset[str]:
    """Return the names of operators in a text, separated by spaces."""
    return frozenset(text.split())


class UnknownOperatorWarning(UserWarning):
    """Some operators have no known cost and count as zero FLOPs; the message lists them."""


class Cost(NamedTuple):
    """The cost of an operator: multiply-accumulates, or FLOPs if there are none.

    The kind is one of `mjoa_gym.layers.KINDS`, "other" if the cost is unknown.
    """

    kind: str
    macs: int = 0
    light_flops: int = 0


@dataclass
class Operator:
    """One operator that does work, so no view and not independent of the input."""

    name: str  # path of the module that runs it, with the operator's name if that is not a leaf
    kind: str  # layer kind from its `Cost`
    macs: int  # multiply-accumulates
    light_flops: int  # FLOPs of an operator without multiply-accumulates, else 0
    cheap: bool  # whether it may be fused into a neighbour
    grows: bool  # whether its output has more bytes than its inputs together
    inputs: tuple[int, ...]  # ascending indices of the operators it reads; may include `INPUT`
    parameter_bytes: int = 0  # of the parameters charged to it
    output_bytes: int = 0  # the parts of its output that its readers need, each part once


class OperatorGraph(NamedTuple):
    """A network's operators in execution order, and the bytes of all its inputs together."""

    operators: tuple[Operator, ...]
    input_bytes: int


@dataclass(frozen=True)
class Source(Generic[Value]):
    """The source of a value's data: the operator, and the narrowest view in between."""

    index: int
    view: Value


class Tracer(Generic[Value]):
    """Collects operators with the values that they make and read, and their parameters."""

    def __init__(self, size: Callable[[Value], int]) -> None:
        self.size = size  # returns a value's bytes
        self.operators: list[Operator] = []
        self.made: list[tuple[Value, ...]] = []  # per operator the values that it makes
        self.needed: list[tuple[Any, ...]] = []  # per operator the parameters that it reads
        self.sources: dict[Value, Source[Value]] = {}  # of values that depend on the input
        self.unknown: set[str] = set()  # operators whose cost is not known
        self._read: dict[int, dict[Value, None]] = {}
        self._names: dict[str, int] = {}

    def add_input(self, value: Value) -> None:
        """Add an input of the network."""
        self.sources[value] = Source(INPUT, value)

    def add_view(self, value: Value, of: Value) -> None:
        """Add a value that is the same as another one, or a part of it."""
        whole = self.sources[of]
        narrower = self.size(value) < self.size(whole.view)
        self.sources[value] = Source(whole.index, value) if narrower else whole

    def add(
        self,
        name: str,
        cost: Cost,
        cheap: bool,
        read: Sequence[Value],
        made: Iterable[Value],
        needed: Iterable[Any] = (),
    ) -> None:
        """Add an operator: the values that it reads and makes, and the parameters it needs."""
        index, made = len(self.operators), tuple(made)
        taken = sum(self.size(self.sources[value].view) for value in read)
        light_flops = 0 if cost.macs else cost.light_flops
        grows = sum(map(self.size, made)) > taken
        inputs = self._note_reads(read)
        self.operators.append(
            Operator(self._unique(name), cost.kind, cost.macs, light_flops, cheap, grows, inputs)
        )
        self.sources.update((value, Source(index, value)) for value in made)
        self.made.append(made)
        self.needed.append(tuple(needed))

    def add_outputs(self, outputs: Iterable[Value]) -> None:
        """Add the outputs of the network; call this after all operators."""
        inner = {source for operator in self.operators for source in operator.inputs}
        for value in dict.fromkeys(outputs):
            source = self.sources.get(value)
            if source is not None and (source.index == INPUT or source.index in inner):
                self.add("output", Cost("elementwise"), False, [value], ())
                self.made[-1] = (source.view,)
                self._read[len(self.operators) - 1] = {source.view: None}
            elif source is not None:
                self._note_reads([value])

    def charge(self, size: Callable[[Any], int]) -> tuple[tuple[Any, ...], ...]:
        """Charge the parameters, whose bytes `size` returns; return those of each operator."""
        charged: list[list[Any]] = [[] for _ in self.operators]
        users: dict[Any, list[int]] = {}
        for index, needed in enumerate(self.needed):
            for parameter in needed:
                users.setdefault(parameter, []).append(index)
        for parameter, indices in users.items():
            index = max(indices, key=lambda user: self.operators[user].macs)
            self.operators[index].parameter_bytes += size(parameter)
            charged[index].append(parameter)
        return tuple(map(tuple, charged))

    def parts(self, index: int) -> tuple[Value, ...]:
        """Return the views of an operator's output that are read, or all of it if that is less."""
        made, read = self.made[index], tuple(self._read.get(index, ()))
        return read if sum(map(self.size, read)) < sum(map(self.size, made)) else made

    def graph(self, inputs: Iterable[Value]) -> OperatorGraph:
        """Return the operators with the bytes of their outputs that are read."""
        for index, operator in enumerate(self.operators):
            operator.output_bytes = sum(map(self.size, self.parts(index)))
        return OperatorGraph(tuple(self.operators), sum(map(self.size, inputs)))

    def _note_reads(self, values: Iterable[Value]) -> tuple[int, ...]:
        """Record which parts of which values are read; return their producers."""
        sources = [self.sources[value] for value in values]
        for source in sources:
            self._read.setdefault(source.index, {})[source.view] = None
        return tuple(sorted({source.index for source in sources}))

    def _unique(self, name: str) -> str:
        unique, count = name, self._names.get(name, 0)
        while unique in self._names:
            count += 1
            unique = f"{name}_{count}"
        self._names[unique] = 0
        self._names[name] = count
        return unique


def warn_of_unknown(operators: Iterable[str], stacklevel: int = 2) -> None:
    """Warn once about all operators that were counted as zero FLOPs."""
    unknown = sorted(set(operators))
    if unknown:
        warnings.warn(
            f"counted as zero FLOPs, since their cost is not known: {', '.join(unknown)}",
            UnknownOperatorWarning,
            stacklevel=stacklevel + 1,
        )
