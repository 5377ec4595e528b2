"""Tensors of an ONNX graph as shapes, with values only where those are small."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from mjoa_gym.profiles.onnx_file import LEFT_OUT

MAX_ELEMENTS = 2**40
MAX_RANK = 32
MAX_VALUE_ELEMENTS = 2**16
"""Larger tensors are known by their shape only."""

Shape = tuple[int, ...]

_NAMES = {number: name.lower() for name, number in TensorProto.DataType.items()}
_BITS = {
    **dict.fromkeys(("float", "int32", "uint32"), 32),
    **dict.fromkeys(("uint8", "int8", "bool"), 8),
    **dict.fromkeys(("uint16", "int16", "float16", "bfloat16"), 16),
    **dict.fromkeys(("double", "int64", "uint64", "complex64"), 64),
    "complex128": 128,
    "string": 0,  # of unknown length
}
_NUMPY = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bool": np.bool_,
    **{name: np.dtype(name).type for name in ("int8", "int16", "int32", "int64")},
    **{name: np.dtype(name).type for name in ("uint8", "uint16", "uint32", "uint64")},
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph; two of equal content are still two.

    Attributes:
        shape: Its dimensions.
        dtype: ONNX's name of its element type in lower case, such as "float" for float32.
        value: Its elements where they are known and few, else None.
        constant: Whether it does not depend on the network's input.
        parameter: Whether it is stored in the file.
        name: The file's name for it.
    """

    shape: Shape
    dtype: str
    value: NDArray[Any] | None = None
    constant: bool = False
    parameter: bool = False
    name: str = ""

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes on disk or on a wire, without padding between elements."""
        return bytes_of(self.size, self.dtype)


def dtype_name(number: int) -> str:
    """The name of an element type, which must be one this version knows."""
    name = _NAMES.get(number, "undefined")
    if name == "undefined":
        raise ValueError(f"element type {number} is unknown")
    return name


def numpy_type(dtype: str) -> Any:
    """NumPy's type for values of a tensor, None where values are not followed."""
    return _NUMPY.get(dtype)


def bytes_of(size: int, dtype: str) -> int:
    """Bytes of so many elements; those of less than a byte are packed."""
    bits = _BITS.get(dtype)
    if bits is None:  # float8e4m3fn, int4, float6e2m3, uint2, ...
        bits = int(next(character for character in dtype if character.isdigit()))
    return -(-size * bits // 8)


def checked_shape(dimensions: Any, what: str) -> Shape:
    """The dimensions as integers in the range that a profile may have."""
    shape = tuple(int(dimension) for dimension in dimensions)
    shown = "x".join(map(str, shape[:MAX_RANK]))
    if len(shape) > MAX_RANK:
        raise ValueError(f"{what} has {len(shape)} dimensions; at most {MAX_RANK} are allowed")
    if any(dimension < 0 for dimension in shape):
        raise ValueError(f"{what} has shape {shown}; dimensions are >= 0")
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"{what} has shape {shown}; at most 2**40 elements are allowed")
    return shape


def stored_tensor(proto: TensorProto, folder: Path, name: str = "") -> Tensor:
    """A tensor of the file. Its data is used only if it is small and inside the file.

    Args:
        proto: The stored tensor.
        folder: The model's folder, where external data must lie.
        name: What to call it; default: its own name.

    Raises:
        ValueError: If its shape, type, data or the place of its data is not valid.
    """
    name = name or proto.name
    what = f"tensor {name!r}"
    if proto.HasField("segment"):
        raise ValueError(f"{what} is stored in segments, which is not supported")
    shape = checked_shape(proto.dims, what)
    tensor = Tensor(shape, dtype_name(proto.data_type), None, True, True, name)
    entries = {entry.key: entry.value for entry in proto.external_data}
    if LEFT_OUT in entries:
        field, _, size = entries[LEFT_OUT].rpartition(":")
        _check_stored(what, tensor, int(size), field)
    elif proto.data_location == TensorProto.EXTERNAL:
        _check_external(what, tensor, entries, folder)
    elif tensor.size <= MAX_VALUE_ELEMENTS and tensor.dtype in _NUMPY:
        return Tensor(shape, tensor.dtype, _value(what, proto, shape), True, True, name)
    elif proto.HasField("raw_data"):
        _check_stored(what, tensor, len(proto.raw_data), "")
    elif tensor.size > MAX_VALUE_ELEMENTS:
        raise ValueError(f"{what} has {tensor.size:,} elements but no data for them")
    return tensor


def _value(what: str, proto: TensorProto, shape: Shape) -> NDArray[Any]:
    try:
        value = numpy_helper.to_array(proto)
    except Exception as error:
        raise ValueError(f"{what} has data that does not fit its shape and type") from error
    if value.shape != shape:
        raise ValueError(f"{what} has data of shape {value.shape} for shape {shape}")
    return value


def _check_stored(what: str, tensor: Tensor, size: int, field: str) -> None:
    """Compares the bytes of a payload with the shape, where its encoding has a fixed width."""
    if field not in ("", "float_data", "double_data") or tensor.dtype == "string":
        return
    if field and tensor.dtype.startswith("complex"):
        return
    if size != tensor.bytes:
        raise ValueError(f"{what} needs {tensor.bytes:,} bytes of data and has {size:,}")


def _check_external(what: str, tensor: Tensor, entries: dict[str, str], folder: Path) -> None:
    location = entries.get("location", "")
    parts = {*PurePosixPath(location).parts, *PureWindowsPath(location).parts}
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive
    if not location or absolute or location.startswith("\\") or ".." in parts or "\0" in location:
        raise ValueError(
            f"{what} has its data in {location!r}; external data lies in the model's folder"
        )
    offset, length = (_whole(what, entries, key) for key in ("offset", "length"))
    if length is not None:
        _check_stored(what, tensor, length, "")
    place = folder / location
    try:
        inside = place.resolve().is_relative_to(folder.resolve())
        size = place.stat().st_size if place.exists() else None  # sizes are known without it
        regular = size is None or place.is_file()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{what} has its data in {location!r}: {error}") from error
    if not inside:
        raise ValueError(f"{what} has its data in {location!r}, a link out of the model's folder")
    if not regular:
        raise ValueError(f"{what} has its data in {location!r}, which is not a regular file")
    end = (offset or 0) + tensor.bytes
    if size is not None and end > size:
        raise ValueError(f"{what} ends at byte {end:,} of {location!r}, which has {size:,}")


def _whole(what: str, entries: dict[str, str], key: str) -> int | None:
    text = entries.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"{what} has {key}={text[:40]!r}; a whole number is needed")
    return int(text)
