"""The server's part of one inference: what it awaits, executes and sends back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mjoa_gym.layers import INPUT
from mjoa_gym.testbed.codec import Incoming, TensorLayout, image_of_bundle
from mjoa_gym.testbed.executor import Execution, Executor, Work
from mjoa_gym.testbed.frames import Frame, FrameWriter
from mjoa_gym.testbed.headers import Begin, Kind, OneLayer, ProtocolError, Reason, Uses
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.store import Owner, ParameterStore, Refusal, TensorMemory
from mjoa_gym.testbed.transmitter import Transfer, Transmitter


class EdgeResources(NamedTuple):
    """What the sessions of a server share.

    Attributes:
        store: Where parameters are.
        memory: What tensors may take.
        executor: Executes layers.
    """

    store: ParameterStore
    memory: TensorMemory
    executor: Executor


class EdgeQuery:
    """One inference at the server. Belongs to the event loop; `close` it in the end.

    Args:
        begin: What is asked for.
        program: The network.
        owner: Whose parameters they are.
        resources: What it shares with others.
        frames: Towards the UE.

    Raises:
        ProtocolError: If what is asked for is not about this network.
        Refusal: If there is no room.
    """

    def __init__(
        self,
        begin: Begin,
        program: LayeredProgram,
        owner: Owner,
        resources: EdgeResources,
        frames: FrameWriter,
    ) -> None:
        begin.check(program.dnn.n_layers)
        self.program = program
        self.owner = owner
        self.store, self.memory, self.executor = resources
        self.frames = frames
        self.loop = asyncio.get_running_loop()
        self.serial = begin.mode == "serial"
        layers = [layer for layer, side in enumerate(begin.placement) if side]
        self.marked = frozenset(layer for layer, mark in enumerate(begin.prefetch) if mark)
        ups, downs = program.crossing(begin.placement)
        self.downs = frozenset(downs)
        self._size = sum(program.tensors[tensor].total_bytes for tensor in {*ups, *layers})
        self.memory.take(self._size)
        self.incoming = {t: Incoming(f"tensor {t}", program.tensors[t]) for t in ups}
        self.uploads = list(program.to_upload(begin.placement))
        self._reserved: set[int] = set()
        self._full: set[int] = set()
        try:
            self._reserve()
        except Refusal:
            self.memory.give_back(self._size)
            raise
        self.here = self._complete_layers()
        gate = self.uploads if begin.mode == "whole" else []
        self.work = self._work(layers, gate, begin.slowdown)
        self.link = Transmitter(frames, begin.downlink_bps)
        self._open = True

    def start(self) -> None:
        """Execute what can be executed."""
        self.executor.submit(self.work)

    def close(self) -> None:
        """Stop, once; the parameters stay until memory is short."""
        self._open = False
        self.executor.cancel(self.work)
        self.work.forget()
        self.here.clear()
        self.incoming.clear()
        self.link.stop()
        self.store.release(self.owner, self._reserved)
        self.memory.give_back(self._size)

    def take_parameters(self, frame: Frame) -> None:
        """A piece of a layer's parameters.

        Raises:
            ProtocolError: If it is not one that follows.
        """
        layer = frame.layer(self.program.dnn.n_layers)
        layout = self.program.parameters[layer]
        if layout is None or (layer not in self._reserved and layer not in self.marked):
            raise ProtocolError(f"PARAMETERS: layer {layer} has none that this query uploads")
        if layer in self._full:
            return
        if layer not in self._reserved:
            if not self.store.reserve(self.owner, [(layer, layout)]):
                self._full.add(layer)
                self.frames.write(Kind.FULL, OneLayer(layer))
                return
            self._reserved.add(layer)
        incoming = self.store.get(self.owner, layer)
        assert incoming is not None, "reserved layers stay"
        incoming.write(frame.header.offset, frame.payload)
        if incoming.complete and layer in self.uploads:
            with self.executor.lock:
                self.here[layer] = incoming.tensors()
            self.executor.look_again()

    def take_tensor(self, frame: Frame) -> None:
        """A piece of a tensor that the UE has made.

        Raises:
            ProtocolError: If it is not one that follows.
        """
        tensor = frame.layer(self.program.dnn.n_layers, lowest=INPUT)
        incoming = self.incoming.get(tensor)
        if incoming is None:
            raise ProtocolError(f"TENSOR: {tensor} is not one that this query sends")
        incoming.write(frame.header.offset, frame.payload)
        if incoming.complete:
            self.executor.put(self.work, tensor, incoming.bundle())

    def uses(self) -> tuple[Uses, Uses]:
        """When the server has executed and sent what, by its clock."""
        sent: Uses = [(piece.layer, piece.start, piece.end) for piece in self.link.pieces]
        return list(self.work.executions), sent

    def _reserve(self) -> None:
        """Keep what this query uploads, and what is here of the layers that it prefetches."""
        if not self.store.reserve(self.owner, self._layouts(self.uploads)):
            raise Refusal("no memory for these layers beside those that others are using")
        begun = [n for n in self.marked if self.store.received(self.owner, n)]
        begun = [n for n in begun if n not in self.uploads]
        self.store.reserve(self.owner, self._layouts(begun))
        self._reserved.update(self.uploads, begun)

    def _layouts(self, layers: Iterable[int]) -> list[tuple[int, TensorLayout]]:
        found = ((layer, self.program.parameters[layer]) for layer in layers)
        return [(layer, layout) for layer, layout in found if layout is not None]

    def _complete_layers(self) -> dict[int, Mapping[str, Tensor]]:
        """Those of the layers that are complete already."""
        found = ((layer, self.store.get(self.owner, layer)) for layer in self.uploads)
        return {n: there.tensors() for n, there in found if there is not None and there.complete}

    def _work(self, layers: Sequence[int], gate: Sequence[int], slowdown: float) -> Work:
        here, owners = self.here, self.program.owners

        def parameters(layer: int) -> Mapping[str, Tensor] | None:
            needed = owners[layer]
            if not all(owner in here for owner in (*needed, *gate)):
                return None
            if len(needed) == 1:
                return here[needed[0]]
            return {name: t for owner in needed for name, t in here[owner].items()}

        network, dnn = self.program.network, self.program.dnn
        return Work(network, layers, dnn.predecessors, parameters, slowdown, self._executed)

    def _executed(self, work: Work, execution: Execution | None) -> None:
        """In the executor's thread: something for the event loop, if anything follows."""
        if execution is None or self.serial or execution.layer in self.downs:
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                self.loop.call_soon_threadsafe(self._follow_up, execution)

    def _follow_up(self, execution: Execution | None) -> None:
        if not self._open:
            return
        if execution is None:
            reason = f"executing a layer failed: {type(self.work.error).__name__}"
            self.frames.write(Kind.ERROR, Reason(reason))  # the UE closes the connection
            return
        if self.serial:
            self.frames.write(Kind.FINISHED, OneLayer(execution.layer))
        if execution.layer in self.downs:
            image = image_of_bundle(self.work.bundles[execution.layer])
            self.link.send(Transfer(Kind.TENSOR, execution.layer, image))
