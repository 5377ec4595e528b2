"""Small networks of every shape that a profile must get right, with inputs to run them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Module:
    padding = options.pop("padding", size // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=padding, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(32, 16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 10),
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 6)
        self.a, self.b = conv(6, 6), nn.Conv2d(6, 6, 3, padding=1)
        self.down, self.skip = conv(6, 8, stride=2), nn.Conv2d(6, 8, 1, stride=2)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x + self.b(self.a(x)))
        x = F.relu(self.down(x) + self.skip(x))
        return self.head(x.mean((2, 3)))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.three, self.five = conv(3, 2, 1), conv(3, 4), conv(3, 2, 5)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.project, self.head = conv(3, 2, 1), conv(10, 5)

    def forward(self, x):
        branches = [self.one(x), self.three(x), self.five(x), self.project(self.pool(x))]
        return self.head(torch.cat(branches, 1)).flatten(1)


class Inverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = conv(4, 12, 1), conv(12, 12, groups=12)
        self.squeeze, self.excite = nn.Conv2d(12, 3, 1), nn.Conv2d(3, 12, 1)
        self.project = nn.Sequential(nn.Conv2d(12, 4, 1), nn.BatchNorm2d(4))
        self.stem = conv(3, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        scale = torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return x + self.project(y * scale)


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = conv(3, 8), conv(4, 4)

    def forward(self, x):
        kept, worked = self.stem(x).chunk(2, dim=1)
        x = torch.cat((kept, self.branch(worked)), 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Recurrent(nn.Module):
    def __init__(self, kind: str, bidirectional: bool = False) -> None:
        super().__init__()
        make = getattr(nn, kind)
        self.rnn = make(5, 6, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(12 if bidirectional else 6, 3)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.head(y[:, -1])


class Encoder(nn.Module):
    """A pre-normalised transformer whose head reads the first token."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.position = nn.Embedding(20, width), nn.Embedding(10, width)
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 3)

    def forward(self, tokens):
        n, t = tokens.shape
        x = self.embed(tokens) + self.position(torch.arange(t, device=tokens.device))
        qkv = self.project(self.norm(x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0), is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, -1))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(x[:, 0])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.middle = nn.Embedding(11, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.middle(self.embed(tokens))))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = conv(3, 4), nn.Embedding(9, 4)
        self.head = nn.Bilinear(4, 4, 5)

    def forward(self, image, tokens):
        return self.head(self.image(image).mean((2, 3)), self.text(tokens).sum(1))


class Dictionary(nn.Module):
    """Takes keywords, returns a dictionary with a used tensor, an input, a constant and views."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = conv(3, 4), nn.Conv2d(4, 2, 1)
        self.register_buffer("scale", torch.tensor([2.0, 3.0, 4.0, 5.0]))

    def forward(self, *, image, offset=None, flag=True):
        features = self.body(image) * self.scale.view(4, 1, 1).sqrt()
        if offset is not None and flag:
            features = features + offset[:, None, None]
        logits = self.head(features)
        return {
            "features": features,
            "parts": [logits[:, 0], (logits[:, 1].transpose(1, 2), offset)],
            "grid": torch.arange(4, device=image.device),
            "wide": logits[:, :1].expand(-1, 3, -1, -1),
            "none": None,
        }


class SeveralOutputs(nn.Module):
    """Operators with several results, of which some are read, and views of views."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(3, 2)

    def forward(self, x):
        values, order = self.a(x).topk(3, dim=-1)
        low, high = torch.aminmax(x, dim=-1)
        first = self.b(values)[:, 0]
        return first, order, high - low, values[:, 1:, :2].permute(0, 2, 1).reshape(x.shape[0], -1)


class Strided(nn.Module):
    """Views whose validity depends on how tensors lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        y = self.a(x).transpose(1, 2).sin()  # keeps the strides of its input
        z = y.transpose(1, 2).view(x.shape[0], -1)
        windows = y.as_strided((y.shape[0], 2, 6), (y.stride(0), 6, 1))
        return self.b(windows), z.relu()


def image(*shape: int) -> tuple[torch.Tensor]:
    return (torch.randn(shape or (1, 3, 16, 16)),)


def tokens(*shape: int) -> tuple[torch.Tensor]:
    return (torch.randint(0, 9, shape or (1, 6)),)


_NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "plain": (plain, image),
    "resnet_like": (Residual, image),
    "googlenet_like": (Inception, image),
    "mobilenet_like": (Inverted, image),
    "shufflenet_like": (Shuffle, image),
    "lstm": (lambda: Recurrent("LSTM"), lambda: image(1, 7, 5)),
    "gru": (lambda: Recurrent("GRU", bidirectional=True), lambda: image(2, 4, 5)),
    "transformer": (Encoder, tokens),
    "torch_encoder": (
        lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
        ),
        lambda: image(1, 5, 8),
    ),
    "multihead": (
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        lambda: (torch.randn(1, 4, 8), torch.randn(1, 6, 8), torch.randn(1, 6, 8)),
    ),
    "shared_weights": (Tied, tokens),
    "two_inputs": (TwoInputs, lambda: (*image(), *tokens())),
    "dictionary": (
        Dictionary,
        lambda: {"offset": torch.randn(4), "image": torch.randn(1, 3, 6, 6), "flag": True},
    ),
    "several_outputs": (SeveralOutputs, lambda: image(2, 4, 6)),
    "strided": (Strided, lambda: image(2, 4, 6)),
}
NAMES = tuple(_NETWORKS)


def build(name: str, device: str = "cpu") -> tuple[nn.Module, Any]:
    """A network in inference mode with random weights and statistics, and inputs for it."""
    torch.manual_seed(0)
    make, inputs = _NETWORKS[name]
    module, example = make().eval(), inputs()
    for key, value in module.named_buffers():
        if "running" in key:
            value.uniform_(0.5, 1.5)
    if device == "cpu":
        return module, example
    return _moved(module, device), torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.to(device), example
    )


def _moved(module: nn.Module, device: str) -> nn.Module:
    """The module elsewhere, with what was tied still tied (`Module.to` unties on meta)."""
    moved: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for key, value in list(part._parameters.items()):
            if value is not None:
                moved.setdefault(id(value), nn.Parameter(value.to(device), requires_grad=False))
                part._parameters[key] = moved[id(value)]
        for key, value in list(part._buffers.items()):
            if value is not None:
                part._buffers[key] = value.to(device)
    return module
