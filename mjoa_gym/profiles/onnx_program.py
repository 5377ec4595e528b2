"""A network of an ONNX file as a list of operators with the shapes of all tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import onnx_ir as ir
from numpy.typing import NDArray

MAX_ELEMENTS = 2**40
MAX_RANK = 32

Shape = tuple[int, ...]
TensorType = tuple[Shape, ir.DataType]  # shape and element type of an output


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph, with its name in the file; tensors are compared by identity."""

    shape: Shape
    dtype: ir.DataType
    value: NDArray[Any] | None = None  # its elements if they are known and few, else None
    constant: bool = False  # whether it does not depend on the network's input
    parameter: bool = False  # whether it is stored in the file
    name: str = ""

    def __post_init__(self) -> None:
        what, shown = f"tensor {self.name!r} has", "x".join(map(str, self.shape[:MAX_RANK]))
        if self.dtype == ir.DataType.UNDEFINED:
            raise ValueError(f"{what} element type 0, which is unknown")
        if len(self.shape) > MAX_RANK:
            raise ValueError(f"{what} {len(self.shape)} dimensions; at most {MAX_RANK} are allowed")
        if any(side < 0 for side in self.shape):
            raise ValueError(f"{what} shape {shown}; dimensions are >= 0")
        if self.size > MAX_ELEMENTS:
            raise ValueError(f"{what} shape {shown}; at most 2**40 elements are allowed")

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes on disk or on a wire, without padding between elements; 0 for texts."""
        return 0 if self.dtype == ir.DataType.STRING else -(-self.size * self.dtype.bitwidth // 8)


@dataclass(eq=False)
class Step:
    """One executed operator with its inputs and outputs."""

    op: str  # the operator; outside ONNX's own domain, "domain.operator"
    name: str  # the node's name, or one made from its outputs
    attributes: Mapping[str, ir.Attr]
    inputs: tuple[Tensor | None, ...]  # the tensors; None for an omitted optional one
    opsets: Mapping[str, int]  # the version of each domain's operators
    outputs: tuple[Tensor, ...] = ()

    def given(self, index: int) -> Tensor | None:
        """Return input `index`, or None if it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else None

    def tensor(self, index: int) -> Tensor:
        """Return input `index`; raise a ValueError if it is omitted."""
        tensor = self.given(index)
        if tensor is None:
            raise ValueError(f"input {index} is missing")
        return tensor

    def present(self) -> list[Tensor]:
        """Return the inputs that are not omitted."""
        return [tensor for tensor in self.inputs if tensor is not None]

    def setting(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute: a number, a text, a tuple of these, or a tensor."""
        return self.attributes[name].value if name in self.attributes else default

    def integer(self, name: str, default: int = 0) -> int:
        """Return the value of a whole-number attribute."""
        value = self.setting(name, default)
        if not isinstance(value, int):
            raise ValueError(f"attribute {name} must be a whole number")
        return value


class Program(NamedTuple):
    """A network as steps in execution order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]


class NodeError(ValueError):
    """An error that names its node."""


@contextmanager
def errors_of(op: str, name: str, remark: str = "") -> Iterator[None]:
    """Turn any error with a node into an error that names the node and ends with a remark."""
    try:
        yield
    except (NodeError, MemoryError):
        raise
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else f"malformed ({error!r})"
        raise NodeError(f"node {name!r} ({op}): {text}{remark}") from error
