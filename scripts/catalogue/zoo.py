"""The models of the catalogue: the source and the input of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mjoa_gym.cli.model import example
from mjoa_gym.profiles.vision import import_torchvision

from .convolutional import YoloV3Tiny, mobilenet_v1, nin, tiny_yolov2
from .transformers import Bert, Gpt2


@dataclass(frozen=True)
class Model:
    """One entry: how to build the network and its input."""

    title: str  # the usual name
    architecture: str  # the source
    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (1, 3, 224, 224)  # of the input
    token_ids: bool = False  # the input is int64 token ids instead of a float32 image

    def example(self, device: str) -> tuple[nn.Module, tuple[torch.Tensor]]:
        """Return the module in inference mode and its example input; on "meta" without data."""
        with torch.device(device):
            inputs = example(self.shape, torch.int64 if self.token_ids else torch.float32)
            return self.build().eval(), (inputs,)


def _torchvision(title: str, name: str, side: int = 224, **arguments: Any) -> Model:
    def build() -> nn.Module:
        quiet = {"init_weights": False} if arguments else {}
        return getattr(import_torchvision().models, name)(weights=None, **arguments, **quiet)

    keywords = ", ".join(f"{key}={value}" for key, value in arguments.items())
    source = f"torchvision.models.{name}" + (f"({keywords})" if keywords else "")
    return Model(title, source, build, (1, 3, side, side))


_no_auxiliary = partial(_torchvision, aux_logits=False)

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
