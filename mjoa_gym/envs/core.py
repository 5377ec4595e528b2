"""What scalar, vector and multi-agent environments are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces.utils import flatdim
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView, action_view
from mjoa_gym.envs.observation import DictObserver, FlatObserver, Observer
from mjoa_gym.envs.outlook import Outlook
from mjoa_gym.envs.pictures import Pictures
from mjoa_gym.validation import choice, did_you_mean
from mjoa_gym.world.batch import Batch
from mjoa_gym.world.rounds import Decision, Outcome, new_outcome
from mjoa_gym.world.scenario import Scenario

ScenarioLike = Scenario | dict[str, Any] | str | Path | None
ARGUMENTS = ("action", "n_ues", "scenario", "rounds", "render_mode", "observation")
"""The arguments that every environment takes; `RoundsEnv` describes them."""
OBSERVERS: dict[str, type[Observer]] = {
    "flat": FlatObserver,
    "dict": DictObserver,
    "outlook": Outlook,
}


def observers_for(view: ActionView) -> dict[str, type[Observer]]:
    """The observations that go with an action view, by name."""
    return {name: kind for name, kind in OBSERVERS.items() if isinstance(view, kind.views)}


def observation_of(name: str, view: ActionView) -> Observer:
    """The named observation through an action view; a ValueError says which it allows."""
    kinds = observers_for(view)
    remark = "" if name not in OBSERVERS else f" with a {type(view).__name__}"
    return kinds[choice("observation", name, kinds, remark)](view)


def refuse_unknown(env: object, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise a TypeError for what is not known, in Python's words (libraries look for them)."""
    for name, value in given.items():
        if name in known:
            continue
        hint = did_you_mean(name, known) or f"; allowed are {list(known)}"
        if name in {field.name for field in fields(Scenario)}:
            hint = f"; it is a field of the scenario: scenario={{{name!r}: {value!r}}}"
        raise TypeError(
            f"{type(env).__name__}.__init__() got an unexpected keyword argument {name!r}{hint}"
        )


class Core:
    """E environments behind one interface; adapters only say how their users see it.

    The class of `env` says whether UEs and their parameters stay (`persists`), and what pictures
    call it (`title`); `RoundsEnv` describes the other arguments.
    """

    def __init__(
        self,
        env: Any,
        n_envs: int,
        threads: int = 1,
        action: str = "plan",
        n_ues: int | None = None,
        scenario: ScenarioLike = None,
        rounds: int | None = None,
        render_mode: str | None = None,
        observation: str | None = None,
    ) -> None:
        if render_mode is not None:
            choice("render_mode", render_mode, tuple(env.metadata["render_modes"]))
        self.scenario = Scenario.of(scenario).with_changes(n_ues=n_ues, rounds=rounds)
        self.persists = env.persists
        self.view = action_view(action, self.scenario, self.persists, n_envs)
        self.observation = observation_of(observation or self.view.observation, self.view)
        self.batch = Batch(self.scenario, self.persists, n_envs, threads)
        self.decision: Decision | None = None  # the last one
        self.outcome: Outcome | None = None  # what it has led to
        self.pictures = None if render_mode is None else Pictures(self.batch, env.title)

    @property
    def dnn(self) -> NDArray[np.int64]:
        """(E, N) network of each UE."""
        return self.batch.state.population.dnn

    def begin(self, which: NDArray[np.bool_]) -> None:
        """Start an episode in the environments of `which` (E,)."""
        self.batch.begin(which)
        self.view.restart(which)
        if self.pictures is not None:
            self.pictures.restart(which)

    def idle(self) -> tuple[Outcome, NDArray[np.bool_]]:
        """What `step` returns where nobody's round was complete."""
        n_envs = self.batch.n_envs
        return new_outcome(n_envs, self.scenario.n_ues), np.zeros(n_envs, dtype=np.bool_)

    def step(self, actions: Any, which: NDArray[np.bool_]) -> tuple[Outcome, NDArray[np.bool_]]:
        """Act in the environments of `which` (E,): what happens, and (E,) whose round is complete.

        If an action is not allowed, nothing changes but a ValueError.
        """
        decision, complete = self.view.decode(actions, self.batch.state, which, self.batch.threads)
        if decision is None or not complete.any():
            return self.idle()
        problems = [] if self.pictures is None else self.pictures.problems()
        outcome = self.batch.play(decision, complete, self.view.endless)
        self.decision, self.outcome = decision, outcome
        if self.pictures is not None:
            self.pictures.note(problems, decision, outcome, complete)
        return outcome, complete

    def observe(self) -> Any:
        """The observations, with a leading axis E, newly allocated."""
        return self.observation.observe(self.batch.state, self.batch.threads)

    def action_masks(self) -> NDArray[np.bool_]:
        """(E, choices) which choices of the next actions mean something of their own."""
        masks = self.view.masks(self.dnn)
        if masks is None:
            return np.ones((self.batch.n_envs, flatdim(self.view.space)), dtype=np.bool_)
        return masks == 1

    def infos(self, outcome: Outcome, complete: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """What `info` says, always the same keys, with a leading axis E.

        It is an outcome, whose round was `complete` (E,), and the masks of the next actions
        (`ActionView.masks`), if the view has masks.
        """
        keys = ["latency_s", "local_s", "round_s", "missed"]
        if self.scenario.knows_energy:
            keys.append("energy_j")
        if self.persists:
            keys += ["left", "resident_bytes", "dropped_bytes"]
        infos = {key: getattr(outcome, key) for key in keys}
        infos["round_complete"] = complete.copy()
        masks = self.view.masks(self.dnn)
        return infos if masks is None else infos | {"action_mask": masks}


def row(batch: Any, e: int | slice) -> Any:
    """One environment's part of a batch of observations or actions, or that of several."""
    if isinstance(batch, dict):
        return {key: values[e] for key, values in batch.items()}
    return batch[e]


def marked(batch: Any, which: NDArray[np.bool_]) -> Any:
    """A batch with zeros (None among objects) in place of all but the environments `which` (E,)."""
    if isinstance(batch, dict):
        return {key: marked(values, which) for key, values in batch.items()}
    if not which.all():
        batch = batch.copy()
        batch[~which] = None if batch.dtype == np.object_ else 0
    return batch
