"""DNN profiles: a validated, immutable DAG of layers with what each computes, stores and sends."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym import files
from mjoa_gym.dnn import file
from mjoa_gym.dnn.graph import validated_kinds, validated_names, validated_predecessors
from mjoa_gym.validation import choice, non_negative_vector

if TYPE_CHECKING:
    import torch


GRANULARITIES = ("layer", "block")


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
        layer_names: Default "0", "1", ...
        layers: For a DNN of blocks, the layer-level DNN it was made from, else None.
        block_of: For a DNN of blocks, (L of `layers`,) the block of each original layer, else None.

    Raises:
        ValueError: Naming the layer and the value that is not allowed.
    """

    name: str
    flops: NDArray[np.float64]
    parameter_bytes: NDArray[np.float64]
    output_bytes: NDArray[np.float64]
    predecessors: tuple[tuple[int, ...], ...]
    input_bytes: float
    kinds: tuple[str, ...] = ()
    layer_names: tuple[str, ...] = ()
    layers: DNN | None = field(default=None, repr=False)
    block_of: NDArray[np.intp] | None = field(default=None, repr=False)

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
        layers: DNN | None = None,
        block_of: NDArray[np.intp] | None = None,
    ) -> None:
        n = len(predecessors)
        if n == 0:
            raise ValueError("predecessors is empty: a DNN has at least one layer")
        put = object.__setattr__
        put(self, "name", str(name))
        put(self, "flops", non_negative_vector("flops", flops, n))
        put(self, "parameter_bytes", non_negative_vector("parameter_bytes", parameter_bytes, n))
        put(self, "output_bytes", non_negative_vector("output_bytes", output_bytes, n))
        put(self, "predecessors", validated_predecessors(predecessors))
        put(self, "input_bytes", float(non_negative_vector("input_bytes", [input_bytes], 1)[0]))
        put(self, "kinds", validated_kinds(kinds, n))
        put(self, "layer_names", validated_names(layer_names, n))
        put(self, "layers", layers)
        put(self, "block_of", None if block_of is None else _frozen(np.array(block_of, np.intp)))

    @property
    def n_layers(self) -> int:
        """The number of layers, L."""
        return len(self.predecessors)

    @cached_property
    def predecessor_offsets(self) -> NDArray[np.int64]:
        """(L + 1,): layer l reads `predecessor_indices[offsets[l]:offsets[l + 1]]`."""
        return _frozen(np.cumsum([0, *map(len, self.predecessors)], dtype=np.int64))

    @cached_property
    def predecessor_indices(self) -> NDArray[np.int64]:
        """(number of edges,): all predecessors, one layer after the other."""
        return _frozen(np.array([p for ps in self.predecessors for p in ps], dtype=np.int64))

    @cached_property
    def is_sink(self) -> NDArray[np.bool_]:
        """(L,): whether no layer reads this layer's output, so it is an output."""
        sink = np.ones(self.n_layers, dtype=np.bool_)
        sink[self.predecessor_indices[self.predecessor_indices >= 0]] = False
        return _frozen(sink)

    @cached_property
    def is_chain(self) -> bool:
        """Whether every layer reads just the layer before it."""
        return all(ps == (layer - 1,) for layer, ps in enumerate(self.predecessors))

    @cached_property
    def is_cut(self) -> NDArray[np.bool_]:
        """(L,): whether every path from the input to an output passes this layer (a dominator).

        After a cut layer, nothing but its own output is read, so the network falls apart there. The
        last layer in program order ends the last block and counts as a cut.
        """
        cut = np.zeros(self.n_layers, dtype=np.bool_)
        last_reader = np.full(self.n_layers + 1, -1, dtype=np.int64)
        for layer, ps in enumerate(self.predecessors):
            for p in ps:
                last_reader[p + 1] = layer
        open_until, sink_seen = last_reader[0], False
        for layer in range(self.n_layers):
            cut[layer] = open_until <= layer and not sink_seen
            open_until = max(open_until, last_reader[layer + 1])
            sink_seen = sink_seen or bool(self.is_sink[layer])
        cut[-1] = True
        return _frozen(cut)

    def _at(self, granularity: str) -> DNN:
        return self if granularity == "layer" else self.blocks()

    def blocks(self) -> DNN:
        """The same network as a chain: the layers after one cut layer up to the next become one.

        A block's FLOPs and parameters are its layers' sums, its output the cut layer's (for the
        last block, all outputs of the network), its kind that of its layer with most FLOPs.
        """
        if self.layers is not None:
            return self
        block_of = np.concatenate(([0], np.cumsum(self.is_cut)[:-1])).astype(np.intp)
        starts = np.flatnonzero(np.diff(block_of, prepend=-1))
        ends = np.append(starts[1:], self.n_layers)
        output_bytes = self.output_bytes[ends - 1].copy()
        output_bytes[-1] = self.output_bytes[self.is_sink].sum()
        heaviest = [a + int(np.argmax(self.flops[a:b])) for a, b in zip(starts, ends, strict=True)]
        return DNN(
            name=self.name,
            flops=np.add.reduceat(self.flops, starts),
            parameter_bytes=np.add.reduceat(self.parameter_bytes, starts),
            output_bytes=output_bytes,
            predecessors=[[b - 1] for b in range(len(starts))],
            input_bytes=self.input_bytes,
            kinds=[self.kinds[h] for h in heaviest],
            layer_names=[self.layer_names[e - 1] for e in ends],
            layers=self,
            block_of=block_of,
        )

    @staticmethod
    def names() -> tuple[str, ...]:
        """The names in the packaged catalogue, for `DNN.load`."""
        files = (resources.files("mjoa_gym.dnn") / "catalogue").iterdir()
        return tuple(sorted(f.name[:-5] for f in files if f.name.endswith(".json")))

    @staticmethod
    def load(
        name_or_path: str | os.PathLike[str], granularity: Literal["layer", "block"] = "layer"
    ) -> DNN:
        """A network of the packaged catalogue, or of a file that `save` wrote.

        Args:
            name_or_path: One of `DNN.names()`, or a file: a path object, or a text that ends in
                ``.json`` or contains a path separator.
            granularity: "layer" (a DAG) or "block" (its chain of blocks between cut layers).

        Raises:
            ValueError: If the name is not in the catalogue (with the nearest one), the granularity
                is unknown, or the file is not a valid profile (naming the file and the fault).
            OSError: If the file cannot be read.
        """
        choice("granularity", granularity, GRANULARITIES)
        read = DNN._read if file.is_path(name_or_path) else DNN._named
        return read(name_or_path)._at(granularity)

    @staticmethod
    def _named(name: Any) -> DNN:
        choice("name", name, DNN.names(), " (the catalogue's; a file's name ends in .json)")
        text = (resources.files("mjoa_gym.dnn") / "catalogue" / f"{name}.json").read_bytes()
        return DNN.from_dict(files.parse_json(text))

    @staticmethod
    def _read(path: str | os.PathLike[str]) -> DNN:
        return files.read(path, lambda content: DNN.from_dict(files.parse_json(content)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load` reads back as an equal DNN; the format is in docs/own-models.md.

        The file is replaced as a whole. A DNN of blocks is written as the chain that it is.

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
        """A profile of a torch module; needs the extra `torch`, but no weights.

        How operators become layers and how they are counted is in ``docs/own-models.md``.

        Args:
            module: Any module that `torch.export` takes, best on the meta device.
            example_inputs: A tensor, a tuple of positional inputs or a dict of keyword inputs, on
                the module's device; their shapes and types count. All together they are the
                network's one input tensor.
            granularity: As in `load`.
            name: Default: the module's class.

        Raises:
            ValueError: With the reason, if the module cannot be exported.

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
        """A profile of an ONNX file; needs the extra `onnx`, but neither torch nor the weights.

        Nothing is executed and no weight is read, in the file or beside it. A child process with
        limits on memory and time does the work, which takes one to two seconds to start. Limits
        and rules are in ``docs/own-models.md``.

        Args:
            path: The file.
            granularity: As in `load`.
            name: Default: the file's name without its ending.
            input_shapes: Shapes of inputs by name; they win over the file. Dimensions that it
                leaves open must be given; an open first one is the batch, 1 by default.

        Raises:
            ImportError: If onnx or onnx-ir is not installed, with how to install it.
            OSError: If the file cannot be opened or read.
            ValueError: Naming the file and what in it is not valid, open or not supported.

        Warns:
            UnknownOperatorWarning: Listing the operators that count as zero FLOPs because their
                cost is not known.
        """
        from mjoa_gym.profiles.onnx_process import profile

        choice("granularity", granularity, GRANULARITIES)
        return DNN(**profile(path, input_shapes, name, stacklevel=2))._at(granularity)

    @staticmethod
    def from_dict(profile: Mapping[str, Any]) -> DNN:
        """A DNN from the catalogue's JSON schema.

        Raises:
            ValueError: If the schema is another one, a key is missing or unknown, or a value is
                not allowed.
        """
        return DNN(**file.arguments(profile))

    def to_dict(
        self, title: str | None = None, provenance: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The catalogue's JSON schema; `from_dict` gives an equal DNN.

        Args:
            title: The name that people know the network by.
            provenance: Where the figures come from; anything that JSON takes.

        Returns:
            Of a DNN of blocks, the chain of blocks, not its layers.
        """
        return file.as_profile(
            self.name,
            self.input_bytes,
            {
                "name": self.layer_names,
                "kind": self.kinds,
                "flops": self.flops,
                "parameter_bytes": self.parameter_bytes,
                "output_bytes": self.output_bytes,
                "predecessors": self.predecessors,
            },
            title,
            provenance,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DNN):
            return NotImplemented
        return (
            self.name == other.name
            and self.predecessors == other.predecessors
            and self.input_bytes == other.input_bytes
            and self.kinds == other.kinds
            and self.layer_names == other.layer_names
            and np.array_equal(self.flops, other.flops)
            and np.array_equal(self.parameter_bytes, other.parameter_bytes)
            and np.array_equal(self.output_bytes, other.output_bytes)
        )

    def __reduce__(self) -> tuple[type[DNN], tuple[Any, ...]]:
        return DNN, tuple(getattr(self, f.name) for f in fields(self))  # immutable when unpickled

    def __hash__(self) -> int:
        return hash((self.name, self.predecessors, self.input_bytes))


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
