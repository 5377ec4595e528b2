"""The tiny detectors of YOLO9000 (CVPR 2017) and YOLOv3 (arXiv 1804.02767), raw detections out.

Decoding the detection maps (sigmoids, anchors, non-maximum suppression) is not part of them.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            norm=nn.BatchNorm2d(outputs),
            leaky=nn.LeakyReLU(0.1),
        )
    )


def _same_pool() -> nn.Module:
    """2x2 pooling with stride 1 that keeps the size: padded on the right and at the bottom."""
    return nn.Sequential(
        OrderedDict(
            pad=nn.ConstantPad2d((0, 1, 0, 1), float("-inf")),
            pool=nn.MaxPool2d(2, stride=1),
        )
    )


def _pyramid(widths: tuple[int, ...], inputs: int = 3) -> OrderedDict[str, nn.Module]:
    """Convolutions of growing width with a halving pool behind each."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, width in enumerate(widths, start=1):
        layers[f"conv{number}"] = _conv(inputs, width)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        inputs = width
    return layers


def tiny_yolov2(classes: int = 20, anchors: int = 5) -> nn.Module:
    """Tiny YOLOv2 for the 20 classes of Pascal VOC at 416x416; a chain of nine convolutions."""
    layers = _pyramid((16, 32, 64, 128, 256))
    layers["conv6"] = _conv(256, 512)
    layers["pool6"] = _same_pool()
    layers["conv7"] = _conv(512, 1024)
    layers["conv8"] = _conv(1024, 1024)
    layers["detect"] = nn.Conv2d(1024, anchors * (5 + classes), 1)
    return nn.Sequential(layers)


class YoloV3Tiny(nn.Module):
    """YOLOv3-tiny for the 80 classes of COCO at 416x416; detections at strides 32 and 16."""

    def __init__(self, classes: int = 80, anchors: int = 3) -> None:
        super().__init__()
        outputs = anchors * (5 + classes)
        self.features = nn.Sequential(_pyramid((16, 32, 64, 128)))
        self.conv5 = _conv(128, 256)
        self.pool5 = nn.MaxPool2d(2)
        self.conv6 = _conv(256, 512)
        self.pool6 = _same_pool()
        self.conv7 = _conv(512, 1024)
        self.neck = _conv(1024, 256, kernel=1)
        self.head32 = _conv(256, 512)
        self.detect32 = nn.Conv2d(512, outputs, 1)
        self.lateral = _conv(256, 128, kernel=1)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head16 = _conv(128 + 256, 256)
        self.detect16 = nn.Conv2d(256, outputs, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Detection maps at strides 32 and 16."""
        fine = self.conv5(self.features(image))
        coarse = self.conv7(self.pool6(self.conv6(self.pool5(fine))))
        neck = self.neck(coarse)
        large = self.detect32(self.head32(neck))
        merged = torch.cat([self.upsample(self.lateral(neck)), fine], dim=1)
        return large, self.detect16(self.head16(merged))
