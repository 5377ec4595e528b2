"""What both sides of an inference do: receive tensors, execute layers and send their outputs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Container, Mapping, Sequence

from torch import Tensor

from mjoa_gym.layers import INPUT
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.codec import Incoming, image_of_bundle
from mjoa_gym.testbed.executor import Execution, Executor, Work
from mjoa_gym.testbed.frames import Begin, Frame, Kind, ProtocolError
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.transmitter import Transfer, Transmitter


class Half:
    """One side's half of an inference. It belongs to the event loop.

    Args:
        program: The network.
        begin: The placement, the prefetched layers, the upload mode and the rates.
        executor: Executes this side's layers.
        parameters: Returns a layer's parameters, or None while they are not there.
        slowdown: How many times longer the layers take than on this machine.
        repeats: Executions of each layer within its stretched time.
        table: (L,) seconds that each layer counts as, if layers are paced.
    """

    side: int  # 0 = UE, 1 = edge

    def __init__(
        self,
        program: LayeredProgram,
        begin: Begin,
        executor: Executor,
        parameters: Callable[[int], Mapping[str, Tensor] | None],
        slowdown: float,
        repeats: int = 1,
        table: Sequence[float] | None = None,
    ) -> None:
        self.program = program
        self.begin = begin
        self.executor = executor
        self.loop = asyncio.get_running_loop()
        self.link: Transmitter | None = None  # to the other side, once it exists
        ups, downs = program.crossing(begin.placement)
        arriving, leaving = (ups, downs) if self.side else (downs, ups)
        self.leaving = frozenset(leaving)
        self.incoming = {t: Incoming(f"tensor {t}", program.tensors[t]) for t in arriving}
        layers = [layer for layer, where in enumerate(begin.placement) if where == self.side]
        network = program.network
        self.work = Work(network, layers, parameters, slowdown, self._executed, repeats, table)
        every = range(program.dnn.n_layers)
        serial = begin.mode == "serial"
        self._followed: Container[int] = every if serial else self.leaving | program.sinks

    def take_in(self, frame: Frame) -> int | None:
        """Store a piece of a tensor, and return the tensor's number if it is complete now.

        Raises:
            ProtocolError: If the query does not send this tensor, or the piece is not the next.
        """
        tensor = frame.layer(self.program.dnn.n_layers, lowest=INPUT)
        incoming = self.incoming.get(tensor)
        if incoming is None:
            raise ProtocolError(f"TENSOR: {tensor} is not one that this query sends")
        incoming.write(frame.header.offset, frame.payload)
        return tensor if incoming.complete else None

    def follow_up(self, execution: Execution | None) -> None:
        """React to a layer that has been executed here, or to the failure of one (None)."""
        raise NotImplementedError

    def put(self, tensor: int) -> None:
        """Give a tensor that has arrived to the executor."""
        self.executor.put(self.work.bundles, tensor, self.incoming[tensor].bundle())

    def send(self, tensor: int, ready_at: float | None = None) -> None:
        """Send a tensor that exists here since `ready_at` on the clock, by default since now."""
        if self.link is not None:
            image = image_of_bundle(self.work.bundles[tensor])
            since = now() if ready_at is None else ready_at
            self.link.send(Transfer(Kind.TENSOR, tensor, image, ready_at=since))

    def since(self, execution: Execution) -> float | None:
        """Return the time since which a layer's output counts as existing; None if not paced."""
        return None if self.work.table is None else execution.end

    def stop_sending(self) -> None:
        """Send nothing more of this query, not even the chunk that is on its way."""
        if self.link is not None:
            self.link.stop()

    def forget(self) -> None:
        """Release all tensors; use the object no more afterwards."""
        self.work.forget()
        self.incoming.clear()
        self.link = None

    def _executed(self, work: Work, execution: Execution | None) -> None:
        """Call `follow_up` on the event loop if it has to act; runs in the executor's thread."""
        if execution is None or execution.layer in self._followed:
            with contextlib.suppress(RuntimeError):  # the loop may be closed already
                self.loop.call_soon_threadsafe(self.follow_up, execution)
