"""One use of an ONNX operator: its attributes and the tensors it reads, with checked access."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mjoa_gym.profiles.onnx_tensors import Shape, Tensor

TensorType = tuple[Shape, str]
"""Shape and element type of an output."""
ShapeRule = Callable[["Call"], list[TensorType]]


@dataclass(frozen=True)
class Call:
    """An operator and what it is given.

    Attributes:
        op: The operator; outside ONNX's own domain with the domain in front and a dot between.
        name: The node's name, or one made of its outputs.
        attributes: Numbers, texts, tuples of these, or protobuf messages.
        inputs: The tensors; None for an optional one that is left out.
        n_outputs: How many outputs the node lists.
    """

    op: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[Tensor | None, ...]
    n_outputs: int

    def given(self, index: int) -> Tensor | None:
        """Input `index`, None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def tensor(self, index: int) -> Tensor:
        """Input `index`, which must be there."""
        tensor = self.given(index)
        if tensor is None:
            raise ValueError(f"input {index} is missing")
        return tensor

    def present(self) -> list[Tensor]:
        """The inputs that are not left out."""
        return [tensor for tensor in self.inputs if tensor is not None]

    def ranked(self, index: int, least: int) -> Tensor:
        """Input `index`, which must have at least `least` dimensions."""
        tensor = self.tensor(index)
        if len(tensor.shape) < least:
            raise ValueError(
                f"input {index} has shape {tensor.shape}; at least {least} dimensions are needed"
            )
        return tensor

    def integer(self, name: str, default: int = 0) -> int:
        """A whole-number attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise ValueError(f"attribute {name}={_shown(value)} must be a whole number")
        return value

    def number(self, name: str, default: float = 0.0) -> float:
        """A real-number attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)):
            raise ValueError(f"attribute {name}={_shown(value)} must be a number")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A text attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise ValueError(f"attribute {name}={_shown(value)} must be a text")
        return value

    def integers(self, name: str, length: int | None = None, default: int = 0) -> Shape | None:
        """A list attribute; None, or `length` times the default, if it is not given."""
        value = self.attributes.get(name)
        if value is None:
            return None if length is None else (default,) * length
        if not isinstance(value, tuple) or not all(isinstance(item, int) for item in value):
            raise ValueError(f"attribute {name} must be a list of whole numbers")
        if length is not None and len(value) != length:
            raise ValueError(f"attribute {name} has {len(value)} entries; {length} are needed")
        return value

    def numbers(self, index: int, attribute: str) -> tuple[Any, ...] | None:
        """Numbers from an attribute (earlier operator sets) or the value of an input."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            listed = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(item, (int, float)) for item in listed):
                raise ValueError(f"attribute {attribute} must hold numbers")
            return listed
        tensor = self.given(index)
        if tensor is None:
            return None
        if tensor.value is None:
            raise ValueError(
                f"input {index} ({attribute}) decides the shape of the output and depends on the "
                "network's input or is too large to follow"
            )
        if len(tensor.shape) > 1:
            raise ValueError(f"input {index} ({attribute}) has shape {tensor.shape}; (n,) is due")
        return tuple(np.atleast_1d(tensor.value).tolist())

    def whole_numbers(self, index: int, attribute: str) -> Shape | None:
        """As `numbers`, each a whole number."""
        found = self.numbers(index, attribute)
        if found is None:
            return None
        if not all(isinstance(item, int) for item in found):
            raise ValueError(f"{attribute} must hold whole numbers")
        return found

    def needed(self, index: int, attribute: str) -> Shape:
        """As `whole_numbers`, and it must be there."""
        found = self.whole_numbers(index, attribute)
        if found is None:
            raise ValueError(f"input {index} ({attribute}) is missing")
        return found


def _shown(value: Any) -> str:
    """A value on one line, not longer than a line."""
    simple = isinstance(value, (int, float, str, tuple))
    return repr(value)[:60] if simple else type(value).__name__


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from 0."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is outside of a tensor with {rank} dimensions")
    return axis % rank


def broadcast(*shapes: Shape) -> Shape:
    """The shape of an elementwise result."""
    rank = max((len(shape) for shape in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for position, dimension in enumerate(shape, start=rank - len(shape)):
            if result[position] == 1:
                result[position] = dimension
            elif dimension not in (1, result[position]):
                raise ValueError(f"shapes {shapes} do not go together")
    return tuple(result)
