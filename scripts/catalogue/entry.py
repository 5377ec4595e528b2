"""Writes a traced and fused network in the catalogue's file format."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from .export import trace
from .fuse import fuse
from .zoo import Model

SCHEMA = "mjoa-gym/dnn/1"
COUNTED = (
    "flops: 2 x MACs for layers with convolutions, linear layers or attention (what is fused into"
    " them is free), else 1 per element (batch norm 2, layer norm and softmax 5, pooling 1 per"
    " element read, data movement 0); parameters without buffers, shared ones charged to the"
    " user with most MACs; outputs once per producer"
)


def describe(name: str, model: Model) -> dict[str, Any]:
    """Builds, traces and fuses a model; returns the content of its file."""
    graph = trace(*model.example())
    layers = fuse(graph)
    return {
        "schema": SCHEMA,
        "name": name,
        "title": model.title,
        "input_bytes": graph.input_bytes,
        "provenance": {
            "architecture": model.architecture,
            "torch": _release("torch"),
            "torchvision": _release("torchvision"),
            "input": graph.input_text,
            "counted": COUNTED,
            "macs": graph.macs,
            "parameters": graph.parameters,
            "fused_from_operators": len(graph.operators),
        },
        "layers": [asdict(layer) for layer in layers],
    }


def to_text(content: dict[str, Any]) -> str:
    """The file's text: one line per layer, so that differences between versions are readable."""
    *head, (_, layers) = content.items()
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head]
    rows = ",\n  ".join(json.dumps(layer) for layer in layers)
    return "{" + "\n ".join([*lines, f'"layers": [\n  {rows}]']) + "}\n"


def _release(package: str) -> str:
    return version(package).split("+")[0]
