"""What environments keep for drawing: the last round of the first few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.core import Core
from mjoa_gym.model.instance import Instance
from mjoa_gym.world.rounds import Outcome, plan_of

if TYPE_CHECKING:
    from mjoa_gym.rendering import Scene


class Pictures:
    """The scenes of a core's environments; made only where somebody wants to see them."""

    def __init__(self, core: Core, name: str) -> None:
        from mjoa_gym.rendering import MOST_DRAWN

        self.core = core
        self.name = name
        self.drawn = min(core.batch.n_envs, MOST_DRAWN)
        self._before: list[Instance] = []
        self._scenes: list[Scene | None] = [None] * self.drawn

    def before(self) -> None:
        """Note the problems that the coming actions answer."""
        self._before = [self.core.batch.instance(e) for e in range(self.drawn)]

    def after(self, outcome: Outcome, complete: NDArray[np.bool_]) -> None:
        """Note what has come of them, where a round is complete."""
        for e in np.flatnonzero(complete[: self.drawn]).tolist():
            decision = self.core.decision
            assert decision is not None  # some round was complete
            self._scenes[e] = self._scene(
                e,
                self._before[e],
                plan=plan_of(decision, e, self._before[e]),
                reward=float(outcome.reward[e]),
                round_s=float(outcome.round_s[e]),
                left=outcome.left[e],
            )

    def restart(self, which: NDArray[np.bool_]) -> None:
        """Forget the last episode's rounds."""
        for e in np.flatnonzero(which[: self.drawn]).tolist():
            self._scenes[e] = None

    def scenes(self) -> list[Scene]:
        """What to draw; before its first round every UE is shown as if on its own."""
        return [
            scene or self._scene(e, self.core.batch.instance(e))
            for e, scene in enumerate(self._scenes)
        ]

    def _scene(
        self, e: int, instance: Instance, left: NDArray[np.bool_] | None = None, **more: Any
    ) -> Scene:
        from mjoa_gym.rendering import Memory, Scene

        state, scenario = self.core.batch.state, self.core.scenario
        memory = None
        if self.core.persists:
            memory = Memory(
                scenario.server_memory_bytes,
                state.resident[e].copy(),
                np.zeros(scenario.n_ues, dtype=np.bool_) if left is None else left.copy(),
            )
        return Scene(
            instance,
            name=self.name,
            round=int(state.round[e]),
            rounds=scenario.rounds,
            memory=memory,
            **more,
        )
