"""Tensors as safetensors images, which are sent without a copy and checked when they arrive.

An image has the format of a safetensors file: the length of the header, the header, the data. Both
sides know from the network which tensors a layer has. So the receiver computes the header that it
expects and refuses any other header. It interprets no name, shape, type or offset that it receives.

Cost: sending copies nothing, because chunks are slices of the tensors' memory. Receiving copies
each byte once, into memory that is allocated for exactly these tensors.
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
    """The layout of the safetensors image of named tensors: its header and each tensor's place.

    Raises:
        ValueError: If safetensors has no name for a tensor's type.
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
        """Return the layout of a layer's output, a tuple of tensors."""
        return TensorLayout({str(index): spec for index, spec in enumerate(specs)})


class Image:
    """Tensors as the consecutive bytes of a safetensors image, ready to be sent."""

    def __init__(self, layout: TensorLayout, tensors: Mapping[str, Tensor]) -> None:
        self.layout = layout
        self.parts = [memoryview(layout.header)]  # then views of the tensors' data
        for name, spec in layout.specs.items():
            if (given := TensorSpec.of(tensors[name])) != spec:
                raise ValueError(f"{name}: {given} instead of {spec}")
            self.parts.append(_bytes_of(tensors[name].detach().contiguous()))

    def digest(self) -> bytes:
        """Return the SHA-256 of all bytes of the image."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.digest()

    def slices(self, offset: int, most: int) -> memoryview | bytes:
        """Return at most `most` bytes from `offset` on, as a view if one part has all of them."""
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
    """Return the image of a layer's output."""
    layout = TensorLayout.of_bundle([TensorSpec.of(tensor) for tensor in bundle])
    return Image(layout, {str(index): tensor for index, tensor in enumerate(bundle)})


@dataclass(eq=False)
class Incoming:
    """Tensors that arrive in pieces, in order.

    The memory for their data is allocated when the first bytes of data arrive.
    """

    what: str
    layout: TensorLayout
    received: int = 0
    digest: hashlib._Hash | None = None  # of the bytes that have arrived, if it is needed
    _data: Tensor = NOTHING

    @property
    def complete(self) -> bool:
        """Whether all bytes have arrived."""
        return self.received == self.layout.total_bytes

    def write(self, offset: int, payload: bytes) -> None:
        """Add the next piece, which begins at byte `offset` of the image.

        Raises:
            ProtocolError: If the piece does not continue where the last one ended, is empty, goes
                beyond the end, or differs from the header of these tensors.
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
        """Return the tensors, as views of the received bytes; call it only when complete."""
        found = {}
        for name, (start, end) in self.layout.places.items():
            piece, (shape, dtype) = self._data[start:end], self.layout.specs[name]
            if start % dtype.itemsize:  # it follows a tensor of a narrower type
                piece = piece.clone()
            found[name] = piece.view(dtype).view(shape)
        return found

    def bundle(self) -> tuple[Tensor, ...]:
        """Return the tensors in the order of the layout."""
        return tuple(self.tensors().values())


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else NOTHING
    return memoryview(flat.numpy())
