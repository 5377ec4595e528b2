"""The file format of DNN profiles, schema `mjoa-gym/dnn/1`: JSON, one line per layer.

Reading checks everything and costs about 1 ms per 100 layers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mjoa_gym import files
from mjoa_gym.validation import amount, mapping, short

SCHEMA = "mjoa-gym/dnn/1"
SUFFIX = ".json"

_REQUIRED = ("schema", "name", "input_bytes", "layers")
_OPTIONAL = ("title", "provenance")
_LAYER = ("name", "kind", "flops", "parameter_bytes", "output_bytes", "predecessors")
_OF_LAYER = ("fingerprint",)


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Return whether a path is given: a path object, or a text like "x.json" or "a/b"."""
    if not isinstance(name_or_path, str):
        return True
    return name_or_path.endswith(SUFFIX) or not {os.sep, os.altsep}.isdisjoint(name_or_path)


def arguments(profile: Any) -> dict[str, Any]:
    """Return the arguments of `DNN` from a file's content; `DNN` itself checks the graph."""
    profile = mapping("the profile", profile)
    if profile.get("schema") != SCHEMA:
        raise ValueError(f"schema={short(profile.get('schema'))}: this version reads {SCHEMA!r}")
    _check_keys("the profile", profile, _REQUIRED, _OPTIONAL)
    mapping("provenance", profile.get("provenance", {}))
    _text("title", profile.get("title", ""))
    layers = _items("layers", profile["layers"])
    for number, layer in enumerate(layers):
        _check_keys(f"layers[{number}]", mapping(f"layers[{number}]", layer), _LAYER, _OF_LAYER)

    def column(key: str, check: Any) -> list[Any]:
        return [check(f"layers[{n}].{key}", layer[key]) for n, layer in enumerate(layers)]

    name = _text("name", profile["name"])
    names = column("name", _text)
    unique = [f"{name}/{layer}" for layer in names]
    layers = [{"fingerprint": u, **layer} for u, layer in zip(unique, layers, strict=True)]
    return {
        "name": name,
        "flops": column("flops", amount),
        "parameter_bytes": column("parameter_bytes", amount),
        "output_bytes": column("output_bytes", amount),
        "predecessors": column("predecessors", _indices),
        "input_bytes": amount("input_bytes", profile["input_bytes"]),
        "kinds": column("kind", _text),
        "layer_names": names,
        "fingerprints": column("fingerprint", _text),
    }


def write(path: str | os.PathLike[str], profile: Mapping[str, Any]) -> None:
    """Write a profile's file completely, or not at all."""
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"path={str(path)!r}: must end in {SUFFIX!r}, so that `load` reads a file")
    files.write(path, as_text(profile))


def as_profile(
    name: str, title: str | None, input_bytes: float, provenance: Any, columns: Sequence[Any]
) -> dict[str, Any]:
    """Return the content of a file; the columns are those of `_LAYER`, and fingerprints."""
    head: dict[str, Any] = {"schema": SCHEMA, "name": name}
    if title is not None:
        head["title"] = title
    head["input_bytes"] = _number(input_bytes)
    if provenance is not None:
        head["provenance"] = dict(provenance)
    names, kinds, *amounts, predecessors, fingerprints = columns
    numbers = (map(_number, column) for column in amounts)
    rows = zip(names, kinds, *numbers, map(list, predecessors), strict=True)
    layers = [dict(zip(_LAYER, row, strict=True)) for row in rows]
    for layer, fingerprint in zip(layers, fingerprints, strict=True):
        if fingerprint != f"{name}/{layer['name']}":
            layer["fingerprint"] = fingerprint
    return head | {"layers": layers}


def as_text(profile: Mapping[str, Any]) -> str:
    """Return the file's text: one line per layer, so that diffs are readable."""
    head = {key: value for key, value in profile.items() if key != "layers"}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    rows = map(json.dumps, profile["layers"])
    return "{" + "\n ".join([*lines, '"layers": [\n  ' + ",\n  ".join(rows) + "]"]) + "}\n"


def _number(value: float) -> int | float:
    """Return whole numbers as int, so that they have no decimal point, and others as float."""
    return int(value) if float(value).is_integer() and abs(value) < 2**63 else float(value)


def _check_keys(
    what: str, given: Mapping[str, Any], required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    for key in required:
        if key not in given:
            raise ValueError(f"{what} has no key {key!r}")
    for key in given:
        if key not in required and key not in optional:
            allowed = ", ".join((*required, *optional))
            raise ValueError(f"{what} has the unknown key {short(key)}; allowed are {allowed}")


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field}={short(value)}: must be a text")
    return value


def _items(field: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{field}={short(value)}: must be a list")
    return list(value)


def _indices(field: str, value: Any) -> list[int]:
    indices = _items(field, value)
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int):
            raise ValueError(f"{field} has {short(index)}: must be whole numbers")
    return indices
