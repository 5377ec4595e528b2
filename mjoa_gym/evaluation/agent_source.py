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
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from mjoa_gym.evaluation.agent import Agent, LowerBoundAgent, PlannerAgent
from mjoa_gym.evaluation.episodes import Setting
from mjoa_gym.evaluation.journal import digest, digest_of
from mjoa_gym.evaluation.saved_model import (
    ALGORITHMS,
    ModelAgent,
    frozen_model,
    is_sb3,
    load_model,
    model_files,
)
from mjoa_gym.evaluation.user_code import files_of, imported
from mjoa_gym.model.instance import Instance, Plan
from mjoa_gym.planners.registry import PLANNERS, planner_names, planner_of
from mjoa_gym.validation import choice

LOWER_BOUND = "lower-bound"
"""Stands among the planners for the certified bound, which has latencies but no plan."""
LEARNED = "agents.learned_agent:LearnedAgent"
"""What reads a folder with a card: a clone of this project's repository has it."""
CARD = "card.yaml"


@dataclass(frozen=True)
class AgentSource(ABC):
    """What an agent is made from.

    Attributes:
        label: What the agent is called in tables.
    """

    label: str

    batches = False
    """Whether the agent takes several episodes' observations at once."""

    @abstractmethod
    def agent(self, setting: Setting) -> Agent:
        """The agent, to act in a setting."""

    def check(self, setting: Setting) -> None:
        """Raise a ValueError if it is known that the agent is not for a setting."""
        return

    def files(self) -> Sequence[Path]:
        """What the agent depends on beside this package."""
        return ()

    @property
    def version(self) -> str:
        """Changes whenever the agent does, as far as its files tell."""
        return digest((self.label + digest_of(self.files())).encode())


@dataclass(frozen=True)
class NamedPlanner(AgentSource):
    """A planner of this package."""

    name: str

    def agent(self, setting: Setting) -> Agent:
        """See `AgentSource.agent`."""
        return PlannerAgent(self.name, setting.scenario)


@dataclass(frozen=True)
class BoundSource(AgentSource):
    """The certified lower bound."""

    def agent(self, setting: Setting) -> Agent:
        """See `AgentSource.agent`."""
        return LowerBoundAgent(setting.scenario)

    def check(self, setting: Setting) -> None:
        """See `AgentSource.check`."""
        if setting.persists:
            raise ValueError("the lower bound is known for a cold start only")


@dataclass(frozen=True)
class ObjectSource(AgentSource):
    """A planner, an agent, or what makes one, given as an object."""

    thing: Any

    @property
    def batches(self) -> bool:  # type: ignore[override]
        """See `AgentSource.batches`."""
        return bool(getattr(self.thing, "batches", False))

    def agent(self, setting: Setting) -> Agent:
        """See `AgentSource.agent`."""
        return agent_from(self.thing, setting)

    def files(self) -> Sequence[Path]:
        """See `AgentSource.files`."""
        return files_of(inspect.getmodule(self.thing) or inspect.getmodule(type(self.thing)))


@dataclass(frozen=True)
class ImportedSource(AgentSource):
    """The same, as `package.module:name` or `path/of/a/file.py:name`."""

    text: str

    @property
    def batches(self) -> bool:  # type: ignore[override]
        """See `AgentSource.batches`."""
        return bool(getattr(imported(self.text)[1], "batches", False))

    def agent(self, setting: Setting) -> Agent:
        """See `AgentSource.agent`."""
        return agent_from(imported(self.text)[1], setting)

    def check(self, setting: Setting) -> None:
        """See `AgentSource.check`."""
        imported(self.text)

    def files(self) -> Sequence[Path]:
        """See `AgentSource.files`."""
        return files_of(imported(self.text)[0])


@dataclass(frozen=True)
class ModelSource(AgentSource):
    """A model of Stable-Baselines3 or sb3-contrib (see `load_model`)."""

    algorithm: str | type
    saved: str | tuple[bytes, bytes]

    batches = True

    def agent(self, setting: Setting) -> Agent:
        """See `AgentSource.agent`."""
        model, statistics = load_model(self.algorithm, self.saved)
        return ModelAgent.of(model, setting, statistics, self.label)

    def check(self, setting: Setting) -> None:
        """See `AgentSource.check`."""
        self.agent(setting)

    def files(self) -> Sequence[Path]:
        """See `AgentSource.files`."""
        return model_files(self.saved) if isinstance(self.saved, str) else ()


@dataclass(frozen=True)
class LearnedFolder(AgentSource):
    """A folder with a card, as `agents` writes it."""

    folder: str

    batches = True

    def agent(self, setting: Setting) -> Agent:
        """See `AgentSource.agent`."""
        learned = _of_a_clone(LEARNED)[1].load(self.folder, setting.scenario)
        if learned.persists != setting.persists:
            known = "streaming" if learned.persists else "cold-start"
            raise ValueError(f"{self.folder} was trained for {known}, not for this environment")
        agent: Agent = learned
        return agent

    def check(self, setting: Setting) -> None:
        """See `AgentSource.check`."""
        self.agent(setting)

    def files(self) -> Sequence[Path]:
        """See `AgentSource.files`."""
        return [*files_of(_of_a_clone(LEARNED)[0]), *Path(self.folder).glob("*.*")]


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
    if isinstance(given, AgentSource):
        return given
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, str):
        return _source_of_text(given, label)
    label = label or str(getattr(given, "__name__", type(given).__name__))
    if is_sb3(given, "BaseAlgorithm"):
        return ModelSource(label, type(given), frozen_model(given))
    if not callable(given) and not hasattr(given, "predict"):
        raise ValueError(f"{label}={given!r}: is no planner, no agent, and makes none")
    return ObjectSource(label, given)


def _source_of_text(text: str, label: str | None) -> AgentSource:
    named = re.match(r"([^:/\\=]+)=(.+)", text)
    if label is None and named and not Path(text).exists():
        label, text = named.groups()
    name = label or text
    if text in PLANNERS:
        return NamedPlanner(name, text)
    if text == LOWER_BOUND:
        return BoundSource(name)
    if Path(text).is_dir():
        return LearnedFolder(label or _name_on_card(Path(text)), text)
    if ":" in text:
        algorithm = text.partition(":")[0].lower().replace("_", "-")
        path = text.partition(":")[2]
        if algorithm in ALGORITHMS and (_exists(path) or not _is_module(algorithm)):
            model_files(path)  # is there
            return ModelSource(name, algorithm, path)
        imported(text)
        return ImportedSource(name, text)
    if Path(text).suffix == ".zip":
        raise ValueError(f"agent={text!r}: which algorithm saved it? Say, for instance, ppo:{text}")
    if Path(text).name != text:
        raise ValueError(f"agent={text!r}: there is no such folder")
    choice("agent", text, (*planner_names(), LOWER_BOUND))
    return ObjectSource(name, planner_of(text))


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
        return ModelAgent.of(thing, setting)
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


def _of_a_clone(text: str) -> tuple[ModuleType, Any]:
    """What is in a clone of the repository only.

    Raises:
        ValueError: If it is not here.
    """
    try:
        return imported(text)
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
