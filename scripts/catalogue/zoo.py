"""The models of the catalogue: where each comes from and what it is fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mjoa_gym.profiles.vision import import_torchvision

from .models.mobilenet_v1 import mobilenet_v1
from .models.nin import nin
from .models.transformers import Bert, Gpt2
from .models.yolo import YoloV3Tiny, tiny_yolov2


@dataclass(frozen=True)
class Model:
    """One entry: how to build the network and its input, both on the meta device.

    Attributes:
        title: The name people know it by.
        architecture: Where the architecture was taken from.
        build: Makes the module.
        shape: The input's shape.
        token_ids: Whether the input is int64 token ids instead of a float32 image.
    """

    title: str
    architecture: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (1, 3, 224, 224)
    token_ids: bool = False

    def example(self) -> tuple[nn.Module, tuple[torch.Tensor]]:
        """The module in inference mode and its example input; neither holds any data."""
        dtype = torch.int64 if self.token_ids else torch.float32
        with torch.device("meta"):
            return self.build().eval(), (torch.empty(self.shape, dtype=dtype),)


def _torchvision(title: str, name: str, side: int = 224, **arguments: Any) -> Model:
    def build() -> nn.Module:
        return getattr(import_torchvision().models, name)(weights=None, **arguments)

    keywords = ", ".join(f"{key}={value}" for key, value in arguments.items() if key != _QUIET)
    source = f"torchvision.models.{name}" + (f"({keywords})" if keywords else "")
    return Model(title, source, build, (1, 3, side, side))


_QUIET = "init_weights"
_no_auxiliary = partial(_torchvision, aux_logits=False, init_weights=False)

MODELS: dict[str, Model] = {
    "alexnet": _torchvision("AlexNet", "alexnet"),
    "vgg16": _torchvision("VGG-16", "vgg16"),
    "nin": Model("NiN", "Lin et al., ICLR 2014", nin, (1, 3, 227, 227)),
    "mobilenet_v1": Model("MobileNetV1", "Howard et al., arXiv 1704.04861", mobilenet_v1),
    "tiny_yolov2": Model(
        "Tiny YOLOv2", "Redmon and Farhadi, CVPR 2017", tiny_yolov2, (1, 3, 416, 416)
    ),
    "resnet18": _torchvision("ResNet-18", "resnet18"),
    "resnet50": _torchvision("ResNet-50", "resnet50"),
    "googlenet": _no_auxiliary("GoogLeNet", "googlenet"),
    "inception_v3": _no_auxiliary("Inception-v3", "inception_v3", side=299),
    "mobilenet_v2": _torchvision("MobileNetV2", "mobilenet_v2"),
    "squeezenet1_1": _torchvision("SqueezeNet 1.1", "squeezenet1_1"),
    "densenet121": _torchvision("DenseNet-121", "densenet121"),
    "efficientnet_b0": _torchvision("EfficientNet-B0", "efficientnet_b0"),
    "yolov3_tiny": Model(
        "YOLOv3-tiny", "Redmon and Farhadi, arXiv 1804.02767", YoloV3Tiny, (1, 3, 416, 416)
    ),
    "vit_b_16": _torchvision("ViT-B/16", "vit_b_16"),
    "bert_base": Model("BERT-base", "Devlin et al., NAACL 2019", Bert, (1, 128), token_ids=True),
    "gpt2_small": Model("GPT-2 small", "Radford et al., 2019", Gpt2, (1, 128), token_ids=True),
}
