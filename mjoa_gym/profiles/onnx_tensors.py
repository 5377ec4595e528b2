"""The tensors that an ONNX file declares and stores, as shapes.

Values are known only for small tensors that are stored inside the file.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping
from pathlib import Path, PureWindowsPath

import onnx_ir as ir

from mjoa_gym.profiles.onnx_file import LEFT_OUT
from mjoa_gym.profiles.onnx_program import Shape, Tensor, TensorType
from mjoa_gym.validation import did_you_mean

MAX_VALUE_ELEMENTS = 2**16  # only the shapes of larger tensors are known
_UNKNOWN = {"any", "dyn", "dynamic", "none", "null", "undefined", "unk", "unknown"}


class Dimensions:
    """Turns declared shapes, with names for open dimensions, into numbers.

    Shapes from the caller override the file's. A name stands for one number in the whole file,
    unless it is meaningless ("?", "unknown", anything that is not an identifier) or the given
    shapes imply several numbers for it.
    """

    def __init__(self, given: Mapping[str, Shape]) -> None:
        self.given = given
        self.named: dict[str, int | None] = {}
        self.remarks: list[str] = []  # where given shapes differ from the file

    def inputs(self, declared: Iterable[ir.Value]) -> dict[ir.Value, Tensor]:
        """Return one tensor per input; a ValueError for an open dimension, or no tensor."""
        values = {str(value.name): value for value in declared}
        for name, shape in self.given.items():  # a name bound by one input may be used by another
            if name not in values:
                hint = did_you_mean(name, values)
                raise ValueError(f"input_shapes names {name!r}: the inputs are {[*values]}{hint}")
            self._bind(values[name], shape)
        tensors = {}
        for name, value in values.items():
            if not isinstance(value.type, ir.TensorType):
                raise ValueError(f"input {name!r} is {value.type or 'of no type'}, not a tensor")
            shape = self.given[name] if name in self.given else self._shape(value)
            tensors[value] = Tensor(shape, value.type.dtype, name=name)
        return tensors

    def declared(self, value: ir.Value) -> TensorType | None:
        """Return a declared shape and type; None if a dimension is open or given otherwise."""
        if value.shape is None or not isinstance(value.type, ir.TensorType) or self.remarks:
            return None
        sides = [self._side(side) for side in value.shape]
        shape = tuple(side for side in sides if side is not None)
        return (shape, value.type.dtype) if len(shape) == len(sides) else None

    def _bind(self, value: ir.Value, given: Shape) -> None:
        """Record the numbers that names of open dimensions stand for."""
        declared = given if value.shape is None else tuple(value.shape)
        fits = len(declared) == len(given)
        for dim, side in zip(declared, given, strict=False):
            name = _name(dim)
            if name is None:
                fits &= not isinstance(dim, int) or dim < 1 or dim == side
            elif self.named.setdefault(name, side) != side:
                self.named[name] = None
        if not fits:
            self.remarks.append(f"input_shapes[{value.name!r}]={given}, in the file {value.shape}")

    def _side(self, dim: int | ir.SymbolicDim) -> int | None:
        """Return a dimension, or None if it is open: unnamed, below 1 or with an unknown name."""
        if isinstance(dim, int):
            return dim if dim > 0 else None
        return self.named.get(_name(dim) or "")

    def _shape(self, value: ir.Value) -> Shape:
        give = f"give input_shapes={{{value.name!r}: (...)}}"
        if value.shape is None:
            raise ValueError(f"input {value.name!r} has no shape: {give}")
        sides = []
        for position, dim in enumerate(value.shape):
            side, name = self._side(dim), _name(dim)
            if side is None and position == 0:  # the batch
                side = 1
                if name is not None:
                    self.named.setdefault(name, side)
            if side is None:
                open_side = f"dimension {position} ({name or 'unnamed'}) is open"
                raise ValueError(f"input {value.name!r}: {open_side}; {give}")
            sides.append(side)
        return tuple(sides)


def _name(dim: int | ir.SymbolicDim) -> str | None:
    """Return the name of an open dimension, or None if it is meaningless."""
    name = "" if isinstance(dim, int) else dim.value or ""
    says_nothing = not name.isidentifier() or keyword.iskeyword(name) or name.lower() in _UNKNOWN
    return None if says_nothing else name


def stored_tensor(stored: ir.TensorProtocol, folder: Path, name: str | None) -> Tensor:
    """Return a tensor of the file; external data must be in the model's folder and is not read."""
    shape, dtype = tuple(stored.shape.numpy()), stored.dtype
    tensor = Tensor(shape, dtype, None, True, True, name or "")
    if isinstance(stored, ir.ExternalTensor):
        _check_external(tensor, stored, folder)
    elif is_left_out(stored):
        (note,) = (e.value for e in stored.raw.external_data if e.key == LEFT_OUT)
        field, _, size = note.rpartition(":")
        fixed_width = field in ("raw_data", "float_data", "double_data")
        if size and fixed_width and not dtype.name.startswith("COMPLEX"):
            _check_size(tensor, int(size))
    elif dtype != ir.DataType.STRING:
        _check_size(tensor, len(stored.tobytes()))
        if tensor.size <= MAX_VALUE_ELEMENTS and has_values(dtype):
            return Tensor(shape, dtype, stored.numpy(), True, True, tensor.name)
    return tensor


def is_left_out(stored: ir.TensorProtocol) -> bool:
    """Return whether the data of a stored tensor is outside the file or was not read."""
    if isinstance(stored, ir.TensorProtoTensor):
        return any(entry.key == LEFT_OUT for entry in stored.raw.external_data)
    return isinstance(stored, ir.ExternalTensor)


def has_values(dtype: ir.DataType) -> bool:
    """Return whether values of this type are followed, because NumPy supports it."""
    return dtype != ir.DataType.STRING and dtype.numpy().kind in "biuf"


def _check_size(tensor: Tensor, size: int) -> None:
    if size != tensor.bytes:
        needed = f"needs {tensor.bytes:,} bytes of data and has {size:,}"
        raise ValueError(f"tensor {tensor.name!r} {needed}")


def _check_external(tensor: Tensor, stored: ir.ExternalTensor, folder: Path) -> None:
    location = str(stored.location)
    what = f"tensor {tensor.name!r} has its data in {location!r}"
    parts = PureWindowsPath(location)  # supports both separators
    if not parts.parts or parts.anchor or ".." in parts.parts or "\0" in location:
        raise ValueError(f"{what}; external data lies in the model's folder")
    if stored.length is not None:
        _check_size(tensor, stored.length)
    place = folder / location
    try:
        inside = place.resolve().is_relative_to(folder.resolve())
        size = place.stat().st_size if place.exists() else None  # the other checks work without it
        regular = size is None or place.is_file()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{what}: {error}") from error
    if not inside:
        raise ValueError(f"{what}, a link out of the model's folder")
    if not regular:
        raise ValueError(f"{what}, which is not a regular file")
    end = (stored.offset or 0) + tensor.bytes
    if size is not None and end > size:
        raise ValueError(
            f"tensor {tensor.name!r} ends at byte {end:,} of {location!r}, which has {size:,}"
        )
