"""Networks as people name them on a command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from mjoa_gym import DNN

ALLOWED = "a name of the catalogue, the path of a .json or .onnx file, or package.module:callable"


def load_model(text: str, granularity: str = "layer", input_shape: str = "1,3,224,224") -> DNN:
    """A network by its name in the catalogue, from a file, or from a torch module.

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
        module, example = _torch_model(text, input_shape)
        return _importer("from_torch")(module, example, granularity=granularity)
    return DNN.load(text, granularity)  # type: ignore[arg-type]


def _importer(name: str) -> Any:
    found = getattr(DNN, name, None)
    if found is None:
        raise ValueError(f"model: this version has no DNN.{name}; allowed: {ALLOWED}")
    return found


def _torch_model(text: str, input_shape: str) -> tuple[Any, Any]:
    """The module that a callable returns, and an example input, both without data."""
    module_name, _, attribute = text.partition(":")
    sys.path.insert(0, str(Path.cwd()))  # a person's own module lies where they are
    try:
        build = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"model={text!r}: {error}; allowed: {ALLOWED}") from error
    finally:
        sys.path.pop(0)
    if not callable(build):
        raise ValueError(f"model={text!r}: {attribute} cannot be called; allowed: {ALLOWED}")
    try:
        shape = tuple(int(size) for size in input_shape.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ValueError(f"input_shape={input_shape!r}: must be whole numbers >= 1 and commas")
    import torch

    with torch.device("meta"):
        return build().eval(), (torch.empty(shape),)
