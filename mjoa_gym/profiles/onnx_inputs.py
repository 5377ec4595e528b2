"""The shapes of a network's inputs, from the file and from what the caller gives."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx import ValueInfoProto

from mjoa_gym.profiles.onnx_tensors import Shape, Tensor, checked_shape, dtype_name


class Dimensions:
    """Turns declared shapes, with names for open dimensions, into numbers."""

    def __init__(self, given: Mapping[str, Sequence[int]] | None) -> None:
        self.given = dict(given or {})
        self.named: dict[str, int] = {}

    def inputs(self, declared: Iterable[ValueInfoProto]) -> dict[str, Tensor]:
        """One tensor per network input.

        Raises:
            ValueError: If a dimension is open and not given, a given shape contradicts the file or
                an input is not a tensor.
        """
        declared = list(declared)
        names = [info.name for info in declared]
        unknown = sorted(set(self.given) - set(names))
        if unknown:
            raise ValueError(f"input_shapes names {unknown[0]!r}: the inputs are {names}")
        for info in declared:  # a name bound by one input may be used by another
            if info.name in self.given:
                self._bind(info)
        return {info.name: self._input(info) for info in declared}

    def shape_of(self, info: ValueInfoProto) -> tuple[Shape, str] | None:
        """A declared shape and element type, None where something is open or it is no tensor."""
        declared = info.type.tensor_type
        if info.type.WhichOneof("value") != "tensor_type" or not declared.HasField("shape"):
            return None
        sides = [self.named.get(d.dim_param, _fixed(d)) for d in declared.shape.dim]
        shape = tuple(side for side in sides if side is not None)
        if len(shape) != len(sides):
            return None
        what = f"tensor {info.name!r}"
        return checked_shape(shape, what), dtype_name(declared.elem_type)

    def _bind(self, info: ValueInfoProto) -> None:
        """Checks a given shape against the file and notes the named dimensions."""
        declared = info.type.tensor_type
        field = f"input_shapes[{info.name!r}]"
        shape = checked_shape(_whole(field, self.given[info.name]), field)
        self.given[info.name] = shape
        if not declared.HasField("shape"):
            return
        dims = declared.shape.dim
        if len(dims) != len(shape):
            raise ValueError(f"{field}={shape}: the file has {len(dims)} dimensions")
        for position, (dim, side) in enumerate(zip(dims, shape, strict=True)):
            fixed = _fixed(dim)
            if fixed is None and dim.dim_param:
                fixed = self.named.setdefault(dim.dim_param, side)
            if fixed is not None and fixed != side:
                raise ValueError(
                    f"{field}={shape}: dimension {position} is fixed at {fixed}"
                    + (f" ({dim.dim_param!r})" if dim.dim_param else " in the file")
                )

    def _input(self, info: ValueInfoProto) -> Tensor:
        kind = info.type.WhichOneof("value")
        if kind != "tensor_type":
            raise ValueError(
                f"input {info.name!r} is a {kind or 'value without a type'}, no tensor"
            )
        declared = info.type.tensor_type
        dtype = dtype_name(declared.elem_type)
        if info.name in self.given:
            return Tensor(tuple(self.given[info.name]), dtype, name=info.name)
        if not declared.HasField("shape"):
            raise ValueError(
                f"input {info.name!r} has no shape: give input_shapes={{{info.name!r}: (...)}}"
            )
        sides = [self._side(info, i, d) for i, d in enumerate(declared.shape.dim)]
        return Tensor(checked_shape(sides, f"input {info.name!r}"), dtype, name=info.name)

    def _side(self, info: ValueInfoProto, position: int, dim: Any) -> int:
        fixed = _fixed(dim)
        if fixed is not None:
            return fixed
        if dim.dim_param in self.named:
            return self.named[dim.dim_param]
        if position == 0:  # the batch
            if dim.dim_param:
                self.named[dim.dim_param] = 1
            return 1
        raise ValueError(
            f"input {info.name!r}: dimension {position} ({dim.dim_param or 'unnamed'}) is open; "
            f"give input_shapes={{{info.name!r}: (...)}}"
        )


def _fixed(dim: Any) -> int | None:
    """The number of a dimension; -1 is what some exporters write for an open one."""
    if dim.WhichOneof("value") != "dim_value" or dim.dim_value == -1:
        return None
    return int(dim.dim_value)


def _whole(field: str, given: Any) -> list[int]:
    try:
        sides = [operator.index(side) for side in given]
    except TypeError as error:
        raise ValueError(f"{field}={given!r}: must be a sequence of whole numbers") from error
    if any(side < 1 for side in sides):
        raise ValueError(f"{field}={given!r}: must be whole numbers above 0")
    return sides
