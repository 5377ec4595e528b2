"""The gain from the edge for one UE: every planner on one inference, and what the gain depends on.

All latencies are those of the plan under the timing model, not those that its planner assumes. A
comparison takes as long as its planners (`docs/planners.md`): milliseconds for most, and about a
second for `mjoa-mu` on a non-chain network with hundreds of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mjoa_gym.model.instance import UE, Instance, Plan, evaluate, timelines
from mjoa_gym.model.simulator import Timeline
from mjoa_gym.planners import plan_with, planner_names
from mjoa_gym.validation import choice, positive

LOCAL, EDGE, OURS = "local-only", "edge-only", "mjoa-mu"
"""The references, and the expert."""
NOT_FOR_ONE_UE = ("random", "iao", "far-sighted", "oracle")
"""Planners that are left out for one UE, because they are not a system, equal Neurosurgeon's cut
for a single UE, equal MJOA-MU without later rounds, or take minutes to search shares that a single
UE does not share."""

ROUNDING = 1e-12
"""Maximum relative difference between two sums of the same seconds."""

Progress = Callable[[Sequence[Any]], Iterable[Any]]
"""Shows the progress of a loop over the sequence, as `tqdm` does."""


def one_ue_planners() -> tuple[str, ...]:
    """Return the planners that differ for one UE, references first.

    `NOT_FOR_ONE_UE` and the combinations of partitioning and allocation ("a+b") are left out.
    """
    names = [n for n in planner_names() if "+" not in n and n not in NOT_FOR_ONE_UE]
    return tuple(sorted(names, key=lambda name: name not in (LOCAL, EDGE)))


@dataclass(frozen=True)
class Answer:
    """The plan of one planner, and its result."""

    planner: str
    upload: str  # the mode in which it planned and is measured
    instance: Instance  # of one UE
    plan: Plan  # with the whole band and server, as there is no other UE
    timeline: Timeline

    @property
    def placement(self) -> NDArray[np.int8]:
        """(L,) 0 = UE, 1 = edge."""
        return self.plan.placements[0]

    @property
    def latency_s(self) -> float:
        """Seconds."""
        return self.timeline.latency

    @property
    def gain_s(self) -> float:
        """Seconds saved against all-local execution; negative if slower, 0 within rounding."""
        local_s = self.instance.ues[0].local_s
        saved_s = local_s - self.latency_s
        return saved_s if abs(saved_s) > ROUNDING * local_s else 0.0

    @property
    def gain(self) -> float:
        """The fraction of the all-local latency that is saved, below 1; 0 if that latency is 0."""
        local_s = self.instance.ues[0].local_s
        return self.gain_s / local_s if local_s > 0 else 0.0

    @property
    def uploaded_bytes(self) -> float:
        """Bytes of parameters that this inference waits for."""
        ue = self.instance.ues[0]
        missing = 0.0 if self.upload == "preinstalled" else 1.0 - ue.resident
        return float((ue.dnn.parameter_bytes * missing * self.placement).sum())


def answers_of(
    instance: Instance,
    planners: Sequence[str] | None = None,
    uploads: Sequence[str] | None = None,
    progress: Progress = iter,
) -> dict[tuple[str, str], Answer]:
    """Return every planner's answer for one UE, by upload mode and planner.

    The defaults are `one_ue_planners()` and the instance's mode. The planners plan again for every
    mode. Raises a ValueError if the instance does not have exactly one UE, or a name is unknown.
    """
    if instance.n_ues != 1:
        raise ValueError(f"instance has {instance.n_ues} UEs: must be 1")
    names = _known(planners)
    modes = [instance.upload] if uploads is None else uploads
    worlds = {mode: replace(instance, upload=mode) for mode in modes}
    answers = {}
    for mode, name in progress([(mode, name) for mode in modes for name in names]):
        plan = _alone(name, worlds[mode])
        (timeline,) = timelines(worlds[mode], plan)
        answers[mode, name] = Answer(name, mode, worlds[mode], plan, timeline)
    return answers


def latencies_against(
    instances: Sequence[Instance],
    planners: Sequence[str] | None = None,
    progress: Progress = iter,
) -> dict[str, NDArray[np.float64]]:
    """Return seconds (len(instances),) of each planner, which plans again for every instance."""
    names = _known(planners)
    seconds = {name: np.empty(len(instances)) for name in names}
    for k, name in progress([(k, name) for k in range(len(instances)) for name in names]):
        seconds[name][k] = evaluate(instances[k], _alone(name, instances[k]))[0]
    return seconds


def with_faster_network(instance: Instance, factor: float) -> Instance:
    """Return the same UEs with rates `factor` times as high in both directions."""
    speed = positive("factor", factor)

    def faster(ue: UE) -> UE:
        if ue.uplink_bps is None or ue.downlink_bps is None:
            return ue  # a wider band increases its rates
        up, down = ue.uplink_bps * speed, ue.downlink_bps * speed
        return replace(ue, uplink_bps=up, downlink_bps=down)

    ues = tuple(map(faster, instance.ues))
    return replace(instance, ues=ues, bandwidth_hz=instance.bandwidth_hz * speed)


def with_faster_server(instance: Instance, factor: float) -> Instance:
    """Return the same UEs with a server `factor` times as fast."""
    speed = positive("factor", factor)
    ues = (replace(ue, edge_seconds=ue.edge_seconds / speed) for ue in instance.ues)
    return replace(instance, ues=tuple(ues))


def placement_text(placement: ArrayLike, most: int | None = None) -> str:
    """Format a placement as ranges of layers ("UE 0-3, edge 4-9"); count those beyond `most`."""
    sides = np.asarray(placement)
    starts = np.flatnonzero(np.diff(sides, prepend=-1)).tolist()
    if len(starts) == 1:
        return "all on the edge" if sides[0] else "all on the UE"
    ranges = [
        f"{'edge' if sides[a] else 'UE'} {a}" + (f"-{after - 1}" if after > a + 1 else "")
        for a, after in zip(starts, [*starts[1:], len(sides)], strict=True)
    ]
    others = len(ranges) - len(ranges[:most])
    return ", ".join(ranges[:most]) + (f", and {others} more" if others else "")


def _alone(planner: str, instance: Instance) -> Plan:
    """Return a plan with all resources for the one UE; some planners give local UEs nothing."""
    plan = plan_with(planner, instance)
    return Plan(plan.placements, [1.0], [1.0], plan.prefetch)


def _known(planners: Sequence[str] | None) -> tuple[str, ...]:
    if planners is None:
        return one_ue_planners()
    if not planners:
        raise ValueError("planners is empty: must name at least one")
    return tuple(dict.fromkeys(choice("planner", name, planner_names()) for name in planners))
