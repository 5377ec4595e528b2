"""The kinds of layers, and the index of the network's input tensor."""

from __future__ import annotations

KINDS = (
    "conv",
    "depthwise_conv",
    "linear",  # one row: a matrix-vector product
    "matmul",  # several rows: a matrix-matrix product, attention included
    "pool",
    "elementwise",
    "norm",
    "embedding",
    "other",
)
INPUT = -1
"""The predecessor index that stands for the network's one input tensor."""
