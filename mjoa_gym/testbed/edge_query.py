"""The server's part of one inference: it receives tensors and parameters, executes and replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from mjoa_gym.testbed import frames
from mjoa_gym.testbed.codec import TensorLayout
from mjoa_gym.testbed.executor import Execution, Executor
from mjoa_gym.testbed.frames import Begin, Frame, FrameWriter, Kind, ProtocolError, Uses
from mjoa_gym.testbed.half import Half
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.store import Owner, ParameterStore, Refusal, TensorMemory
from mjoa_gym.testbed.transmitter import Transmitter


class EdgeQuery(Half):
    """One inference at the server; call `close` at its end.

    Args:
        begin: What the UE asks for.
        program: The network.
        owner: The UE's session, to which the parameters belong.
        store: The server's memory for parameters.
        memory: The server's memory for tensors.
        executor: Executes the layers.
        frames: Writes the frames to the UE.
        table: (L,) seconds that each layer counts as, if layers are paced.
        shaped_below: Whether the operating system shapes the links.

    Raises:
        ProtocolError: If `begin` does not fit the network.
        Refusal: If there is no room for the tensors or the parameters.
    """

    side = 1

    def __init__(
        self,
        begin: Begin,
        program: LayeredProgram,
        owner: Owner,
        store: ParameterStore,
        memory: TensorMemory,
        executor: Executor,
        frames: FrameWriter,
        table: Sequence[float] | None = None,
        shaped_below: bool = False,
    ) -> None:
        begin.check(program.dnn.n_layers)
        super().__init__(program, begin, executor, self._parameters, begin.slowdown, table=table)
        self.owner = owner
        self.store = store
        self.memory = memory
        self.frames = frames
        self.marked = frozenset(layer for layer, mark in enumerate(begin.prefetch) if mark)
        self.uploads = list(program.to_upload(begin.placement))
        self.gate = self.uploads if begin.mode == "whole" else []
        tensors = {*self.incoming, *self.work.layers}
        self._size = sum(program.tensors[tensor].total_bytes for tensor in tensors)
        self._full: set[int] = set()
        self.memory.take(self._size)
        try:
            self._reserved = self._reserve()
        except Refusal:
            self.memory.give_back(self._size)
            raise
        found = ((layer, self.store.get(owner, layer)) for layer in self.uploads)
        self.here: dict[int, Mapping[str, Tensor]] = {
            layer: there.tensors() for layer, there in found if there is not None and there.complete
        }
        self.link = Transmitter(frames, begin.downlink_bps, shaped_below=shaped_below)
        self._open = True

    def close(self) -> None:
        """End the query, once. The parameters stay until memory is short."""
        self._open = False
        self.executor.cancel(self.work)
        self.stop_sending()
        self.forget()
        self.here.clear()
        self.store.release(self.owner, self._reserved)
        self.memory.give_back(self._size)

    def take_parameters(self, frame: Frame) -> None:
        """Store a piece of a layer's parameters.

        Raises:
            ProtocolError: If the query does not upload this layer, or the piece is not the next.
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
                self.frames.write(Kind.FULL, frames.OneLayer(layer))
                return
            self._reserved.add(layer)
        incoming = self.store.get(self.owner, layer)
        assert incoming is not None, "reserved layers stay"
        incoming.write(frame.header.offset, frame.payload)
        if incoming.complete:
            self.store.publish(self.owner, layer)
            if layer in self.uploads:
                self.executor.put(self.here, layer, incoming.tensors())

    def take_tensor(self, frame: Frame) -> None:
        """Store a piece of a tensor from the UE.

        Raises:
            ProtocolError: If the query does not send this tensor, or the piece is not the next.
        """
        if (tensor := self.take_in(frame)) is not None:
            self.put(tensor)

    def uses(self) -> tuple[Uses, Uses]:
        """Return the uses of the edge share and of the downlink, in the server's time."""
        assert self.link is not None, "the query is open"
        sent: Uses = [(piece.layer, piece.start, piece.end) for piece in self.link.pieces]
        return list(self.work.executions), sent

    def follow_up(self, execution: Execution | None) -> None:
        """Send a layer's output if the UE needs it, or report that the layer has failed."""
        if not self._open:
            return
        if execution is None:
            reason = f"executing a layer failed: {type(self.work.error).__name__}"
            self.frames.write(Kind.ERROR, frames.Reason(reason))  # the UE closes the connection
            return
        if self.begin.mode == "serial":
            self.frames.write(Kind.FINISHED, frames.OneLayer(execution.layer))
        if execution.layer in self.leaving:
            self.send(execution.layer, self.since(execution))

    def _reserve(self) -> set[int]:
        """Reserve the layers that this query uploads, and those to prefetch that are partly here.

        Returns all layers that are reserved.
        """
        if not self.store.reserve(self.owner, self._layouts(self.uploads)):
            raise Refusal("no memory for these layers beside those that others are using")
        others = self.marked.difference(self.uploads)
        begun = [layer for layer in others if self.store.received(self.owner, layer)]
        self.store.reserve(self.owner, self._layouts(begun))
        return {*self.uploads, *begun}

    def _layouts(self, layers: Iterable[int]) -> list[tuple[int, TensorLayout]]:
        found = ((layer, self.program.parameters[layer]) for layer in layers)
        return [(layer, layout) for layer, layout in found if layout is not None]

    def _parameters(self, layer: int) -> Mapping[str, Tensor] | None:
        """Return the parameters that a layer reads, or None if something is still missing."""
        needed = self.program.owners[layer]
        if not all(owner in self.here for owner in (*needed, *self.gate)):
            return None
        return {name: t for owner in needed for name, t in self.here[owner].items()}
