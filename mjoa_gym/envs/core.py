"""What scalar, vector and multi-agent environments are made of."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.envs.actions import action_view
from mjoa_gym.envs.observation import observation_of
from mjoa_gym.world.batch import Batch
from mjoa_gym.world.rounds import Decision, Outcome
from mjoa_gym.world.scenario import Scenario

ScenarioLike = Scenario | dict[str, Any] | str | Path | None


def refuse_unknown(unknown: Mapping[str, Any], known: Sequence[str]) -> None:
    """Say what an argument that an environment does not have may be meant to be.

    Raises:
        TypeError: If there is one.
    """
    for name, value in unknown.items():
        hint = f"allowed are {list(known)}"
        near = difflib.get_close_matches(name, known, n=1)
        if name in {field.name for field in fields(Scenario)}:
            hint = f"it is a field of the scenario: scenario={{{name!r}: {value!r}}}"
        elif near:
            hint = f"did you mean {near[0]!r}?"
        raise TypeError(f"the environment has no argument {name!r}; {hint}")


class Core:
    """E environments behind one interface; adapters only say how their users see it.

    Args:
        persists: Whether UEs and their parameters stay from round to round.
        n_envs: E.
        action: Name of the action view.
        observation: Name of the observation, None for the one that the view's agents usually want.
        n_ues: Overrides the scenario's.
        scenario: What `Scenario.of` takes.
        rounds: Overrides the scenario's.
        threads: Threads that share the work.

    Raises:
        ValueError: Naming argument, value and what is allowed.
    """

    def __init__(
        self,
        persists: bool,
        n_envs: int,
        action: str,
        observation: str | None,
        n_ues: int | None,
        scenario: ScenarioLike,
        rounds: int | None,
        threads: int = 1,
    ) -> None:
        self.scenario = Scenario.of(scenario).with_changes(n_ues=n_ues, rounds=rounds)
        self.persists = persists
        self.view = action_view(action, self.scenario, persists, n_envs)
        self.observation = observation_of(observation or self.view.observation, self.view)
        self.batch = Batch(self.scenario, persists, n_envs, threads)
        self.decision: Decision | None = None  # the last one, for pictures

    @property
    def dnn(self) -> NDArray[np.int64]:
        """(E, N) network of each UE."""
        return self.batch.state.population.dnn

    def begin(self, which: NDArray[np.bool_]) -> None:
        """Start an episode in the environments of `which` (E,)."""
        self.batch.begin(which)
        self.view.restart(which)

    def step(
        self, actions: Any, which: NDArray[np.bool_]
    ) -> tuple[Outcome | None, NDArray[np.bool_]]:
        """Act in the environments of `which` (E,).

        Returns:
            What happened (None if nobody's round was complete), and (E,) whose round was.

        Raises:
            ValueError: If an action is not allowed; nothing has changed then.
        """
        decision, complete = self.view.decode(actions, self.dnn, which)
        if decision is None or not complete.any():
            return None, complete
        outcome = self.batch.play(decision, complete, self.view.endless)
        self.decision = decision
        return outcome, complete

    def observe(self) -> Any:
        """The observations, with a leading axis E, newly allocated."""
        return self.observation.observe(self.batch.state, self.batch.threads)

    def infos(self, outcome: Outcome | None) -> dict[str, NDArray[Any]]:
        """What `info` says of an outcome, with a leading axis E."""
        if outcome is None:
            return {}
        keys = ["latency_s", "local_s", "round_s"]
        if self.persists:
            keys += ["left", "resident_bytes", "dropped_bytes"]
        return {key: getattr(outcome, key) for key in keys}

    def masks(self) -> dict[str, NDArray[np.int8]]:
        """The entry of `info` with the masks of the next actions, if the view has masks."""
        masks = self.view.masks(self.dnn)
        return {} if masks is None else {"action_mask": masks}
