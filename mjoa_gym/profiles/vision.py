"""Torchvision with a CPU build of torch."""

from __future__ import annotations

from typing import Any

import torch


def import_torchvision() -> Any:
    """Import torchvision, even if its compiled operators do not load.

    A wheel that was built for CUDA cannot load them with a CPU build of torch, and then its import
    stops at the first operator without a schema. The classification models need none of them.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        define_operators()
        import torchvision
    return torchvision


def define_operators() -> None:
    """Define the operators without which torchvision's import stops; calling them still fails."""
    for name in ("nms", "qnms"):
        schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{name}", schema)
