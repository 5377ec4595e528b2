"""`DNN.from_onnx` of real networks at full size against the packaged profiles of torch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")
nn = torch.nn
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from mjoa_gym import DNN  # noqa: E402
from tests.onnx_exports import export  # noqa: E402
from tests.onnx_graphs import summary  # noqa: E402

torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "vit_b_16", "googlenet", "resnet18",
    "mobilenet_v2", "densenet121", "efficientnet_b0", "bert_base", "gpt2_small"])  # fmt: skip
def test_networks_of_the_catalogue(name, earlier, tmp_path):
    from catalogue.zoo import MODELS, import_torchvision

    try:
        import_torchvision()
    except ModuleNotFoundError:
        pytest.skip("needs torchvision")
    module = MODELS[name].build()
    dtype = torch.int64 if MODELS[name].token_ids else torch.float32
    example = (torch.zeros(MODELS[name].shape, dtype=dtype),)
    how = {"dynamo": False, "opset_version": 16} if earlier else {"dynamo": True}
    by_onnx = DNN.from_onnx(export(module, example, tmp_path / "model.onnx", **how))
    by_torch = DNN.load(name)
    heavy = ["conv", "depthwise_conv", "linear", "matmul"]
    totals = [sum(d.flops[np.isin(d.kinds, heavy)]) for d in (by_onnx, by_torch)]
    assert totals[0] == totals[1]
    if (name, earlier) != ("densenet121", False):  # it drops the concatenations of one tensor
        assert [row[:2] + row[3:] for row in summary(by_onnx)] == [
            row[:2] + row[3:] for row in summary(by_torch)
        ]
    saved = sum(by_torch.parameter_bytes) - sum(by_onnx.parameter_bytes)
    norms = [part for part in module.named_modules() if isinstance(part[1], nn.BatchNorm2d)]
    if name == "densenet121":  # the others do not follow a convolution
        norms = [(path, norm) for path, norm in norms if path.endswith(("norm0", "norm2"))]
    folded = sum(norm.num_features for _, norm in norms)
    # Look-ups that are the same for every input are stored as results, one row per token: of
    # BERT's segments, by the earlier exporter with its positions, and of GPT-2's positions.
    # That one also stores the transpose of GPT-2's embedding once more, for the head.
    stored = {
        ("bert_base", False): (128 - 2) * 768,
        ("bert_base", True): (128 - 512 - 2) * 768,
        ("gpt2_small", True): (50257 + 128 - 1024) * 768,
    }
    assert saved == 4 * (folded - stored.get((name, earlier), 0))
