"""Data that environments keep for drawing: the last round of the first few environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model.instance import Instance
from mjoa_gym.world.batch import Batch
from mjoa_gym.world.rounds import Decision, Outcome, plan_of

if TYPE_CHECKING:
    from mjoa_gym.rendering import Scene


class Pictures:
    """The scenes of a batch of environments; created only if a render mode is set."""

    def __init__(self, batch: Batch, title: str) -> None:
        from mjoa_gym.rendering import MOST_DRAWN

        self.batch, self.title = batch, title
        self._scenes: list[Scene | None] = [None] * min(batch.n_envs, MOST_DRAWN)

    def problems(self) -> list[Instance]:
        """Return the current instances of the environments that are drawn."""
        return [self.batch.instance(e) for e in range(len(self._scenes))]

    def note(
        self,
        problems: list[Instance],
        decision: Decision,
        outcome: Outcome,
        complete: NDArray[np.bool_],
    ) -> None:
        """Keep the outcome of the problems whose rounds are complete."""
        for e in np.flatnonzero(complete[: len(self._scenes)]).tolist():
            self._scenes[e] = self._scene(
                e,
                problems[e],
                outcome.left[e].copy(),
                float(outcome.dropped_bytes[e]),
                plan=plan_of(decision, e, problems[e]),
                reward=float(outcome.reward[e]),
                round_s=float(outcome.round_s[e]),
            )

    def restart(self, which: NDArray[np.bool_]) -> None:
        """Forget the last episode's rounds."""
        for e in np.flatnonzero(which[: len(self._scenes)]).tolist():
            self._scenes[e] = None

    def scenes(self) -> list[Scene]:
        """Return the scenes to draw; before the first round, every UE runs all layers itself."""
        nobody = np.zeros(self.batch.scenario.n_ues, dtype=np.bool_)
        return [
            scene or self._scene(e, self.batch.instance(e), nobody)
            for e, scene in enumerate(self._scenes)
        ]

    def _scene(
        self,
        e: int,
        instance: Instance,
        left: NDArray[np.bool_],
        dropped_bytes: float = 0.0,
        **more: Any,
    ) -> Scene:
        from mjoa_gym.rendering import Memory, Scene

        state, scenario, memory = self.batch.state, self.batch.scenario, None
        if self.batch.persists:
            limit_bytes, kept = scenario.server_memory_bytes, state.resident[e].copy()
            memory = Memory(limit_bytes, kept, left)
            if scenario.share_parameters:
                shared = self._shared(instance, kept)
                memory = memory._replace(dropped_bytes=dropped_bytes, **shared)
        more |= {"round": int(state.round[e]), "rounds": scenario.rounds}
        return Scene(instance, name=self.title, memory=memory, **more)

    def _shared(self, instance: Instance, held: NDArray[np.float64]) -> dict[str, Any]:
        """Return the fields of `Memory` for an instance's UEs if the server holds (D, L)."""
        scenario = self.batch.scenario
        tables = scenario.tables
        networks = [scenario.profiles.index(ue.dnn) for ue in instance.ues]
        owner = np.ravel_multi_index(tuple(tables.owner), held.shape)
        owners = owner[networks]
        counted = np.zeros(owners.shape, np.bool_)
        counted.flat[np.unique(owners, return_index=True)[1]] = True
        held_bytes = (held * tables.parameter_bytes).ravel()
        others = np.setdiff1d(owner, owners)
        others_bytes = float(held_bytes[others].sum())
        return {"kept": held[networks], "counted": counted, "others_bytes": others_bytes}
