"""Published convolutional networks that torchvision does not have, as plain modules.

Detectors return raw detection maps. Decoding (sigmoids, anchors, non-maximum suppression) is not
included.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2),
    (1024, 1),
)  # fmt: skip
"""Output channels and stride of MobileNetV1's depthwise-separable blocks."""


def _mlpconv(
    inputs: int, widths: tuple[int, int, int], kernel: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    """Return a convolution and the two 1x1 convolutions (the "MLP") after it, each with a ReLU."""
    first, second, third = widths
    convolutions = (
        nn.Conv2d(inputs, first, kernel, stride, padding),
        nn.Conv2d(first, second, 1),
        nn.Conv2d(second, third, 1),
    )
    return [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]


def nin(classes: int = 1000) -> nn.Module:
    """Network in Network (Lin, Chen, Yan, ICLR 2014), the ImageNet model of its authors, 227x227.

    Pooling rounds sizes up, as in Caffe.
    """
    pool = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
    return nn.Sequential(
        *_mlpconv(3, (96, 96, 96), kernel=11, stride=4),
        pool(),
        *_mlpconv(96, (256, 256, 256), kernel=5, padding=2),
        pool(),
        *_mlpconv(256, (384, 384, 384), kernel=3, padding=1),
        pool(),
        nn.Dropout(0.5),
        *_mlpconv(384, (1024, 1024, classes), kernel=3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def _named(**layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


def _conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, relu: bool = False
) -> nn.Module:
    """Return a normalised convolution with MobileNet's ReLU or YOLO's leaky one after it."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    behind = {"relu": nn.ReLU()} if relu else {"leaky": nn.LeakyReLU(0.1)}
    return _named(conv=conv, norm=nn.BatchNorm2d(outputs), **behind)


def mobilenet_v1(classes: int = 1000) -> nn.Module:
    """MobileNetV1 (Howard et al., arXiv 1704.04861), width 1.0 at 224x224: the paper's table 1."""
    layers = {"stem": _conv(3, 32, 3, 2, relu=True)}
    width = 32
    for number, (outputs, stride) in enumerate(_BLOCKS, start=1):
        layers[f"block{number}"] = _named(
            depthwise=_conv(width, width, 3, stride, width, relu=True),
            pointwise=_conv(width, outputs, 1, relu=True),
        )
        width = outputs
    end = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return _named(**layers, **end, classifier=nn.Linear(width, classes))


def _same_pool() -> nn.Module:
    """2x2 pooling with stride 1 that keeps the size: padded on the right and at the bottom."""
    return _named(pad=nn.ConstantPad2d((0, 1, 0, 1), float("-inf")), pool=nn.MaxPool2d(2, stride=1))


def _pyramid(*widths: int) -> dict[str, nn.Module]:
    """Return convolutions of growing width with a halving pool after each."""
    layers: dict[str, nn.Module] = {}
    for number, (inputs, width) in enumerate(pairwise((3, *widths)), start=1):
        layers |= {f"conv{number}": _conv(inputs, width), f"pool{number}": nn.MaxPool2d(2)}
    return layers


def tiny_yolov2(classes: int = 20, anchors: int = 5) -> nn.Module:
    """Tiny YOLOv2 (CVPR 2017) for the 20 classes of Pascal VOC at 416x416: nine convolutions."""
    return _named(
        **_pyramid(16, 32, 64, 128, 256),
        conv6=_conv(256, 512),
        pool6=_same_pool(),
        conv7=_conv(512, 1024),
        conv8=_conv(1024, 1024),
        detect=nn.Conv2d(1024, anchors * (5 + classes), 1),
    )


class YoloV3Tiny(nn.Module):
    """YOLOv3-tiny (arXiv 1804.02767) for the 80 classes of COCO at 416x416."""

    def __init__(self, classes: int = 80, anchors: int = 3) -> None:
        super().__init__()
        outputs = anchors * (5 + classes)
        self.features = _named(**_pyramid(16, 32, 64, 128))
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
