"""Profiles a model for the catalogue, with a note of where its figures come from."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from mjoa_gym.dnn import DNN
from mjoa_gym.profiles.fuse import as_columns, fuse
from mjoa_gym.profiles.torch_export import trace

from .zoo import Model

COUNTED = (
    "flops: 2 x MACs for layers with convolutions, linear layers or attention (what is fused into"
    " them is free), else 1 per element (batch norm 2, layer norm and softmax 5, pooling 1 per"
    " element read, data movement 0); parameters without buffers, shared ones charged to the"
    " user with most MACs; outputs once per producer"
)


def describe(name: str, model: Model) -> tuple[DNN, dict[str, Any]]:
    """The model's profile, and its provenance."""
    module, (example,) = model.example()
    traced = trace(module, (example,))
    graph = traced.graph
    sizes = {key: parameter.numel() for key, parameter in module.named_parameters()}
    provenance = {
        "architecture": model.architecture,
        "torch": _release("torch"),
        "torchvision": _release("torchvision"),
        "input": f"{'x'.join(map(str, example.shape))} {str(example.dtype).removeprefix('torch.')}",
        "counted": COUNTED,
        "macs": sum(operator.macs for operator in graph.operators),
        "parameters": sum(sizes[key] for keys in traced.charged for key in keys),
        "fused_from_operators": len(graph.operators),
    }
    return DNN(**as_columns(name, fuse(graph), graph.input_bytes)), provenance


def _release(package: str) -> str:
    return version(package).split("+")[0]
