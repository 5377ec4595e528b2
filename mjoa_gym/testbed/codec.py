"""Tensors as safetensors, sent without a copy and received without trusting anything.

What is sent is a safetensors file image: the length of the header, the header, the data. Both sides
know from the network which tensors a layer has, so the receiver computes the header that it
expects and refuses any other: no name, shape, type or offset from outside is ever interpreted.

Cost: sending copies nothing (chunks are slices of the tensors' memory); receiving copies each byte
once, into memory that was allocated for exactly these tensors.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

import torch
from torch import Tensor

from mjoa_gym.execution.layered_model import TensorSpec
from mjoa_gym.testbed.frames import ProtocolError

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
NOTHING = torch.empty(0, dtype=torch.uint8)


class TensorLayout:
    """The safetensors image of named tensors: its header, and where each tensor is.

    Raises a ValueError if a type has no name in safetensors.
    """

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self.specs = dict(specs)
        sizes = (prod(spec.shape) * spec.dtype.itemsize for spec in specs.values())
        starts = [0, *accumulate(sizes)]
        self.places = dict(zip(specs, pairwise(starts), strict=True))
        entries = {}
        for name, (shape, dtype) in self.specs.items():
            if dtype not in DTYPES:
                allowed = list(DTYPES)
                raise ValueError(f"{name}: safetensors has no type {dtype}; allowed are {allowed}")
            place = self.places[name]
            entries[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": place}
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.header = struct.pack("<Q", len(text)) + text
        self.total_bytes = len(self.header) + starts[-1]

    @staticmethod
    def of_bundle(specs: Sequence[TensorSpec]) -> TensorLayout:
        """The layout of what a layer makes, a tuple of tensors."""
        return TensorLayout({str(index): spec for index, spec in enumerate(specs)})


class Image:
    """Tensors ready to be sent, as the consecutive bytes of a safetensors image."""

    def __init__(self, layout: TensorLayout, tensors: Mapping[str, Tensor]) -> None:
        self.layout = layout
        self.parts = [memoryview(layout.header)]  # and the data, all as views
        for name, spec in layout.specs.items():
            if (given := TensorSpec.of(tensors[name])) != spec:
                raise ValueError(f"{name}: {given} instead of {spec}")
            self.parts.append(_bytes_of(tensors[name].detach().contiguous()))

    def digest(self) -> bytes:
        """The SHA-256 of all its bytes."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.digest()

    def slices(self, offset: int, most: int) -> memoryview | bytes:
        """At most `most` bytes from `offset` on: a view if they lie in one tensor."""
        found: list[memoryview] = []
        for part in self.parts:
            if piece := part[offset : offset + most]:
                found.append(piece)
            most -= len(piece)
            if most == 0:
                break
            offset = max(0, offset - len(part))
        return found[0] if len(found) == 1 else b"".join(found)


def image_of_bundle(bundle: Sequence[Tensor]) -> Image:
    """What a layer has made, ready to be sent."""
    layout = TensorLayout.of_bundle([TensorSpec.of(tensor) for tensor in bundle])
    return Image(layout, {str(index): tensor for index, tensor in enumerate(bundle)})


@dataclass(eq=False)
class Incoming:
    """Tensors that arrive in pieces, in order; the memory is allocated with the first piece."""

    what: str
    layout: TensorLayout
    received: int = 0
    digest: hashlib._Hash | None = None  # of what has arrived, where that is wanted
    _data: Tensor = NOTHING

    @property
    def complete(self) -> bool:
        """Whether everything is there."""
        return self.received == self.layout.total_bytes

    def write(self, offset: int, payload: bytes) -> None:
        """Take the next piece.

        Raises a ProtocolError if it does not continue where the last one ended, is empty, goes
        beyond the end, or differs from the header that these tensors have.
        """
        header, total, end = self.layout.header, self.layout.total_bytes, offset + len(payload)
        if offset != self.received or end > total or not payload:
            raise ProtocolError(
                f"{self.what}: bytes {offset} to {end} of {total}, but {self.received} come next"
            )
        head = max(0, len(header) - offset)
        if payload[:head] != header[offset:end]:
            raise ProtocolError(f"{self.what}: names, shapes or types are not those of the network")
        if data := memoryview(payload)[head:]:
            if self._data is NOTHING:
                self._data = torch.empty(total - len(header), dtype=torch.uint8)
            start = offset + head - len(header)
            _bytes_of(self._data)[start : start + len(data)] = data
        if self.digest is not None:
            self.digest.update(payload)
        self.received = end

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, as views of what has arrived; only when complete."""
        found = {}
        for name, (start, end) in self.layout.places.items():
            piece, (shape, dtype) = self._data[start:end], self.layout.specs[name]
            if start % dtype.itemsize:  # behind a tensor of a narrower type
                piece = piece.clone()
            found[name] = piece.view(dtype).view(shape)
        return found

    def bundle(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the layout."""
        return tuple(self.tensors().values())


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else NOTHING
    return memoryview(flat.numpy())
