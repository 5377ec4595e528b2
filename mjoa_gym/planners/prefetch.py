"""MJOA-MU with prefetch: ours, not the paper's.

The plan is MJOA-MU's. In addition, layers are uploaded in the uplink's idle time, for later
inferences: greedily by latency gain per missing byte. The gain is that of the next inference at the
same shares, with everything resident that this inference uploads. Candidates are runs of layers in
program order. A run's gain is how much earlier that inference would end if the run were resident
and executed at the edge. The run with the largest gain per missing byte is taken, then the next one
in addition to it, until no run gains. If energy has a price, the price of sending is subtracted
from the gain.

Prefetches never delay the inference that they accompany, so they take no time in the round itself.
The planner knows neither how long the uplink will be idle nor how much memory the server has left.
Layers are sent in program order until the round ends, and layers that no UE uses are dropped first.
A UE that MJOA-MU leaves without bandwidth cannot prefetch. If no UE needs any bandwidth, however,
the UEs that would gain share the band.

If a plan also says what the server is to retain, it retains the edge layers of the next inferences.
The UEs whose inferences that shortens most per byte come first, until memory is full.

Cost: per UE one call of PBT-DP, and O(runs) simulations for every run that is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import compiled
from mjoa_gym.model.energy import judge
from mjoa_gym.model.inference import Inference
from mjoa_gym.model.instance import Instance, Plan, packed_inference, packed_link
from mjoa_gym.model.link import Link, seconds_for
from mjoa_gym.planners.anytime import ALL, finished
from mjoa_gym.planners.mjoa_mu import JointSearch
from mjoa_gym.planners.pbt_dp import WIDTH, best_partition

BOUNDARIES = 32
"""Runs of layers start and end at about this many positions, evenly spread."""
LEAST_GAIN = 1e-3
"""The least gain, relative to the inference, that is worth an upload."""


def greedy_prefetch(
    inference: Inference, link: Link, placement: NDArray[np.int8]
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The layers (L,) to prefetch for one UE, and the edge layers (L,) of its next inference.

    The parameters that this inference's `placement` misses will be resident after it.
    """
    missing = np.where(placement == 1, 0.0, inference.missing_bytes)
    after = inference._replace(missing_bytes=missing)
    following = np.zeros_like(placement)
    best_partition(after, link, WIDTH, following)
    before = missing.copy()
    missing[following == 1] = 0.0  # prefetch also what the next inference would upload
    add_runs(after, link, following)
    return ((before > 0) & (missing == 0)).astype(np.int8), following


@compiled
def add_runs(inference, link, following):
    """Extend the edge layers of the next inference by the runs that gain most per missing byte.

    `following` (L,), the placement of the next inference, changes. The missing bytes of the runs
    that are taken become 0. The code assigns elements, not slices: slices take Numba 5 s more to
    compile, for the text of an error.
    """
    n = len(following)
    missing = inference.missing_bytes
    scratch = kernel.new_scratch(n)
    now, prices = judge(following, inference, link, scratch), inference.prices
    stride = max(1, n // BOUNDARIES)
    trial, held = np.empty(n, np.int8), np.empty(n)
    while True:
        best_rate, best_first, best_end, best_latency = 0.0, 0, 0, now
        for first in range(0, n, stride):
            for layer in range(n):
                trial[layer], held[layer] = following[layer], missing[layer]
            sent = 0.0
            for end in range(first + 1, n + 1):
                trial[end - 1] = 1
                sent += missing[end - 1]
                missing[end - 1] = 0.0
                if (end % stride != 0 and end != n) or sent == 0.0:
                    continue
                latency = judge(trial, inference, link, scratch)
                gain = now - latency - prices.sending * seconds_for(sent, link.up)
                if gain / sent > best_rate and gain > LEAST_GAIN * now:
                    best_rate, best_latency = gain / sent, latency
                    best_first, best_end = first, end
            for layer in range(n):
                missing[layer] = held[layer]
        if best_rate == 0.0:
            return
        for layer in range(best_first, best_end):
            following[layer], missing[layer] = 1, 0.0
        now = best_latency


def mjoa_mu_prefetch(instance: Instance) -> Plan:
    """Plan as MJOA-MU does, and prefetch layers in the uplink's idle time.

    The module's docstring has the method and the cost.
    """
    return finished(PrefetchSearch(instance))


class PrefetchSearch:
    """The search for one instance: MJOA-MU's, then the prefetch of one UE after the other.

    Attributes:
        joint: MJOA-MU's search.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.joint = JointSearch(instance)
        self._prefetch: Prefetch | None = None

    def plan(self) -> Plan:
        """Return the best plan so far."""
        return self.joint.plan() if self._prefetch is None else self._prefetch.plan()

    def steps(self, piece: int = ALL) -> Iterator[None]:
        """See `Anytime`."""
        yield from self.joint.steps(piece)
        horizon = self._instance.horizon
        energy_price = self._instance.energy_price_s_per_j
        if horizon is not None and horizon.expected_rounds == 0.0 and energy_price > 0.0:
            return  # nothing that is uploaded for later is worth its energy
        self._prefetch = Prefetch(self._instance, self.joint.plan())
        yield from self._prefetch.steps()


class Prefetch:
    """Adds the greedy prefetch to a plan.

    If no UE uses the band, the UEs that prefetch share it.
    """

    def __init__(self, instance: Instance, plan: Plan) -> None:
        self._instance, self._plan = instance, plan
        self._unused = plan.bandwidth_share.sum() == 0
        self._retains = instance.horizon is not None and instance.horizon.retain
        self._marks = [np.zeros(ue.dnn.n_layers, np.int8) for ue in instance.ues]
        self._following = list(self._marks)  # the edge layers of each UE's next inference
        self._saved = np.zeros(instance.n_ues)  # weighted seconds if they are there

    def plan(self) -> Plan:
        """Return the plan with the prefetches found so far."""
        plan, bandwidth = self._plan, self._plan.bandwidth_share
        if self._unused:
            wanted = np.array([own.any() for own in self._marks], dtype=np.float64)
            bandwidth = wanted / max(1.0, wanted.sum())
        retain = None
        if self._retains:
            retain = worth_keeping(self._instance, self._following, self._saved)
        return Plan(plan.placements, bandwidth, plan.compute_share, self._marks, retain)

    def steps(self) -> Iterator[None]:
        """Find the prefetch of one UE after the other; `plan` has more whenever this yields."""
        instance, packed, even = self._instance, self._instance.packed, 1.0 / self._instance.n_ues
        shares = self._plan.bandwidth_share, self._plan.compute_share
        for i, ue in enumerate(instance.ues):
            beta, phi = (even, even) if self._unused else (share[i] for share in shares)
            if beta > 0 and ue.reachable and instance.upload != "preinstalled":
                link, inference = packed_link(packed, i, beta, phi), packed_inference(packed, i)
                placement = self._plan.placements[i]
                self._marks[i], after = greedy_prefetch(inference, link, placement)
                self._following[i] = after
                if self._retains:
                    saved = saved_s(inference, link, after, ue.dnn.parameter_bytes)
                    self._saved[i] = ue.weight * saved
                yield


def saved_s(
    inference: Inference,
    link: Link,
    placement: NDArray[np.int8],
    parameter_bytes: NDArray[np.float64],
) -> float:
    """The seconds that an inference saves if its edge layers' parameters are on the server.

    The comparison is with PBT-DP's placement for a server that holds nothing.
    """
    cold = inference._replace(missing_bytes=parameter_bytes.copy())
    there = inference._replace(missing_bytes=np.where(placement == 1, 0.0, parameter_bytes))
    alone = np.zeros_like(placement)
    best_partition(cold, link, WIDTH, alone)
    seconds = kernel.run_many(alone[None], cold, link) - kernel.run_many(
        placement[None], there, link
    )
    return float(seconds[0])


def worth_keeping(
    instance: Instance, following: Sequence[NDArray[np.int8]], saved: NDArray[np.float64]
) -> list[NDArray[np.int8]]:
    """What to retain per UE (L,): what saves most per byte, while it fits into memory.

    A UE retains either all or none of the edge layers of its next inference (`following`). `saved`
    (N,) are the weighted seconds that it saves with them on the server.
    """
    retain = [np.zeros_like(layers) for layers in following]
    sizes = [ue.dnn.parameter_bytes @ own for ue, own in zip(instance.ues, following, strict=True)]
    assert instance.horizon is not None
    left = instance.horizon.server_memory_bytes
    for i in np.argsort(-saved / np.maximum(sizes, 1.0), kind="stable"):
        if sizes[i] <= left and saved[i] > 0.0:
            retain[i], left = following[i], left - sizes[i]
    return retain
