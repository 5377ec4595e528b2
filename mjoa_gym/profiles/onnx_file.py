"""Reads the structure of an ONNX file and leaves its weights where they are.

Only shapes matter for a profile, so the payload of every tensor over `LARGE_PAYLOAD_BYTES` is
skipped in the file, together with descriptions and metadata, before protobuf sees anything.
Memory and time follow the structure, not the weights, and hit the limits below. Nothing of the
file is executed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

MAX_FILE_BYTES = 2**31 - 1
"""Protobuf's own limit; a larger network keeps its weights in external files."""
MAX_STRUCTURE_BYTES = 64 * 2**20
"""What may be left of a file without weights, descriptions and metadata."""
MAX_FIELDS = 1_000_000
MAX_DEPTH = 60
LARGE_PAYLOAD_BYTES = 16 * 2**10
LEFT_OUT = "bytes left out"
"""Key in `TensorProto.external_data` that notes a skipped payload and its size."""

_DROPPED = {
    "doc_string",
    "metadata_props",
    "training_info",
    "quantization_annotation",
    "configuration",
    "device_configurations",
}
_PAYLOADS = {"raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"}
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def read_model(path: str | os.PathLike[str]) -> ModelProto:
    """The model in a file, without descriptions and without the payload of large tensors.

    Raises:
        OSError: If the file cannot be opened or read.
        ValueError: If it is not a protobuf of an ONNX model or exceeds a limit of this module.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise ValueError("is not a regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ValueError("is empty")
        if size > MAX_FILE_BYTES:
            raise ValueError(
                f"has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Save the model with "
                "external data: only its structure is needed"
            )
        structure = _Stripper(file).strip(ModelProto.DESCRIPTOR, size)
    try:
        return ModelProto.FromString(bytes(structure))
    except (DecodeError, ValueError) as error:
        raise ValueError("is not an ONNX model: its protobuf cannot be decoded") from error


class _Stripper:
    """Copies a protobuf message field by field, seeking past what is not needed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.position = 0
        self.fields = 0
        self.bytes_read = 0

    def strip(self, message: Any, end: int, depth: int = 0) -> bytearray:
        """The message (a protobuf descriptor says which) that ends at `end` of the file."""
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
        out = bytearray()
        while self.position < end:
            self._count_field()
            key = self._varint(end)
            field = message.fields_by_number.get(key >> 3)
            kind = key & 7
            if kind == _VARINT:
                content = _encoded(self._varint(end))
            elif kind in (_FIXED32, _FIXED64):
                content = self._read(4 if kind == _FIXED32 else 8, end)
            elif kind == _LENGTH:
                self._nested(out, field, end, key, depth)
                continue
            else:
                raise ValueError(f"is not an ONNX model: wire type {kind} at byte {self.position}")
            if field is not None:
                out += _encoded(key) + content
        return out

    def _nested(self, out: bytearray, field: Any, end: int, key: int, depth: int) -> None:
        size = self._varint(end)
        if size > end - self.position:
            raise ValueError(
                f"is truncated or not an ONNX model: byte {self.position} announces {size:,} "
                f"bytes, {end - self.position:,} are left"
            )
        payload = field is not None and field.name in _PAYLOADS and size > LARGE_PAYLOAD_BYTES
        if field is None or field.name in _DROPPED or payload:
            self.position += size
            self.file.seek(self.position)
            if payload:
                note = f"{field.name}:{size}" if field.name != "raw_data" else str(size)
                out += _external_entry(LEFT_OUT, note)
            return
        if field.message_type is None:
            content = self._read(size, end)
            if field.type == field.TYPE_STRING and not _is_text(content):
                raise ValueError(f"is not an ONNX model: no text at byte {self.position - size}")
        else:
            content = bytes(self.strip(field.message_type, self.position + size, depth + 1))
        out += _encoded(key) + _encoded(len(content)) + content

    def _count_field(self) -> None:
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise ValueError(f"has more than {MAX_FIELDS:,} protobuf fields")

    def _varint(self, end: int) -> int:
        value = shift = 0
        while True:
            byte = self._read(1, end)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
            shift += 7
            if shift > 63:
                raise ValueError(f"is not an ONNX model: overlong number at byte {self.position}")

    def _read(self, size: int, end: int) -> bytes:
        self.bytes_read += size
        if self.bytes_read > MAX_STRUCTURE_BYTES:
            raise ValueError(
                f"has a structure of more than {MAX_STRUCTURE_BYTES // 2**20} MiB without weights"
            )
        content = self.file.read(size) if size <= end - self.position else b""
        if len(content) != size:
            raise ValueError(f"is truncated or not an ONNX model: it ends at byte {self.position}")
        self.position += size
        return content


def _is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _external_entry(key: str, value: str) -> bytes:
    """The encoding of one entry of `TensorProto.external_data`."""
    entry = b"\x0a" + _encoded(len(key)) + key.encode() + b"\x12" + _encoded(len(value))
    entry += value.encode()
    number = TensorProto.DESCRIPTOR.fields_by_name["external_data"].number
    return _encoded(number << 3 | _LENGTH) + _encoded(len(entry)) + entry
