"""A network as both sides know it: its executable layers, and the layout of its tensors when sent.

The UE has the program and the parameters. The server has only the program, which includes buffers
and constants, and gets the parameters from the UE.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from mjoa_gym.execution.layered_model import LayeredModel, TensorSpec
from mjoa_gym.layers import INPUT
from mjoa_gym.testbed.codec import Image, TensorLayout
from mjoa_gym.testbed.executor import Execution, Executor, Work
from mjoa_gym.testbed.frames import Frame, ProtocolError, within

WARM_UPS, MEASUREMENTS = 2, 5


class LayeredProgram:
    """A network, the layouts of everything that is sent for it, and a fingerprint to compare.

    Attributes:
        network: The network in executable layers.
        dnn: Its profile.
        sinks: The layers whose outputs are the network's outputs.
        parameters: (L,) layout of the parameters that each layer is charged for, None if there are
            none.
        tensors: Layout of each layer's output, and of the network's input (-1).
        owners: (L,) the layers whose parameters each layer reads: its own, and with tied parameters
            also those of others.
    """

    def __init__(self, network: LayeredModel) -> None:
        self.network = network
        self.dnn = network.dnn
        layers = range(self.dnn.n_layers)
        self.sinks = frozenset(self.dnn.is_sink.nonzero()[0].tolist())
        charged = [network.parameters(layer) for layer in layers]
        self.parameters = tuple(
            TensorLayout({name: TensorSpec.of(value) for name, value in values.items()})
            if values
            else None
            for values in charged
        )
        self.tensors = {
            tensor: TensorLayout.of_bundle(network.bundle_specs(tensor))
            for tensor in (INPUT, *layers)
        }
        owner = {name: layer for layer, values in enumerate(charged) for name in values}
        self.owners = tuple(
            tuple(sorted({owner[name] for name in network.needs(layer)})) for layer in layers
        )

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters, as they are sent."""
        return sum(layout.total_bytes for layout in self.parameters if layout is not None)

    @cached_property
    def fingerprint(self) -> str:
        """The digest of layers, operators, shapes, types and buffers' values, for comparison."""
        digest = hashlib.sha256()
        graph = [self.dnn.layer_names, self.dnn.predecessors, self.network.description()]
        digest.update(json.dumps(graph).encode())
        for layout in (*self.parameters, *self.tensors.values()):
            digest.update(b"-" if layout is None else layout.header)
        for name, tensor in sorted(self.network.constants().items()):
            digest.update(name.encode())
            for part in Image(TensorLayout({"": TensorSpec.of(tensor)}), {"": tensor}).parts:
                digest.update(part)
        return digest.hexdigest()

    def crossing(self, placement: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the tensors that a placement sends up, and those that it sends down."""
        side = {INPUT: 0, **dict(enumerate(placement))}
        read = {(t, side[layer]) for layer, ts in enumerate(self.dnn.predecessors) for t in ts}
        up = [t for t in side if not side[t] and (t, 1) in read]
        down = [t for t in side if side[t] and ((t, 0) in read or t in self.sinks)]
        return up, down

    def to_upload(self, placement: Sequence[int]) -> dict[int, int]:
        """Return the layers whose parameters the edge layers read, in the order of their upload.

        Each is mapped to the first edge layer that reads its parameters, which with tied parameters
        may be another layer.
        """
        first_reader: dict[int, int] = {}
        for layer, owners in enumerate(self.owners):
            if placement[layer]:
                for owner in owners:
                    first_reader.setdefault(owner, layer)
        return first_reader

    def missing_for_outputs(self, there: set[int]) -> list[int]:
        """Return the layers needed for all outputs beside the tensors `there`, in program order."""
        needed: set[int] = set()
        stack = list(self.sinks)
        while stack:
            tensor = stack.pop()
            if tensor not in there and tensor not in needed:
                needed.add(tensor)
                stack.extend(self.dnn.predecessors[tensor])
        return sorted(needed)

    def resident_bytes(self, frame: Frame) -> list[int]:
        """Return the (L,) bytes of each layer's parameters that the server says it has.

        Raises:
            ProtocolError: If they do not fit the network.
        """
        here: list[int] = frame.header.bytes
        if len(here) != len(self.parameters):
            raise ProtocolError(f"{frame.kind.name}: bytes must have one entry per layer")
        for layer, layout in enumerate(self.parameters):
            most = 0 if layout is None else layout.total_bytes
            within(f"{frame.kind.name}: bytes[{layer}]", here[layer], 0, most)
        return here

    def fractions(self, received: Sequence[int]) -> NDArray[np.float64]:
        """Convert (L,) bytes of parameters into (L,) fractions, as `simulate` takes them."""
        found = zip(received, self.parameters, strict=True)
        return np.array([1.0 if of is None else here / of.total_bytes for here, of in found])


async def measured_seconds(
    program: LayeredProgram, executor: Executor, slowdown: float, times: int
) -> list[float]:
    """Return (L,) median seconds of layers on an executor, with constant parameters and inputs.

    Two warm-ups do not count. With 0 `times` there are only these, and the list is empty.

    Raises:
        ProtocolError: If a layer fails.
    """
    loop, layers = asyncio.get_running_loop(), range(program.dnn.n_layers)
    layouts = [layout for layout in program.parameters if layout is not None]
    values = await asyncio.to_thread(
        lambda: {n: _alike(s) for layout in layouts for n, s in layout.specs.items()}
    )

    def parameters(layer: int) -> dict[str, torch.Tensor]:
        return {name: values[name] for name in program.network.needs(layer)}

    rows = []
    for _ in range(WARM_UPS + times):
        ended = asyncio.Event()

        def on_done(work: Work, _: Execution | None, ended: asyncio.Event = ended) -> None:
            if work.done:
                loop.call_soon_threadsafe(ended.set)

        work = Work(program.network, layers, parameters, slowdown, on_done, patient=True)
        inputs = program.tensors[INPUT].specs.values()
        work.bundles[INPUT] = tuple(_alike(spec) for spec in inputs)
        executor.submit(work)
        try:
            await ended.wait()
        finally:
            executor.cancel(work)
        if work.error is not None:
            raise ProtocolError(f"executing a layer failed: {type(work.error).__name__}")
        rows.append([execution.end - execution.start for execution in work.executions])
        work.forget()
    return np.median(rows[WARM_UPS:], axis=0).tolist() if times else []


def _alike(spec: TensorSpec) -> torch.Tensor:
    return torch.full(spec.shape, 0.01 if spec.dtype.is_floating_point else 0, dtype=spec.dtype)
