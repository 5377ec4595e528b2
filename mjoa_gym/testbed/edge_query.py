"""The server's part of one inference: what it awaits, executes and sends back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mjoa_gym.model.inference import UPLOAD_MODES
from mjoa_gym.testbed.codec import Incoming, Layout, image_of_bundle
from mjoa_gym.testbed.executor import Execution, Executor, Work
from mjoa_gym.testbed.frames import (
    LEAST_RATE_BPS,
    MOST_SLOWDOWN,
    Frame,
    FrameWriter,
    Kind,
    ProtocolError,
)
from mjoa_gym.testbed.link import Link, Transfer
from mjoa_gym.testbed.program import Program
from mjoa_gym.testbed.store import Owner, ParameterStore, TensorMemory


class Refusal(Exception):
    """The server will not do this query, but others; the message says why."""


class Request(NamedTuple):
    """What a UE asks for.

    Attributes:
        placement: (L,) bytes of 0 and 1.
        marks: (L,) layers to prefetch.
        upload: Upload mode.
        slowdown: Of the edge's layers.
        downlink_bps: Rate of the downlink.
    """

    placement: bytes
    marks: bytes
    upload: str
    slowdown: float
    downlink_bps: float

    @staticmethod
    def of(frame: Frame, n_layers: int) -> Request:
        """The request in a BEGIN.

        Raises:
            ProtocolError: If it is malformed.
        """
        placement, marks = frame.data("placement", n_layers), frame.data("prefetch", n_layers)
        if max(placement) > 1 or max(marks) > 1:
            raise ProtocolError("BEGIN: placement and prefetch must be 0 or 1")
        return Request(
            placement,
            marks,
            UPLOAD_MODES[frame.number("upload", 0, len(UPLOAD_MODES) - 1)],
            frame.real("slowdown", 1.0, MOST_SLOWDOWN),
            frame.real("downlink_bps", LEAST_RATE_BPS, float("inf")),
        )


class EdgeQuery:
    """One inference at the server. Belongs to the event loop; `close` it in the end.

    Args:
        request: What is asked for.
        program: The network.
        owner: Whose parameters they are.
        store: Where parameters are.
        memory: What its tensors share with those of others.
        executor: Executes.
        frames: Towards the UE.
        activation_bytes: The most that its tensors may take by themselves.

    Raises:
        Refusal: If there is no room.
    """

    def __init__(
        self,
        request: Request,
        program: Program,
        owner: Owner,
        store: ParameterStore,
        memory: TensorMemory,
        executor: Executor,
        frames: FrameWriter,
        activation_bytes: int,
    ) -> None:
        self.program = program
        self.owner = owner
        self.store = store
        self.memory = memory
        self.executor = executor
        self.frames = frames
        self.loop = asyncio.get_running_loop()
        self.serial = request.upload == "serial"
        layers = [layer for layer, side in enumerate(request.placement) if side]
        self.marked = frozenset(layer for layer, mark in enumerate(request.marks) if mark)
        ups, downs = program.crossing(request.placement)
        self.downs = frozenset(downs)
        size = sum(program.tensors[tensor].total_bytes for tensor in {*ups, *layers})
        if size > activation_bytes:
            raise Refusal(f"tensors of {size} bytes; {activation_bytes} are allowed")
        if not memory.take(size):
            raise Refusal("no memory for its tensors beside those of others")
        self._size = size
        self.incoming = {t: Incoming(f"tensor {t}", program.tensors[t]) for t in ups}
        self.uploads = list(program.to_upload(request.placement))
        self._reserved: set[int] = set()
        self._full: set[int] = set()
        try:
            self._reserve()
        except Refusal:
            memory.give_back(size)
            raise
        self.here = self._complete_layers()
        gate = self.uploads if request.upload == "whole" else []
        self.work = self._work(layers, gate, request.slowdown)
        self.link = Link(frames, request.downlink_bps)
        self._sending: asyncio.Task[None] | None = asyncio.create_task(self._send())
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
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None  # its traceback refers to us
        self.store.release(self.owner, self._reserved)
        self.memory.give_back(self._size)

    def take_parameters(self, frame: Frame) -> None:
        """A piece of a layer's parameters.

        Raises:
            ProtocolError: If it is not one that follows.
        """
        layer = frame.number("layer", 0, self.program.dnn.n_layers - 1)
        layout = self.program.parameters[layer]
        if layout is None or (layer not in self._reserved and layer not in self.marked):
            raise ProtocolError(f"PARAMETERS: layer {layer} has none that this query uploads")
        if layer in self._full:
            return
        if layer not in self._reserved:
            if not self.store.reserve(self.owner, [(layer, layout)]):
                self._full.add(layer)
                self.frames.write(Kind.FULL, {"layer": layer})
                return
            self._reserved.add(layer)
        incoming = self.store.get(self.owner, layer)
        assert incoming is not None, "reserved layers stay"
        incoming.write(frame.number("offset", 0, layout.total_bytes), frame.payload)
        if incoming.complete and layer in self.uploads:
            with self.executor.lock:
                self.here[layer] = incoming.tensors()
            self.executor.look_again()

    def take_tensor(self, frame: Frame) -> None:
        """A piece of a tensor that the UE has made.

        Raises:
            ProtocolError: If it is not one that follows.
        """
        tensor = frame.number("layer", -1, self.program.dnn.n_layers - 1)
        incoming = self.incoming.get(tensor)
        if incoming is None:
            raise ProtocolError(f"TENSOR: {tensor} is not one that this query sends")
        incoming.write(frame.number("offset", 0, incoming.layout.total_bytes), frame.payload)
        if incoming.complete:
            self.executor.put(self.work, tensor, incoming.bundle())

    def report(self) -> dict[str, list[list[float]]]:
        """When the server has executed and sent what, by its clock."""
        return {
            "executed": [[e.layer, e.start, e.end] for e in self.work.executions],
            "sent": [[piece.layer, piece.start, piece.end] for piece in self.link.pieces],
        }

    def _reserve(self) -> None:
        """Keep what this query uploads, and what is here of the layers that it prefetches."""
        if not self.store.reserve(self.owner, self._layouts(self.uploads)):
            raise Refusal("no memory for these layers beside those that others are using")
        begun = [n for n in self.marked if self.store.received(self.owner, n)]
        begun = [n for n in begun if n not in self.uploads]
        self.store.reserve(self.owner, self._layouts(begun))
        self._reserved.update(self.uploads, begun)

    def _layouts(self, layers: Iterable[int]) -> list[tuple[int, Layout]]:
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
            self.frames.write(Kind.ERROR, {"reason": reason})  # the UE closes the connection
            return
        if self.serial:
            self.frames.write(Kind.FINISHED, {"layer": execution.layer})
        if execution.layer in self.downs:
            image = image_of_bundle(self.work.bundles[execution.layer])
            self.link.send(Transfer(Kind.TENSOR, execution.layer, image))

    async def _send(self) -> None:
        with contextlib.suppress(ConnectionError, OSError):  # the session notices it, too
            await self.link.run()
