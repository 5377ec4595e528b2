"""Network in Network (Lin, Chen, Yan, ICLR 2014), the ImageNet model of its authors."""

from __future__ import annotations

from functools import partial

from torch import nn


def _mlpconv(
    inputs: int, widths: tuple[int, int, int], kernel: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    """A convolution and the two 1x1 convolutions (the "MLP") behind it, each with a ReLU."""
    first, second, third = widths
    return [
        nn.Conv2d(inputs, first, kernel, stride, padding),
        nn.ReLU(),
        nn.Conv2d(first, second, 1),
        nn.ReLU(),
        nn.Conv2d(second, third, 1),
        nn.ReLU(),
    ]


def nin(classes: int = 1000) -> nn.Module:
    """NiN for 227x227 RGB images; pooling rounds sizes up, as in Caffe."""
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
