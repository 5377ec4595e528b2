"""Networks as people name them on a command line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mjoa_gym import DNN

ALLOWED = "a name of the catalogue, the path of a .json or .onnx file, or package.module:callable"


def load_model(text: str, granularity: str = "layer", input_shape: str = "1,3,224,224") -> DNN:
    """A network by its name in the catalogue, from a file, or from a torch module.

    A torch module is built and traced on the meta device, without weights.

    Args:
        text: A name of `DNN.names()`, a path that ends in .json or .onnx, or "package.module:name"
            of a callable without arguments that returns a torch module.
        granularity: "layer" or "block".
        input_shape: Of the float32 input that a torch module is fed, as whole numbers and commas.

    Raises:
        ValueError: Naming field, value and what is allowed.
        OSError: If a file cannot be read.
    """
    suffix = Path(text).suffix.lower()
    if suffix == ".onnx":
        return _importer("from_onnx")(text, granularity=granularity)
    if suffix != ".json" and ":" in text:
        module, example = torch_model(text, input_shape)
        name = text.partition(":")[2]
        return _importer("from_torch")(module, example, granularity=granularity, name=name)
    return DNN.load(text, granularity)  # type: ignore[arg-type]


def torch_model(text: str, input_shape: str) -> tuple[Any, tuple[Any]]:
    """The module that "package.module:callable" returns, and an example input, both without data.

    Raises:
        ValueError: If there is no such callable, it does not return a module, or the shape is none.
    """
    shape, build = _shape(input_shape), _callable(text)
    import torch

    with torch.device("meta"):
        try:
            module = build()
        except Exception as error:
            raise ValueError(f"model={text!r}: calling it without arguments: {error}") from error
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"model={text!r}: returned {module!r}; must return a torch module")
        return module.eval(), (torch.empty(shape),)


def _callable(text: str) -> Callable[[], Any]:
    module_name, _, attribute = text.partition(":")
    if module_name.partition(".")[0] == "torchvision":
        from scripts.catalogue.zoo import import_torchvision

        import_torchvision()
    sys.path.insert(0, str(Path.cwd()))  # a person's own module lies where they are
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"model={text!r}: {error}; allowed: {ALLOWED}") from error
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise ValueError(f"model={text!r}: {attribute} cannot be called; allowed: {ALLOWED}")
    return found


def _shape(text: str) -> tuple[int, ...]:
    sizes = [size.strip() for size in text.split(",")]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise ValueError(f"input_shape={text!r}: must be whole numbers >= 1 with commas between")
    return tuple(map(int, sizes))


def _importer(name: str) -> Any:
    found = getattr(DNN, name, None)
    if found is None:
        raise ValueError(f"model: this version has no DNN.{name}; allowed: {ALLOWED}")
    return found
