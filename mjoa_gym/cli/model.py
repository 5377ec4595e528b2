"""The argument MODEL of a command line: a name of the catalogue, a function, or a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mjoa_gym.dnn import DNN
from mjoa_gym.evaluation.user_code import imported

if TYPE_CHECKING:
    import torch
    from torch import nn

DEFAULT_SHAPE = (1, 3, 224, 224)
Shapes = Sequence[tuple[int, ...]]
Built = tuple["nn.Module", tuple["torch.Tensor", ...], str]
"""A module in inference mode on a device, its inputs, and its name."""


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the inputs of a function's module."""
    add = parser.add_argument
    add("--input-shape", action="append", type=_shape, metavar="1,3,224,224",
        help="shape of the module's input, batch included; once per positional input"
        " (default: 1,3,224,224; only for package.module:function)")  # fmt: skip
    add("--dtype", action="append", metavar="TYPE",
        help="element type of the input, such as float32 (default) or int64; once, or once per"
        " input")  # fmt: skip


def profile_of(model: str, shapes: Shapes, dtypes: Sequence[str]) -> DNN:
    """Return the DNN that a name, function or file stands for; a ValueError if there is none."""
    if model.endswith(".onnx"):
        return DNN.from_onnx(model)
    if ":" in model and not Path(model).exists():
        try:
            module, inputs, name = built(model, shapes, dtypes, "meta")
        except ValueError:  # some networks read weights during construction
            module, inputs, name = built(model, shapes, dtypes, "cpu")
        return DNN.from_torch(module, inputs, name=name)
    return DNN.load(model)


def built(model: str, shapes: Shapes, dtypes: Sequence[str], device: str) -> Built:
    """Build the module that a function returns; except on meta, weights and inputs are random.

    There is a shape per input of the function, and a dtype for each, or one for all. Raises a
    ValueError if there is no such function, or it does not return a module.
    """
    import torch

    shapes = shapes or [DEFAULT_SHAPE]
    types = [_dtype(dtype) for dtype in (dtypes or ["float32"])]
    types = types * len(shapes) if len(types) == 1 else types
    if len(types) != len(shapes):
        raise ValueError(f"dtype is given {len(types)} times for {len(shapes)} inputs")
    if model.partition(".")[0] == "torchvision":
        from mjoa_gym.profiles.vision import import_torchvision

        import_torchvision()
    function = imported(model, "model")[1]
    with torch.device(device):
        try:
            module = function()
        except Exception as error:  # the user's own code
            raise ValueError(f"model={model!r}: {type(error).__name__}: {error}") from error
        if not isinstance(module, torch.nn.Module):
            raise ValueError(
                f"model={model!r}: returned {type(module).__name__}, not a torch module"
            )
        inputs = tuple(example(*pair) for pair in zip(shapes, types, strict=True))
    return module.eval(), inputs, model.rpartition(":")[2]


def example(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return random numbers, or token 0, on the current device."""
    import torch

    if dtype.is_floating_point:
        return torch.randn(shape, dtype=dtype)
    return torch.zeros(shape, dtype=dtype)


def _dtype(name: str) -> torch.dtype:
    import torch

    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype={name!r}: must be the name of a torch type, such as float32")
    return dtype


def _shape(text: str) -> tuple[int, ...]:
    try:
        sides = tuple(int(part) for part in text.replace("x", ",").split(",") if part.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: must be numbers like 1,3,224,224") from error
    if any(side < 1 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: sides must be 1 or more")
    return sides
