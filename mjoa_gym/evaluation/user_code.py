"""User code in modules and files."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mjoa_gym.evaluation.journal import digest
from mjoa_gym.validation import did_you_mean


def imported(text: str, what: str = "agent") -> tuple[ModuleType, Any]:
    """Import the module and the object that `package.module:name` or `file.py:name` stands for.

    Modules may be in the current directory. Raises a ValueError if there is no such object, or the
    module cannot be imported. The message calls the text `what`.
    """
    where, _, path = text.rpartition(":")
    try:
        if where.endswith(".py"):
            module = _module_of_file(where)
        else:
            if os.getcwd() not in sys.path and "" not in sys.path:
                sys.path.insert(0, os.getcwd())  # the user's own packages
            module = importlib.import_module(where)
        found: Any = module
        for part in path.split("."):
            hint = did_you_mean(part, [name for name in dir(found) if name[0] != "_"])
            if not hasattr(found, part):
                raise ValueError(f"there is no {part!r} in {where}{hint}")
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # the user's own code
        reason = str(error) if isinstance(error, ValueError) else reason_of(error)
        raise ValueError(f"{what}={text!r}: {reason}") from error
    return module, found


def reason_of(error: BaseException) -> str:
    """Return what went wrong, on one line; an exception of the user may not even have a text."""
    try:
        text = str(error)
    except BaseException:
        text = "(without a text)"
    return one_line(f"{type(error).__name__}: {text}")


def one_line(text: str) -> str:
    """Return a text as one line of at most 300 printable characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 300 else line[:297] + "..."


def _module_of_file(text: str) -> ModuleType:
    """Import a file as a module; it can import the files next to it."""
    file = Path(text).resolve()
    name = f"{file.stem}_{digest(str(file).encode())}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise ValueError(f"there is no file {text}")
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def files_of(module: ModuleType | None) -> list[Path]:
    """Return the Python files of a module's package, or those next to it without a package."""
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return []
    top = sys.modules.get((module.__package__ or "").partition(".")[0])
    if top is None:
        return sorted(Path(file).parent.glob("*.py"))
    return sorted(f for folder in top.__path__ for f in Path(folder).rglob("*.py"))
