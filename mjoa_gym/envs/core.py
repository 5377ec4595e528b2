"""The common core of the scalar, vector and multi-agent environments."""

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


ONE = np.ones(1, dtype=np.bool_)
"""Selects the environment of a batch of one."""


def observers_for(view: ActionView) -> dict[str, type[Observer]]:
    """Return the observations that an action view supports, by name."""
    return {name: kind for name, kind in OBSERVERS.items() if isinstance(view, kind.views)}


def observation_of(name: str, view: ActionView) -> Observer:
    """Return the named observation for an action view; a ValueError lists the allowed names."""
    kinds = observers_for(view)
    remark = "" if name not in OBSERVERS else f" with a {type(view).__name__}"
    return kinds[choice("observation", name, kinds, remark)](view)


def refuse_unknown(env: object, given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise a TypeError for unknown arguments, in Python's words (libraries match on them)."""
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
    """E environments behind one interface, which adapters present to their users.

    The class of `env` defines whether UEs and their parameters stay (`persists`), and the name in
    pictures (`title`). `RoundsEnv` describes the other arguments.
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
        self.outcome: Outcome | None = None  # its outcome
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
        """Return what `step` returns when no environment's round is complete."""
        n_envs = self.batch.n_envs
        return new_outcome(n_envs, self.scenario.n_ues), np.zeros(n_envs, dtype=np.bool_)

    def step(self, actions: Any, which: NDArray[np.bool_]) -> tuple[Outcome, NDArray[np.bool_]]:
        """Act in the environments of `which` (E,); return the outcome, and (E,) complete rounds.

        Raises:
            ValueError: If an action is not allowed; nothing has changed then.
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
        """Return the observations, with a leading axis E, newly allocated."""
        return self.observation.observe(self.batch.state, self.batch.threads)

    def action_masks(self) -> NDArray[np.bool_]:
        """Return (E, choices) bool: False for the choices of the next actions that are void."""
        masks = self.view.masks(self.dnn)
        if masks is None:
            return np.ones((self.batch.n_envs, flatdim(self.view.space)), dtype=np.bool_)
        return masks == 1

    def infos(self, outcome: Outcome, complete: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Return the entries of `info`, always with the same keys, with a leading axis E.

        They describe an outcome, which completed the rounds of `complete` (E,), and hold the masks
        of the next actions (`ActionView.masks`), if the view has masks.
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
    """Return the part of a batch of observations or actions for one environment, or several."""
    if isinstance(batch, dict):
        return {key: values[e] for key, values in batch.items()}
    return batch[e]


def marked(batch: Any, which: NDArray[np.bool_]) -> Any:
    """Return a batch with zeros (None for objects) outside the environments of `which` (E,)."""
    if isinstance(batch, dict):
        return {key: marked(values, which) for key, values in batch.items()}
    if not which.all():
        batch = batch.copy()
        batch[~which] = None if batch.dtype == np.object_ else 0
    return batch
