"""Torchvision beside a CPU build of torch."""

from __future__ import annotations

from typing import Any

import torch


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
