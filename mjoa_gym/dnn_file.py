"""The file format of DNN profiles, schema `mjoa-gym/dnn/1`: JSON, one line per layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mjoa_gym.dnn import DNN

SCHEMA = "mjoa-gym/dnn/1"


def as_text(dnn: DNN, title: str | None = None, provenance: Mapping[str, Any] | None = None) -> str:
    """The file's text: one line per layer, so that differences between versions are readable.

    Args:
        dnn: The profile. Of a DNN of blocks, the chain of blocks is written, not its layers.
        title: The name that people know the network by.
        provenance: Where the figures come from; anything that JSON takes.
    """
    head: dict[str, Any] = {"schema": SCHEMA, "name": dnn.name}
    if title is not None:
        head["title"] = title
    head["input_bytes"] = _number(dnn.input_bytes)
    if provenance is not None:
        head["provenance"] = dict(provenance)
    rows = zip(
        dnn.layer_names,
        dnn.kinds,
        dnn.flops,
        dnn.parameter_bytes,
        dnn.output_bytes,
        dnn.predecessors,
        strict=True,
    )
    layers = [
        json.dumps(
            {
                "name": name,
                "kind": kind,
                "flops": _number(flops),
                "parameter_bytes": _number(parameter_bytes),
                "output_bytes": _number(output_bytes),
                "predecessors": list(predecessors),
            }
        )
        for name, kind, flops, parameter_bytes, output_bytes, predecessors in rows
    ]
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    return "{" + "\n ".join([*lines, '"layers": [\n  ' + ",\n  ".join(layers) + "]"]) + "}\n"


def _number(value: float) -> int | float:
    """Whole numbers without a decimal point; the shortest text that reads back equal otherwise."""
    return int(value) if float(value).is_integer() and abs(value) < 2**63 else float(value)
