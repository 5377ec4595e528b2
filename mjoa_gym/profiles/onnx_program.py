"""A network of an ONNX file as a list of operators with the shapes of all tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx_ir import DataType

MAX_ELEMENTS = 2**40
MAX_RANK = 32

Shape = tuple[int, ...]
TensorType = tuple[Shape, DataType]
"""Shape and element type of an output."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph; two of equal content are still two.

    Attributes:
        shape: Its dimensions.
        dtype: Its element type.
        value: Its elements where they are known and few, else None.
        constant: Whether it does not depend on the network's input.
        parameter: Whether it is stored in the file.
        name: The file's name for it.

    Raises:
        ValueError: If a profile may not have such a shape.
    """

    shape: Shape
    dtype: DataType
    value: NDArray[Any] | None = None
    constant: bool = False
    parameter: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        what, shown = f"tensor {self.name!r}", "x".join(map(str, self.shape[:MAX_RANK]))
        if self.dtype == DataType.UNDEFINED:
            raise ValueError(f"{what} has element type 0, which is unknown")
        if len(self.shape) > MAX_RANK:
            raise ValueError(
                f"{what} has {len(self.shape)} dimensions; at most {MAX_RANK} are allowed"
            )
        if any(side < 0 for side in self.shape):
            raise ValueError(f"{what} has shape {shown}; dimensions are >= 0")
        if self.size > MAX_ELEMENTS:
            raise ValueError(f"{what} has shape {shown}; at most 2**40 elements are allowed")

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes on disk or on a wire, without padding between elements; texts have no length."""
        return 0 if self.dtype == DataType.STRING else -(-self.size * self.dtype.bitwidth // 8)


@dataclass(eq=False)
class Step:
    """One executed operator: what it is given and the tensors it makes.

    Attributes:
        op: The operator; outside ONNX's own domain with the domain in front and a dot between.
        name: The node's name, or one made of its outputs.
        attributes: Numbers, texts, tuples of these, or tensors.
        inputs: The tensors; None for an optional one that is left out.
        outputs: The tensors that it makes.
    """

    op: str
    name: str
    attributes: Mapping[str, Any]
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...] = ()

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

    def integer(self, name: str, default: int = 0) -> int:
        """A whole-number attribute."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise ValueError(f"attribute {name} must be a whole number")
        return value


@dataclass(frozen=True)
class Program:
    """A network as steps in execution order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]


class NodeError(ValueError):
    """An error that names its node."""


@contextmanager
def errors_of(op: str, name: str) -> Iterator[None]:
    """Turns whatever goes wrong with a node into an error that names it."""
    try:
        yield
    except (NodeError, MemoryError):
        raise
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else f"malformed ({error!r})"
        raise NodeError(f"node {name!r} ({op}): {text}") from error
