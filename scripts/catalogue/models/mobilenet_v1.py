"""MobileNets (Howard et al., arXiv 1704.04861), width 1.0 at 224x224: the paper's table 1."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

# Output channels and stride of the 13 depthwise-separable blocks.
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            norm=nn.BatchNorm2d(outputs),
            relu=nn.ReLU(),
        )
    )


def mobilenet_v1(classes: int = 1000) -> nn.Module:
    """MobileNetV1 with 13 depthwise-separable blocks."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=_conv(3, 32, 3, stride=2))
    width = 32
    for number, (outputs, stride) in enumerate(_BLOCKS, start=1):
        layers[f"block{number}"] = nn.Sequential(
            OrderedDict(
                depthwise=_conv(width, width, 3, stride, groups=width),
                pointwise=_conv(width, outputs, 1),
            )
        )
        width = outputs
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(width, classes)
    return nn.Sequential(layers)
