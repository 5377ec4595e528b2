"""What stands for an agent: a name, a text such as `mypackage.mymodule:my_planner`, or an object.

A source knows what its agent is called and on what it depends, and makes it, in this process or in
another. Functions, classes and objects are told apart like this: a class is called; what has a
`predict` is an agent; a function that must be given one argument, not called `scenario`, is a
planner; any other function is called, and gives an agent or a planner. What is called gets
`scenario=` if it has a parameter of that name.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from mjoa_gym.evaluation.agent import Agent, LowerBoundAgent, PlannerAgent
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.journal import digest, digest_of
from mjoa_gym.evaluation.saved_model import (
    ALGORITHMS,
    frozen_model,
    is_sb3,
    model_agent,
    model_files,
    saved_agent,
)
from mjoa_gym.evaluation.user_code import files_of, imported
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.registry import PLANNERS, planner_names, planner_of
from mjoa_gym.validation import choice

LOWER_BOUND = "lower-bound"
"""Stands among the planners for the certified bound, which has latencies but no plan."""
LEARNED = "agents.learned_agent:LearnedAgent"
"""What reads a folder with a card; a clone of the repository has it, beside this package."""
CARD = "card.yaml"


@dataclass(frozen=True, eq=False)
class AgentSource:
    """What an agent is made from, in this process or in another.

    Attributes:
        label: What the agent is called in tables.
        agent: Makes the agent for a setting.
        files: What it depends on beside this package.
        batches: Whether the agent takes several episodes' observations at once.
        checked: Whether making it is safe, and tells whether it is for the setting.
    """

    label: str
    agent: Callable[[Setting], Agent]
    files: Sequence[Path] = ()
    batches: bool = False
    checked: bool = False

    def check(self, setting: Setting) -> None:
        """Raise a ValueError if it is known that the agent is not for a setting."""
        if self.checked:
            self.agent(setting)

    @property
    def version(self) -> str:
        """Changes whenever the agent does, as far as its files tell."""
        return digest((self.label + digest_of(self.files)).encode())


def source_of(given: Any, label: str | None = None) -> AgentSource:
    """What a name, a text or an object stands for.

    Args:
        given: A planner's name, a folder with a card, `ppo:path/of/model.zip` (or
            another algorithm), `package.module:name` or `path/of/file.py:name`, each of them as
            `label=...`, too; or a planner, an agent, a model, or what makes one.
        label: What to call it; a text calls itself.

    Raises:
        ValueError: If it stands for nothing (with the nearest name).
    """
    if isinstance(given, (str, os.PathLike)):
        return _source_of_text(os.fspath(given), label)
    label = label or str(getattr(given, "__name__", type(given).__name__))
    if is_sb3(given, "BaseAlgorithm"):
        make = partial(saved_agent, type(given), frozen_model(given), label)
        return AgentSource(label, make, batches=True, checked=True)
    if not callable(given) and not hasattr(given, "predict"):
        raise ValueError(f"{label}={given!r}: is no planner, no agent, and makes none")
    return _source_of_object(label, given)


def _source_of_text(text: str, label: str | None) -> AgentSource:
    make: Callable[[Setting], Agent]
    named = re.match(r"([^:/\\=]+)=(.+)", text)
    if label is None and named and not Path(text).exists():
        label, text = named.groups()
    name = label or text
    if text in PLANNERS:
        return AgentSource(name, partial(_planner, text))
    if text == LOWER_BOUND:
        return AgentSource(name, _bound, checked=True)
    if Path(text).is_dir():
        name = label or _name_on_card(Path(text))
        files = [*files_of(_reader_of_cards()), *Path(text).glob("*.*")]
        return AgentSource(name, partial(_learned, text), files, batches=True, checked=True)
    if ":" in text:
        algorithm, _, path = text.partition(":")
        algorithm = algorithm.lower().replace("_", "-")
        if algorithm in ALGORITHMS and (_exists(path) or not _is_module(algorithm)):
            make = partial(saved_agent, algorithm, path, name)
            return AgentSource(name, make, model_files(path), batches=True, checked=True)
        module, thing = imported(text)
        batches = bool(getattr(thing, "batches", False))
        return AgentSource(name, partial(_imported, text), files_of(module), batches)
    if Path(text).suffix == ".zip":
        raise ValueError(f"agent={text!r}: which algorithm saved it? Say, for instance, ppo:{text}")
    if Path(text).name != text:
        raise ValueError(f"agent={text!r}: there is no such folder")
    choice("agent", text, (*planner_names(), LOWER_BOUND))
    return _source_of_object(name, planner_of(text))


def _source_of_object(label: str, thing: Any) -> AgentSource:
    files = files_of(inspect.getmodule(thing) or inspect.getmodule(type(thing)))
    batches = bool(getattr(thing, "batches", False))
    return AgentSource(label, partial(agent_from, thing), files, batches)


def _planner(name: str, setting: Setting) -> Agent:
    return PlannerAgent(name, setting.scenario)


def _imported(text: str, setting: Setting) -> Agent:
    return agent_from(imported(text)[1], setting)


def _bound(setting: Setting) -> Agent:
    if setting.persists:
        raise ValueError("the lower bound is known for a cold start only")
    return LowerBoundAgent(setting.scenario)


def _learned(folder: str, setting: Setting) -> Agent:
    learned = imported(LEARNED)[1].load(folder, setting.scenario)
    if learned.persists != setting.persists:
        known = "streaming" if learned.persists else "cold-start"
        raise ValueError(f"{folder} was trained for {known}, not for this environment")
    agent: Agent = learned
    return agent


def agent_from(thing: Any, setting: Setting) -> Agent:
    """An agent from a planner, an agent, or what makes one (see the module's docstring).

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(thing, type) or not (hasattr(thing, "predict") or _is_planner(thing)):
        takes_scenario = "scenario" in _parameters(thing)
        thing = thing(scenario=setting.scenario) if takes_scenario else thing()
    if not hasattr(thing, "predict"):
        if not callable(thing):
            raise ValueError(f"{type(thing).__name__} is no planner, and has no `predict`")
        return PlannerAgent(thing, setting.scenario)
    if hasattr(thing, "action_space") and not hasattr(thing, "action_view"):
        return model_agent(thing, setting)
    agent: Agent = thing
    return agent


def _is_planner(thing: Callable[..., Any]) -> bool:
    """Whether a function plans, rather than makes something that does."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):  # compiled code need not say
        return True
    first, *_ = [*signature.parameters.values(), None]
    if signature.return_annotation in (Plan, "Plan"):
        return True
    if first is None or first.name == "scenario":
        return False
    told = first.annotation in (Instance, "Instance") or first.name == "instance"
    return told or (first.default is first.empty and first.kind is not first.VAR_KEYWORD)


def _parameters(thing: Callable[..., Any]) -> Sequence[str]:
    try:
        return tuple(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return ()


def _reader_of_cards() -> ModuleType:
    """The module that reads agents' folders.

    Raises:
        ValueError: If it is not here.
    """
    try:
        return imported(LEARNED)[0]
    except ValueError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name == "agents":
            raise ValueError(
                "the package `agents` is needed, which is in the repository, not in the wheel: "
                "install a clone of it with pip install -e '.[train]'"
            ) from error
        if isinstance(error.__cause__, ImportError):
            raise error.__cause__ from None  # an extra is missing
        raise


def _name_on_card(folder: Path) -> str:
    if not (folder / CARD).is_file():
        raise ValueError(f"{folder} holds no agent: {CARD} is missing")
    try:
        card = yaml.safe_load((folder / CARD).read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{folder / CARD} is not valid YAML: {error}") from error
    name = card.get("name") if isinstance(card, dict) else None
    return str(name or folder.resolve().name)


def _exists(path: str) -> bool:
    return Path(path).exists() or Path(f"{path}.zip").exists()


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
