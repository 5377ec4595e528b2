"""The content of a picture of an environment: one round, and its effect on the server's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance, Plan, timelines
from mjoa_gym.model.simulator import Timeline
from mjoa_gym.rendering.style import amount, duration

LEAST_FRACTION = 1e-9  # smaller differences of resident fractions are rounding errors


class Memory(NamedTuple):
    """The server's memory after a round.

    Attributes:
        limit_bytes: Maximum bytes of parameters that the server keeps between rounds.
        kept: Per UE of the round (L,) or longer, or (N, L): the fractions of its layers that are
            still there when the next round begins; 0 for a UE that left.
        left: (N,) whether each UE left after the round.
        counted: Per UE (L,) or longer, or (N, L): whether a layer's bytes count for this UE; all by
            default. Where parameters are shared, they count once, and do not leave with a UE.
        others_bytes: Bytes kept of networks that none of the UEs runs.
        dropped_bytes: Bytes dropped, of all networks; by default computed from the UEs' losses.
    """

    limit_bytes: float
    kept: Sequence[NDArray[np.float64]] | NDArray[np.float64]
    left: NDArray[np.bool_]
    counted: NDArray[np.bool_] | None = None
    others_bytes: float = 0.0
    dropped_bytes: float | None = None


class Stock(NamedTuple):
    """A UE's P layers with parameters on the server, and how the round changes them."""

    layers: NDArray[np.int64]  # (P,) their numbers
    sizes: NDArray[np.float64]  # (P,) bytes
    before: NDArray[np.float64]  # (P,) fraction of each that was on the server when the round began
    uploaded: NDArray[np.float64]  # (P,) fraction that this inference's uploads added
    prefetched: NDArray[np.float64]  # (P,) fraction that prefetching added
    dropped: NDArray[np.float64]  # (P,) fraction dropped after the round, for lack of memory
    kept: NDArray[np.float64]  # (P,) fraction on the server when the next round begins
    left: bool  # whether the UE left, with all its parameters
    counted: NDArray[np.bool_]  # (P,) whether a layer's bytes count here

    def bytes_of(self, fractions: NDArray[np.float64]) -> float:
        """Return the bytes in given fractions (P,) of the layers."""
        return float(self.sizes @ fractions)

    @property
    def after(self) -> NDArray[np.float64]:
        """(P,) fraction on the server at the round's end, before anything is dropped."""
        return self.before + self.uploaded + self.prefetched

    @property
    def kept_bytes(self) -> float:
        """Bytes on the server when the next round begins."""
        return self.bytes_of(self.kept)

    @property
    def total_bytes(self) -> float:
        """Bytes of the network."""
        return float(self.sizes.sum())


class ServerMemory(NamedTuple):
    """Bytes after a round: kept of every UE, dropped, lost with UEs that left, and the limit."""

    kept: tuple[float, ...]
    dropped: float
    gone: float
    limit_bytes: float
    others: float = 0.0
    """Bytes kept of networks that none of the UEs runs."""

    @property
    def kept_text(self) -> str:
        """The kept bytes as text: "191 of 250 MB"."""
        kept, limit = sum(self.kept) + self.others, self.limit_bytes
        if limit == np.inf:
            return f"{amount(kept)}, no limit"
        return f"{amount(kept, limit or None, unit=False)} of {amount(limit)}"

    @property
    def shown_bytes(self) -> float:
        """Bytes of a whole bar, above 0; it exceeds the limit to show some of the dropped bytes."""
        if 0 < self.limit_bytes < np.inf:
            return self.limit_bytes * 4 / 3
        return max(1.0, sum(self.kept) + self.others + self.dropped + self.gone)


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that a picture of an environment shows.

    Attributes:
        instance: The round's problem, with what was resident at its start.
        plan: The agent's answer; None before the first round, when every UE runs all layers itself.
        name: The start of the title.
        round: Number of rounds that are over, including this one; 0 before the first.
        rounds: Rounds of an episode, or None to omit them.
        reward: Reward of the round, or None.
        round_s: Seconds of the round; default until the last inference ends.
        memory: The server's memory after the round, or None if it keeps nothing between rounds.

    Raises:
        ValueError: If the plan or the memory does not fit the instance's UEs.
    """

    instance: Instance
    plan: Plan | None = None
    name: str = ""
    round: int = 0
    rounds: int | None = None
    reward: float | None = None
    round_s: float | None = None
    memory: Memory | None = None

    def __post_init__(self) -> None:
        if self.plan is not None:
            self.plan.check_fits(self.instance)
        if self.memory is None:
            return
        for name in ("kept", "left"):
            n = len(getattr(self.memory, name))
            if n != self.instance.n_ues:
                raise ValueError(f"{name} has {n} entries for {self.instance.n_ues} UEs")

    @cached_property
    def answer(self) -> Plan:
        """The plan, or all layers on the UEs."""
        if self.plan is not None:
            return self.plan
        nobody = np.zeros(self.instance.n_ues)
        return Plan([np.zeros(ue.dnn.n_layers) for ue in self.instance.ues], nobody, nobody)

    @cached_property
    def timelines(self) -> tuple[Timeline, ...]:
        """The timeline of every UE."""
        return timelines(self.instance, self.answer, self.round_s)

    @cached_property
    def latency_s(self) -> NDArray[np.float64]:
        """(N,) seconds of the UEs' inferences."""
        return np.array([timeline.latency for timeline in self.timelines])

    @cached_property
    def end_s(self) -> float:
        """The time at which the round ends; at least the last finite latency, and above 0."""
        finite = self.latency_s[np.isfinite(self.latency_s)]
        return max([self.round_s or 0.0, *finite.tolist()]) or 1.0

    @cached_property
    def stocks(self) -> tuple[Stock, ...]:
        """Every UE's part of the server's memory; empty if it keeps nothing between rounds."""
        if self.memory is None:
            return ()
        return tuple(_stock(self, i, self.memory) for i in range(self.instance.n_ues))

    @property
    def server(self) -> ServerMemory | None:
        """The server's memory, or None if it keeps nothing between rounds."""
        if self.memory is None:
            return None
        dropped = self.memory.dropped_bytes
        if dropped is None:
            dropped = sum(stock.bytes_of(stock.dropped) for stock in self.stocks)
        gone = sum(stock.bytes_of(stock.after) for stock in self.stocks if stock.left)
        kept = tuple(stock.bytes_of(stock.kept * stock.counted) for stock in self.stocks)
        limit_bytes, others_bytes = self.memory.limit_bytes, self.memory.others_bytes
        return ServerMemory(kept, dropped, gone, limit_bytes, others_bytes)


def _stock(scene: Scene, i: int, memory: Memory) -> Stock:
    """Return UE i's part of the server's memory."""
    ue, placement = scene.instance.ues[i], scene.answer.placements[i]
    layers = np.flatnonzero(ue.dnn.parameter_bytes > 0)
    shared, everything = memory.counted is not None, np.ones(len(layers), np.bool_)
    before, asked = ue.resident[layers], placement[layers] == 1
    left = bool(memory.left[i]) and not shared
    after = before
    if scene.instance.upload != "preinstalled":
        after = scene.timelines[i].resident[layers]
    gained = np.where(after - before > LEAST_FRACTION, after - before, 0.0)
    kept = np.asarray(memory.kept[i])[layers] * (not left)
    lost = before + gained - kept
    return Stock(
        layers,
        ue.dnn.parameter_bytes[layers],
        before,
        uploaded=np.where(asked, gained, 0.0),
        prefetched=np.where(asked, 0.0, gained),
        dropped=np.where((lost > LEAST_FRACTION) & (not left), lost, 0.0),
        kept=kept,
        left=left,
        counted=everything if memory.counted is None else memory.counted[i][layers],
    )


def headline(scene: Scene) -> str:
    """Return the title: "Streaming · round 3 of 20"."""
    of = "" if scene.rounds is None else f" of {scene.rounds}"
    now = f"before round {scene.round + 1}" if scene.plan is None else f"round {scene.round}"
    return f"{scene.name} · {now}{of}" if scene.name else f"{now}{of}"


def summaries(scene: Scene) -> tuple[str, ...]:
    """Return texts on the round's reward and mean latency, from long to short.

    The mean is weighted if the weights differ.
    """
    weights = scene.instance.weights
    kind = "mean latency" if np.ptp(weights) == 0 else "weighted mean latency"
    now = duration(float(weights @ scene.latency_s / weights.sum()))
    if scene.plan is None:
        return f"{kind} {now} if every UE is alone", f"alone {now}"
    alone = duration(float(weights @ scene.instance.local_s / weights.sum()))
    reward = "" if scene.reward is None else f"reward {scene.reward:.3f} · "
    says = f"{now} (alone {alone})"
    return f"{reward}{kind} {says}", f"{reward}{says}", f"{reward}{now}"
