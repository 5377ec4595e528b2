"""Stored tensors of an ONNX file as shapes, with values only where those are small and inside."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import onnx_ir as ir

from mjoa_gym.profiles.onnx_file import LEFT_OUT
from mjoa_gym.profiles.onnx_program import Tensor

MAX_VALUE_ELEMENTS = 2**16
"""Larger tensors are known by their shape only."""


def stored_tensor(stored: ir.TensorProtocol, folder: Path, name: str | None) -> Tensor:
    """A tensor of the file. Its data is used only if it is small and inside the file.

    Args:
        stored: The stored tensor.
        folder: The model's folder, where external data must lie; it is not read.
        name: What to call it.

    Raises:
        ValueError: If its shape, type, data or the place of its data is not valid.
    """
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
    """Whether the data of a stored tensor is outside the file or was not read."""
    if isinstance(stored, ir.TensorProtoTensor):
        return any(entry.key == LEFT_OUT for entry in stored.raw.external_data)
    return isinstance(stored, ir.ExternalTensor)


def has_values(dtype: ir.DataType) -> bool:
    """Whether values of this type are followed: NumPy knows it."""
    return dtype != ir.DataType.STRING and dtype.numpy().kind in "biuf"


def _check_size(tensor: Tensor, size: int) -> None:
    if size != tensor.bytes:
        needed = f"needs {tensor.bytes:,} bytes of data and has {size:,}"
        raise ValueError(f"tensor {tensor.name!r} {needed}")


def _check_external(tensor: Tensor, stored: ir.ExternalTensor, folder: Path) -> None:
    location = str(stored.location)
    what = f"tensor {tensor.name!r} has its data in {location!r}"
    parts = PureWindowsPath(location)  # knows both separators
    if not parts.parts or parts.anchor or ".." in parts.parts or "\0" in location:
        raise ValueError(f"{what}; external data lies in the model's folder")
    if stored.length is not None:
        _check_size(tensor, stored.length)
    place = folder / location
    try:
        inside = place.resolve().is_relative_to(folder.resolve())
        size = place.stat().st_size if place.exists() else None  # sizes are known without it
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
