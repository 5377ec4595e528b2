"""Small files: users' files, whose faults raise ValueErrors, and files that we write."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from mjoa_gym.validation import short

MAX_FILE_BYTES = 16 * 2**20
"""Usual maximum size of a file that is read: far more than a network of 50,000 layers needs."""

Content = TypeVar("Content")


def read(
    path: str | os.PathLike[str],
    interpret: Callable[[bytes], Content],
    most_bytes: int = MAX_FILE_BYTES,
) -> Content:
    """Return the result of `interpret` for the content of a file of at most `most_bytes`.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the content is invalid; names the file and what is wrong with it.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise ValueError("is not a regular file")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise ValueError(f"has more than {most_bytes:,} bytes, the most that is read")
        return interpret(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write(path: Path, content: str | bytes) -> None:
    """Write a file and create its folder; readers see either the old or the new content.

    Raises:
        OSError: If the file cannot be written; no partial file remains then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def decode(content: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark, or UTF-16 with one, as in spreadsheets.

    Raises:
        ValueError: If the content is neither.
    """
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not {'UTF-16' if wide else 'UTF-8'}: {error}") from error


def parse_json(content: bytes) -> Any:
    """Parse standard JSON without NaN, infinity or duplicate keys.

    Raises:
        ValueError: If the content is anything else.
    """
    try:
        return json.loads(
            decode(content), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error


def parse_csv(
    content: bytes,
    needed: Sequence[str],
    known: Sequence[str],
    numbers: Sequence[str],
    take: Callable[[dict[str, str]], None],
) -> None:
    """Pass every row of a CSV text to `take`, with any separator and encoding of spreadsheets.

    Args:
        content: The file. Its first line names the columns; empty lines are skipped.
        needed: Required columns, in lower case.
        known: Optional columns, which may occur only once; other columns are allowed too.
        numbers: Columns in which a decimal comma becomes a point, unless commas separate columns.
        take: Gets the stripped cells by column; the line's number is added to its ValueErrors.

    Raises:
        ValueError: If a line is invalid; names the line and what is wrong with it.
    """
    text = decode(content)
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    columns: list[str] = []
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if not columns:
                columns = _checked_columns(values, needed, known)
                continue
            if len(values) < len(columns) or any(values[len(columns) :]):
                raise ValueError(f"has {len(values)} values: {len(columns)} are needed")
            row = dict(zip(columns, values, strict=False))
            if separator != ",":
                row |= {name: row[name].replace(",", ".") for name in numbers if name in row}
            take(row)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    if not columns:
        raise ValueError(f"is empty: the columns {', '.join(needed)} are needed")


def _checked_columns(names: list[str], needed: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the columns in lower case; other columns are allowed too."""
    columns = [name.lower() for name in names]
    for name in (*needed, *known):
        times = columns.count(name)
        if times > 1 or (name in needed and not times):
            fault = "occurs twice" if times else "is missing"
            raise ValueError(f"columns are {columns}: {name!r} {fault}")
    return columns


def yaml_mapping(text: str, source: object) -> dict[str, Any]:
    """Return the mapping in a YAML text.

    Raises:
        ValueError: If the text is not YAML or not a mapping; names the source.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source}: must hold `field: value` lines")
    return content


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"has the key {short(key)} twice in one object")
        found[key] = value
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"has {text}, which is not a number")
