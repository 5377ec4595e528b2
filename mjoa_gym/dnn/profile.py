"""DNN profiles: a validated, immutable DAG of layers with FLOPs, parameters and outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym import files
from mjoa_gym.dnn import file
from mjoa_gym.layers import INPUT, KINDS
from mjoa_gym.validation import choice, count, frozen, non_negative_vector

if TYPE_CHECKING:
    import torch

GRANULARITIES = ("layer", "block")
FULL_BITS, *_ = BITS = (32, 16, 8, 4)
"""Bits that a number may have when it is sent; profiles use the first."""
CATALOGUE = Path(__file__).with_name("catalogue")


@dataclass(frozen=True, eq=False)
class DNN:
    """A neural network as a DAG of layers `0..L-1` in program order.

    Attributes:
        name: Identifier.
        flops: (L,) floating-point operations per layer, 2 x multiply-accumulates.
        parameter_bytes: (L,) bytes of weights to upload before a layer can run at the edge.
        output_bytes: (L,) bytes of each layer's output tensor.
        predecessors: For each layer the tensors it reads: indices of earlier layers, or -1 for the
            network's input tensor. Each layer reads at least one.
        input_bytes: Bytes of the network's input tensor, which is on the UE at time 0.
        kinds: For each layer one of `KINDS`, used by device models; default "other".
        layer_names: A name for each layer; default "0", "1", ...
        fingerprints: A text that identifies each layer's parameters. Where parameters are shared,
            layers with the same text and size, of any networks, are stored once. Default
            "name/layer name".
        layers: For a DNN of blocks, the layer-level DNN it was made from, else None.
        block_of: For a DNN of blocks, (L of `layers`,) the block of each original layer, else None.
        full: For a DNN at another precision, the DNN it was made from, else None.

    Raises:
        ValueError: If a value is not allowed; names the layer and the value.
    """

    name: str
    flops: NDArray[np.float64]
    parameter_bytes: NDArray[np.float64]
    output_bytes: NDArray[np.float64]
    predecessors: tuple[tuple[int, ...], ...]
    input_bytes: float
    kinds: tuple[str, ...] = ()
    layer_names: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    layers: DNN | None = field(default=None, repr=False)
    block_of: NDArray[np.intp] | None = field(default=None, repr=False)
    full: DNN | None = field(default=None, repr=False)

    def __init__(
        self,
        name: str,
        flops: ArrayLike,
        parameter_bytes: ArrayLike,
        output_bytes: ArrayLike,
        predecessors: Sequence[Sequence[int]],
        input_bytes: float,
        kinds: Sequence[str] | None = None,
        layer_names: Sequence[str] | None = None,
        fingerprints: Sequence[str] | None = None,
        layers: DNN | None = None,
        block_of: NDArray[np.intp] | None = None,
        full: DNN | None = None,
    ) -> None:
        n = len(predecessors)
        if n == 0:
            raise ValueError("predecessors is empty: a DNN has at least one layer")
        put = object.__setattr__
        put(self, "name", str(name))
        amounts = {"flops": flops, "parameter_bytes": parameter_bytes, "output_bytes": output_bytes}
        for key, values in amounts.items():
            put(self, key, non_negative_vector(key, values, n))
        put(self, "predecessors", _checked_predecessors(predecessors))
        put(self, "input_bytes", float(non_negative_vector("input_bytes", [input_bytes], 1)[0]))
        put(self, "kinds", _labels("kinds", kinds, ["other"] * n))
        for layer, kind in enumerate(self.kinds):
            choice(f"kinds[{layer}]", kind, KINDS)
        put(self, "layer_names", _labels("layer_names", layer_names, range(n)))
        unique = [f"{name}/{layer}" for layer in self.layer_names]
        put(self, "fingerprints", _labels("fingerprints", fingerprints, unique))
        put(self, "layers", layers)
        put(self, "block_of", None if block_of is None else frozen(np.array(block_of, np.intp)))
        put(self, "full", full)

    @property
    def n_layers(self) -> int:
        """The number of layers, L."""
        return len(self.predecessors)

    @cached_property
    def predecessor_offsets(self) -> NDArray[np.int64]:
        """(L + 1,): layer l reads `predecessor_indices[offsets[l]:offsets[l + 1]]`."""
        return frozen(np.cumsum([0, *map(len, self.predecessors)], dtype=np.int64))

    @cached_property
    def predecessor_indices(self) -> NDArray[np.int64]:
        """(number of edges,): all predecessors, one layer after the other."""
        return frozen(np.array([p for ps in self.predecessors for p in ps], dtype=np.int64))

    @cached_property
    def is_sink(self) -> NDArray[np.bool_]:
        """(L,): whether no layer reads this layer's output, so it is an output."""
        sink = np.ones(self.n_layers, dtype=np.bool_)
        sink[self.predecessor_indices[self.predecessor_indices >= 0]] = False
        return frozen(sink)

    @cached_property
    def is_chain(self) -> bool:
        """Whether every layer reads only the layer before it."""
        return all(ps == (layer - 1,) for layer, ps in enumerate(self.predecessors))

    @cached_property
    def is_cut(self) -> NDArray[np.bool_]:
        """(L,): whether every path from the input to an output passes this layer (a dominator).

        After a cut layer, only the cut layer's output is read, so the network can be split there.
        The last layer in program order ends the last block and counts as a cut.
        """
        layers = np.arange(self.n_layers)
        last_reader = np.full(self.n_layers + 1, -1)  # of the input first, then of every layer
        reader = np.repeat(layers, np.diff(self.predecessor_offsets))
        np.maximum.at(last_reader, self.predecessor_indices + 1, reader)
        nothing_else_is_read = np.maximum.accumulate(last_reader)[:-1] <= layers
        outputs_before = np.cumsum(self.is_sink, dtype=np.int64) - self.is_sink
        cut = nothing_else_is_read & (outputs_before == 0)
        cut[-1] = True
        return frozen(cut)

    def _at(self, granularity: str) -> DNN:
        return self if granularity == "layer" else self.blocks()

    def blocks(self) -> DNN:
        """Return the network as a chain: the layers after one cut layer up to the next become one.

        A block's FLOPs and parameters are the sums over its layers. Its output is the cut layer's
        (for the last block, all outputs of the network). Its kind is that of its layer with the
        most FLOPs.
        """
        if self.layers is not None:
            return self
        block_of = np.concatenate(([0], np.cumsum(self.is_cut)[:-1])).astype(np.intp)
        starts = np.flatnonzero(np.diff(block_of, prepend=-1))
        ends = np.append(starts[1:], self.n_layers)
        output_bytes = self.output_bytes[ends - 1].copy()
        output_bytes[-1] = self.output_bytes[self.is_sink].sum()
        spans = list(zip(starts, ends, strict=True))
        heaviest = [a + int(np.argmax(self.flops[a:b])) for a, b in spans]
        return DNN(
            name=self.name,
            flops=np.add.reduceat(self.flops, starts),
            parameter_bytes=np.add.reduceat(self.parameter_bytes, starts),
            output_bytes=output_bytes,
            predecessors=[[b - 1] for b in range(len(starts))],
            input_bytes=self.input_bytes,
            kinds=[self.kinds[h] for h in heaviest],
            layer_names=[self.layer_names[e - 1] for e in ends],
            fingerprints=["+".join(self.fingerprints[a:b]) for a, b in spans],
            layers=self,
            block_of=block_of,
            full=None if self.full is None else self.full.blocks(),
        )

    def at_precision(
        self, parameter_bits: int = FULL_BITS, activation_bits: int = FULL_BITS
    ) -> DNN:
        """Return the same network with fewer bits for every number that is sent.

        Bytes are scaled, on the assumption that a profile's numbers have 32 bits each. FLOPs and a
        device's seconds do not change: both sides compute on unpacked numbers, as before. The loss
        of accuracy is not modelled (`docs/scenarios.md`).

        Args:
            parameter_bits: Bits of each parameter: 32, 16, 8 or 4.
            activation_bits: Bits of each number of the network's input and of the layers' outputs.

        Returns:
            A DNN named after its weights and activations, such as "vgg16-w16a32"; at 32 bits the
            original. A DNN that already has another precision is converted from its `full`.

        Raises:
            ValueError: If a number of bits is not supported.
        """
        if self.full is not None:
            return self.full.at_precision(parameter_bits, activation_bits)
        parameter_bits = checked_bits("parameter_bits", parameter_bits)
        activation_bits = checked_bits("activation_bits", activation_bits)
        if parameter_bits == activation_bits == FULL_BITS:
            return self
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given["name"] += f"-w{parameter_bits}a{activation_bits}"
        given["parameter_bytes"] = self.parameter_bytes * (parameter_bits / FULL_BITS)
        for name in ("input_bytes", "output_bytes"):
            given[name] = getattr(self, name) * (activation_bits / FULL_BITS)
        return DNN(**given | {"full": self})

    @staticmethod
    def names() -> tuple[str, ...]:
        """Return the names in the packaged catalogue, for `DNN.load`."""
        return tuple(sorted(path.stem for path in CATALOGUE.glob("*.json")))

    @staticmethod
    def load(
        name_or_path: str | os.PathLike[str], granularity: Literal["layer", "block"] = "layer"
    ) -> DNN:
        """Load a network from the packaged catalogue, or from a file that `save` wrote.

        Args:
            name_or_path: One of `DNN.names()`, or a file: a path object, or a text that ends in
                ``.json`` or contains a path separator.
            granularity: "layer" (a DAG) or "block" (its chain of blocks between cut layers).

        Raises:
            ValueError: If the name is not in the catalogue (suggests the nearest one), the
                granularity is unknown, or the file is not a valid profile (names the fault).
            OSError: If the file cannot be read.
        """
        choice("granularity", granularity, GRANULARITIES)
        path = name_or_path
        if not file.is_path(path):
            remark = " (the catalogue's; a file's name ends in .json)"
            path = CATALOGUE / f"{choice('name', str(path), DNN.names(), remark)}.json"
        dnn = files.read(path, lambda content: DNN.from_dict(files.parse_json(content)))
        return dnn._at(granularity)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load` reads back as an equal DNN; the format is in docs/own-models.md.

        The file is replaced as a whole. A DNN of blocks is written as a chain of blocks.

        Raises:
            ValueError: If the path does not end in ``.json``.
            OSError: If the file cannot be written.
        """
        file.write(path, self.to_dict())

    @staticmethod
    def from_torch(
        module: torch.nn.Module,
        example_inputs: Any,
        granularity: Literal["layer", "block"] = "layer",
        name: str | None = None,
    ) -> DNN:
        """Make a profile of a torch module; needs the extra `torch`, but no weights.

        ``docs/own-models.md`` explains how operators are counted and become layers.

        Args:
            module: Any module that `torch.export` supports, preferably on the meta device.
            example_inputs: A tensor, a tuple of positional inputs or a dict of keyword inputs, on
                the module's device. Only their shapes and types matter. Together they form the
                network's one input tensor.
            granularity: As in `load`.
            name: Default: the module's class.

        Raises:
            ValueError: If the module cannot be exported; gives the reason.

        Warns:
            UnknownOperatorWarning: Listing the operators that count as zero FLOPs because their
                cost is not known.
        """
        from mjoa_gym.profiles.torch_export import profile

        choice("granularity", granularity, GRANULARITIES)
        return DNN(**profile(module, example_inputs, name))._at(granularity)

    @staticmethod
    def from_onnx(
        path: str | os.PathLike[str],
        granularity: Literal["layer", "block"] = "layer",
        name: str | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> DNN:
        """Make a profile of an ONNX file; needs the extra `onnx`, but neither torch nor weights.

        Nothing is executed, and no weights are read, neither in the file nor in external files. A
        child process with limits on memory and time does the work; it takes one to two seconds to
        start. Limits and rules are in ``docs/own-models.md``.

        Args:
            path: The file.
            granularity: As in `load`.
            name: Default: the file's name without its suffix.
            input_shapes: Shapes of inputs by name, which override the file's. Give the dimensions
                that the file leaves open; an open first dimension is the batch, 1 by default.

        Raises:
            ImportError: If onnx or onnx-ir is not installed, with how to install it.
            OSError: If the file cannot be opened or read.
            ValueError: If anything in the file is invalid, open or not supported; names the file.

        Warns:
            UnknownOperatorWarning: Listing the operators that count as zero FLOPs because their
                cost is not known.
        """
        from mjoa_gym.profiles.onnx_process import profile

        choice("granularity", granularity, GRANULARITIES)
        return DNN(**profile(path, input_shapes, name, stacklevel=2))._at(granularity)

    @staticmethod
    def from_dict(profile: Mapping[str, Any]) -> DNN:
        """Make a DNN from the catalogue's JSON schema.

        Raises:
            ValueError: If the schema differs, a key is missing or unknown, or a value is not
                allowed.
        """
        return DNN(**file.arguments(profile))

    def to_dict(
        self, title: str | None = None, provenance: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the DNN in the catalogue's JSON schema; `from_dict` returns an equal DNN.

        Args:
            title: The usual name of the network.
            provenance: The source of the figures; anything that JSON can hold.

        Returns:
            The content; for a DNN of blocks, the chain of blocks, not its layers.
        """
        amounts = self.flops, self.parameter_bytes, self.output_bytes
        columns = self.layer_names, self.kinds, *amounts, self.predecessors, self.fingerprints
        return file.as_profile(self.name, title, self.input_bytes, provenance, columns)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DNN):
            return NotImplemented
        plain = ("name", "predecessors", "input_bytes", "kinds", "layer_names", "fingerprints")
        arrays = ("flops", "parameter_bytes", "output_bytes")
        return all(getattr(self, name) == getattr(other, name) for name in plain) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays
        )

    def __reduce__(self) -> tuple[type[DNN], tuple[Any, ...]]:
        return DNN, tuple(getattr(self, f.name) for f in fields(self))  # immutable when unpickled

    def __hash__(self) -> int:
        return hash((self.name, self.predecessors, self.input_bytes))


def checked_bits(name: str, value: int) -> int:
    """Return `value` as an int if it is an allowed number of bits."""
    if count(name, value) not in BITS:
        raise ValueError(f"{name}={value!r}: allowed are {list(BITS)}")
    return int(value)


def _checked_predecessors(predecessors: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Check that predecessors form a graph in program order in which each layer reads a tensor."""
    checked = []
    for layer, given in enumerate(predecessors):
        what = f"predecessors[{layer}]"
        try:
            ps = tuple(int(p) for p in given)
            whole = ps == tuple(given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what}={given!r}: must be a list of indices") from error
        if not whole:
            raise ValueError(f"{what}={list(given)}: indices must be whole numbers")
        if not ps:
            raise ValueError(
                f"{what} is empty: layer {layer} is unreachable; every layer reads an earlier "
                "layer or the network's input (-1)"
            )
        if min(ps) < INPUT:
            rule = "a DNN has one input tensor, -1; merge several inputs into one"
            raise ValueError(f"{what} has {min(ps)}: {rule}")
        if max(ps) >= layer:
            rule = f"allowed are earlier layers, -1..{layer - 1}"
            raise ValueError(f"{what} has {max(ps)}: {rule}")
        if len(set(ps)) != len(ps):
            raise ValueError(f"{what}={list(ps)} names a layer twice")
        checked.append(ps)
    return tuple(checked)


def _labels(name: str, given: Sequence[str] | None, default: Sequence[Any]) -> tuple[str, ...]:
    """Return a text per layer."""
    labels = default if given is None else given
    if len(labels) != len(default):
        raise ValueError(f"{name} has {len(labels)} entries for {len(default)} layers")
    return tuple(map(str, labels))
