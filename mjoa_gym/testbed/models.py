"""The networks that both sides can build by name: torchvision's classifiers, with seeded values.

Weights do not matter for timing, but they must be equal in every process, and such that nothing
overflows or vanishes: every tensor is drawn from a generator seeded with its own name. The server
builds the same modules to have the same program and buffers, and then forgets the parameters.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mjoa_gym.testbed.program import Program

Example = tuple[nn.Module, tuple[Tensor, ...]]
"""A module in inference mode and its inputs."""

QUIET = {"aux_logits": False, "init_weights": False}
ARGUMENTS: dict[str, dict[str, Any]] = {"googlenet": QUIET, "inception_v3": QUIET}
SIDES = {"inception_v3": 299}
DEFAULT_SIDE = 224


def import_torchvision() -> Any:
    """Imports torchvision, even where its compiled operators do not load.

    Next to a CPU build of torch its wheel may fail to load them, and then its import stops at the
    first operator without a schema. The classification models need none of them.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        for name in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)
        import torchvision
    return torchvision


def model_names() -> tuple[str, ...]:
    """The names of torchvision's classification models."""
    models = import_torchvision().models
    return tuple(models.list_models(module=models))


def build(name: str) -> Example:
    """A model with seeded values, and an input for it.

    Raises:
        ValueError: If there is no such model.
    """
    models = import_torchvision().models
    if name not in models.list_models(module=models):
        raise ValueError(f"model {name!r} is unknown; allowed are {list(model_names())}")
    module = getattr(models, name)(weights=None, **ARGUMENTS.get(name, {}))
    seed_values(module)
    side = SIDES.get(name, DEFAULT_SIDE)
    return module.eval(), (example_image(side),)


def example_image(side: int, seed: int = 0) -> Tensor:
    """Noise in the shape of an image."""
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def seed_values(module: nn.Module) -> None:
    """Overwrite parameters and running statistics with values that only depend on their names."""
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            if name.endswith("running_var"):
                tensor.uniform_(0.8, 1.2, generator=generator)
            elif name.endswith("running_mean"):
                tensor.normal_(0, 0.05, generator=generator)
            elif isinstance(tensor, nn.Parameter) and tensor.dim() > 1:
                fan_in = tensor[0].numel()
                tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            elif isinstance(tensor, nn.Parameter) and name.endswith("weight"):
                tensor.uniform_(0.8, 1.2, generator=generator)
            elif isinstance(tensor, nn.Parameter):
                tensor.normal_(0, 0.05, generator=generator)
