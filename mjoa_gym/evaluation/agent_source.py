"""Sources of agents: a name, a text such as `mypackage.mymodule:my_planner`, or an object.

A source knows the label of its agent and the files that it depends on. It makes the agent, in this
process or in another one. Objects are distinguished as follows:

* A class is called.
* An object with a `predict` method is an agent.
* A function with one required argument, which is not called `scenario`, is a planner.
* Any other function is called, and returns an agent or a planner.

Classes and functions that are called get `scenario=` if they have a parameter of that name.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from mjoa_gym.evaluation import saved_model
from mjoa_gym.evaluation.agent import Agent, LowerBoundAgent, PlannerAgent, signature_of
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.journal import digest, digest_of
from mjoa_gym.evaluation.user_code import files_of, imported
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.registry import PLANNERS, planner_names, planner_of
from mjoa_gym.validation import choice

LOWER_BOUND = "lower-bound"
"""Name of the certified bound among the planners; it has latencies but no plan."""
LEARNED, CARDS = "agents.learned_agent:LearnedAgent", "agents.cards:read"
"""Functions that read an agent's folder, and its card; only a clone of the repository has them."""


@dataclass(frozen=True, eq=False)
class AgentSource:
    """Makes an agent for a setting, in this process or in another one."""

    label: str  # the agent's name in tables
    agent: Callable[[Setting], Agent]
    files: Sequence[Path] = ()  # files that it depends on besides this package
    batches: bool = False  # whether it takes several episodes' observations at once
    checked: bool = False  # whether making it is safe and checks that it supports the setting

    def check(self, setting: Setting) -> None:
        """Raise a ValueError if the agent is known not to support a setting."""
        if self.checked:
            self.agent(setting)

    @property
    def version(self) -> str:
        """A digest that changes whenever the agent's files do."""
        return digest((self.label + digest_of(self.files)).encode())


def source_of(given: Any, label: str | None = None) -> AgentSource:
    """Return the source that a name, a text or an object stands for.

    Args:
        given: A planner's name, a folder with a card, `ppo:path/of/model.zip` (or another
            algorithm), `package.module:name` or `path/of/file.py:name`, each optionally written as
            `label=...`; or a planner, an agent, a model, or a function or class that makes one.
        label: The agent's label; the default for a text is the text.

    Raises:
        ValueError: If there is no such agent; suggests the nearest name.
    """
    if isinstance(given, (str, os.PathLike)):
        return _source_of_text(os.fspath(given), label)
    label = label or str(getattr(given, "__name__", type(given).__name__))
    if saved_model.is_sb3(given, "BaseAlgorithm"):
        frozen = saved_model.frozen_model(given)
        make = partial(saved_model.saved_agent, type(given), frozen, label)
        return AgentSource(label, make, batches=True, checked=True)
    if not callable(given) and not hasattr(given, "predict"):
        raise ValueError(f"{label}={given!r}: is not a planner or an agent, and does not make one")
    return _source_of_object(label, given)


def _source_of_text(text: str, label: str | None) -> AgentSource:
    named = re.match(r"([^:/\\=]+)=(.+)", text)
    if label is None and named and not Path(text).exists():
        label, text = named.groups()
    name = label or text
    if text in PLANNERS:
        return AgentSource(name, lambda setting: PlannerAgent(text, setting.scenario))
    if text == LOWER_BOUND:
        return AgentSource(name, _bound, checked=True)
    if Path(text).is_dir():
        module, read = _of_clone(CARDS)
        name = str(label or read(Path(text)).get("name") or Path(text).resolve().name)
        files = [*files_of(module), *Path(text).glob("*.*")]
        return AgentSource(name, partial(_learned, text), files, batches=True, checked=True)
    if ":" in text:
        algorithm, _, path = text.partition(":")
        algorithm = algorithm.lower().replace("_", "-")
        there = any(map(os.path.exists, (path, f"{path}.zip")))
        known = algorithm in saved_model.ALGORITHMS
        if known and (there or find_spec(algorithm) is None):  # else it may be a module's name
            make = partial(saved_model.saved_agent, algorithm, path, name)
            found = saved_model.model_files(path)
            return AgentSource(name, make, found, batches=True, checked=True)
        module, thing = imported(text)
        batches = bool(getattr(thing, "batches", False))
        return AgentSource(
            name, lambda setting: agent_from(imported(text)[1], setting), files_of(module), batches
        )
    if Path(text).suffix == ".zip":
        raise ValueError(f"agent={text!r}: which algorithm saved it? For example, ppo:{text}")
    if Path(text).name != text:
        raise ValueError(f"agent={text!r}: there is no such folder")
    choice("agent", text, (*planner_names(), LOWER_BOUND))
    return _source_of_object(name, planner_of(text))


def _source_of_object(label: str, thing: Any) -> AgentSource:
    files = files_of(inspect.getmodule(thing) or inspect.getmodule(type(thing)))
    batches = bool(getattr(thing, "batches", False))
    return AgentSource(label, partial(agent_from, thing), files, batches)


def _bound(setting: Setting) -> Agent:
    if setting.persists:
        raise ValueError("the lower bound is known only for a cold start")
    return LowerBoundAgent(setting.scenario)


def _learned(folder: str, setting: Setting) -> Agent:
    learned = _of_clone(LEARNED)[1].load(folder, setting.scenario)
    if learned.persists != setting.persists:
        known = "streaming" if learned.persists else "cold-start"
        raise ValueError(f"{folder} was trained for {known}, not for this environment")
    return learned


def agent_from(thing: Any, setting: Setting) -> Agent:
    """An agent from a planner, an agent, or what makes one (see above); else a ValueError."""
    if isinstance(thing, type) or not (hasattr(thing, "predict") or is_planner(thing)):
        signature = signature_of(thing)
        asks = signature is not None and "scenario" in signature.parameters
        thing = thing(scenario=setting.scenario) if asks else thing()
    if not hasattr(thing, "predict"):
        if not callable(thing):
            raise ValueError(f"{type(thing).__name__} is not a planner, and has no `predict`")
        check_arguments(thing)
        return PlannerAgent(thing, setting.scenario)
    if hasattr(thing, "action_space") and not hasattr(thing, "action_view"):
        return saved_model.model_agent(thing, setting)
    return thing


def is_planner(thing: Callable[..., Any]) -> bool:
    """Whether a function plans, rather than makes something that does."""
    signature = signature_of(thing)
    if signature is None or signature.return_annotation in (Plan, "Plan"):
        return True
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.name == "scenario":
        return False
    told = first.annotation in (Instance, "Instance") or first.name == "instance"
    return told or (first.default is first.empty and first.kind is not first.VAR_KEYWORD)


def check_arguments(planner: Callable[..., Any]) -> None:
    """Raise a ValueError if a planner needs more than an instance."""
    signature = signature_of(planner)
    try:
        if signature is not None:
            signature.bind(None)
    except TypeError as error:
        name = getattr(planner, "__name__", type(planner).__name__)
        raise ValueError(f"{name}{signature}: is called with an instance alone: {error}") from error


def _of_clone(text: str) -> tuple[ModuleType, Any]:
    """Import a module of the package `agents` and an object in it; ImportError without an extra."""
    try:
        return imported(text)
    except ValueError as error:
        missing = error.__cause__
        if not isinstance(missing, ImportError):
            raise
        if missing.name != "agents":
            raise missing from None
        raise ValueError(
            "the package `agents` is needed. It is in the repository, not in the wheel: "
            "install a clone of the repository with pip install -e '.[train]'"
        ) from error
