"""The networks that both sides can build by name: torchvision's classifiers with seeded values.

Weights do not matter for timing, but they must be equal in every process, and no activation may
overflow or vanish. So every tensor is drawn from a generator that is seeded with the tensor's name.
The server builds the same modules, because it needs the same program and buffers, and then discards
the parameters.
"""

from __future__ import annotations

import gc
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mjoa_gym.execution.layered_model import Bundle, LayeredModel
from mjoa_gym.profiles.vision import import_torchvision
from mjoa_gym.testbed.program import LayeredProgram
from mjoa_gym.validation import choice

Example = tuple[nn.Module, tuple[Tensor, ...]]
"""A module in inference mode, and its inputs."""

QUIET = {"aux_logits": False, "init_weights": False}
ARGUMENTS: dict[str, dict[str, Any]] = {"googlenet": QUIET, "inception_v3": QUIET}
SIDES = {"inception_v3": 299}
DEFAULT_SIDE = 224


def model_names() -> tuple[str, ...]:
    """Return the names of torchvision's classification models."""
    models = import_torchvision().models
    return tuple(models.list_models(module=models))


def program_of(
    name: str, files: Mapping[str, Path], keep_parameters: bool = True
) -> tuple[LayeredProgram, Bundle]:
    """Return a network's program and its inputs.

    Args:
        name: Name of an exported program in `files`, or of a torchvision model.
        files: Exported programs by name.
        keep_parameters: Whether to keep the parameters; a server does not, because UEs upload them.

    Raises:
        ValueError: If there is no such network, or its file cannot be used.
    """
    module, inputs = load(files[name]) if name in files else build(name, files)
    model = LayeredModel.from_torch(module, inputs, name, keep_parameters=keep_parameters)
    if not keep_parameters:
        for parameter in module.parameters():
            parameter.untyped_storage().resize_(0)  # frees the memory despite other references
    found = LayeredProgram(model), model.inputs(inputs)
    gc.collect()
    gc.freeze()  # else garbage collections take 0.3 s now and then
    return found


def server_program(name: str, files: Mapping[str, Path]) -> LayeredProgram:
    """Return a network's program for the server, without parameters; see `program_of`."""
    return program_of(name, files, keep_parameters=False)[0]


def load(file: Path) -> Example:
    """Load an exported program (`torch.export.save`) as a module, with its example inputs.

    Raises:
        ValueError: If the file cannot be read, or has no positional example inputs.
    """
    try:
        exported = torch.export.load(file)
    except Exception as error:
        raise ValueError(
            f"{file} is not an exported program (torch.export.save writes them): {error}"
        ) from error
    if exported.example_inputs is None or exported.example_inputs[1]:
        raise ValueError(f"{file}: positional example inputs are needed")
    module = _Exported(exported.module())
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()  # in memory, not in the mapped file
    return module, exported.example_inputs[0]


class _Exported(nn.Module):
    """An exported program's module, whose `train` and `eval` do nothing instead of raising."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.program = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.program(*inputs)

    def train(self, mode: bool = True) -> _Exported:
        return self


def build(name: str, others: Collection[str] = ()) -> Example:
    """Build a torchvision model with seeded values, and an input.

    Raises:
        ValueError: If there is no such model. The message lists the names in `others` as well.
    """
    choice("model", name, [*others, *model_names()])
    module = getattr(import_torchvision().models, name)(weights=None, **ARGUMENTS.get(name, {}))
    seed_values(module)
    side = SIDES.get(name, DEFAULT_SIDE)
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return module.eval(), (noise,)


def seed_values(module: nn.Module) -> None:
    """Overwrite parameters and running statistics with values that depend only on their names."""
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            parameter = isinstance(tensor, nn.Parameter)
            if parameter and tensor.dim() > 1:
                fan_in = tensor[0].numel()
                tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            elif name.endswith("running_var") or (parameter and name.endswith("weight")):
                tensor.uniform_(0.8, 1.2, generator=generator)
            elif parameter or name.endswith("running_mean"):
                tensor.normal_(0, 0.05, generator=generator)
