"""Collects a network's operators in execution order, whatever framework it came from.

* Views are dropped. `output_bytes` counts the part of a value that is read through views, each part
  once: of a sequence whose first token alone is read, that token.
* A parameter that several operators read is charged to the one with most MACs, the first of
  several: the tied head of a language model needs its matrix to run elsewhere, while the look-up in
  the same matrix, which costs next to nothing, does not.
* A network output that other operators read as well gets an operator of its own without any cost,
  so that the outputs of a network are exactly the outputs of its sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from mjoa_gym.layers import INPUT
from mjoa_gym.profiles.graph import Cost, Operator, OperatorGraph

Value = TypeVar("Value")


@dataclass(frozen=True)
class Source(Generic[Value]):
    """Where a value's data comes from: the operator, and the narrowest view on the way."""

    index: int
    view: Value


class Tracer(Generic[Value]):
    """Operators with what they make, read and need.

    Attributes:
        size: Tells a value's bytes.
        operators: So far, without parameters.
        made: Per operator the values that it makes.
        needed: Per operator the parameters that it reads.
        sources: Of every value that depends on the network's input.
        unknown: Operators whose cost is not known.
    """

    def __init__(self, size: Callable[[Value], int]) -> None:
        self.size = size
        self.operators: list[Operator] = []
        self.made: list[tuple[Value, ...]] = []
        self.needed: list[tuple[Any, ...]] = []
        self.sources: dict[Value, Source[Value]] = {}
        self.unknown: set[str] = set()
        self._read: dict[int, dict[Value, None]] = {}
        self._names: dict[str, int] = {}

    def add_input(self, value: Value) -> None:
        """Notes an input of the network."""
        self.sources[value] = Source(INPUT, value)

    def add_view(self, value: Value, of: Value) -> None:
        """Notes a value that is another one, or a part of it."""
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
        """Notes an operator: what it reads, makes and needs of parameters."""
        index, made = len(self.operators), tuple(made)
        taken = sum(self.size(self.sources[value].view) for value in read)
        operator = Operator(
            name=self._unique(name),
            kind=cost.kind,
            macs=cost.macs,
            light_flops=0 if cost.macs else cost.light_flops,
            parameter_bytes=0,
            parameters=0,
            output_bytes=0,
            cheap=cheap,
            grows=sum(map(self.size, made)) > taken,
            inputs=self._note_reads(read),
        )
        self.sources.update((value, Source(index, value)) for value in made)
        self.operators.append(operator)
        self.made.append(made)
        self.needed.append(tuple(needed))

    def add_outputs(self, outputs: Iterable[Value]) -> None:
        """Notes what the network puts out; call it after all operators."""
        inner = {source for operator in self.operators for source in operator.inputs}
        for value in dict.fromkeys(outputs):
            source = self.sources.get(value)
            if source is not None and (source.index == INPUT or source.index in inner):
                self.add("output", Cost("elementwise"), False, [value], ())
                self.made[-1] = (source.view,)
                self._read[len(self.operators) - 1] = {source.view: None}
            elif source is not None:
                self._note_reads([value])

    def charge(self, weight: Callable[[Any], tuple[int, int]]) -> list[tuple[Any, ...]]:
        """Charges the parameters, whose elements and bytes `weight` tells; returns each's."""
        charged: list[list[Any]] = [[] for _ in self.operators]
        users: dict[Any, list[int]] = {}
        for index, needed in enumerate(self.needed):
            for parameter in needed:
                users.setdefault(parameter, []).append(index)
        for parameter, indices in users.items():
            index = max(indices, key=lambda user: self.operators[user].macs)
            payer, (elements, size) = self.operators[index], weight(parameter)
            self.operators[index] = replace(
                payer,
                parameters=payer.parameters + elements,
                parameter_bytes=payer.parameter_bytes + size,
            )
            charged[index].append(parameter)
        return list(map(tuple, charged))

    def parts(self, index: int) -> tuple[Value, ...]:
        """The views that are read of what an operator makes, or all of it where that is less."""
        made, read = self.made[index], tuple(self._read.get(index, ()))
        return read if sum(map(self.size, read)) < sum(map(self.size, made)) else made

    def graph(self, inputs: Iterable[Value], input_text: str) -> OperatorGraph:
        """The operators with the bytes of what is read of them."""
        operators = tuple(
            replace(operator, output_bytes=sum(map(self.size, self.parts(index))))
            for index, operator in enumerate(self.operators)
        )
        return OperatorGraph(operators, sum(map(self.size, inputs)), input_text)

    def _note_reads(self, values: Iterable[Value]) -> tuple[int, ...]:
        """Notes which parts of which values are read; returns the producers."""
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
