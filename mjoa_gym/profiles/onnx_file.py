"""Reads the structure of an ONNX file without its weights.

Only shapes matter for a profile, so the payload of every tensor over `LARGE_PAYLOAD_BYTES` is
skipped in the file, together with descriptions and metadata. Memory and time depend on the
structure, not on the weights, and have the limits below. The module needs no library and executes
nothing from the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

MAX_FILE_BYTES = 2**31 - 1
"""Protobuf's own limit; a larger network keeps its weights in external files."""
MAX_STRUCTURE_BYTES = 64 * 2**20
"""Maximum size of a file without weights, descriptions and metadata."""
MAX_FIELDS = 1_000_000
MAX_DEPTH = 60
MAX_NODES = 50_000
LARGE_PAYLOAD_BYTES = 16 * 2**10
LEFT_OUT = "bytes left out"
"""Key in a tensor's external data that records a skipped payload: its field and its size."""

_PAYLOADS = {4: "float_data", 5: "", 7: "", 9: "raw_data", 10: "double_data", 11: ""}
# The fields that are kept of each message of onnx.proto: unchanged (""), a payload or a message.
_KEPT = {
    "model": {1: "", 7: "graph", 8: "", 25: "function"},
    "graph": {1: "node", **dict.fromkeys((2, 11, 12, 13), ""), 5: "tensor", 15: "sparse tensor"},
    "function": {**dict.fromkeys((1, 4, 5, 6, 9, 10, 12, 13), ""), 7: "node", 11: "attribute"},
    "node": {**dict.fromkeys((1, 2, 3, 4, 7, 8), ""), 5: "attribute"},
    "attribute": {
        **dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 14, 15, 20, 21), ""),
        **dict.fromkeys((5, 10), "tensor"),
        **dict.fromkeys((6, 11), "graph"),
        **dict.fromkeys((22, 23), "sparse tensor"),
    },
    "tensor": {**dict.fromkeys((1, 2, 3, 6, 8, 13, 14), ""), **dict.fromkeys(_PAYLOADS, "payload")},
    "sparse tensor": {1: "tensor", 2: "tensor", 3: ""},
}
_EXTERNAL_DATA = 13
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def read_structure(path: str | os.PathLike[str]) -> bytes:
    """Return the file without descriptions, metadata and the payload of large tensors.

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
        return bytes(_Scanner(file).message("model", size))


class _Scanner:
    """Copies a protobuf message field by field, seeking past what is not needed."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.position = self.fields = self.nodes = self.bytes_read = 0

    def message(self, kind: str, end: int, depth: int = 0) -> bytearray:
        """Return the kept part of the message that ends at byte `end` of the file."""
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
        out = bytearray()
        while self.position < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise ValueError(f"has more than {MAX_FIELDS:,} protobuf fields")
            key = self._number(end)
            part, wire = _KEPT[kind].get(key >> 3), key & 7
            if wire == _LENGTH:
                content = self._delimited(key, part, end, depth)
            elif wire == _VARINT:
                content = _encoded(key) + _encoded(self._number(end))
            elif wire in (_FIXED32, _FIXED64):
                content = _encoded(key) + self._read(4 if wire == _FIXED32 else 8, end)
            else:
                raise ValueError(f"is not an ONNX model: wire type {wire} at byte {self.position}")
            if part is not None:
                out += content
        return out

    def _delimited(self, key: int, part: str | None, end: int, depth: int) -> bytes:
        size = self._number(end)
        if size > end - self.position:
            raise ValueError(
                f"is truncated or not an ONNX model: byte {self.position} announces {size:,} "
                f"bytes, {end - self.position:,} are left"
            )
        skipped = part == "payload" and size > LARGE_PAYLOAD_BYTES
        if part is None or skipped:
            self.position += size
            self.file.seek(self.position)
            note = f"{_PAYLOADS[key >> 3]}:{size}" if skipped else ""
            return _field(_EXTERNAL_DATA, _field(1, LEFT_OUT.encode()) + _field(2, note.encode()))
        self.nodes += part == "node"
        if self.nodes > MAX_NODES:
            raise ValueError(f"has more than {MAX_NODES:,} nodes")
        if part in ("", "payload"):
            return _field(key >> 3, self._read(size, end))
        return _field(key >> 3, bytes(self.message(part, self.position + size, depth + 1)))

    def _number(self, end: int) -> int:
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


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _encoded(number << 3 | _LENGTH) + _encoded(len(content)) + content
