"""`DNN.from_onnx` gives the graph and the totals of `DNN.from_torch` for what torch exports."""

from __future__ import annotations

import functools
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
nn = torch.nn
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from catalogue.transformers import Block  # noqa: E402

from mjoa_gym import DNN  # noqa: E402
from tests.onnx_exports import export  # noqa: E402
from tests.onnx_graphs import dnn_of, summary  # noqa: E402

torch.set_num_threads(1)
functional = nn.functional


def both(module, example, tmp_path, **arguments):
    """The module's profile by way of torch and by way of ONNX."""
    path = export(module, example, tmp_path / "model.onnx", **({"dynamo": True} | arguments))
    return DNN.from_torch(module, example), dnn_of(path)


def alexnet_like():
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(8, 6, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(24, 10),
        nn.ReLU(),
        nn.Linear(10, 4),
    )


class Branches(nn.Module):
    """What GoogLeNet, SqueezeNet, DenseNet and ResNet are made of, without normalisation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 2, 1))
        self.merge = nn.Conv2d(12, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        joined = torch.cat([self.left(x), self.right(x), self.pool(x)], 1)
        x = torch.relu(self.merge(joined) + x)
        return self.head(x.mean([2, 3]))


class Excitation(nn.Module):
    """An EfficientNet block without normalisation."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.narrow = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        y = functional.silu(self.depthwise(functional.silu(self.wide(x))))
        scale = torch.sigmoid(self.up(functional.silu(self.down(self.pool(y)))))
        return self.narrow(scale * y) + x


class FirstToken(nn.Module):
    """A vision transformer: patches, a class token, positions, blocks, the first token's head."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.positions = nn.Parameter(torch.zeros(1, 5, 8))
        self.blocks = nn.Sequential(Block(8, 2, decoder=True), Block(8, 2, decoder=False))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        return self.head(self.blocks(tokens)[:, 0])


class ByHand(nn.Module):
    """Attention and a normalisation as their author would write them."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(6, 18)
        self.scale = nn.Parameter(torch.zeros(6))

    def forward(self, x):
        x = x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale
        query, key, value = self.project(x).chunk(3, dim=-1)
        return (query @ key.transpose(1, 2) / 6**0.5).softmax(-1) @ value


class Shifted(nn.Module):
    """Rotated patches, masked attention, attention that is scaled beforehand, strided views."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 18), nn.Linear(6, 18)

    def forward(self, x, mask):
        x = torch.roll(x, (2, 1), (1, 2))
        x = self.attend(self.first(x), mask, None)
        return self.attend(self.second(x), None, 1.0)

    def attend(self, x, mask, scale):
        parts = (part.unflatten(-1, (2, 3)).transpose(1, 2) for part in x.chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(*parts, attn_mask=mask, scale=scale)
        return mixed.transpose(1, 2).flatten(2)


class Tied(nn.Module):
    """A language model whose head is its embedding, and which also returns its hidden state."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(
            1001, 12
        )  # large enough for the exporter not to store its transpose
        self.mix = nn.Linear(12, 12)
        self.head = nn.Linear(12, 1001, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        hidden = torch.tanh(self.mix(self.embed(tokens)))
        return hidden, self.head(hidden)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.text = nn.Conv2d(3, 4, 3), nn.Linear(5, 4)

    def forward(self, image, text):
        return self.image(image).amax((2, 3)) * self.text(text)


IMAGE = (torch.zeros(1, 3, 8, 8),)
MODELS = {
    "alexnet": (alexnet_like, (torch.zeros(1, 3, 17, 17),)),
    "branches": (Branches, IMAGE),
    "excitation": (Excitation, IMAGE),
    "batch of 3": (Branches, (torch.zeros(3, 3, 8, 8),)),
    "transformer": (FirstToken, IMAGE),
    "by hand": (ByHand, (torch.zeros(1, 5, 6),)),
    "shifted": (Shifted, (torch.zeros(1, 5, 6), torch.ones(1, 1, 5, 5, dtype=torch.bool))),
    "tied": (Tied, (torch.zeros(1, 4, dtype=torch.int64),)),
    "two inputs": (TwoInputs, (torch.zeros(1, 3, 6, 6), torch.zeros(1, 5))),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.ReLU()), IMAGE),
}


@functools.cache
def of_torch(name):
    """A model's profile by way of torch."""
    build, example = MODELS[name]
    return DNN.from_torch(build(), example)


def of_onnx(name, folder, **arguments):
    """A model's profile by way of ONNX."""
    build, example = MODELS[name]
    return dnn_of(export(build(), example, folder / "model.onnx", **arguments))


@pytest.mark.parametrize("name", sorted({*MODELS} - {"batch of 3"}))
def test_graph_of_the_exporter_is_that_of_torch(name, tmp_path):
    by_torch, by_onnx = of_torch(name), of_onnx(name, tmp_path, dynamo=True)
    assert summary(by_onnx) == summary(by_torch)
    assert by_onnx.input_bytes == by_torch.input_bytes
    assert by_onnx.name == "model"
    if name == "branches":  # layers are called after the modules that hold their weights
        modules = {"stem", "left.0", "right.0", "pool.1", "merge", "head"}
        assert modules <= set(by_onnx.layer_names)


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("name", ["alexnet", "branches", "batch of 3", "excitation", "two inputs"])
def test_graph_of_the_earlier_exporter_is_that_of_torch(name, opset, tmp_path):
    by_onnx = of_onnx(name, tmp_path, dynamo=False, opset_version=opset)
    assert summary(by_onnx) == summary(of_torch(name))


@pytest.mark.parametrize("opset", [14, 17])
def test_attention_and_norms_that_are_written_out_are_put_together(opset, tmp_path):
    by_onnx = of_onnx("transformer", tmp_path, dynamo=False, opset_version=opset)
    assert summary(by_onnx) == summary(of_torch("transformer"))


def test_folded_batch_norm_saves_one_parameter_per_channel(tmp_path):
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 2, 1)
    )
    by_torch, by_onnx = both(module, IMAGE, tmp_path)
    assert by_torch.parameter_bytes[0] - by_onnx.parameter_bytes[0] == 4 * 8
    assert [row[:2] + row[3:] for row in summary(by_onnx)] == [
        row[:2] + row[3:] for row in summary(by_torch)
    ]
    kept = {"dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE}
    assert summary(both(module, IMAGE, tmp_path, **kept)[1]) == summary(by_torch)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
def test_totals_of_recurrent_networks(cell, tmp_path):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell(3, 4, num_layers=2, bidirectional=True)

        def forward(self, x):
            return self.cell(x)[0]

    by_torch, by_onnx = both(Recurrent(), (torch.zeros(5, 2, 3),), tmp_path, dynamo=False)
    heavy = [kind == "matmul" for kind in by_onnx.kinds]
    assert (
        by_onnx.flops[heavy].sum() == by_torch.flops[[k == "matmul" for k in by_torch.kinds]].sum()
    )
    assert by_onnx.parameter_bytes.sum() == by_torch.parameter_bytes.sum()


def test_open_batch_and_given_shapes(tmp_path):
    path = export(
        Branches(),
        (torch.zeros(2, 3, 8, 8),),
        tmp_path / "model.onnx",
        dynamo=False,
        input_names=["image"],
        dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}},
    )
    with pytest.raises(ValueError, match=r"'image': dimension 2 \(height\) is open; give"):
        dnn_of(path)
    dnn = dnn_of(path, {"image": (1, 3, 8, 8)})
    assert summary(dnn) == summary(of_torch("branches"))
    three = dnn_of(path, {"image": np.array([3, 3, 8, 8])})
    assert np.array_equal(three.flops, 3 * dnn.flops)
    assert DNN.from_onnx(path, "block", "mine", {"image": (1, 3, 8, 8)}).is_chain


@pytest.mark.parametrize("earlier", [False, True])
def test_fractional_enlargement_beside_a_skip_connection(earlier, tmp_path):
    class Enlarged(nn.Module):
        def forward(self, x, skip):
            return torch.cat([functional.interpolate(x, scale_factor=1.4), skip], 1)

    example = (torch.zeros(1, 3, 15, 15), torch.zeros(1, 2, 21, 21))
    how = {"dynamo": False, "opset_version": 13} if earlier else {}
    by_torch, by_onnx = both(Enlarged(), example, tmp_path, **how)
    assert by_onnx.output_bytes[-1] == by_torch.output_bytes[-1] == 4 * 5 * 21 * 21


def test_the_example_on_the_page_runs(capsys):
    page = (ROOT / "docs" / "own-models.md").read_text("utf-8").split("## From an ONNX file")[1]
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the exporter itself uses
        exec(code, {"__name__": "page"})
    assert "('0', '3') [388800. 144000.] [   896. 288040.]" in capsys.readouterr().out
