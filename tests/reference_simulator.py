"""An independent, slow reference of the timing model, and the chain recursion.

One UE's inference is written down as SimPy processes around four serial resources, one process per
sentence of the model, in exact rational arithmetic: two events are simultaneous here if and only if
they are simultaneous on paper, so no tolerance decides a tie. It shares no code with `mjoa_gym`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import simpy

INPUT = -1
UE, EDGE = 0, 1
UPLOAD_MODES = ("parallel", "serial", "whole", "preinstalled")

# Requests for the uplink: the smaller number is served first and pre-empts the larger one.
_ACTIVATIONS_FIRST, _PARAMETERS_SECOND = 0, 1

Process = Generator[simpy.Event, Any, None]


class Interval(NamedTuple):
    """What one resource does without a break.

    Attributes:
        resource: "ue", "edge", "uplink" or "downlink".
        what: "execute", "activation", "parameters" or "prefetch".
        layer: The layer that executes, whose output is sent, or whose parameters are sent; -1 is
            the network's input tensor.
        start: Seconds.
        end: Seconds.
    """

    resource: str
    what: str
    layer: int
    start: float
    end: float


@dataclass(frozen=True)
class ReferenceResult:
    """What `reference_simulate` found out.

    Attributes:
        latency: Seconds until the outputs of all sink layers are on the UE.
        intervals: Everything the four resources did, sorted by start, end, resource, what and
            layer. Every layer has exactly one "execute" interval and every tensor that is sent
            exactly one "activation" interval, of zero length where it takes no time. "parameters"
            and "prefetch" intervals have a positive length; a transfer has more than one of them
            only if it was held up for a positive time.
        resident: For each layer, the fraction of its parameters that is on the server at `until_s`
            (at `latency` by default); 1 for parameter-free layers.
        tie_margin: Seconds by which the closest race on the uplink was decided: the smallest
            non-zero gap between the completion of a parameter transfer and an activation that
            becomes ready. The schedule jumps where this gap changes its sign, so a simulator in
            floating point need not agree with this one when the gap is of the order of its
            rounding error. Exact ties do not count. Infinite if there was no race.
        energy_j: Joules of the UE; None without its watts.
    """

    latency: float
    intervals: list[Interval]
    resident: np.ndarray
    tie_margin: float
    energy_j: float | None = None


def reference_simulate(
    *,
    predecessors: Sequence[Sequence[int]],
    parameter_bytes: Sequence[float],
    output_bytes: Sequence[float],
    input_bytes: float,
    placement: Sequence[int],
    ue_seconds: Sequence[float],
    edge_seconds: Sequence[float],
    uplink_bps: float,
    downlink_bps: float,
    resident: Sequence[float] | None = None,
    upload: str = "parallel",
    prefetch: Sequence[bool] | None = None,
    until_s: float | None = None,
    message_s: float = 0.0,
    watts: Sequence[float] | None = None,
) -> ReferenceResult:
    """Simulate one inference of one UE.

    Where the model is terse, this reference decides:

    * Both processors and the parameter stream are strictly in program order: what comes first in
      program order and cannot start yet blocks what comes after it (head of line). In serial mode
      a layer whose predecessors have not finished therefore holds back the parameters of later
      layers, even of those that could start.
    * Only layers with something missing are in the parameter stream: a layer that is resident or
      free of parameters waits for nothing and blocks nobody, in serial mode too.
    * The stream turns to prefetched layers when the last byte of the edge layers' parameters has
      been sent, not in gaps before that (which exist in serial mode).
    * The release rule of serial mode holds for prefetched layers too. The input tensor counts as a
      predecessor that has finished from the start. "Finished" means executed, on whichever side.
    * Whole mode waits for the parameters of the edge layers, not for those of prefetched layers.
    * In preinstalled mode every layer is resident, whatever `resident` says, and `prefetch` has
      nothing to send.
    * Prefetch marks on edge layers add nothing.
    * Whatever is sent frees the link with its last byte and is of use `message_s` later. `resident`
      counts bytes that have left. In serial mode the uplink learns that an edge layer has finished
      `message_s` after it has; of the UE's layers it knows at once.
    * Prefetching goes on until `max(latency, until_s)`, and its last interval is cut there.
    * An activation that becomes ready at the very instant at which a parameter transfer would
      start or be resumed goes first. A parameter transfer whose last byte leaves at that very
      instant is complete. Activations that are ready at one instant go in production order.
    * Zero-time layers, tensors of zero bytes and parameter-free layers are legal. So are several
      sinks, several readers of one tensor and of the network's input, and (though no network has
      them) layers without predecessors.

    Args:
        predecessors: For each layer the layers it reads; -1 is the network's input tensor.
        parameter_bytes: Bytes of each layer's parameters.
        output_bytes: Bytes of each layer's output.
        input_bytes: Bytes of the network's input tensor.
        placement: For each layer 0 (UE) or 1 (edge).
        ue_seconds: Seconds each layer takes on the UE.
        edge_seconds: Seconds each layer takes on the UE's share of the server.
        uplink_bps: Bits per second, positive and finite.
        downlink_bps: Bits per second, positive and finite.
        resident: Fraction of each layer's parameters that is on the server at the start.
        upload: "parallel", "serial", "whole" or "preinstalled".
        prefetch: Marks the layers to upload although this inference does not need them.
        until_s: The time at which `ReferenceResult.resident` is read; may be infinite.
        message_s: Seconds that a message takes beside its bytes.
        watts: What the UE draws while it computes; while it does not, until the inference ends; in
            addition while its uplink is busy, also with prefetches; while its downlink is.

    Returns:
        Latency, timeline and what is on the server at the end.
    """
    inference = _Inference(
        predecessors=predecessors,
        parameter_bytes=parameter_bytes,
        output_bytes=output_bytes,
        input_bytes=input_bytes,
        placement=placement,
        ue_seconds=ue_seconds,
        edge_seconds=edge_seconds,
        uplink_bps=uplink_bps,
        downlink_bps=downlink_bps,
        resident=resident,
        upload=upload,
        prefetch=prefetch,
        message_s=message_s,
    )
    inference.run()
    return inference.result(until_s, watts)


def _exact(value: float) -> Fraction:
    """The rational number that a float, an integer, a boolean or a NumPy scalar stands for."""
    return Fraction(float(value))


def _seconds_to_send(size_bytes: Fraction, rate_bps: Fraction) -> Fraction:
    return size_bytes * 8 / rate_bps


class _Inference:
    """The processes, and what they share: who has which tensor, and the timeline."""

    def __init__(
        self,
        *,
        predecessors: Sequence[Sequence[int]],
        parameter_bytes: Sequence[float],
        output_bytes: Sequence[float],
        input_bytes: float,
        placement: Sequence[int],
        ue_seconds: Sequence[float],
        edge_seconds: Sequence[float],
        uplink_bps: float,
        downlink_bps: float,
        resident: Sequence[float] | None,
        upload: str,
        prefetch: Sequence[bool] | None,
        message_s: float,
    ) -> None:
        n_layers = len(predecessors)
        self.layers = range(n_layers)
        self.predecessors = [[int(p) for p in row] for row in predecessors]
        self.side = [int(side) for side in placement]
        per_layer = [parameter_bytes, output_bytes, placement, ue_seconds, edge_seconds]
        per_layer += [given for given in (resident, prefetch) if given is not None]
        if n_layers == 0 or any(len(values) != n_layers for values in per_layer):
            raise ValueError("every per-layer argument needs one value per layer")
        if any(not INPUT <= p < layer for layer in self.layers for p in self.predecessors[layer]):
            raise ValueError("predecessors must come earlier in program order")
        if any(side not in (UE, EDGE) for side in self.side):
            raise ValueError("a placement consists of zeros and ones")
        if upload not in UPLOAD_MODES:
            raise ValueError(f"upload must be one of {UPLOAD_MODES}")

        self.upload = upload
        self.message_s = _exact(message_s)
        self.ue_seconds = [_exact(s) for s in ue_seconds]
        self.edge_seconds = [_exact(s) for s in edge_seconds]
        tensors = [INPUT, *self.layers]
        tensor_bytes = dict(zip(tensors, map(_exact, [input_bytes, *output_bytes]), strict=True))
        self.up_seconds = {
            tensor: _seconds_to_send(tensor_bytes[tensor], _exact(uplink_bps)) for tensor in tensors
        }
        self.down_seconds = {
            tensor: _seconds_to_send(tensor_bytes[tensor], _exact(downlink_bps))
            for tensor in tensors
        }
        self.parameter_seconds = [
            _seconds_to_send(_exact(size), _exact(uplink_bps)) for size in parameter_bytes
        ]
        self.resident = [_exact(f) for f in ([0] * n_layers if resident is None else resident)]
        for layer in self.layers:
            if upload == "preinstalled" or self.parameter_seconds[layer] == 0:
                self.resident[layer] = Fraction(1)
        missing = [layer for layer in self.layers if self.resident[layer] < 1]
        marked = [False] * n_layers if prefetch is None else [bool(mark) for mark in prefetch]
        self.to_upload = [layer for layer in missing if self.side[layer] == EDGE]
        self.to_prefetch = [layer for layer in missing if self.side[layer] == UE and marked[layer]]

        readers: dict[int, set[int]] = {tensor: set() for tensor in tensors}
        for layer in self.layers:
            for tensor in self.predecessors[layer]:
                readers[tensor].add(layer)
        self.sinks = [layer for layer in self.layers if not readers[layer]]
        self.goes_up = {
            tensor: any(self.side[reader] == EDGE for reader in readers[tensor])
            for tensor in tensors
        }
        self.goes_down = {
            tensor: tensor in self.sinks or any(self.side[r] == UE for r in readers[tensor])
            for tensor in tensors
        }

        zero: Any = Fraction(0)  # SimPy's clock adds and compares, so it takes fractions too
        self.env: Any = simpy.Environment(initial_time=zero)
        self.uplink = simpy.PreemptiveResource(self.env)
        self.downlink = simpy.Resource(self.env)
        self.on_ue = {tensor: self.env.event() for tensor in tensors}
        self.at_edge = {tensor: self.env.event() for tensor in tensors}
        self.known_to_uplink = {tensor: self.env.event() for tensor in tensors}
        self.uploaded = {layer: self.env.event() for layer in self.to_upload + self.to_prefetch}
        self.latency: Fraction | None = None

        self.timeline: list[tuple[str, str, int, Fraction, Fraction]] = []
        self.activation_ready: list[Fraction] = []
        self.upload_finished: list[Fraction] = []
        self.left_when_preempted: list[Fraction] = []

    def run(self) -> None:
        """Run until nothing is left to do; prefetches run to their end and are cut afterwards."""
        self.known_to_uplink[INPUT].succeed()
        self.produced_on_ue(INPUT)
        self.env.process(self.ue_processor())
        self.env.process(self.edge_share())
        self.env.process(self.parameter_stream())
        self.env.process(self.wait_for_outputs())
        self.env.run()

    @property
    def now(self) -> Fraction:
        return Fraction(self.env.now)

    def ue_processor(self) -> Process:
        """The UE's layers, strictly in program order."""
        for layer in self.layers:
            if self.side[layer] == UE:
                for tensor in self.predecessors[layer]:
                    yield self.on_ue[tensor]
                start = self.now
                yield self.env.timeout(self.ue_seconds[layer])
                self.record("ue", "execute", layer, start)
                self.known_to_uplink[layer].succeed()
                self.produced_on_ue(layer)

    def edge_share(self) -> Process:
        """The edge's layers, strictly in program order, each once its parameters are there."""
        for layer in self.layers:
            if self.side[layer] == EDGE:
                for tensor in self.predecessors[layer]:
                    yield self.at_edge[tensor]
                for needed in self.to_upload:
                    if needed == layer or self.upload == "whole":
                        yield self.uploaded[needed]
                start = self.now
                yield self.env.timeout(self.edge_seconds[layer])
                self.record("edge", "execute", layer, start)
                self.env.process(self.message(self.known_to_uplink[layer]))
                self.produced_at_edge(layer)

    def message(self, received: Any) -> Process:
        """What has left one side is of use on the other one a little later."""
        yield self.env.timeout(self.message_s)
        received.succeed()

    def produced_on_ue(self, tensor: int) -> None:
        """A tensor is available on the UE at once and is sent up if an edge layer reads it."""
        self.on_ue[tensor].succeed()
        if self.goes_up[tensor]:
            self.env.process(self.send_up(tensor))

    def produced_at_edge(self, tensor: int) -> None:
        """A tensor is available at the edge at once and is sent down if the UE needs it."""
        self.at_edge[tensor].succeed()
        if self.goes_down[tensor]:
            self.env.process(self.send_down(tensor))

    def send_up(self, tensor: int) -> Process:
        """One activation: takes the uplink from parameters, queues behind earlier activations."""
        if self.up_seconds[tensor] > 0:
            self.activation_ready.append(self.now)
        with self.uplink.request(priority=_ACTIVATIONS_FIRST, preempt=True) as turn:
            yield turn
            start = self.now
            yield self.env.timeout(self.up_seconds[tensor])
            self.record("uplink", "activation", tensor, start)
        yield from self.message(self.at_edge[tensor])

    def send_down(self, tensor: int) -> Process:
        """One activation on the downlink, first come, first served."""
        with self.downlink.request() as turn:
            yield turn
            start = self.now
            yield self.env.timeout(self.down_seconds[tensor])
            self.record("downlink", "activation", tensor, start)
        yield from self.message(self.on_ue[tensor])

    def parameter_stream(self) -> Process:
        """What the edge layers miss, in program order; then what the prefetched layers miss."""
        for what, layers in (("parameters", self.to_upload), ("prefetch", self.to_prefetch)):
            for layer in layers:
                if self.upload == "serial":
                    for tensor in self.predecessors[layer]:
                        yield self.known_to_uplink[tensor]
                yield from self.send_parameters(layer, what)

    def send_parameters(self, layer: int, what: str) -> Process:
        """One layer's missing parameters, resumed after every pre-emption where they stopped.

        An activation that becomes ready at the instant at which this transfer gets the uplink may
        find the uplink taken, but then takes it away before any time has passed.
        """
        left = self.parameter_seconds[layer] * (1 - self.resident[layer])
        while left > 0:
            start = None
            with self.uplink.request(priority=_PARAMETERS_SECOND, preempt=False) as turn:
                try:
                    yield turn
                    start = self.now
                    yield self.env.timeout(left)
                except simpy.Interrupt:
                    pass
            if start is not None:
                self.record("uplink", what, layer, start)
                left -= self.now - start
            if left > 0:
                self.left_when_preempted.append(left)
        self.upload_finished.append(self.now)
        self.env.process(self.message(self.uploaded[layer]))

    def wait_for_outputs(self) -> Process:
        """The inference ends when the last sink's output is on the UE."""
        for layer in self.sinks:
            yield self.on_ue[layer]
        self.latency = self.now

    def record(self, resource: str, what: str, layer: int, start: Fraction) -> None:
        """Note an interval that ends now; nothing for parameters that did not get any time."""
        end = self.now
        if what in ("parameters", "prefetch"):
            if start == end:
                return
            for index, (_, *transfer, earlier_start, earlier_end) in enumerate(self.timeline):
                if transfer == [what, layer] and earlier_end == start:  # held up for no time
                    self.timeline[index] = (resource, what, layer, earlier_start, end)
                    return
        self.timeline.append((resource, what, layer, start, end))

    def result(self, until_s: float | None, watts: Sequence[float] | None) -> ReferenceResult:
        """Cut the prefetches at the end of the round and add up what has been uploaded by then."""
        if self.latency is None:
            raise RuntimeError("the inference never ended")
        moment = self.latency
        if until_s is not None:
            moment = self.now if until_s == math.inf else _exact(until_s)
        round_end = max(self.latency, moment)

        timeline = []
        fractions = list(self.resident)
        for resource, what, layer, start, end in self.timeline:
            if what == "prefetch":
                if start >= round_end:
                    continue
                end = min(end, round_end)
            if what in ("parameters", "prefetch"):
                sent = max(min(end, moment) - start, Fraction(0))
                fractions[layer] += sent / self.parameter_seconds[layer]
            timeline.append((resource, what, layer, start, end))
        timeline.sort(key=lambda row: (row[3], row[4], row))

        gaps = list(self.left_when_preempted)
        gaps += [r - f for r in self.activation_ready for f in self.upload_finished if r > f]
        return ReferenceResult(
            latency=float(self.latency),
            intervals=[
                Interval(resource, what, layer, float(start), float(end))
                for resource, what, layer, start, end in timeline
            ],
            resident=np.array([float(fraction) for fraction in fractions]),
            tie_margin=float(min(gaps, default=math.inf)),
            energy_j=None if watts is None else float(self.joules(timeline, watts)),
        )

    def joules(
        self, timeline: list[tuple[str, str, int, Fraction, Fraction]], watts: Sequence[float]
    ) -> Fraction:
        """Power times time, summed over what happened and over the UE's idle seconds."""
        assert self.latency is not None
        computing, waiting, sending, receiving = map(_exact, watts)
        drawn = {"ue": computing - waiting, "uplink": sending, "downlink": receiving}
        used = (
            drawn[resource] * (end - start)
            for resource, _, _, start, end in timeline
            if resource in drawn
        )
        return waiting * self.latency + sum(used, Fraction(0))


def chain_recursion(
    *,
    parameter_bytes: Sequence[float],
    output_bytes: Sequence[float],
    input_bytes: float,
    placement: Sequence[int],
    ue_seconds: Sequence[float],
    edge_seconds: Sequence[float],
    uplink_bps: float,
    downlink_bps: float,
    resident: Sequence[float] | None = None,
    message_s: float = 0.0,
) -> float:
    """The latency of a chain in parallel mode as a recursion over two numbers.

    `t` is the time at which the current activation exists where it is needed next, `s` the time at
    which the parameter stream gets to this point. The last layer's output ends on the UE, so a
    chain that ends at the edge pays for one more transfer.

    Args:
        parameter_bytes: Bytes of each layer's parameters.
        output_bytes: Bytes of each layer's output.
        input_bytes: Bytes of the network's input tensor, which layer 0 reads.
        placement: For each layer 0 (UE) or 1 (edge).
        ue_seconds: Seconds each layer takes on the UE.
        edge_seconds: Seconds each layer takes on the UE's share of the server.
        uplink_bps: Bits per second.
        downlink_bps: Bits per second.
        resident: Fraction of each layer's parameters that is on the server at the start.
        message_s: Seconds that a message takes beside its bytes.

    Returns:
        Latency in seconds.
    """
    uplink, downlink = uplink_bps / 8, downlink_bps / 8  # bytes per second
    t = s = 0.0
    side, activation_bytes = UE, input_bytes
    for layer, next_side in enumerate(placement):
        if next_side == UE:
            if side == EDGE:
                t += activation_bytes / downlink + message_s
            t += ue_seconds[layer]
        else:
            if side == UE:
                t += activation_bytes / uplink + message_s
                s += activation_bytes / uplink
            missing = 1.0 if resident is None else 1.0 - float(resident[layer])
            if missing * parameter_bytes[layer] > 0:
                s += missing * parameter_bytes[layer] / uplink
                t = max(t, s + message_s)
            t += edge_seconds[layer]
        side, activation_bytes = next_side, output_bytes[layer]
    if side == EDGE:
        t += activation_bytes / downlink + message_s
    return t
