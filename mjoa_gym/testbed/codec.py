"""Tensors as safetensors, sent without a copy and received without trusting anything.

What is sent is a safetensors file image: the length of the header, the header, the data. Both sides
know from the network which tensors a layer has, so the receiver computes the header that it
expects and refuses any other: no name, shape, type or offset from outside is ever interpreted.

Cost: sending copies nothing (chunks are slices of the tensors' memory); receiving copies each byte
once, into memory that was allocated for exactly these tensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod

import torch
from torch import Tensor

from mjoa_gym.execution.layered_model import TensorSpec
from mjoa_gym.testbed.headers import ProtocolError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
NOTHING = torch.empty(0, dtype=torch.uint8)


def size_bytes(spec: TensorSpec) -> int:
    """Bytes of a tensor's data."""
    return prod(spec.shape) * spec.dtype.itemsize


class TensorLayout:
    """The safetensors image of named tensors: its header, and where each tensor is.

    Raises:
        ValueError: If a type has no name in safetensors.
    """

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self.specs = dict(specs)
        self.starts = [0, *accumulate(map(size_bytes, self.specs.values()))]
        entries = {
            name: {
                "dtype": _dtype_name(name, spec.dtype),
                "shape": list(spec.shape),
                "data_offsets": ends,
            }
            for (name, spec), ends in zip(self.specs.items(), pairwise(self.starts), strict=True)
        }
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.header = struct.pack("<Q", len(text)) + text
        self.total_bytes = len(self.header) + self.starts[-1]

    @staticmethod
    def of_bundle(specs: Sequence[TensorSpec]) -> TensorLayout:
        """The layout of what a layer makes, a tuple of tensors."""
        return TensorLayout({str(index): spec for index, spec in enumerate(specs)})


class Image:
    """Tensors ready to be sent, as the consecutive bytes of a safetensors image."""

    def __init__(self, layout: TensorLayout, tensors: Mapping[str, Tensor]) -> None:
        self.layout = layout
        self._tensors = [tensors[name].detach().contiguous() for name in layout.specs]
        for (name, spec), tensor in zip(layout.specs.items(), self._tensors, strict=True):
            if TensorSpec.of(tensor) != spec:
                raise ValueError(f"{name}: {TensorSpec.of(tensor)} instead of {spec}")

    @cached_property
    def parts(self) -> list[memoryview]:
        """Header and data, as views."""
        return [memoryview(self.layout.header), *map(_bytes_of, self._tensors)]

    def slices(self, offset: int, most: int) -> memoryview | bytes:
        """At most `most` bytes from `offset` on: a view if they lie in one tensor."""
        found: list[memoryview] = []
        for part in self.parts:
            if offset >= len(part):
                offset -= len(part)
                continue
            piece = part[offset : offset + most]
            found.append(piece)
            most -= len(piece)
            offset = 0
            if most == 0:
                break
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
    _data: Tensor | None = None

    @property
    def complete(self) -> bool:
        """Whether everything is there."""
        return self.received == self.layout.total_bytes

    def write(self, offset: int, payload: bytes) -> None:
        """Take the next piece.

        Raises:
            ProtocolError: If it does not continue where the last one ended, is empty, goes beyond
                the end, or differs from the header that these tensors have.
        """
        end = offset + len(payload)
        if offset != self.received or end > self.layout.total_bytes or not payload:
            raise ProtocolError(
                f"{self.what}: bytes {offset} to {end} of {self.layout.total_bytes}, but "
                f"{self.received} come next"
            )
        head = len(self.layout.header)
        if offset < head and payload[: head - offset] != self.layout.header[offset:end]:
            raise ProtocolError(f"{self.what}: names, shapes or types are not those of the network")
        if end > head:
            if self._data is None:
                self._data = torch.empty(self.layout.total_bytes - head, dtype=torch.uint8)
            start = max(offset, head)
            _bytes_of(self._data)[start - head : end - head] = memoryview(payload)[start - offset :]
        self.received = end

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, as views of what has arrived; only when complete."""
        return dict(self._views(NOTHING if self._data is None else self._data))

    def bundle(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the layout."""
        return tuple(self.tensors().values())

    def _views(self, data: Tensor) -> Iterator[tuple[str, Tensor]]:
        ends = pairwise(self.layout.starts)
        for (name, spec), (start, end) in zip(self.layout.specs.items(), ends, strict=True):
            piece = data[start:end]
            if start % spec.dtype.itemsize:  # behind a tensor of a narrower type
                piece = piece.clone()
            yield name, piece.view(spec.dtype).view(spec.shape)


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else NOTHING
    return memoryview(flat.numpy())


def _dtype_name(name: str, dtype: torch.dtype) -> str:
    if dtype not in DTYPES:
        raise ValueError(f"{name}: safetensors has no type {dtype}; allowed are {list(DTYPES)}")
    return DTYPES[dtype]
