"""Cards: the properties, training and results of a trained agent, in YAML and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mjoa_gym.files import yaml_mapping

FORMAT = 1
REQUIRED = ("format", "algorithm", "environment", "persists", "scenario", "width")


def write(card: Mapping[str, Any], folder: Path) -> None:
    """Write `card.yaml` and `README.md`."""
    (folder / "card.yaml").write_text(yaml.safe_dump(dict(card), sort_keys=False), "utf-8")
    (folder / "README.md").write_text(page(card), "utf-8")


def read(folder: Path) -> dict[str, Any]:
    """Read the card in a folder.

    Raises:
        ValueError: If there is no card, or this version does not support its format.
    """
    file = folder / "card.yaml"
    if not file.is_file():
        raise ValueError(f"{folder} holds no agent: {file.name} is missing")
    card = yaml_mapping(file.read_text("utf-8"), file)
    if missing := [key for key in REQUIRED if key not in card]:
        raise ValueError(f"{file} lacks {', '.join(missing)}")
    if card["format"] != FORMAT:
        raise ValueError(f"{file} has format {card['format']}; this version reads {FORMAT}")
    return card


def page(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown for readers."""
    title = f"{str(card['algorithm']).upper()} on {card['environment']}"
    lines = [f"# {title}", ""]
    for key, value in card.items():
        if isinstance(value, Mapping):
            lines += ["", f"## {_spaced(key)}", "", "| | |", "|---|---|"]
            lines += [f"| {_spaced(name)} | {_plain(each)} |" for name, each in value.items()]
            lines.append("")
        else:
            lines.append(f"- {_spaced(key)}: {_plain(value)}")
    return "\n".join(lines).rstrip() + "\n"


def _spaced(name: object) -> str:
    return str(name).replace("_", " ")


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
