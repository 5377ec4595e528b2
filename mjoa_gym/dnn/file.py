"""The file format of DNN profiles, schema `mjoa-gym/dnn/1`: JSON, one line per layer.

Reading checks everything and costs about 1 ms per 100 layers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mjoa_gym.validation import non_negative

SCHEMA = "mjoa-gym/dnn/1"
SUFFIX = ".json"
MAX_FILE_BYTES = 16 * 2**20
"""Far more than a network of 50,000 layers needs."""

_REQUIRED = ("schema", "name", "input_bytes", "layers")
_OPTIONAL = ("title", "provenance")
_LAYER = ("name", "kind", "flops", "parameter_bytes", "output_bytes", "predecessors")


def is_path(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether a file is meant: a path object, or a text that ends in .json or has a separator."""
    if not isinstance(name_or_path, str):
        return True
    separators = [os.sep, *([os.altsep] if os.altsep else [])]
    return name_or_path.endswith(SUFFIX) or any(s in name_or_path for s in separators)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments of `DNN` from a file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: Naming the file and what is wrong with it.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise ValueError("is not a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ValueError(f"has more than {MAX_FILE_BYTES:,} bytes, the most that is read")
        return arguments(parse(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse(content: bytes) -> Any:
    """JSON as the standard has it: UTF-8, no NaN or infinity; and no key twice.

    Raises:
        ValueError: If it is something else.
    """
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error


def arguments(profile: Any) -> dict[str, Any]:
    """The arguments of `DNN` from the content of a file; `DNN` checks the graph itself.

    Raises:
        ValueError: If the schema is another one, a key is missing or unknown, or a value is of
            another type or out of range.
    """
    if not isinstance(profile, Mapping):
        raise ValueError(f"the profile is {_short(profile)}; an object is needed")
    if profile.get("schema") != SCHEMA:
        raise ValueError(f"schema={_short(profile.get('schema'))}: this version reads {SCHEMA!r}")
    _check_keys("the profile", profile, _REQUIRED, _OPTIONAL)
    if not isinstance(profile.get("provenance", {}), Mapping):
        raise ValueError(f"provenance={_short(profile['provenance'])}: an object is needed")
    _text("title", profile.get("title", ""))
    layers = _items("layers", profile["layers"])
    for number, layer in enumerate(layers):
        if not isinstance(layer, Mapping):
            raise ValueError(f"layers[{number}]={_short(layer)}: an object is needed")
        _check_keys(f"layers[{number}]", layer, _LAYER)

    def column(key: str, check: Any) -> list[Any]:
        return [check(f"layers[{n}].{key}", layer[key]) for n, layer in enumerate(layers)]

    return {
        "name": _text("name", profile["name"]),
        "flops": column("flops", _amount),
        "parameter_bytes": column("parameter_bytes", _amount),
        "output_bytes": column("output_bytes", _amount),
        "predecessors": column("predecessors", _indices),
        "input_bytes": _amount("input_bytes", profile["input_bytes"]),
        "kinds": column("kind", _text),
        "layer_names": column("name", _text),
    }


def write(path: str | os.PathLike[str], profile: Mapping[str, Any]) -> None:
    """Write a profile's file, which is there as a whole or not at all.

    Raises:
        ValueError: If the path does not end in .json.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"path={str(path)!r}: must end in {SUFFIX!r}, so that `load` knows a file")
    text = as_text(profile)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def as_profile(
    name: str,
    input_bytes: float,
    columns: Mapping[str, Iterable[Any]],
    title: str | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of a file, from the columns of its layers (the keys of `_LAYER`)."""
    head: dict[str, Any] = {"schema": SCHEMA, "name": name}
    if title is not None:
        head["title"] = title
    head["input_bytes"] = _number(input_bytes)
    if provenance is not None:
        head["provenance"] = dict(provenance)
    amounts = ("flops", "parameter_bytes", "output_bytes")
    plain: dict[str, Any] = {key: map(_number, columns[key]) for key in amounts}
    plain["predecessors"] = map(list, columns["predecessors"])
    rows = zip(*(plain.get(key, columns[key]) for key in _LAYER), strict=True)
    return head | {"layers": [dict(zip(_LAYER, row, strict=True)) for row in rows]}


def as_text(profile: Mapping[str, Any]) -> str:
    """The file's text: one line per layer, so that differences between versions are readable."""
    head = {key: value for key, value in profile.items() if key != "layers"}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    rows = map(json.dumps, profile["layers"])
    return "{" + "\n ".join([*lines, '"layers": [\n  ' + ",\n  ".join(rows) + "]"]) + "}\n"


def _number(value: float) -> int | float:
    """Whole numbers without a decimal point; the shortest text that reads back equal otherwise."""
    return int(value) if float(value).is_integer() and abs(value) < 2**63 else float(value)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"has the key {_short(key)} twice in one object")
        found[key] = value
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"has {text}, which is no number")


def _check_keys(
    what: str, given: Mapping[str, Any], required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    for key in required:
        if key not in given:
            raise ValueError(f"{what} has no key {key!r}")
    for key in given:
        if key not in required and key not in optional:
            allowed = ", ".join((*required, *optional))
            raise ValueError(f"{what} has the unknown key {_short(key)}; allowed are {allowed}")


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field}={_short(value)}: must be a text")
    return value


def _amount(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{field}={_short(value)}: must be a number")
    try:
        return non_negative(field, value)
    except OverflowError as error:
        raise ValueError(f"{field}: is too large") from error


def _items(field: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{field}={_short(value)}: must be a list")
    return list(value)


def _indices(field: str, value: Any) -> list[int]:
    indices = _items(field, value)
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int):
            raise ValueError(f"{field} has {_short(index)}: must be whole numbers")
    return indices


def _short(value: Any) -> str:
    """The value as text, cut: a file may hold anything, of any length."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a huge number"
    if isinstance(value, (list, tuple, Mapping)):
        return f"{type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
