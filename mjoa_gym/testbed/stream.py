"""The parameter stream of an inference: what is missing, in program order, in its upload mode."""

from __future__ import annotations

from collections.abc import Sequence

from mjoa_gym.layers import INPUT
from mjoa_gym.testbed.clock import now
from mjoa_gym.testbed.codec import Image
from mjoa_gym.testbed.headers import Begin, Kind
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.testbed.transmitter import Transfer


class ParameterStream:
    """The background source of an uplink (see `Transmitter`): one transfer after the other.

    With serial uploading, a layer's parameters wait until its predecessors have been executed, and
    hold up those behind them.

    Args:
        program: The network.
        images: Parameters of the layers, ready to be sent.
        begin: What the edge executes, and which layers follow those that it needs.
        received: (L,) bytes that the server has already.
    """

    def __init__(
        self,
        program: LayeredProgram,
        images: Sequence[Image | None],
        begin: Begin,
        received: Sequence[int],
    ) -> None:
        self._predecessors = program.dnn.predecessors
        self._images = images
        self._received = received
        self._serial = begin.mode == "serial"
        self._reader = program.to_upload(begin.placement)
        marked = (layer for layer, mark in enumerate(begin.prefetch) if mark)
        missing = [
            layout is not None and here < layout.total_bytes
            for layout, here in zip(program.parameters, received, strict=True)
        ]
        self._layers = [n for n in dict.fromkeys((*self._reader, *marked)) if missing[n]]
        self._finished = {INPUT}
        self._released_at = now()
        self._transfer: Transfer | None = None

    @property
    def absent(self) -> list[int]:
        """The layers that the edge needs and that are still to be sent."""
        return [layer for layer in self._layers if layer in self._reader]

    @property
    def busy(self) -> bool:
        """Whether anything is still to be sent."""
        sending = self._transfer is not None and not self._transfer.done
        return sending or bool(self._layers)

    def finished(self, layer: int) -> None:
        """A layer has been executed, on either side."""
        self._finished.add(layer)
        if self._serial:
            self._released_at = now()

    def refused(self, layer: int) -> None:
        """The server has no room for a prefetched layer: it is not sent any further."""
        if self._transfer is not None and self._transfer.layer == layer:
            self._transfer = None

    def __call__(self) -> Transfer | None:
        """What to send now, if anything."""
        if self._transfer is not None and not self._transfer.done:
            return self._transfer
        self._transfer = None
        if not self._layers or not self._released(self._layers[0]):
            return None
        layer = self._layers.pop(0)
        image = self._images[layer]
        assert image is not None, "only layers with parameters are in the stream"
        offset = self._received[layer]
        self._transfer = Transfer(Kind.PARAMETERS, layer, image, offset, self._released_at)
        return self._transfer

    def _released(self, layer: int) -> bool:
        predecessors = self._predecessors[self._reader.get(layer, layer)]
        return not self._serial or self._finished.issuperset(predecessors)
