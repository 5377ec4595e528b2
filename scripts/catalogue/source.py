"""The networks that are measured: those of the catalogue, and those of functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mjoa_gym.cli.model import Built, Shapes, built, example

from .zoo import MODELS


def build(model: str, shapes: Shapes, dtypes: Sequence[str], device: str) -> Built:
    """A network by its name in the catalogue, or as `mjoa_gym.cli.model.built` makes it.

    Raises:
        ValueError: If there is no such network.
    """
    if ":" in model:
        return built(model, shapes, dtypes, device)
    if model not in MODELS:
        raise ValueError(
            f"model={model!r}: allowed are package.module:function or one of {list(MODELS)}"
        )
    known = MODELS[model]
    with torch.device(device):
        inputs = example(known.shape, torch.int64 if known.token_ids else torch.float32)
        return known.build().eval(), (inputs,), model
